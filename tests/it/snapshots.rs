//! Snapshots that come, are read and go: no reader sees two of them at once, or half of one.

use crate::support::runs::{listed, write_run};
use crate::support::serving::serve;
use crate::support::{threads, wait_until};
use crate::tests;
use azimg::testing::pipeline::publish::{CloseAttempt, publish};
use azimg::testing::pipeline::retain::{RetentionPolicy, retain};
use azimg::testing::pipeline::snapshot::Manifest;
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::RunId;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use time::OffsetDateTime;

tests![
    fifty_readers_never_see_two_of_thirty_snapshots_at_once,
    a_list_continues_in_its_snapshot_until_that_is_deleted,
    a_damaged_snapshot_is_refused_and_the_previous_one_serves,
    old_snapshots_are_deleted_by_number_and_age_unless_needed,
];

/// Every snapshot of these tests has so many images, all of one version.
const IMAGES: usize = 330;

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000 + second).unwrap()
}

/// Publishes snapshot `number`, whose images all have that version.
async fn next(store: &Arc<dyn Store>, number: i64, previous: Option<RunId>) -> Manifest {
    let now = at(number * 60);
    let run = RunId::after(previous, now, &number.to_string());
    let publishers: Vec<String> = (0..3).map(|n| format!("publisher{n}")).collect();
    let rows = |_: usize, _: usize| {
        let sku = |n: usize| listed("offer", &format!("sku{n}"), format!("1.0.{number}"));
        (0..IMAGES / 3).map(sku).collect()
    };
    write_run(store.as_ref(), (run, now, previous), 2, &publishers, rows).await;
    match publish(store, run, now, false).await.unwrap() {
        CloseAttempt::Published(manifest) => *manifest,
        other => panic!("{other:?}"),
    }
}

async fn ask(client: &Client, url: &str) -> (StatusCode, Value) {
    let response = client.get(url).send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

/// Reads a whole list; the one version that all its images have.
async fn whole_list(client: &Client, address: &str) -> String {
    let mut next = Some(format!("{address}/images?top=100"));
    let (mut versions, mut count) = (std::collections::BTreeSet::new(), 0);
    while let Some(url) = next {
        let (status, page) = ask(client, &url).await;
        assert_eq!(status, 200, "{page}");
        for row in page["value"].as_array().unwrap() {
            versions.insert(row["version"].as_str().unwrap().to_owned());
            count += 1;
        }
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    assert_eq!((count, versions.len()), (IMAGES, 1), "a mixture of {versions:?}");
    versions.pop_first().unwrap()
}

fn fifty_readers_never_see_two_of_thirty_snapshots_at_once() {
    threads(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut manifest = next(&store, 0, None).await;
        let address = serve(&store).await;
        let newest = Arc::new(AtomicU32::new(0));
        let finished = Arc::new(AtomicBool::new(false));
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (address, newest, finished) =
                (address.clone(), Arc::clone(&newest), Arc::clone(&finished));
            readers.spawn(async move {
                let client = Client::new();
                let mut seen = Vec::new();
                while !finished.load(Ordering::Acquire) || seen.len() < 3 {
                    seen.push(whole_list(&client, &address).await);
                    let url = format!("{address}/images/latest?urn=publisher1:offer:sku7");
                    let (status, row) = ask(&client, &url).await;
                    assert_eq!(status, 200, "{row}");
                    let number = |text: &str| text[4..].parse::<u32>().unwrap();
                    let latest = number(row["version"].as_str().unwrap());
                    assert!(latest >= number(&seen[seen.len() - 1]), "it went backward");
                    newest.fetch_max(latest, Ordering::Release);
                }
            });
        }
        for number in 1..=30 {
            manifest = next(&store, number, Some(manifest.run)).await;
            retain(
                store.as_ref(),
                RetentionPolicy { number: 2, age: Duration::ZERO },
                at(number * 60),
            )
            .await
            .unwrap();
            // The next one comes when somebody has this one.
            wait_until("a reader of it", async || {
                i64::from(newest.load(Ordering::Acquire)) >= number
            })
            .await;
        }
        finished.store(true, Ordering::Release);
        while let Some(read) = readers.join_next().await {
            read.unwrap();
        }
    });
}

