//! Runs that overlap: each is built on what is current when it is published, and loses nothing of the others.

use crate::support::fleet::call;
use crate::support::overlapping::{Bench, at, marketplace, names_in, older_world, world};
use crate::support::paused;
use crate::support::steps::{Around, Stepped};
use crate::tests;
use async_trait::async_trait;
use azimg::testing::error::{Error, Result};
use azimg::testing::functions::{App, PUBLISH, Trigger};
use azimg::testing::pipeline::publish::{CloseAttempt, publish};
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::RunId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use time::OffsetDateTime;

tests![
    two_narrow_runs_at_once_lose_nothing,
    the_newer_observation_is_kept_when_an_older_run_publishes_later,
    rows_that_a_newer_run_found_gone_stay_gone,
    publishes_with_different_outcomes_write_one_snapshot,
    rows_outside_the_scope_of_a_run_are_not_stale,
    small_runs_remove_nothing_of_a_long_run,
    an_unfinished_publish_is_finished_by_the_next,
    a_damaged_snapshot_is_passed_over,
    a_redelivered_message_sends_no_second_message_for_work_under_way,
    two_equal_requests_start_one_run,
    leftover_messages_of_a_published_run_send_no_requests,
    a_first_run_begins_where_there_is_no_container_yet,
];

/// What a feed makes of a table, and what the next table is: status, locations, latest and dates by id.
fn assert_composes(bench: &Bench, run: RunId, previous: Option<RunId>) {
    let members = ["status", "locations", "isLatest", "scheduledDeprecationAt"];
    let table = |run: RunId| -> BTreeMap<String, Value> {
        let rows = bench.marketplace(run).into_iter();
        let kept = |row: Value| {
            let kept: serde_json::Map<_, _> =
                members.iter().map(|name| ((*name).to_owned(), row[*name].clone())).collect();
            (row["id"].as_str().unwrap().to_owned(), kept.into())
        };
        rows.map(kept).collect()
    };
    let mut before = previous.map(table).unwrap_or_default();
    let after = table(run);
    for change in bench.lines(run, SnapshotFile::Changes) {
        if change["kind"] != "marketplace" {
            continue;
        }
        let id = change["id"].as_str().unwrap().to_owned();
        let member = match change["change"].as_str().unwrap() {
            "added" => {
                before.insert(id.clone(), after[&id].clone());
                continue;
            }
            "removed" => {
                assert!(before.remove(&id).is_some(), "{id} was not there");
                continue;
            }
            "status" => "status",
            "locations" => "locations",
            "latest" => "isLatest",
            "dates" => "scheduledDeprecationAt",
            _ => continue,
        };
        let row = before.get_mut(&id).unwrap();
        assert_eq!(row[member], change["before"], "{id}: {member}");
        row[member] = change["after"].clone();
    }
    if previous.is_some() {
        assert_eq!(before, after);
    }
}

fn two_narrow_runs_at_once_lose_nothing() {
    paused(async {
        let bench = Bench::new();
        let mut one = bench.begin(marketplace(&["eastus"]), at(0)).await;
        let mut other = bench.begin(marketplace(&["westus2"]), at(1)).await;
        let alone = Bench::new();
        let mut both = alone.begin(marketplace(&["eastus", "westus2"]), at(0)).await;
        let expected = alone.finish(&mut both, at(2)).await;
        let expected = alone.marketplace(expected.run);
        bench.crawl(&mut one, at(2)).await;
        bench.finish(&mut other, at(3)).await;
        let last = bench.finish(&mut one, at(4)).await;
        // Its name is the older one, and yet it is what is current.
        assert_eq!(bench.current().await.run, one.run);
        assert_eq!(last.previous_run, Some(other.run));
        let rows = bench.marketplace(one.run);
        for location in ["eastus", "westus2"] {
            assert!(!names_in(&rows, location).is_empty());
            assert_eq!(names_in(&rows, location), names_in(&expected, location), "{location}");
        }
        assert!(rows.iter().all(|row| row["stale"] == false));
        assert_composes(&bench, one.run, Some(other.run));
    });
}

