//! The change feed against real history: the Debian and Ubuntu trees as they were recorded over two
//! years.

use crate::support::faulty::{Fault, Faulty, How};
use crate::support::replay::recordings;
use crate::support::{Azure, azimg, finish, json, read_json, write_rows};
use crate::tests;
use azimg::testing::sim::World;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

tests![
    two_years_of_debian_and_ubuntu_are_reported_change_by_change needs [Recordings],
    changes_of_replication_and_deprecation_are_reported,
    rows_of_failed_requests_are_never_reported_as_removed,
];

/// Days on which Debian's tree was recorded, with Ubuntu's in between.
const DAYS: &[&str] = &[
    "2022-06-23",
    "2022-09-28",
    "2023-01-17",
    "2023-03-15",
    "2023-05-25",
    "2023-10-13",
    "2023-12-19",
    "2024-04-24",
    "2024-05-07",
    "2024-08-26",
    "2024-09-19",
    "2024-12-20",
];

fn lines(folder: &Path, file: &str) -> Vec<Value> {
    let file = File::open(folder.join("catalog").join(file)).unwrap();
    let lines = BufReader::new(MultiGzDecoder::new(file)).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

type Tree = BTreeMap<String, Value>;

/// The catalog as it was on a day: the newest list of each SKU until then; by id.
fn tree(lists: &[Value], bodies: &[Value], day: &str) -> Tree {
    let day = format!("{day}T99");
    let mut newest: BTreeMap<[&str; 3], &Value> = BTreeMap::new();
    for list in lists {
        let text = |name: &str| list[name].as_str().unwrap_or_default();
        let ours = matches!(text("publisher"), "Debian" | "Canonical" | "canonical");
        let plain = text("location") == "westus" && list["edge_zone"].is_null();
        if list["level"] == "versions" && ours && plain && text("at") < day.as_str() {
            let best =
                newest.entry([text("publisher"), text("offer"), text("sku")]).or_insert(list);
            if text("at") >= best["at"].as_str().unwrap() {
                *best = list;
            }
        }
    }
    let mut tree = Tree::new();
    for ([publisher, offer, sku], list) in newest {
        for version in list["names"].as_array().unwrap() {
            let row = json!({
                "publisher": publisher, "offer": offer, "sku": sku, "version": version,
                "locations": ["westus"],
            });
            let id = format!("{publisher}:{offer}:{sku}:{}", version.as_str().unwrap());
            tree.insert(id, row);
        }
    }
    // What whole bodies of that time say of status and dates.
    for body in bodies.iter().filter(|body| body["at"].as_str().unwrap() < day.as_str()) {
        for entry in body["body"].as_array().unwrap() {
            let parts: Vec<&str> = entry["id"].as_str().unwrap().split('/').collect();
            let id = format!("{}:{}:{}:{}", parts[8], parts[12], parts[14], parts[16]);
            let state = &entry["properties"]["imageDeprecationStatus"];
            if let Some(row) = tree.get_mut(&id)
                && state["imageState"] == "ScheduledForDeprecation"
            {
                row["status"] = "scheduled".into();
                let at = state["scheduledDeprecationTime"].as_str().unwrap();
                row["scheduledDeprecationAt"] = at.replace("+00:00", "Z").into();
            }
        }
    }
    tree
}

/// The status of a row: what was to come when it was recorded has come since.
fn status(row: &Value) -> &'static str {
    if row["scheduledDeprecationAt"].is_null() { "active" } else { "deprecated" }
}

/// The greatest version of each SKU that can be deployed, by numbers padded with zeros.
fn latest(tree: &Tree) -> BTreeSet<String> {
    let mut best: BTreeMap<String, (Vec<String>, String)> = BTreeMap::new();
    for (id, row) in tree.iter().filter(|(_, row)| status(row) == "active") {
        let sku = id.rsplit_once(':').unwrap().0.to_owned();
        let version = row["version"].as_str().unwrap();
        let padded: Vec<String> = version.split('.').map(|part| format!("{part:0>20}")).collect();
        let candidate = (padded, id.clone());
        let entry = best.entry(sku).or_insert_with(|| candidate.clone());
        *entry = entry.clone().max(candidate);
    }
    best.into_values().map(|(_, id)| id).collect()
}

/// What a feed must say of two days: `(change, id, before, after)`.
fn expected(before: &Tree, after: &Tree) -> BTreeSet<[String; 4]> {
    let (was_latest, is_latest) = (latest(before), latest(after));
    let mut reported = BTreeSet::new();
    let mut say = |change: &str, id: &str, before: Value, after: Value| {
        reported.insert([change.to_owned(), id.to_owned(), before.to_string(), after.to_string()]);
    };
    let whole = |row: &Value, is_latest: bool| json!({"status": status(row), "locations": ["westus"], "isLatest": is_latest});
    for (id, row) in after {
        let Some(was) = before.get(id) else {
            say("added", id, Value::Null, whole(row, is_latest.contains(id)));
            continue;
        };
        if status(was) != status(row) {
            say("status", id, status(was).into(), status(row).into());
        }
        if was["scheduledDeprecationAt"] != row["scheduledDeprecationAt"] {
            let dates = [&was["scheduledDeprecationAt"], &row["scheduledDeprecationAt"]];
            say("dates", id, dates[0].clone(), dates[1].clone());
        }
        let (was, is) = (was_latest.contains(id), is_latest.contains(id));
        if was != is {
            say("latest", id, was.into(), is.into());
        }
    }
    for (id, row) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
        say("removed", id, whole(row, was_latest.contains(id)), Value::Null);
    }
    reported
}

