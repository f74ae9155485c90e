//! Stores by the command line: unreachable, of another schema, tampered with, without space, and runs that are
//! interrupted and resumed.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::refusals::refused;
use crate::support::{Azure, azimg, finish, json, wait_for, write_rows};
use crate::tests;
use azimg::testing::sim::{Scale, World, generate};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

tests![
    an_unwritable_or_unreachable_store_is_named,
    a_store_of_another_schema_is_not_changed,
    a_tampered_snapshot_is_refused,
    two_crawls_into_one_store_do_not_mix,
    an_interrupted_crawl_says_how_to_resume_and_resumes,
    a_full_disk_is_reported_and_the_run_resumes_when_there_is_space,
    a_missing_role_is_named,
];

fn an_unwritable_or_unreachable_store_is_named() {
    let azure = Azure::start(generate(Scale::Small, 52));
    refused(&mut azure.azimg(&["crawl", "--store", "/proc/azimg"]), 1, &["/proc/azimg"]);
    let mut command = azure.azimg(&["crawl", "--store", "azurite"]);
    let line =
        "BlobEndpoint=http://127.0.0.1:9/devstoreaccount1;QueueEndpoint=http://127.0.0.1:9/d";
    let (code, stdout, stderr) = finish(command.env("AzimgStorage", line));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("cannot be reached") && stderr.contains("127.0.0.1:9"), "{stderr}");
}

/// A crawl of a small Azure into a folder of its own.
fn crawled() -> (Azure, TempDir, Value) {
    let azure = Azure::start(generate(Scale::Small, 53));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let result = json(&mut azure.azimg(&["crawl", "--store", &path, "-o", "json"]));
    (azure, folder, result)
}

fn snapshot(folder: &Path, result: &Value, file: &str) -> std::path::PathBuf {
    folder.join("snapshots").join(result["run"].as_str().unwrap()).join(file)
}

fn a_store_of_another_schema_is_not_changed() {
    let (azure, folder, result) = crawled();
    let path = folder.path().to_str().unwrap();
    for name in ["manifest.json", "coverage.json"] {
        let document = snapshot(folder.path(), &result, name);
        let text = std::fs::read_to_string(&document).unwrap();
        let text = text.replacen("\"schemaVersion\":1", "\"schemaVersion\":99", 1);
        std::fs::write(&document, text).unwrap();
    }
    let before = std::fs::read(folder.path().join("current.json")).unwrap();
    refused(&mut azimg(&["images", "list", "--store", path]), 2, &["schema 99"]);
    refused(&mut azure.azimg(&["crawl", "--store", path]), 2, &["schema 99"]);
    assert_eq!(std::fs::read(folder.path().join("current.json")).unwrap(), before);
}

fn a_tampered_snapshot_is_refused() {
    let (_azure, folder, result) = crawled();
    let path = folder.path().to_str().unwrap();
    let table = snapshot(folder.path(), &result, "index.bin");
    let bytes = std::fs::read(&table).unwrap();
    let mut tampered = bytes.clone();
    tampered[bytes.len() / 2] ^= 1;
    std::fs::write(&table, tampered).unwrap();
    refused(&mut azimg(&["images", "list", "--store", path]), 1, &["does not match its manifest"]);
    std::fs::write(&table, bytes).unwrap();
    json(&mut azimg(&["images", "list", "--store", path, "-o", "json"]));
}

fn two_crawls_into_one_store_do_not_mix() {
    let held = || vec![Fault::new("/publishers/", usize::MAX, How::Held)];
    let faulty = Faulty::start(Azure::start(generate(Scale::Small, 54)), held());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut first = faulty
        .azimg(&["crawl", "--store", path, "--quiet", "-o", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the first crawl", || folder.path().join("runs").exists().then_some(()));
    refused(&mut faulty.azimg(&["crawl", "--store", path]), 1, &["another crawl is writing"]);
    faulty.release();
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

fn an_interrupted_crawl_says_how_to_resume_and_resumes() {
    for (signal, exit) in [("-INT", 130), ("-TERM", 143)] {
        // One publisher is not answered, so that the crawl cannot end before it is interrupted.
        let held = vec![Fault::new("/publishers/debian/", usize::MAX, How::Held)];
        let faulty = Faulty::start(Azure::start(generate(Scale::Small, 55)), held);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let child = faulty
            .azimg(&["crawl", "--store", path])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the first outcome", || {
            let mut runs = std::fs::read_dir(folder.path().join("runs")).ok()?.flatten();
            runs.find(|run| run.path().join("outcomes").exists())
        });
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{stderr}");
        let (_, command) = stderr.split_once("Resume with: azimg ").expect("how to go on");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(arguments[..2], ["crawl", "--resume"]);
        faulty.release();
        let (code, _, stderr) = finish(&mut faulty.azimg(&arguments));
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("(complete)"), "{stderr}");
    }
}

fn a_full_disk_is_reported_and_the_run_resumes_when_there_is_space() {
    // A disk of a size takes a mount; a limit on the size of files fails in the same places.
    let azure = Azure::start(generate(Scale::Small, 56));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let binary = env!("CARGO_BIN_EXE_azimg");
    let mut command = Command::new("sh");
    let crawl = format!("trap '' XFSZ; ulimit -f 8; exec {binary} crawl --store {path}");
    command.args(["-c", &crawl]).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap()).envs(azure.variables());
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("free some space"), "{stderr}");
    let (_, command) = stderr.split_once("Resume with: azimg ").expect("how to go on");
    // What was under way may still be failing, and saying so, behind that line.
    let command = command.lines().next().unwrap();
    let arguments: Vec<&str> = command.split_whitespace().collect();
    let (code, _, stderr) = finish(&mut azure.azimg(&arguments));
    assert_eq!(code, 0, "{stderr}");
}

fn a_missing_role_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    write_rows(&file, &[json!({"publisher": "p", "offer": "o", "sku": "s", "version": "1.0.0"})]);
    let azure = Azure::start(World::load(&[&file]).unwrap());
    let store = folder.path().join("store");
    let mut command = azure.azimg(&["crawl", "--store", store.to_str().unwrap()]);
    command.env("AZIMG_SUBSCRIPTIONS", "99999999-9999-4999-8999-999999999999");
    refused(&mut command, 1, &["subscription 99999999-9999-4999-8999-999999999999 was not found"]);
}