fn the_newer_observation_is_kept_when_an_older_run_publishes_later() {
    paused(async {
        let before = Bench::over(older_world(), Arc::default());
        let mut long = before.begin(marketplace(&["eastus", "westus2"]), at(0)).await;
        before.crawl(&mut long, at(1)).await;
        // The world goes on, and a small run sees it.
        let after = Bench::over(world(), Arc::clone(&before.store));
        let mut small = after.begin(marketplace(&["westus2"]), at(60)).await;
        after.finish(&mut small, at(61)).await;
        let newest = after.marketplace(small.run);
        let last = before.finish(&mut long, at(62)).await;
        assert_eq!(last.previous_run, Some(small.run));
        let rows = after.marketplace(long.run);
        assert_eq!(names_in(&rows, "westus2"), names_in(&newest, "westus2"));
        assert!(names_in(&rows, "eastus").len() < names_in(&rows, "westus2").len());
        assert_composes(&after, long.run, Some(small.run));
    });
}

fn rows_that_a_newer_run_found_gone_stay_gone() {
    paused(async {
        let before = Bench::new();
        let mut long = before.begin(json!({"details": "none"}), at(0)).await;
        before.crawl(&mut long, at(1)).await;
        let after = Bench::over(older_world(), Arc::clone(&before.store));
        let mut later = after.begin(json!({"details": "none"}), at(60)).await;
        after.finish(&mut later, at(61)).await;
        before.finish(&mut long, at(62)).await;
        let ids = |run| -> BTreeSet<String> {
            let ids = after.marketplace(run).into_iter();
            ids.map(|row| row["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(long.run), ids(later.run));
        let galleries = SnapshotFile::Ndjson(azimg::testing::work::SourceName::Gallery);
        let plain = |run| after.lines(run, galleries);
        assert_eq!(plain(long.run), plain(later.run));
        assert!(after.lines(long.run, SnapshotFile::Changes).is_empty());
    });
}

fn publishes_with_different_outcomes_write_one_snapshot() {
    paused(async {
        let bench = Bench::new();
        let mut run = bench.begin(marketplace(&["eastus", "westus2"]), at(0)).await;
        // One item has ended when the first closes the run by force, and others end until the second does.
        let first = run.open.pop_front().unwrap();
        run.open.extend(bench.deliver("crawl", first, 1, at(1)).await);
        let shared = bench.shared();
        let forced = publish(&shared, run.run, at(2), true).await.unwrap();
        let CloseAttempt::Published(manifest) = forced else { panic!("{forced:?}") };
        let before = bench.store.contents();
        bench
            .store
            .delete(&Key::Snapshot(run.run, SnapshotFile::Manifest).to_string())
            .await
            .unwrap();
        bench.store.delete(&Key::Current.to_string()).await.unwrap();
        // As if the first had died just before it wrote the manifest.
        bench.crawl(&mut run, at(3)).await;
        let again = publish(&shared, run.run, at(4), true).await.unwrap();
        let CloseAttempt::Published(again) = again else { panic!("{again:?}") };
        assert_eq!(again, manifest, "what ended after the run was closed does not count");
        let after = bench.store.contents();
        for file in &manifest.files {
            let name = format!("snapshots/{}/{}", run.run, file.name);
            assert_eq!(before[&name], after[&name], "{name}");
        }
        assert!(manifest.coverage.failed > 0);
    });
}

fn rows_outside_the_scope_of_a_run_are_not_stale() {
    paused(async {
        let bench = Bench::new();
        let mut whole = bench.begin(json!({"details": "none"}), at(0)).await;
        bench.finish(&mut whole, at(1)).await;
        for (minutes, request) in [
            (60, json!({"sources": ["gallery"]})),
            (120, marketplace(&["eastus"])),
            (180, json!({"sources": ["registry"]})),
        ] {
            let mut run = bench.begin(request, at(minutes)).await;
            bench.finish(&mut run, at(minutes + 1)).await;
            for source in azimg::testing::work::SourceName::ALL {
                let rows = bench.lines(run.run, SnapshotFile::Ndjson(*source));
                assert!(rows.iter().all(|row| row["stale"] == false), "{source}");
                assert_eq!(rows.len(), bench.lines(whole.run, SnapshotFile::Ndjson(*source)).len());
            }
            assert!(bench.lines(run.run, SnapshotFile::Changes).is_empty());
        }
    });
}

fn small_runs_remove_nothing_of_a_long_run() {
    paused(async {
        let bench = Bench::new();
        let mut long = bench.begin(json!({"details": "none"}), at(0)).await;
        let first = long.open.pop_front().unwrap();
        long.open.extend(bench.deliver("crawl", first, 1, at(1)).await);
        for number in 0..8 {
            let mut small = bench.begin(marketplace(&["eastus"]), at(2 + number)).await;
            bench.finish(&mut small, at(2 + number)).await;
            call(&bench.app, "sweep", Trigger::Timer, at(2 + number)).await.unwrap();
        }
        let manifest = bench.finish(&mut long, at(20)).await;
        assert_eq!(manifest.coverage.failed, 0);
        let runs = bench.store.list_level("runs/").await.unwrap();
        assert!(runs.len() <= 7, "{runs:?}");
    });
}

fn an_unfinished_publish_is_finished_by_the_next() {
    paused(async {
        let bench = Bench::new();
        let mut one = bench.begin(marketplace(&["eastus"]), at(0)).await;
        bench.finish(&mut one, at(1)).await;
        let current = bench.store.contents()["current.json"].clone();
        let mut two = bench.begin(marketplace(&["westus2"]), at(10)).await;
        bench.finish(&mut two, at(11)).await;
        // Whoever published it died before it became the current one, or before its manifest was there.
        for manifest_too in [false, true] {
            if manifest_too {
                let key = Key::Snapshot(two.run, SnapshotFile::Manifest).to_string();
                bench.store.delete(&key).await.unwrap();
            }
            bench.store.delete("current.json").await.unwrap();
            bench.store.create(&Key::Current, current.clone()).await.unwrap();
            let turn = json!({"run": two.run, "head": one.run, "base": one.run,
                "at": "2026-11-18T10:00:00Z"});
            bench.store.delete("publishing.json").await.unwrap();
            let turn = turn.to_string().into();
            bench.store.create(&Key::Publishing, turn).await.unwrap();
            let name = if manifest_too { "brazilsouth" } else { "northeurope" };
            let begins = if manifest_too { 20 } else { 40 };
            let mut three = bench.begin(marketplace(&[name]), at(begins)).await;
            bench.crawl(&mut three, at(begins)).await;
            let message = three.open.pop_front().unwrap();
            let early = OffsetDateTime::from_unix_timestamp(1_794_996_030).unwrap();
            let waits = bench.deliver("publish", message, 1, early).await;
            // What is built already is ended at once; for what is not, there is a minute.
            assert_eq!(waits.len(), usize::from(manifest_too));
            three.open.extend(waits);
            let manifest = bench.finish(&mut three, at(begins + 1)).await;
            assert_eq!(manifest.previous_run, Some(two.run));
            assert_eq!(bench.manifest(two.run).await.previous_run, Some(one.run));
            assert_eq!(bench.current().await.run, three.run);
        }
    });
}

fn a_damaged_snapshot_is_passed_over() {
    paused(async {
        for file in ["gallery.ndjson.zst", "marketplace.ndjson.zst", "manifest.json"] {
            let bench = Bench::new();
            let mut runs = Vec::new();
            for number in 0..2 {
                let mut run = bench.begin(json!({"details": "none"}), at(number * 60)).await;
                bench.finish(&mut run, at(number * 60 + 1)).await;
                runs.push(run.run);
            }
            let name = format!("snapshots/{}/{file}", runs[1]);
            let mut bytes = bench.store.contents()[&name].to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            bench.store.delete(&name).await.unwrap();
            let key = match file {
                "manifest.json" => SnapshotFile::Manifest,
                "gallery.ndjson.zst" => {
                    SnapshotFile::Ndjson(azimg::testing::work::SourceName::Gallery)
                }
                _ => SnapshotFile::Ndjson(azimg::testing::work::SourceName::Marketplace),
            };
            bench.store.create(&Key::Snapshot(runs[1], key), bytes.into()).await.unwrap();
            let mut run = bench.begin(json!({"details": "none"}), at(180)).await;
            let manifest = bench.finish(&mut run, at(181)).await;
            assert_eq!(bench.current().await.run, run.run, "{file}");
            assert_eq!(manifest.previous_run, Some(runs[0]), "{file}");
            let passed = bench.coverage(run.run).passed_over;
            assert_eq!(passed.len(), 1, "{file}");
            assert_eq!(passed[0].run, runs[1]);
            assert!(passed[0].reason.contains(file), "{}", passed[0].reason);
        }
    });
}

fn a_redelivered_message_sends_no_second_message_for_work_under_way() {
    paused(async {
        let bench = Bench::new();
        let mut run = bench.begin(marketplace(&["eastus"]), at(0)).await;
        let first = run.open.pop_front().unwrap();
        bench.deliver("crawl", first, 1, at(1)).await;
        let watch = run.open.pop_back().unwrap();
        let sent = bench.deliver("publish", watch, 3, at(2)).await;
        assert!(sent.iter().all(|message| message.queue == PUBLISH), "{}", sent.len());
    });
}

fn two_equal_requests_start_one_run() {
    paused(async {
        let bench = Bench::new();
        let request = marketplace(&["eastus"]);
        let run = bench.begin(request.clone(), at(0)).await;
        let ask = async |request: &Value, now| {
            let http = Trigger::Http { body: request.to_string() };
            let function =
                azimg::testing::functions::Function::named("start").unwrap().run.unwrap();
            let event = azimg::testing::functions::Event {
                now,
                invocation: "again".to_owned(),
                trigger: http,
            };
            let effects = function(&bench.app, event).await.unwrap();
            (effects.reply.unwrap(), effects.messages)
        };
        let (reply, sent) = ask(&request, at(1)).await;
        assert_eq!(
            (reply.status, sent.len()),
            (200, 1),
            "only that somebody looks whether it is closed"
        );
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(body["run"], json!(run.run));
        let location = format!("/api/runs/{}", run.run);
        assert!(reply.headers.contains(&("Location".to_owned(), location)));
        // Nothing of it has ended for minutes: whoever began it may have died before anything was sent.
        let (reply, sent) = ask(&request, at(10)).await;
        assert_eq!((reply.status, sent.len()), (200, run.open.len()));
        // Another request, or force, begins another run.
        let (reply, _) = ask(&marketplace(&["westus2"]), at(2)).await;
        assert_eq!(reply.status, 202);
        let mut forced = request.clone();
        forced["force"] = true.into();
        let (reply, _) = ask(&forced, at(3)).await;
        assert_eq!(reply.status, 202);
    });
}

fn leftover_messages_of_a_published_run_send_no_requests() {
    paused(async {
        let bench = Bench::new();
        let mut run = bench.begin(marketplace(&["eastus", "westus2"]), at(0)).await;
        publish(&bench.shared(), run.run, at(1), true).await.unwrap();
        let before = bench.requests();
        bench.crawl(&mut run, at(2)).await;
        assert_eq!(bench.requests(), before);
    });
}

/// A container that is not there before somebody makes it.
#[derive(Debug, Default)]
struct NotYet(AtomicBool);

#[async_trait]
impl Around for NotYet {
    async fn before(&self, name: &str) -> Result<usize> {
        if name.is_empty() {
            self.0.store(true, Ordering::SeqCst);
        } else if !self.0.load(Ordering::SeqCst) {
            return Err(Error::not_found(format!("{name}: there is no container")));
        }
        Ok(0)
    }

    async fn after(&self, _: usize) -> Result<()> {
        Ok(())
    }
}

fn a_first_run_begins_where_there_is_no_container_yet() {
    paused(async {
        let http = Trigger::Http { body: r#"{"sources": ["marketplace"]}"#.to_owned() };
        for (name, trigger) in [("start", http), ("plan", Trigger::Timer)] {
            let Bench { app, store, .. } = Bench::new();
            let inner = Arc::clone(&store) as Arc<dyn Store>;
            let store = Arc::new(Stepped { inner, around: NotYet::default() });
            let app = App { store, ..app };
            let sent = call(&app, name, trigger, at(0)).await.unwrap();
            assert!(sent.len() > 1, "{name}");
        }
    });
}
