//! Lists that are longer than memory.

use crate::support::runs::{listed, write_run};
use crate::support::{azimg, read_json};
use crate::tests;
use azimg::testing::pipeline::publish::publish;
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::work::RunId;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

tests![
    a_long_list_takes_no_more_memory_than_an_empty_one,
    closing_the_pipe_ends_a_list_without_an_error,
];

/// So many rows of the marketplace, and so many copies of gallery rows.
const MANY: usize = 40_000;

/// A store with as many rows.
fn long() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (now, publishers) = (OffsetDateTime::now_utc(), ["p".to_owned()]);
    let local: Arc<dyn Store> = Arc::new(LocalStore::new(store.clone()));
    let runtime = Runtime::new().unwrap();
    let run = RunId::new(now);
    let rows = |_: usize, _: usize| {
        (0..MANY)
            .map(|at| listed("o", &format!("s{:05}", at / 20), format!("1.0.{at}")))
            .collect::<Vec<_>>()
    };
    runtime.block_on(write_run(local.as_ref(), (run, now, None), 1, &publishers, rows));
    runtime.block_on(publish(&local, run, now, false)).unwrap();
    // The gallery table of another catalog, many times.
    let few = Path::new(crate::support::listed::store());
    let other = read_json(&few.join("current.json"))["run"].as_str().unwrap().to_owned();
    let snapshot = few.join("snapshots").join(other);
    let table = zstd::decode_all(std::fs::File::open(snapshot.join("gallery.ndjson.zst")).unwrap());
    let lines = String::from_utf8(table.unwrap()).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let mut text = String::new();
    for copy in 0..MANY.div_ceil(lines.len()) {
        for line in &lines {
            let line = line.replace("/galleries/", &format!("/galleries/c{copy}"));
            writeln!(text, "{line}").unwrap();
        }
    }
    let bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let snapshot_of_ours = store.join("snapshots").join(run.to_string());
    std::fs::write(snapshot_of_ours.join("gallery.ndjson.zst"), &bytes).unwrap();
    let document = snapshot_of_ours.join("manifest.json");
    let mut manifest = read_json(&document);
    let mut files: Vec<Value> = read_json(&snapshot.join("manifest.json"))["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|file| file["schema"] == "gallery")
        .cloned()
        .collect();
    for file in &mut files {
        if file["name"] == "gallery.ndjson.zst" {
            let hex: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            file["sha256"] = hex.into();
            file["bytes"] = bytes.len().into();
        }
    }
    manifest["files"].as_array_mut().unwrap().append(&mut files);
    std::fs::write(document, manifest.to_string()).unwrap();
    folder
}

/// The most memory that a program had, in KiB, as far as anybody saw before it ended, and how many lines it printed.
/// It is looked at with each part of what it prints, so that it cannot end unseen.
fn peak(mut child: Child) -> (u64, usize) {
    let status = format!("/proc/{}/status", child.id());
    let mut stdout = child.stdout.take().unwrap();
    let (mut most, mut lines, mut part) = (0, 0, vec![0; 1 << 16]);
    let mut look = || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(kib.unwrap_or(0));
    };
    loop {
        look();
        let read = stdout.read(&mut part).unwrap();
        if read == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &part[..read]).count();
    }
    assert!(child.wait().unwrap().success());
    (most, lines)
}

fn a_long_list_takes_no_more_memory_than_an_empty_one() {
    /// What may be needed besides, in KiB: a part of a table, and what is looked at of a table for people.
    const BESIDES: u64 = 40 << 10;
    let folder = long();
    let store = folder.path().join("store");
    let list = |arguments: &[&str]| {
        let mut all = vec!["images", "list", "--store", store.to_str().unwrap()];
        all.extend(arguments);
        azimg(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (empty, _) = peak(list(&["--publisher", "nothing-is-called-so", "-o", "json"]));
    for arguments in [
        &["-o", "ndjson"][..],
        &["-o", "csv"],
        &["-o", "tsv"],
        &["-o", "json"],
        &["-o", "yaml"],
        &["-o", "table"],
        &["-o", "csv", "--fields", "id,gallery"],
        &["-o", "tsv", "--query", "[?kind!=`x`].{id: id, os: os}"],
        &["-o", "json", "--query", "[].locations[]"],
    ] {
        let (kib, lines) = peak(list(arguments));
        assert!(lines > MANY, "{arguments:?}: {lines}");
        assert!(kib < empty + BESIDES, "{arguments:?}: {kib} KiB, {empty} of an empty list");
    }
}

fn closing_the_pipe_ends_a_list_without_an_error() {
    let folder = long();
    let store = folder.path().join("store");
    for format in ["ndjson", "csv", "tsv", "json", "table"] {
        let line = ["images", "list", "--store", store.to_str().unwrap(), "-o", format];
        let mut command = azimg(&line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "{format}");
        // More is left than a pipe holds.
        drop(lines);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{format}");
    }
}
