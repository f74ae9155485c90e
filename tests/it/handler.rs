//! The packaged app behind a strict Functions host, with real queues and blobs.

use crate::support::azurite::Azurite;
use crate::support::host::TestHost;
use crate::support::{Azure, azimg, finish, json, rows, timeless};
use azimg::sim::{Scale, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn package(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    let packaged = json(&mut azimg(&["package", "--out", out.to_str().unwrap(), "-o", "json"]));
    let files: Vec<&str> =
        packaged["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.contains(&"host.json") && files.contains(&"crawl/function.json"), "{files:?}");
    assert_eq!(files.len(), 2 + 7);
    out.join("app")
}

fn settings(azure: &Azure) -> BTreeMap<String, String> {
    azure.variables()
}

/// The rows of the current snapshot in Azurite, as the command line reads them.
fn stored(azurite: &Azurite) -> Vec<Value> {
    let mut command = azimg(&["images", "list", "--store", "azurite", "-o", "ndjson"]);
    let (code, stdout, stderr) = finish(command.env("AzimgStorage", azurite.connection()));
    assert_eq!(code, 0, "{stderr}");
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the embedded host finds in the same Azure.
fn embedded(azure: &Azure) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    timeless(rows(folder.path()))
}

async fn published(host: &TestHost) -> bool {
    host.get("/api/health").await.0 == 200
}

#[test]
fn a_timer_ends_in_the_snapshot_that_the_embedded_host_makes() {
    let azurite = Azurite::start();
    let azure = Azure::start(generate(Scale::Small, 31));
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite, settings(&azure));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        host.start().await;
        assert_eq!(host.get("/api/health").await.0, 503);
        host.fire("plan").await;
        host.serve_until(async || published(&host).await).await;
        let (status, listed) = host.get("/api/images?publisher=debian&top=1").await;
        assert_eq!((status, listed["value"].as_array().unwrap().len()), (200, 1));
        let (status, _) = host.get("/api/images?colour=red").await;
        assert_eq!(status, 400);
    });
    assert_eq!(*host.failed.lock().unwrap(), Vec::<String>::new());
    let expected = embedded(&azure);
    assert!(expected.len() > 50);
    assert_eq!(timeless(stored(&azurite)), expected);
}

#[test]
fn a_handler_killed_at_random_moments_ends_with_the_same_rows() {
    let azurite = Azurite::start();
    let azure = Azure::start_with(generate(Scale::Small, 32), Duration::from_millis(30), None);
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite, settings(&azure));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let random = RefCell::new(StdRng::seed_from_u64(3));
    runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        for _ in 0..8 {
            let wait = Duration::from_millis(random.borrow_mut().random_range(20..400));
            let killed = async {
                tokio::time::sleep(wait).await;
                host.kill();
            };
            futures::join!(killed, host.serve("crawl"));
            host.start().await;
        }
        // A message that was under way when the handler died stays hidden for its lease; the
        // sweeps send its item again.
        host.serve_until(async || {
            host.fire("sweep").await;
            published(&host).await
        })
        .await;
    });
    assert!(!host.failed.lock().unwrap().is_empty(), "the handler was never killed at work");
    assert_eq!(timeless(stored(&azurite)), embedded(&azure));
}

#[test]
fn a_handler_without_its_settings_says_so_and_does_not_exit_with_zero() {
    let mut command = azimg(&["serve"]);
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("FUNCTIONS_CUSTOMHANDLER_PORT"), "{stderr}");
    let mut command = azimg(&["serve", "--port", "0", "--store", "https://nowhere.example/a/b"]);
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("is no store"), "{stdout}");
}
