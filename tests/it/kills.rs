//! A worker that is killed, and shards that are damaged or come late: the run ends complete.

use crate::support::deliveries::{app, call, ended};
use crate::support::faulty::Faulty;
use crate::support::{Azure, finish, json, rows, timeless, wait_for};
use crate::tests;
use azimg::testing::functions::{Trigger, WORK};
use azimg::testing::sim::{Scale, generate};
use azimg::testing::store::Key;
use azimg::testing::work::{RunId, SourceName};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::process::Stdio;
use std::sync::Arc;

tests![
    a_worker_killed_twenty_times_repeats_no_ended_item,
    a_damaged_shard_is_crawled_again_without_loss,
    a_shard_written_after_an_outcome_without_rows_does_not_count,
];

fn a_worker_killed_twenty_times_repeats_no_ended_item() {
    let world = || generate(Scale::Small, 84);
    let whole = tempfile::tempdir().unwrap();
    let path = whole.path().to_str().unwrap();
    json(&mut Azure::start(world()).azimg(&["crawl", "--store", path, "-o", "json"]));
    let faulty = Faulty::start(Azure::start(world()), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let newest = || {
        let runs = std::fs::read_dir(folder.path().join("runs")).ok()?;
        let mut runs: Vec<String> =
            runs.map(|run| run.unwrap().file_name().into_string().unwrap()).collect();
        runs.sort();
        runs.pop()
    };
    let open =
        || newest().filter(|run| !folder.path().join(format!("snapshots/{run}/_SUCCESS")).exists());
    let mut random = StdRng::seed_from_u64(7);
    let (mut kills, mut skipped) = (0, 0);
    while kills < 20 {
        let run = open();
        let before = run.as_ref().map_or_else(Vec::new, |run| ended(folder.path(), run));
        faulty.seen.lock().unwrap().clear();
        let mut arguments = vec!["crawl", "--full", "--store", store, "--quiet"];
        if let Some(run) = &run {
            arguments.extend(["--resume", run]);
        }
        let mut command = faulty.azimg(&arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // It dies when so many more items have ended, if it has not come to its end by then.
        let enough = before.len() + random.random_range(1..12);
        let worked = || newest().is_some_and(|run| ended(folder.path(), &run).len() >= enough);
        let over = wait_for("some work", || {
            child.try_wait().unwrap().map(|_| true).or_else(|| worked().then_some(false))
        });
        if !over {
            child.kill().unwrap();
            kills += 1;
        }
        child.wait().unwrap();
        let seen = faulty.seen.lock().unwrap();
        for path in seen.iter().filter(|_| run.is_some()) {
            let again = before.iter().find(|item| path.to_lowercase().contains(item.as_str()));
            assert!(again.is_none(), "{path} was asked again");
        }
        skipped += before.len();
    }
    assert!(skipped > 100, "kills came too early: {skipped}");
    let run = open();
    let mut arguments = vec!["crawl", "--full", "--store", store];
    if let Some(run) = &run {
        arguments.extend(["--resume", run]);
    }
    let (code, _, stderr) = finish(&mut faulty.azimg(&arguments));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(timeless(rows(folder.path())), timeless(rows(whole.path())));
    let run = newest().unwrap();
    faulty.seen.lock().unwrap().clear();
    let (code, _, _) = finish(&mut faulty.azimg(&["crawl", "--store", store, "--resume", &run]));
    assert_eq!(code, 0);
    assert_eq!(*faulty.seen.lock().unwrap(), [""; 0], "a published run asks nothing");
}

fn a_damaged_shard_is_crawled_again_without_loss() {
    let azure = Azure::start(generate(Scale::Small, 14));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = runtime.block_on(async {
        let mut open = call(&app, "start", Trigger::Http { body: String::new() }).await;
        let mut watch = Vec::new();
        while let Some(message) = open.pop() {
            if message.queue == WORK {
                let trigger = Trigger::Queue { text: message.text, delivery: 1 };
                open.extend(call(&app, "crawl", trigger).await);
            } else {
                watch.push(message);
            }
        }
        watch
    });
    let run: RunId = serde_json::from_str::<Value>(&begun[0].text).unwrap()["run"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let shards = runtime
        .block_on(app.store.list(&Key::shards_prefix(run, SourceName::Marketplace)))
        .unwrap();
    let cut = folder.path().join(&shards[0].name);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(folder.path().join(&shards[1].name), "not a shard").unwrap();
    let store = folder.path().to_str().unwrap();
    let run = run.to_string();
    let (code, _, stderr) =
        finish(&mut azure.azimg(&["crawl", "--store", store, "--resume", &run]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("a damaged shard was removed"), "{stderr}");
    let found = timeless(rows(folder.path()));
    let whole = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", whole.path().to_str().unwrap(), "-o", "json"]));
    assert_eq!(found, timeless(rows(whole.path())));
}

fn a_shard_written_after_an_outcome_without_rows_does_not_count() {
    let azure = Azure::start(generate(Scale::Small, 12));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let begun = call(&app, "start", Trigger::Http { body: String::new() }).await;
        let deliver = |text: &str, delivery| Trigger::Queue { text: text.to_owned(), delivery };
        let mut children = Vec::new();
        for message in begun.iter().filter(|message| message.queue == WORK) {
            children.extend(call(&app, "crawl", deliver(&message.text, 1)).await);
        }
        let item = children.iter().find(|child| child.text.contains("\"eastus/debian\"")).unwrap();
        call(&app, "crawl", deliver(&item.text, 1)).await;
        let named = |prefix: String| {
            let store = Arc::clone(&app.store);
            async move {
                let all = store.list(&prefix).await.unwrap();
                all.into_iter().map(|entry| entry.name).find(|name| name.contains("eastus/debian"))
            }
        };
        let run: RunId = serde_json::from_str::<Value>(&item.text).unwrap()["run"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let shards = Key::shards_prefix(run, SourceName::Marketplace);
        assert!(named(shards.clone()).await.is_some());
        let outcome = named(format!("runs/{run}/outcomes/marketplace/")).await.unwrap();
        // As if another worker had given it up, and its end had been written before this shard came.
        let path = folder.path().join(outcome);
        let mut end: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_ne!(end["rows"], 0);
        end["rows"] = 0.into();
        std::fs::write(&path, end.to_string()).unwrap();
        call(&app, "crawl", deliver(&item.text, 2)).await;
        assert_eq!(named(shards).await, None, "whoever publishes would see the rows or not");
        let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(kept, end);
    });
}
