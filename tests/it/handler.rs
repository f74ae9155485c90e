//! The packaged app behind a strict Functions host, with real queues and blobs.

use crate::support::azurite::Azurite;
use crate::support::faulty::{Fault, Faulty, How};
use crate::support::host::flex::Flex;
use crate::support::host::process::ProcessState;
use crate::support::host::{KEY, TestHost};
use crate::support::storage::{DENIED, Wire};
use crate::support::stored::{assert_same, embedded, package, stored};
use crate::support::{Azure, azimg, finish, wait_until};
use crate::tests;
use azimg::testing::sim::{Scale, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;

tests![
    a_timer_ends_in_the_snapshot_that_the_embedded_host_makes needs [Azurite],
    a_handler_killed_thirty_times_ends_with_the_same_rows needs [Azurite],
    a_key_in_the_url_is_accepted_and_never_returned_or_logged needs [Azurite],
    a_handler_without_its_settings_says_so_and_does_not_exit_with_zero,
    the_exit_code_decides_whether_a_handler_is_restarted,
    three_kills_of_a_handler_in_half_an_hour_stop_its_host,
    a_process_for_each_group_of_functions_makes_the_same_snapshot
        needs [Azurite] slow "the run is looked at every 30 seconds",
    a_failed_plan_is_retried_the_same_night needs [Azurite],
    a_chunked_body_starts_no_run needs [Azurite],
    a_slow_caller_is_cut_off_and_the_run_continues needs [Azurite],
    messages_past_the_dequeue_limit_are_not_invoked_nor_poison_retried needs [Azurite],
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

fn a_handler_killed_thirty_times_ends_with_the_same_rows() {
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
    let (mut stored, mut embedded) = (stored(&runtime, &azurite), embedded(&azure));
    // A redelivered item counts its deliveries in the coverage's attempts.
    for files in [&mut stored, &mut embedded] {
        let coverage = files.get_mut("coverage.json").unwrap();
        let mut value: Value = serde_json::from_str(coverage).unwrap();
        without(&mut value, "attempts");
        *coverage = value.to_string();
    }
    assert_same(&stored, &embedded);
}

/// Removes a member wherever it is.
fn without(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            members.remove(name);
            members.values_mut().for_each(|value| without(value, name));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| without(value, name)),
        _ => {}
    }
}

fn a_key_in_the_url_is_accepted_and_never_returned_or_logged() {
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
    assert!(stdout.contains("is not a store"), "{stdout}");
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
fn the_exit_code_decides_whether_a_handler_is_restarted() {
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

/// What ends a handler from outside is an error, too (`WorkerProcess.OnProcessExited` in the host's source); errors
/// are forgotten after half an hour without one (`AddOrUpdateErrorBucket`).
fn three_kills_of_a_handler_in_half_an_hour_stop_its_host() {
    let azure = Azure::start(generate(Scale::Small, 34));
    let folder = tempfile::tempdir().unwrap();
    let mut settings = azure.variables();
    settings.insert("AZIMG_STORE".into(), folder.path().join("store").to_str().unwrap().into());
    let host = TestHost::new(&package(folder.path()), "UseDevelopmentStorage=true", settings);
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        for _ in 0..2 {
            for _ in 0..2 {
                host.process.die();
                host.fire("sweep").await;
            }
            host.process.forget_errors();
        }
        assert_eq!(*host.process.starts.lock().unwrap(), 5);
        for fatal in [false, false, true] {
            host.process.die();
            let fired = host.try_fire("sweep").await;
            let stopped = format!("{:?}", ProcessState::HostStopped);
            assert_eq!(fired.is_err_and(|refused| refused.contains(&stopped)), fatal);
        }
    });
}

/// Flex Consumption shares nothing in memory between groups of functions: the process that plans never crawls,
/// the one that publishes has sent no item, and the one that sweeps asks Azure for nothing.
fn a_process_for_each_group_of_functions_makes_the_same_snapshot() {
    let azurite = Azurite::start();
    let azure = Azure::start(generate(Scale::Small, 35));
    let folder = tempfile::tempdir().unwrap();
    let app = Flex::new(&package(folder.path()), &azurite.connection(), &azure.variables());
    assert_eq!(app.groups(), ["crawl", "fail", "http", "plan", "poison", "publish", "sweep"]);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        app.start().await;
        app.of("plan").fire("plan").await;
        app.serve_until(async || published(app.of("http")).await).await;
        app.of("sweep").fire("sweep").await;
    });
    for group in app.groups() {
        assert_eq!(*app.of(group).failed.lock().unwrap(), Vec::<String>::new(), "{group}");
        let lines = app.of(group).process.lines();
        let reported =
            |message: &str| lines.iter().any(|line| line["fields"]["message"] == message);
        assert_eq!(reported("request traffic"), group == "crawl", "{group}");
        assert_eq!(reported("snapshot age"), group == "sweep", "{group}");
    }
    assert_same(&stored(&runtime, &azurite), &embedded(&azure));
}

