//! Whatever happens to messages and workers, the rows are the same.

use crate::support::faulty::Faulty;
use crate::support::http::Nowhere;
use crate::support::{Azure, azimg, finish, json, rows, timeless, wait_for};
use crate::tests;
use axum::body::Body;
use azimg::config::{Config, Flags};
use azimg::functions::{App, Event, FUNCTIONS, Message, PUBLISH, Trigger, WORK};
use azimg::handler::{Handler, Ready};
use azimg::sim::{Scale, SimCredential, generate};
use azimg::store::Key;
use azimg::work::{RunId, SourceName};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use time::OffsetDateTime;
use tower::ServiceExt;

tests![
    twice_and_in_any_order_gives_the_same_rows slow "whole runs, each message twice",
    a_copy_that_was_put_off_sees_that_its_item_has_ended,
    lost_messages_are_found_by_sweeps_and_poison_closes_the_run,
    a_message_that_no_queue_takes_keeps_no_other_waiting,
    a_request_that_did_not_arrive_whole_starts_nothing,
    killed_twenty_times_it_ends_complete_and_asks_nothing_again_that_has_ended,
    a_damaged_shard_is_crawled_again_and_loses_nothing,
    a_shard_that_comes_behind_an_end_without_rows_does_not_count,
];

fn app(azure: &Azure, store: &Path) -> Arc<App> {
    let store = Some(store.to_str().unwrap().into());
    let flags = Flags { store, ..Flags::default() };
    let config = Config::from(HashMap::new(), flags).unwrap();
    let config = config.with_resource_manager(azure.running.arm.clone(), Arc::new(SimCredential));
    config.app().unwrap().0
}

/// Calls a function as a host would; its messages, or none when it failed.
async fn call(app: &App, name: &str, trigger: Trigger) -> Vec<Message> {
    call_at(app, name, trigger, OffsetDateTime::now_utc()).await
}

async fn call_at(app: &App, name: &str, trigger: Trigger, now: OffsetDateTime) -> Vec<Message> {
    let function = FUNCTIONS.iter().find(|function| function.name == name).unwrap();
    let event = Event { now, invocation: now.to_string(), trigger };
    function.run.unwrap()(app, event).await.map(|effects| effects.messages).unwrap_or_default()
}

/// How a queue treats its messages, by a seed.
struct Queue {
    random: StdRng,
    messages: Vec<Message>,
}

impl Queue {
    fn add(&mut self, messages: Vec<Message>, copies: usize) {
        for message in messages {
            for _ in 0..copies {
                let at = self.random.random_range(0..=self.messages.len());
                self.messages.insert(at, message.clone());
            }
        }
    }
}

/// Runs a whole run with every message delivered `copies` times in an order that a seed decides.
async fn run_to_the_end(app: &App, seed: u64, copies: usize) {
    let random = StdRng::seed_from_u64(seed);
    let mut queue = Queue { random, messages: Vec::new() };
    let begun = call(app, "start", Trigger::Http { body: String::new() }).await;
    assert!(!begun.is_empty());
    queue.add(begun, copies);
    while let Some(message) = queue.messages.pop() {
        let delivery = queue.random.random_range(1..=2);
        let name = if message.queue == WORK { "crawl" } else { "publish" };
        let round = message.queue == PUBLISH && message.text.contains("\"watch\":true");
        if round && queue.messages.iter().any(|other| other.queue == WORK) {
            // The message that comes round is seen late, as its delay says.
            queue.messages.insert(0, message);
            continue;
        }
        let trigger = Trigger::Queue { text: message.text.clone(), delivery };
        let next = call(app, name, trigger).await;
        queue.add(next, copies.min(2));
    }
}

fn twice_and_in_any_order_gives_the_same_rows() {
    let azure = Azure::start(generate(Scale::Small, 11));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let crawled = |seed: u64, copies: usize| {
        let folder = tempfile::tempdir().unwrap();
        let app = app(&azure, folder.path());
        runtime.block_on(run_to_the_end(&app, seed, copies));
        timeless(rows(folder.path()))
    };
    let plain = crawled(0, 1);
    assert!(plain.len() > 50);
    for seed in 1..=4 {
        assert_eq!(crawled(seed, 2), plain, "seed {seed}");
    }
}

