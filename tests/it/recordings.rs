//! Real input: what Azure really answered, replayed.

use crate::support::faulty::answering;
use crate::support::replay::{Exchange, Replay, SUBSCRIPTION, exchanges, recordings};
use crate::support::threads;
use crate::support::{Azure, finish, json, rows};
use crate::tests;
use azimg::testing::client::{Client, RetryPolicy, Tokens};
use azimg::testing::error::ErrorKind;
use azimg::testing::sim::{Scale, SimCredential, generate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

tests![
    a_location_recorded_in_2019_is_crawled_whole needs [Recordings],
    a_location_recorded_in_2024_is_crawled_whole_with_properties needs [Recordings],
    a_live_lookup_finds_canonical_whatever_the_case needs [Recordings],
    an_unknown_location_is_answered_with_the_nearest_names needs [Recordings],
    every_recorded_location_parses_in_its_oldest_and_newest_form needs [Recordings],
    every_recorded_error_is_understood needs [Recordings],
];

/// The executable, led to the stand-in, with tokens from a simulated identity endpoint.
fn azimg(identity: &Azure, replay: &Replay, arguments: &[&str]) -> Command {
    let mut command = identity.azimg(arguments);
    command.env("AZIMG_ARM_ENDPOINT", &replay.address).env("AZIMG_SUBSCRIPTIONS", SUBSCRIPTION);
    command
}

fn marketplace(folder: &Path) -> Vec<Exchange> {
    let mut all = exchanges(folder, "marketplace.jsonl.gz");
    all.extend(exchanges(folder, "subscriptions.jsonl.gz"));
    all
}

/// What a crawl of `location` must find: the versions of recorded listings whose parents were
/// recorded too; worked out from the recordings alone.
fn expected(all: &[Exchange], location: &str) -> BTreeMap<String, Value> {
    let mut newest: BTreeMap<Vec<&str>, &Exchange> = BTreeMap::new();
    for exchange in all.iter().filter(|e| !e.query.contains("top") && e.status == 200) {
        if let Some(parts) = exchange.below_publishers(location) {
            let best = newest.entry(parts).or_insert(exchange);
            if exchange.at >= best.at {
                *best = exchange;
            }
        }
    }
    let lists = |path: &[&str], name: &str| {
        newest
            .get(path)
            .is_some_and(|list| list.names().iter().any(|n| n.eq_ignore_ascii_case(name)))
    };
    let mut found = BTreeMap::new();
    for (path, list) in &newest {
        let [publisher, a, b, c, offer, d, sku, "versions"] = path[..] else { continue };
        let listed = lists(&[], publisher)
            && lists(&[publisher, a, b, c], offer)
            && lists(&[publisher, a, b, c, offer, d], sku);
        if listed {
            let versions: Value = serde_json::from_str(&list.body).unwrap();
            for version in versions.as_array().unwrap() {
                let name = version["name"].as_str().unwrap();
                let urn = format!("{publisher}:{offer}:{sku}:{name}").to_lowercase();
                found.insert(urn, version.clone());
            }
        }
    }
    found
}

/// Crawls one location of the marketplace with all details.
fn crawled(identity: &Azure, replay: &Replay, location: &str, store: &Path) -> Value {
    let mut arguments = vec!["crawl", "--source", "marketplace", "--location", location];
    arguments.extend(["--details", "all", "-o", "json", "--store", store.to_str().unwrap()]);
    json(&mut azimg(identity, replay, &arguments))
}

fn crawl_finds_what_was_recorded(location: &str, at_least: usize) {
    let folder = recordings();
    let all = marketplace(folder);
    let replay = Replay::start(&all);
    let identity = Azure::start(generate(Scale::Small, 1));
    let store = tempfile::tempdir().unwrap();
    let result = crawled(&identity, &replay, location, store.path());
    assert_eq!(result["state"], "complete");
    assert!(result["coverage"]["gone"].as_u64().unwrap() > 0, "most publishers were not recorded");

    let expected = expected(&all, location);
    assert!(expected.len() >= at_least, "only {} versions recorded", expected.len());
    let rows = rows(store.path());
    let crawled: BTreeSet<String> =
        rows.iter().map(|row| row["id"].as_str().unwrap().to_lowercase()).collect();
    assert_eq!(crawled, expected.keys().cloned().collect());

    let details: BTreeMap<String, &Exchange> = all
        .iter()
        .filter(|e| e.status == 200)
        .filter_map(|e| match e.below_publishers(location)?[..] {
            [p, _, _, _, o, _, s, _, v] => Some((format!("{p}:{o}:{s}:{v}"), e)),
            _ => None,
        })
        .collect();
    for row in &rows {
        let urn = row["id"].as_str().unwrap().to_lowercase();
        let listed = &expected[&urn]["properties"];
        for (column, property) in
            [("architecture", "architecture"), ("hyperVGeneration", "hyperVGeneration")]
        {
            if !listed[property].is_null() {
                assert_eq!(row[column], listed[property], "{urn} {column}");
            }
        }
        let scheduled = listed["imageDeprecationStatus"]["imageState"] == "ScheduledForDeprecation";
        // What was to come when it was recorded has come since.
        assert_eq!(row["status"], if scheduled { "deprecated" } else { "active" }, "{urn}");
        assert_eq!(row["scheduledDeprecationAt"].is_null(), !scheduled, "{urn}");
        if let Some(exchange) = details.get(&urn) {
            let image: Value = serde_json::from_str(&exchange.body).unwrap();
            let properties = &image["properties"];
            assert_eq!(row["os"], properties["osDiskImage"]["operatingSystem"], "{urn}");
            assert_eq!(row["planName"], properties["plan"]["name"], "{urn}");
        }
    }
}

fn a_location_recorded_in_2019_is_crawled_whole() {
    crawl_finds_what_was_recorded("westcentralus", 500);
}

fn a_location_recorded_in_2024_is_crawled_whole_with_properties() {
    crawl_finds_what_was_recorded("westus", 500);
}

fn a_live_lookup_finds_canonical_whatever_the_case() {
    let folder = recordings();
    let replay = Replay::start(&marketplace(folder));
    let identity = Azure::start(generate(Scale::Small, 1));
    for part in ["canonical", "CANON"] {
        let arguments =
            ["images", "list", "--live", "--publisher", part, "--location", "westus", "-o", "json"];
        let listed = json(&mut azimg(&identity, &replay, &arguments));
        let publishers: BTreeSet<&str> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["publisher"].as_str().unwrap())
            .collect();
        assert!(publishers.contains("Canonical"), "{part}: {publishers:?}");
    }
}

