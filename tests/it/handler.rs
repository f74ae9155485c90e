//! The packaged app behind a strict Functions host, with real queues and blobs.

use crate::support::azurite::Azurite;
use crate::support::host::{KEY, TestHost};
use crate::support::stored::{assert_same, embedded, package, stored};
use crate::support::{Azure, azimg, finish, wait_until};
use crate::tests;
use azimg::sim::{Scale, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

tests![
    a_timer_ends_in_the_snapshot_that_the_embedded_host_makes needs [Azurite],
    a_handler_killed_thirty_times_at_work_ends_with_the_same_rows needs [Azurite],
    a_key_in_the_address_is_taken_in_both_forms_and_told_nobody needs [Azurite],
    a_handler_without_its_settings_says_so_and_does_not_exit_with_zero,
    a_handler_that_ends_is_started_again_or_not_by_its_exit_code,
];

/// Settings with which the work lasts for thirty deaths.
fn few_at_once(azure: &Azure) -> BTreeMap<String, String> {
    let mut settings = azure.variables();
    for (name, value) in [("batchSize", "2"), ("newBatchThreshold", "1")] {
        settings.insert(format!("AzureFunctionsJobHost__extensions__queues__{name}"), value.into());
    }
    settings
}

async fn published(host: &TestHost) -> bool {
    host.get("/api/health").await.0 == 200
}

fn a_timer_ends_in_the_snapshot_that_the_embedded_host_makes() {
    let azurite = Azurite::start();
    let azure = Azure::start(generate(Scale::Small, 31));
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), azure.variables());
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
    assert_same(&stored(&runtime, &azurite), &embedded(&azure));
}

fn a_handler_killed_thirty_times_at_work_ends_with_the_same_rows() {
    let azurite = Azurite::start();
    let azure = Azure::start_with(generate(Scale::Small, 32), Duration::from_millis(5), None);
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), few_at_once(&azure));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let random = RefCell::new(StdRng::seed_from_u64(3));
    runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        let kills = async {
            // Each comes after some more work, of which there is enough for all thirty.
            let begun = || host.invocations.lock().unwrap().get("crawl").copied().unwrap_or(0);
            for _ in 0..30 {
                let enough = begun() + random.borrow_mut().random_range(1..4);
                wait_until("some work", async || begun() >= enough).await;
                host.kill_at_work().await;
            }
        };
        let killed = Cell::new(false);
        let served = host.serve_until(async || killed.get() && published(&host).await);
        futures::join!(
            async {
                kills.await;
                killed.set(true);
            },
            served
        );
    });
    let died = host.failed.lock().unwrap().len();
    assert!(died >= 30, "the handler was killed at work 30 times, and {died} deliveries died");
    let (stored, mut embedded) = (stored(&runtime, &azurite), embedded(&azure));
    // A redelivered item counts its deliveries in the coverage's attempts: rows are compared.
    embedded.insert("coverage.json".into(), stored["coverage.json"].clone());
    assert_same(&stored, &embedded);
}

fn a_key_in_the_address_is_taken_in_both_forms_and_told_nobody() {
    let azurite = Azurite::start();
    let azure = Azure::start(generate(Scale::Small, 33));
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), azure.variables());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        host.start().await;
        // An envelope; then lookups, which are proxied.
        let started = host.start_run("{\"locations\":[\"eastus\"]}").await;
        assert_eq!(started.status, 202);
        host.serve_until(async || published(&host).await).await;
        for (path, key) in [
            (format!("/api/images?top=2&code={KEY}&clientId=default&api-version=1"), None),
            (format!("/api/images?Code={KEY}&top=2"), None),
            ("/api/images?top=2".to_owned(), Some(KEY)),
        ] {
            let page = host.request("GET", &path, "", key).await;
            assert_eq!(page.status, 200, "{path}");
            let link = page.json()["nextLink"].as_str().unwrap().to_owned();
            assert!(!link.contains(KEY) && !link.contains("ode="), "{link}");
            let next = url::Url::parse(&link).unwrap();
            let next = format!("{}?{}&code={KEY}", next.path(), next.query().unwrap());
            assert_eq!(host.request("GET", &next, "", None).await.status, 200, "{next}");
        }
        for path in ["/api/images?top=2", "/api/images?code=another"] {
            assert_eq!(host.request("GET", path, "", None).await.status, 401, "{path}");
        }
    });
    let said = host.process.lines().iter().map(Value::to_string).collect::<String>();
    assert!(!said.contains(KEY), "{said}");
}

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

/// An app whose handler ends by itself with this code.
fn ending(folder: &Path, code: u8) -> PathBuf {
    let app = package(folder);
    std::fs::remove_file(app.join("azimg")).unwrap();
    std::fs::write(app.join("azimg"), format!("#!/bin/sh\nexit {code}\n")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(app.join("azimg"), mode).unwrap();
    app
}

/// What the host does then is its source's (facts of the Functions host §1); that ours never ends with 0
/// follows from it.
fn a_handler_that_ends_is_started_again_or_not_by_its_exit_code() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (code, starts, said) in [(0, 1, "Gone"), (200, 7, "error sending"), (1, 3, "HostStopped")] {
        let folder = tempfile::tempdir().unwrap();
        let app = ending(folder.path(), code);
        let host = TestHost::new(&app, "UseDevelopmentStorage=true", BTreeMap::new());
        let failures = runtime.block_on(async {
            host.start().await;
            let mut failures = Vec::new();
            for _ in 0..6 {
                failures.push(host.try_fire("sweep").await.unwrap_err());
            }
            failures
        });
        assert_eq!(*host.process.starts.lock().unwrap(), starts, "{code}: {failures:?}");
        let last = failures.last().unwrap();
        assert!(last.contains(said), "{code}: {failures:?}");
    }
}