fn a_copy_that_was_put_off_sees_that_its_item_has_ended() {
    let azure = Azure::start(generate(Scale::Small, 11));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let begun = call(&app, "start", Trigger::Http { body: String::new() }).await;
        let location = begun.into_iter().find(|message| message.queue == WORK).unwrap().text;
        let crawl = |text: &str| Trigger::Queue { text: text.to_owned(), delivery: 1 };
        let children = call(&app, "crawl", crawl(&location)).await;
        let asked = || azure.sim.stats.to_json()["requests"].clone();
        // A second message of one item, as a sweep or a redelivered parent sends it.
        let before = asked();
        call(&app, "crawl", crawl(&location)).await;
        assert_ne!(asked(), before, "a first delivery asks without looking");
        let mut item: Value = serde_json::from_str(&location).unwrap();
        item["put_off"] = 2.into();
        let before = asked();
        let again = call(&app, "crawl", crawl(&item.to_string())).await;
        assert_eq!(asked(), before, "it has come round, and the item has ended");
        assert_eq!(again, children);
    });
}

fn a_request_that_did_not_arrive_whole_starts_nothing() {
    let azure = Azure::start(generate(Scale::Small, 12));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    let handler = Handler::with(Ready { app, later: Arc::new(Nowhere) }).router();
    let request =
        |headers: Value| serde_json::json!({"Data": {"req": {"Headers": headers}}, "Metadata": {}});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for (envelope, status) in [
            (serde_json::json!({}), "400"),
            (serde_json::json!({"Data": {}, "Metadata": {}}), "400"),
            (request(serde_json::json!({"Transfer-Encoding": ["chunked"]})), "400"),
            (request(serde_json::json!({"Content-Length": ["44"]})), "400"),
            (request(serde_json::json!({"Content-Length": ["0"]})), "202"),
        ] {
            let posted = crate::support::http::invocation("/start", "an-invocation");
            let posted = posted.body(Body::from(envelope.to_string())).unwrap();
            let answer = handler.clone().oneshot(posted).await.unwrap();
            // What is no invocation at all is refused as such.
            if !envelope["Data"].is_object() || !envelope["Metadata"].is_object() {
                assert_eq!(answer.status(), 400, "{envelope}");
                continue;
            }
            assert_eq!(answer.status(), 200, "{envelope}");
            let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(answer["Outputs"]["res"]["statusCode"], status, "{envelope}: {answer}");
            let begun = folder.path().join("runs").exists();
            assert_eq!(begun, status == "202", "{envelope}");
            assert_eq!(answer["Outputs"]["work"].is_array(), begun, "{envelope}");
        }
    });
}

fn a_message_that_no_queue_takes_keeps_no_other_waiting() {
    let azure = Azure::start(generate(Scale::Small, 12));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // What may be asked for fits, also when its item goes on.
        let names: Vec<String> = (0..1_000).map(|n| format!("publisher-{n:04}")).collect();
        let body = serde_json::json!({"publishers": names}).to_string();
        let begun = call(&app, "start", Trigger::Http { body }).await;
        assert!(begun.len() > 1 && begun.iter().all(|message| message.text.len() < 48 << 10));
        let item: Value = serde_json::from_str(&begun[0].text).unwrap();
        // A run as a version without the bound may have left it behind.
        let plan = folder.path().join(format!("runs/{}/plan.json", item["run"].as_str().unwrap()));
        let mut planned: Value = serde_json::from_slice(&std::fs::read(&plan).unwrap()).unwrap();
        let only = vec!["some publisher"; 9_000];
        planned["items"][0]["scope"]["only"] = only.into();
        std::fs::write(&plan, planned.to_string()).unwrap();
        let at = |minutes| OffsetDateTime::now_utc() + time::Duration::minutes(minutes);
        assert_eq!(call_at(&app, "sweep", Trigger::Timer, at(0)).await, []);
        let again = call_at(&app, "sweep", Trigger::Timer, at(40)).await;
        let work = begun.iter().filter(|message| message.queue == WORK).count();
        assert_eq!(again.len(), work - 1, "all but the one that is too long");
        assert!(again.iter().all(|message| message.text.len() < 48 << 10));
    });
}

