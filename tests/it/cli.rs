//! The command line as people use it, and what they get wrong.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::wait_for;
use crate::support::{Azure, azimg, finish, json, write_rows};
use crate::tests;
use azimg::sim::{Scale, World, generate};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

tests![
    a_list_is_filtered_and_printed_in_every_format,
    queries_and_fields_choose_what_is_printed,
    what_nests_or_repeats_beyond_reason_is_refused,
    a_closed_pipe_is_no_error,
    one_image_and_the_latest_of_a_sku_are_found_or_said_to_be_missing,
    a_word_that_is_no_publisher_is_pointed_to_where_it_occurs,
    every_command_shows_examples,
    schemas_name_every_column_that_a_row_has,
    wrong_usage_and_missing_catalogs_have_their_exit_codes,
    an_unwritable_or_unreachable_store_is_named,
    a_store_of_another_schema_is_left_alone,
    a_tampered_snapshot_is_refused,
    two_crawls_into_one_store_do_not_mix,
    an_interrupted_crawl_says_how_to_go_on_and_goes_on,
    a_full_disk_is_named_and_the_run_goes_on_when_there_is_space,
    a_missing_role_is_named,
    the_demo_ends_with_what_to_try_next,
    a_demo_that_is_interrupted_goes_on_in_another_process,
];

/// A store with one crawled snapshot, shared by the tests that only read.
fn store() -> &'static str {
    static STORE: OnceLock<TempDir> = OnceLock::new();
    let folder = STORE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let azure = Azure::start(generate(Scale::Small, 51));
        let path = folder.path().to_str().unwrap();
        json(&mut azure.azimg(&["crawl", "--store", path, "-o", "json"]));
        folder
    });
    folder.path().to_str().unwrap()
}

fn images(arguments: &[&str]) -> Command {
    let mut all = vec!["images"];
    all.extend(arguments);
    all.extend(["--store", store()]);
    azimg(&all)
}

/// A failure with one clear line on stderr and nothing on stdout.
fn refused(command: &mut Command, code: i32, says: &[&str]) {
    let (exit, stdout, stderr) = finish(command);
    assert_eq!((exit, stdout.as_str()), (code, ""), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
    for words in says {
        assert!(stderr.contains(words), "'{words}' is not in: {stderr}");
    }
}

fn a_list_is_filtered_and_printed_in_every_format() {
    let all = json(&mut images(&["list", "--publisher", "CANON", "-o", "json"]));
    let all = all.as_array().unwrap();
    assert!(!all.is_empty());
    assert!(all.iter().all(|row| row["publisher"] == "Canonical"));
    let arm = json(&mut images(&[
        "list",
        "--publisher",
        "canonical",
        "--architecture",
        "arm64",
        "-o",
        "json",
    ]));
    assert!(arm.as_array().unwrap().iter().all(|row| row["architecture"] == "Arm64"));
    assert!(arm.as_array().unwrap().len() < all.len());
    let exact = json(&mut images(&["list", "--publisher", "canon", "--exact", "-o", "json"]));
    assert_eq!(exact, json!([]));
    let found = json(&mut images(&["list", "--search", "lts SERVER", "-o", "json"]));
    assert!(
        found.as_array().unwrap().iter().all(|row| row["id"].as_str().unwrap().contains("server"))
    );

    let print = |format: &str| {
        let (code, stdout, _) =
            finish(&mut images(&["list", "--publisher", "canonical", "-o", format]));
        assert_eq!(code, 0);
        stdout
    };
    assert_eq!(print("ndjson").lines().count(), all.len());
    assert_eq!(print("csv").lines().count(), all.len() + 1);
    assert_eq!(print("tsv").lines().count(), all.len());
    let table = print("table");
    assert!(table.lines().next().unwrap().contains("PUBLISHER"), "{table}");
    assert_eq!(table.lines().count(), all.len() + 1);
    assert!(print("yaml").contains("publisher: Canonical"));
}

fn queries_and_fields_choose_what_is_printed() {
    let (code, stdout, _) = finish(&mut images(&[
        "list",
        "--publisher",
        "canonical",
        "--query",
        "[?isLatest].id",
        "-o",
        "tsv",
    ]));
    assert_eq!(code, 0);
    assert!(stdout.lines().all(|line| line.split(':').count() == 4), "{stdout}");
    let picked = json(&mut images(&[
        "list",
        "--publisher",
        "debian",
        "--fields",
        "id,is_latest",
        "-o",
        "json",
    ]));
    let first = picked[0].as_object().unwrap();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["id", "isLatest"]);
    refused(
        &mut images(&["list", "--fields", "colour"]),
        2,
        &["no field 'colour'", "there are kind, id"],
    );
    refused(&mut images(&["list", "--query", "[?"]), 2, &["--query"]);
}