fn reported(changes: &Value) -> BTreeSet<[String; 4]> {
    let text = |change: &Value, name: &str| change[name].as_str().unwrap().to_owned();
    let changes = changes.as_array().unwrap().iter();
    changes
        .map(|change| {
            let [before, after] = ["before", "after"].map(|name| change[name].to_string());
            [text(change, "change"), text(change, "id"), before, after]
        })
        .collect()
}

fn crawl(world: &Path, store: &Path) -> Value {
    let azure = Azure::start(World::load(&[world]).unwrap());
    let store = store.to_str().unwrap();
    let arguments =
        ["crawl", "--details", "none", "--full", "--quiet", "--store", store, "-o", "json"];
    json(&mut azure.azimg(&arguments))
}

fn two_years_of_debian_and_ubuntu_are_reported_change_by_change() {
    let folder = recordings();
    let lists = lines(folder, "lists.jsonl.gz");
    let bodies = lines(folder, "versions-expanded.jsonl.gz");
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    let file = place.path().join("catalog.ndjson");
    let mut before: Option<Tree> = None;
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for day in DAYS {
        let after = tree(&lists, &bodies, day);
        write_rows(&file, &after.values().cloned().collect::<Vec<_>>());
        let result = crawl(&file, &store);
        assert_eq!(result["images"]["marketplace"], after.len(), "{day}");
        let run = result["run"].as_str().unwrap();
        let arguments =
            ["changes", "--run", run, "--store", store.to_str().unwrap(), "-o", "json", "--quiet"];
        let reported = reported(&json(&mut azimg(&arguments)));
        let expected = before.map(|before| expected(&before, &after)).unwrap_or_default();
        assert_eq!(reported, expected, "{day}");
        assert_eq!(result["changes"], reported.len());
        for [change, ..] in reported {
            *kinds.entry(change).or_default() += 1;
        }
        before = Some(after);
    }
    for change in ["added", "removed", "status", "dates", "latest"] {
        assert!(kinds[change] > 50, "{kinds:?}");
    }
}

fn image(version: &str, locations: &[&str], status: &str) -> Value {
    json!({"publisher": "Contoso", "offer": "os", "sku": "one", "version": version,
           "locations": locations, "status": status})
}

fn changes_of_replication_and_deprecation_are_reported() {
    let place = tempfile::tempdir().unwrap();
    let (store, file) = (place.path().join("store"), place.path().join("catalog.ndjson"));
    let both = ["eastus", "westus2"];
    let days = [
        vec![image("1.9.0", &both, "active"), image("1.10.0", &both[..1], "active")],
        vec![image("1.9.0", &both[1..], "active"), image("1.10.0", &both, "deprecated")],
        vec![image("1.9.0", &both, "active"), image("1.10.0", &both, "active")],
    ];
    let mut feeds = Vec::new();
    for rows in days {
        write_rows(&file, &rows);
        crawl(&file, &store);
        let arguments = ["changes", "--store", store.to_str().unwrap(), "-o", "json", "--quiet"];
        let feed = reported(&json(&mut azimg(&arguments)));
        let short = |[change, id, before, after]: [String; 4]| {
            format!("{change} {} {before} {after}", id.rsplit(':').next().unwrap())
        };
        feeds.push(feed.into_iter().map(short).collect::<Vec<_>>());
    }
    assert_eq!(feeds[0], Vec::<String>::new());
    let second = [
        "latest 1.10.0 true false",
        "latest 1.9.0 false true",
        r#"locations 1.10.0 ["eastus"] ["eastus","westus2"]"#,
        r#"locations 1.9.0 ["eastus","westus2"] ["westus2"]"#,
        r#"status 1.10.0 "active" "deprecated""#,
    ];
    assert_eq!(feeds[1], second);
    let third = [
        "latest 1.10.0 false true",
        "latest 1.9.0 true false",
        r#"locations 1.9.0 ["westus2"] ["eastus","westus2"]"#,
        r#"status 1.10.0 "deprecated" "active""#,
    ];
    assert_eq!(feeds[2], third);
}

fn rows_of_failed_requests_are_never_reported_as_removed() {
    let place = tempfile::tempdir().unwrap();
    let (store, file) = (place.path().join("store"), place.path().join("catalog.ndjson"));
    let rows: Vec<Value> =
        (0..20).map(|n| image(&format!("1.0.{n}"), &["eastus"], "active")).collect();
    write_rows(&file, &rows);
    crawl(&file, &store);
    // Half of it is withdrawn while its publisher cannot be listed.
    write_rows(&file, &rows[..10]);
    let denied = r#"{"error":{"code":"AuthorizationFailed","message":"denied"}}"#;
    let fault = Fault::new("/publishers/contoso/", 1_000, How::Answer(403, &[], denied));
    let faulty = Faulty::start(Azure::start(World::load(&[&file]).unwrap()), vec![fault]);
    let path = store.to_str().unwrap();
    let arguments = ["crawl", "--details", "none", "--full", "--store", path, "-o", "json"];
    let (code, stdout, stderr) = finish(&mut faulty.azimg(&arguments));
    assert_eq!(code, 3, "{stderr}");
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["state"], "partial", "{result}");
    assert_eq!((&result["images"]["marketplace"], &result["changes"]), (&json!(20), &json!(0)));
    let run = result["run"].as_str().unwrap();
    let coverage = read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    assert!(coverage["scopes"].as_array().unwrap().iter().any(|line| line["state"] == "denied"));
    let result = crawl(&file, &store);
    assert_eq!(result["changes"], 11, "ten are gone, and another is the latest");
}