fn a_list_continues_in_its_snapshot_until_that_is_deleted() {
    threads(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let first = next(&store, 0, None).await;
        let address = serve(&store).await;
        let client = Client::new();
        let (_, page) =
            ask(&client, &format!("{address}/images?top=100&publisher=publisher")).await;
        let link = page["nextLink"].as_str().unwrap().to_owned();
        let second = next(&store, 1, Some(first.run)).await;
        let url = format!("{address}/images?top=1");
        wait_until("the second snapshot", async || {
            ask(&client, &url).await.1["value"][0]["version"] == "1.0.1"
        })
        .await;
        let (status, page) = ask(&client, &link).await;
        assert_eq!((status, &page["value"][0]["version"]), (StatusCode::OK, &"1.0.0".into()));

        // In another process, which has to open the older snapshot; and then it is gone.
        let other = serve(&store).await;
        let there = link.replace(&address, &other);
        assert_eq!(ask(&client, &there).await.0, 200);
        let keep = RetentionPolicy { number: 1, age: Duration::ZERO };
        assert_eq!(
            retain(store.as_ref(), keep, at(120)).await.unwrap(),
            0,
            "it was current just now"
        );
        assert_eq!(retain(store.as_ref(), keep, at(60 + 3_601)).await.unwrap(), 1);
        let third = serve(&store).await;
        let (status, answer) = ask(&client, &link.replace(&address, &third)).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::GONE, &"SnapshotGone".into()));
        let url = format!("{third}/changes?run={}", first.run);
        let (status, answer) = ask(&client, &url).await;
        assert_eq!(status, 404, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("no longer kept"), "{message}");
        assert!(second.run > first.run);

        // A token is of one list, and no one else's.
        let alien = link.replace("publisher=publisher", "publisher=x");
        for (url, says) in [
            (alien, "another list"),
            (format!("{address}/images?skipToken=AAAA"), "truncated or changed"),
        ] {
            let (status, answer) = ask(&client, &url).await;
            assert_eq!(status, 400);
            assert!(answer["error"]["message"].as_str().unwrap().contains(says), "{answer}");
        }
    });
}

fn a_damaged_snapshot_is_refused_and_the_previous_one_serves() {
    threads(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let first = next(&store, 0, None).await;
        let serving = serve(&store).await;
        let client = Client::new();
        assert_eq!(whole_list(&client, &serving).await, "1.0.0");
        let second = next(&store, 1, Some(first.run)).await;
        let key = Key::Snapshot(second.run, SnapshotFile::Index);
        store.delete(&key.to_string()).await.unwrap();
        assert!(store.create(&key, bytes::Bytes::from_static(b"AZIMGIX1")).await.unwrap());
        // One that is serving, and one that starts now.
        let starting = serve(&store).await;
        for _ in 0..20 {
            for address in [&serving, &starting] {
                let version = whole_list(&client, address).await;
                assert!(version == "1.0.0" || address == &serving, "the damaged one was served");
            }
        }
        // The next good one takes over.
        next(&store, 2, Some(first.run)).await;
        let whole = async || whole_list(&client, &starting).await == "1.0.2";
        wait_until("the next good snapshot", whole).await;
    });
}

fn old_snapshots_are_deleted_by_number_and_age_unless_needed() {
    threads(async {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut runs: Vec<RunId> = Vec::new();
        for number in 0..8 {
            let manifest = next(&store, number, runs.last().copied()).await;
            runs.push(manifest.run);
        }
        let left =
            || async { azimg::testing::pipeline::snapshot::runs(store.as_ref()).await.unwrap() };
        let later = at(7 * 60 + 7_200);
        let keep = |text: &str| text.parse::<RetentionPolicy>().unwrap();
        assert_eq!(retain(store.as_ref(), keep("all"), later).await.unwrap(), 0);
        assert_eq!(retain(store.as_ref(), keep("2,30d"), later).await.unwrap(), 0);
        // A run under way carries rows over from the third.
        let now = at(8 * 60);
        let run = RunId::after(runs.last().copied(), now, "under way");
        write_run(store.as_ref(), (run, now, Some(runs[2])), 1, &[], |_, _| Vec::new()).await;
        assert_eq!(retain(store.as_ref(), keep("2"), later).await.unwrap(), 5);
        assert_eq!(left().await, [runs[2], runs[6], runs[7]]);
        assert_eq!(retain(store.as_ref(), keep("0"), later).await.unwrap(), 1);
        assert_eq!(left().await, [runs[2], runs[7]], "the current one stays");
        let gone = store.list(&Key::snapshot_prefix(runs[0])).await.unwrap();
        assert!(gone.is_empty() && store.list(&Key::run_prefix(runs[0])).await.unwrap().is_empty());
        for text in ["", "many", "3,blue"] {
            assert!(text.parse::<RetentionPolicy>().is_err(), "{text}");
        }
    });
}
