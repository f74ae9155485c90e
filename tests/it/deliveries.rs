//! Whatever happens to messages and workers, the rows are the same.

use crate::support::deliveries::{Queue, app, call, call_at};
use crate::support::http::Nowhere;
use crate::support::{Azure, azimg, json, rows, timeless};
use crate::tests;
use axum::body::Body;
use azimg::testing::functions::{App, PUBLISH, Trigger, WORK};
use azimg::testing::handler::{Handler, Ready};
use azimg::testing::sim::{Scale, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::sync::Arc;
use time::OffsetDateTime;
use tower::ServiceExt;

tests![
    messages_delivered_twice_in_any_order_give_the_same_rows slow "whole runs, each message twice",
    a_postponed_duplicate_message_is_dropped_once_its_item_has_ended,
    lost_messages_are_found_by_sweeps_and_poison_closes_the_run,
    a_message_that_no_queue_accepts_does_not_block_others,
    a_truncated_request_starts_no_run,
];

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

fn messages_delivered_twice_in_any_order_give_the_same_rows() {
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

fn a_postponed_duplicate_message_is_dropped_once_its_item_has_ended() {
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

fn a_truncated_request_starts_no_run() {
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

fn a_message_that_no_queue_accepts_does_not_block_others() {
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