fn what_nests_or_repeats_beyond_reason_is_refused() {
    let (brackets, braces) = ("[".repeat(20_000), "{".repeat(5_000));
    let (deep, words) = ("{".repeat(500) + &"}".repeat(500), "a ".repeat(50_000));
    let dots = vec!["a"; 3_000].join(".");
    for query in [&brackets, &dots] {
        refused(&mut images(&["list", "--query", query]), 2, &["--query: it"]);
    }
    refused(&mut images(&["list", "--search", &words]), 2, &["--search: ", "16 words"]);
    refused(&mut images(&["list", "--search", &brackets]), 2, &["--search: ", "1024 bytes"]);
    let purge = |pattern: &str| {
        azimg(&[
            "registry",
            "purge",
            "127.0.0.1:9",
            "--repository",
            pattern,
            "--untagged",
            "--anonymous",
        ])
    };
    for (pattern, why) in [(&braces, "longer than 4096 bytes"), (&deep, "braces within braces")] {
        let (code, _, stderr) = finish(&mut purge(pattern));
        assert!(code == 2 && stderr.contains(why), "{stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    for text in ["a = ".to_owned() + &"[".repeat(100_000), "{\"rules\":".to_owned() + &brackets] {
        std::fs::write(&rules, text).unwrap();
        let file = rules.to_str().unwrap();
        let line = ["registry", "purge", "127.0.0.1:9", "--rules", file, "--anonymous"];
        refused(&mut azimg(&line), 2, &["these are no rules"]);
    }
}

fn a_closed_pipe_is_no_error() {
    let mut child = images(&["list", "-o", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 32];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(head.starts_with(b"kind,id,status"));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn one_image_and_the_latest_of_a_sku_are_found_or_said_to_be_missing() {
    let latest = json(&mut images(&[
        "latest",
        "canonical:ubuntu-24_04-LTS:server",
        "--location",
        "East US",
        "-o",
        "json",
    ]));
    let id = latest[0]["id"].as_str().unwrap();
    assert!(id.starts_with("Canonical:ubuntu-24_04-lts:server:"), "{id}");
    let shown = json(&mut images(&["show", id, "-o", "json"]));
    assert_eq!(shown, latest[0]);
    let several = json(&mut images(&[
        "latest",
        "Debian:debian-12:12",
        "Debian:debian-13:13:latest",
        "-o",
        "json",
    ]));
    assert_eq!(several.as_array().unwrap().len(), 2);

    refused(
        &mut images(&["show", "Canonical:ubuntu-24_04-lts:server:0.0.0"]),
        4,
        &["not in the catalog", "latest"],
    );
    refused(&mut images(&["show", "Canonical:ubuntu"]), 2, &["publisher:offer:sku:version"]);
    refused(
        &mut images(&["latest", "Canonical:ubuntu-24_04-lts:server", "--location", "japaneast"]),
        2,
        &["the catalog has no location 'japaneast'"],
    );
    refused(&mut images(&["latest", "Canonical"]), 2, &["publisher:offer:sku"]);
    refused(
        &mut images(&["latest", "Debian:debian-12:12", "--not-deprecated-before", "soon"]),
        2,
        &["'soon' is no date"],
    );
}

fn a_word_that_is_no_publisher_is_pointed_to_where_it_occurs() {
    let (code, stdout, stderr) = finish(&mut images(&["list", "--publisher", "ubuntu"]));
    assert_eq!((code, stdout.trim()), (0, "[]"));
    assert!(stderr.contains("--search 'ubuntu'"), "{stderr}");
    refused(
        &mut images(&["list", "--location", "easus"]),
        2,
        &["the catalog has no location 'easus'", "eastus"],
    );
}

fn every_command_shows_examples() {
    for command in [
        &["--help"][..],
        &["crawl", "--help"],
        &["images", "list", "--help"],
        &["images", "show", "--help"],
        &["images", "latest", "--help"],
        &["images", "usage", "--help"],
        &["images", "aliases", "--help"],
        &["publishers", "--help"],
        &["offers", "--help"],
        &["skus", "--help"],
        &["locations", "--help"],
        &["registry", "list", "--help"],
        &["registry", "repositories", "--help"],
        &["registry", "tags", "--help"],
        &["registry", "manifests", "--help"],
        &["registry", "show", "--help"],
        &["registry", "inspect", "--help"],
        &["registry", "set", "--help"],
        &["registry", "delete", "--help"],
        &["registry", "push", "--help"],
        &["registry", "pull", "--help"],
        &["registry", "purge", "--help"],
        &["gallery", "list", "--help"],
        &["gallery", "images", "--help"],
        &["gallery", "versions", "--help"],
        &["gallery", "show", "--help"],
        &["gallery", "update", "--help"],
        &["gallery", "share", "--help"],
        &["gallery", "unshare", "--help"],
        &["gallery", "wait", "--help"],
        &["gallery", "retire", "--help"],
        &["changes", "--help"],
        &["runs", "list", "--help"],
        &["runs", "show", "--help"],
        &["runs", "publish", "--help"],
        &["serve", "--help"],
        &["host", "--help"],
        &["sim", "--help"],
        &["package", "--help"],
        &["schema", "--help"],
        &["completions", "--help"],
    ] {
        let (code, stdout, _) = finish(&mut azimg(command));
        assert_eq!(code, 0);
        let (_, examples) = stdout.split_once("Examples:").unwrap_or_else(|| panic!("{command:?}"));
        let lines = examples.lines().filter(|line| line.contains("azimg "));
        assert!(lines.count() >= 2, "{command:?}");
    }
    let (code, script, _) = finish(&mut azimg(&["completions", "bash"]));
    assert!(code == 0 && script.contains("azimg"));
}

fn schemas_name_every_column_that_a_row_has() {
    let schema = json(&mut azimg(&["schema", "marketplace"]));
    let row = &json(&mut images(&["list", "--publisher", "debian", "-o", "json"]))[0];
    for column in row.as_object().unwrap().keys() {
        assert!(schema["properties"][column].is_object(), "{column}");
    }
    refused(&mut azimg(&["schema", "nothing"]), 2, &["marketplace", "manifest"]);
}

fn wrong_usage_and_missing_catalogs_have_their_exit_codes() {
    let (code, _, stderr) = finish(&mut azimg(&["crawl", "--colour"]));
    assert_eq!(code, 2, "{stderr}");
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    refused(
        &mut azimg(&["images", "list", "--store", path]),
        4,
        &["holds no catalog yet", "azimg crawl --demo"],
    );
    refused(
        &mut azimg(&["runs", "show", "01KAJJ3V0000000000000000AA", "--store", path]),
        4,
        &["there is no run"],
    );
    refused(&mut azimg(&["images", "list", "--store", "ftp://x/y"]), 2, &["is no store"]);
    let mut command = azimg(&["images", "list", "--store", "azurite"]);
    // A real account's key goes nowhere, whether its address is told or only its name.
    for line in [
        "AccountName=a;AccountKey=SECRET;BlobEndpoint=https://a.blob.core.windows.net",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET;EndpointSuffix=core.windows.net",
        "a",
    ] {
        refused(command.env("AzimgStorage", line), 2, &["emulator on this machine only"]);
    }
}

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

fn a_store_of_another_schema_is_left_alone() {
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
    refused(
        &mut azimg(&["images", "list", "--store", path]),
        1,
        &["is not what its manifest names"],
    );
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

fn an_interrupted_crawl_says_how_to_go_on_and_goes_on() {
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
        let (_, command) = stderr.split_once("Go on with: azimg ").expect("how to go on");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(arguments[..2], ["crawl", "--resume"]);
        faulty.release();
        let (code, _, stderr) = finish(&mut faulty.azimg(&arguments));
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains("(complete)"), "{stderr}");
    }
}

fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_space() {
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
    let (_, command) = stderr.split_once("Go on with: azimg ").expect("how to go on");
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

fn the_demo_ends_with_what_to_try_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, stdout, stderr) = finish(&mut azimg(&[
        "crawl",
        "--demo",
        "--details",
        "none",
        "--store",
        path,
        "-o",
        "table",
    ]));
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let next: Vec<&str> =
        stderr.lines().filter_map(|line| line.trim().strip_prefix("azimg images ")).collect();
    assert_eq!(next.len(), 3, "{stderr}");
    for command in next {
        let arguments: Vec<&str> = ["images"].into_iter().chain(command.split(' ')).collect();
        let mut command = azimg(&arguments);
        if !arguments.contains(&"-o") {
            command.args(["-o", "table"]);
        }
        let (code, stdout, stderr) = finish(&mut command);
        assert_eq!(code, 0, "{stderr}");
        let found = if arguments.contains(&"--kind") { "latest" } else { "Canonical" };
        assert!(stdout.contains(found), "{stdout}");
    }
}

fn a_demo_that_is_interrupted_goes_on_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let demo =
        ["crawl", "--demo", "--source", "registry", "--source", "marketplace", "--store", path];
    let mut child = azimg(&demo);
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Registries are known by then, and their items wait in the store for the next process.
    wait_for("an outcome", || {
        let runs = std::fs::read_dir(folder.path().join("runs")).ok()?;
        let mut outcomes = runs.map(|run| run.unwrap().path().join("outcomes/registry"));
        outcomes.any(|outcomes| outcomes.exists()).then_some(())
    });
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let (_, next) = stderr.split_once("Go on with: azimg ").expect("how to go on");
    let next: Vec<&str> = next.split_whitespace().collect();
    assert!(next.starts_with(&["crawl", "--demo", "--resume"]), "{next:?}");
    let (code, _, stderr) = finish(&mut azimg(&next));
    assert_eq!(code, 0, "{stderr}");
}