fn an_unknown_location_is_answered_with_the_nearest_names() {
    let folder = recordings();
    let replay = Replay::start(&marketplace(folder));
    let identity = Azure::start(generate(Scale::Small, 1));
    let store = tempfile::tempdir().unwrap();
    let path = store.path().to_str().unwrap();
    let arguments = ["crawl", "--location", "westeurop", "--store", path];
    let (code, stdout, stderr) = finish(&mut azimg(&identity, &replay, &arguments));
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("no location 'westeurop'"), "{stderr}");
    assert!(stderr.contains("westeurope"), "{stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "{stderr}");
}

fn every_recorded_location_parses_in_its_oldest_and_newest_form() {
    let folder = recordings();
    let all = marketplace(folder);
    let identity = Azure::start(generate(Scale::Small, 1));
    for newest in [false, true] {
        let replay = Replay::start_with(&all, |one, other| {
            if newest || !one.path.contains("/publishers") {
                one.at >= other.at
            } else {
                one.at < other.at
            }
        });
        for location in ["eastus", "westus", "westcentralus"] {
            let store = tempfile::tempdir().unwrap();
            let result = crawled(&identity, &replay, location, store.path());
            assert_eq!(result["state"], "complete", "{location} {result}");
            assert!(result["images"]["marketplace"].as_u64().unwrap() > 0, "{location}");
        }
    }
}

fn every_recorded_error_is_understood() {
    threads(async {
        let folder = recordings();
        let errors = exchanges(folder, "errors.jsonl.gz");
        assert!(errors.len() > 100);
        for error in errors.into_iter().filter(|error| error.status >= 400) {
            let address = answering(error.status, &[], error.body.clone()).await;
            let client = Client::new(address, "scope".into(), vec![Tokens::of(SimCredential)])
                .unwrap()
                .with_retry(RetryPolicy {
                    budget: std::time::Duration::ZERO,
                    ..RetryPolicy::default()
                });
            let refused = client.get::<Value>(&["x"], &[]).await.unwrap_err();
            let expected = match error.status {
                401 => ErrorKind::SignedOut,
                403 => ErrorKind::Denied,
                404 | 410 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                408 | 429 | 500 | 502 | 503 | 504 => ErrorKind::Transient,
                _ => ErrorKind::BadAnswer,
            };
            let text = refused.to_string();
            // A wait that is not worth a worker's time is for the queue.
            let long = refused.retry_after().is_some_and(|wait| wait.as_secs() > 20);
            let expected = if long { ErrorKind::Throttled } else { expected };
            assert_eq!(refused.kind(), expected, "{text}");
            assert!(text.starts_with(&format!("GET /x: {}", error.status)), "{text}");
            if error.status == 429 {
                assert!(refused.retry_after().is_some(), "{text}");
                if let Some((_, seconds)) = error.body.split_once("try again after '") {
                    let seconds: u64 = seconds.split('\'').next().unwrap().parse().unwrap();
                    assert_eq!(refused.retry_after().unwrap().as_secs(), seconds, "{text}");
                }
            }
        }
    });
}