fn lost_messages_are_found_by_sweeps_and_poison_closes_the_run() {
    let azure = Azure::start(generate(Scale::Small, 12));
    let folder = tempfile::tempdir().unwrap();
    let app = app(&azure, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let begun = call(&app, "start", Trigger::Http { body: String::new() }).await;
        let (work, _): (Vec<_>, Vec<_>) = begun.into_iter().partition(|m| m.queue == WORK);
        let mut children = Vec::new();
        for message in work {
            let trigger = Trigger::Queue { text: message.text, delivery: 1 };
            children.extend(call(&app, "crawl", trigger).await);
        }
        // One child is poison, all others are lost.
        let poison = children.iter().find(|m| m.text.contains("\"publisher\":\"Debian\"")).unwrap();
        let trigger = Trigger::Queue { text: poison.text.clone(), delivery: 1 };
        call(&app, "poison", trigger).await;
        // The first sweep remembers how far the run is; a later one sees that it has not moved for
        // longer than any item may wait for its turn.
        let at = |minutes| OffsetDateTime::now_utc() + time::Duration::minutes(minutes);
        for minutes in [0, 10, 20, 30] {
            assert_eq!(call_at(&app, "sweep", Trigger::Timer, at(minutes)).await, []);
        }
        let again = call_at(&app, "sweep", Trigger::Timer, at(40)).await;
        assert_eq!(again.len(), children.len() - 1);
        for message in again {
            let trigger = Trigger::Queue { text: message.text, delivery: 1 };
            call(&app, "crawl", trigger).await;
        }
        // Children of a publisher that is split are lost too: a few sweeps more.
        for round in 2..14 {
            for message in call_at(&app, "sweep", Trigger::Timer, at(40 * round)).await {
                let name = if message.queue == WORK { "crawl" } else { "publish" };
                let trigger = Trigger::Queue { text: message.text, delivery: 1 };
                for next in call(&app, name, trigger).await {
                    let trigger = Trigger::Queue { text: next.text, delivery: 1 };
                    call(&app, "crawl", trigger).await;
                }
            }
        }
    });
    let store = folder.path().to_str().unwrap();
    let runs = json(&mut azimg(&["runs", "list", "--store", store, "-o", "json"]));
    assert_eq!(runs[0]["state"], "partial");
    let shown = json(&mut azimg(&["runs", "show", "--store", store, "-o", "json"]));
    let failed: Vec<&Value> = shown["scopes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["state"] == "failed")
        .collect();
    assert!(failed.iter().all(|line| line["publisher"] == "Debian"), "{failed:?}");
    assert!(failed[0]["reason"].as_str().unwrap().contains("given up"), "{failed:?}");
}

/// Items of a run that have ended without children, as the beginnings of paths.
fn ended(store: &Path, run: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(locations) = std::fs::read_dir(store.join(format!("runs/{run}/outcomes/marketplace")))
    else {
        return found;
    };
    for location in locations {
        let location = location.unwrap();
        for file in std::fs::read_dir(location.path()).unwrap() {
            let (file, location) = (file.unwrap().file_name(), location.file_name());
            let (name, location) = (file.to_str().unwrap(), location.to_str().unwrap());
            if let Some(publisher) =
                name.strip_suffix(".json").filter(|name| !name.contains(['@', '%']))
                && !name.ends_with(".parent.json")
            {
                found.push(format!("/locations/{location}/publishers/{publisher}/"));
            }
        }
    }
    found
}

fn killed_twenty_times_it_ends_complete_and_asks_nothing_again_that_has_ended() {
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

fn a_damaged_shard_is_crawled_again_and_loses_nothing() {
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
    assert!(stderr.contains("a damaged shard was thrown away"), "{stderr}");
    let found = timeless(rows(folder.path()));
    let whole = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", whole.path().to_str().unwrap(), "-o", "json"]));
    assert_eq!(found, timeless(rows(whole.path())));
}

fn a_shard_that_comes_behind_an_end_without_rows_does_not_count() {
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