fn a_failed_plan_is_retried_the_same_night() {
    const DENIED: &str = "{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}";
    let azure = Azure::start(generate(Scale::Small, 36));
    let denied = Fault::new("/subscriptions?", 2, How::Answer(403, &[], DENIED));
    let faulty = Faulty::start(azure, vec![denied]);
    let (azurite, folder) = (Azurite::start(), tempfile::tempdir().unwrap());
    let mut settings = faulty.azure.variables();
    settings.insert("AZIMG_ARM_ENDPOINT".into(), faulty.address.clone());
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), settings);
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        host.fire("plan").await;
        let (_, runs) = host.get("/api/runs").await;
        assert_eq!(runs["value"].as_array().unwrap().len(), 1, "{runs}");
    });
    assert_eq!(host.invocations.lock().unwrap()["plan"], 3);
}

fn a_chunked_body_starts_no_run() {
    let (azurite, azure) = (Azurite::start(), Azure::start(generate(Scale::Small, 37)));
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), azure.variables());
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        let refused = host.start_run_in_chunks("{\"locations\":[\"eastus\"]}").await;
        assert_eq!(refused.status, 400, "a run of everything was begun");
        assert_eq!(refused.json()["error"]["target"], "Content-Length");
        let (_, runs) = host.get("/api/runs").await;
        assert!(runs["value"].as_array().is_none_or(Vec::is_empty), "{runs}");
        assert_eq!(host.start_run("{\"locations\":[\"eastus\"]}").await.status, 202);
    });
}

fn a_slow_caller_is_cut_off_and_the_run_continues() {
    let azure = Azure::start(generate(Scale::Small, 38));
    let faulty = Faulty::start(azure, vec![Fault::new("/locations?", usize::MAX, How::Held)]);
    let (azurite, folder) = (Azurite::start(), tempfile::tempdir().unwrap());
    let mut settings = faulty.azure.variables();
    settings.insert("AZIMG_ARM_ENDPOINT".into(), faulty.address.clone());
    let mut host = TestHost::new(&package(folder.path()), &azurite.connection(), settings);
    host.most_looks = 20;
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        let begun = host.looks.load(Ordering::Relaxed);
        let looked = async || host.looks.load(Ordering::Relaxed) > begun + 40;
        let (cut, ()) = futures::join!(host.start_run("{}"), async {
            wait_until("somebody who waits", looked).await;
            faulty.release();
        });
        assert_eq!(cut.status, 504);
        host.most_looks = u32::MAX;
        // Who asks again would start another run: the first one is there.
        host.serve_until(async || published(&host).await).await;
        let (_, runs) = host.get("/api/runs").await;
        assert_eq!(runs["value"].as_array().unwrap().len(), 1, "{runs}");
    });
}

fn messages_past_the_dequeue_limit_are_not_invoked_nor_poison_retried() {
    let (azurite, azure) = (Azurite::start(), Azure::start(generate(Scale::Small, 39)));
    // No outcome can be kept: `poison` fails.
    let wire = Wire::start(&azurite, |_, request| {
        let kept = ["PUT", "outcomes"].iter().all(|part| request.contains(part));
        (Duration::ZERO, if kept { DENIED } else { None })
    });
    let folder = tempfile::tempdir().unwrap();
    let mut settings = azure.variables();
    settings.insert("AzimgStorage".into(), wire.connection.clone());
    let at_once = "AzureFunctionsJobHost__extensions__queues__visibilityTimeout";
    settings.insert(at_once.into(), "00:00:00".into());
    let host = TestHost::new(&package(folder.path()), &azurite.connection(), settings);
    let times = |name: &str| host.invocations.lock().unwrap().get(name).copied().unwrap_or(0);
    Runtime::new().unwrap().block_on(async {
        host.start().await;
        host.fire("plan").await;
        // Each is on its fifth receipt, as after four hosts that died with it.
        let items = host.serve_as("crawl", 4).await;
        assert!(items > 0);
        assert_eq!(times("crawl"), 0, "it was invoked once more than maxDequeueCount");
        assert_eq!(host.serve("poison").await, items, "they are poison");
        assert_eq!(times("poison"), u32::try_from(items).unwrap());
        assert_eq!(host.failed.lock().unwrap().len(), items);
        assert_eq!(host.serve("poison").await, 0, "visibilityTimeout is not for a poison queue");
        host.send("azimg-work-poison", "{}").await;
        assert_eq!(host.serve_as("poison", 4).await, 1);
        assert_eq!(times("poison"), u32::try_from(items).unwrap(), "it is passed over");
    });
}
