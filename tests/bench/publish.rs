//! Publishing: 12 million shard rows of sixty locations become one snapshot, against DuckDB's GROUP
//! BY and Parquet over the same shards.

use crate::support::{azimg, venv};
use crate::{region, row, table};
use azimg::format::shard;
use azimg::image::marketplace::Listed;
use azimg::sim::World;
use azimg::store::Key;
use azimg::work::{Details, Outcome, Plan, Request, RunId, Scope, SourceName, State, WorkItem};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

const LOCATIONS: usize = 60;
const ROWS: usize = 12_000_000;

fn write(store: &Path, key: &Key, bytes: &[u8]) {
    let path = store.join(key.to_string());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What one location lists of a publisher: all but one row in a hundred of a copy of the catalog.
fn listed(world: &World, publisher: usize, copies: usize, location: usize) -> Vec<Listed> {
    let mut rows = Vec::new();
    for offer in &world.publishers[publisher].offers {
        for sku in &offer.skus {
            for (number, version) in sku.versions.iter().enumerate() {
                for copy in 0..copies {
                    if (publisher + number * 7 + copy * 3 + location) % 100 == 0 {
                        continue;
                    }
                    rows.push(Listed {
                        offer: offer.name.clone(),
                        sku: sku.name.clone(),
                        version: format!("{}{copy}", version.version),
                        architecture: Some("x64".to_owned()),
                        hyper_v_generation: Some("V2".to_owned()),
                        status: Some(azimg::image::Status::Active),
                        ..Listed::default()
                    });
                }
            }
        }
    }
    rows.sort_by(Listed::compare);
    rows
}

/// A run whose items have all ended; the rows in its shards.
fn make(store: &Path, rows_wanted: usize) -> (RunId, usize) {
    let world = region();
    let copies = rows_wanted.div_ceil(LOCATIONS * world.versions());
    let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
    let run = RunId::new(now);
    let item = |scope| WorkItem::new(run, SourceName::Marketplace, scope);
    let (mut items, mut rows) = (Vec::new(), 0);
    for number in 0..LOCATIONS {
        let location = format!("location{number:02}");
        let subscription = "11111111-1111-4111-8111-111111111111".to_owned();
        let top = item(Scope::Location {
            location: location.clone(),
            subscription: subscription.clone(),
            after: None,
            only: Vec::new(),
            spread: Vec::new(),
            details: Details::None,
            offers_max_age: None,
            planned: 0,
        });
        let mut children = Vec::new();
        for (at, publisher) in world.publishers.iter().enumerate() {
            let scope = Scope::Publisher {
                location: location.clone(),
                subscription: subscription.clone(),
                publisher: publisher.name.clone(),
                known: None,
                details: Details::None,
            };
            let child = item(scope.clone());
            let listed = listed(&world, at, copies, number);
            rows += listed.len();
            let state = if listed.is_empty() { State::Empty } else { State::Done };
            let outcome = Outcome {
                rows: listed.len() as u64,
                listed: 1,
                ..Outcome::bare(scope, state, "", 0)
            };
            if !listed.is_empty() {
                write(store, &Key::shard(&child), &shard::encode(&outcome, &listed).unwrap());
            }
            write(store, &Key::outcome(&child, false), &serde_json::to_vec(&outcome).unwrap());
            children.push(child);
        }
        let outcome =
            Outcome { children, listed: 1, ..Outcome::bare(top.scope.clone(), State::Done, "", 0) };
        write(store, &Key::outcome(&top, true), &serde_json::to_vec(&outcome).unwrap());
        items.push(top);
    }
    let request = Request { details: Some(Details::None), ..Request::default() };
    let plan = Plan {
        schema_version: azimg::work::WORK_VERSION,
        run,
        started_at: now,
        deadline_at: now + Duration::from_secs(86_400),
        previous: None,
        request,
        items,
    };
    write(store, &Key::Plan(run), &serde_json::to_vec(&plan).unwrap());
    (run, rows)
}

pub fn run() {
    let wanted = std::env::var("AZIMG_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let (run, rows) = make(store, wanted.unwrap_or(ROWS));
    let run = run.to_string();

    let begun = Instant::now();
    let mut child = azimg(&["runs", "publish", &run, "--store", store.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mib = crate::memory::peak_of(&mut child);
    let own = begun.elapsed().as_secs_f64();
    let manifest = crate::support::read_json(&store.join(format!("snapshots/{run}/manifest.json")));
    let images = &manifest["files"][0]["rows"];

    let shards = store.join(format!("runs/{run}/shards/marketplace"));
    let output = Command::new(venv::readers().join("python"))
        .arg(crate::support::root().join("tests/fixtures/group_by.py"))
        .args([&shards, &store.join("duckdb.parquet")])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let peer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(*images, peer["rows"], "both find the same images");
    let theirs = peer["seconds"].as_f64().unwrap();
    table(
        &format!("Publishing {rows} shard rows of {LOCATIONS} locations ({images} images)"),
        &[
            row([&"", &"seconds", &"ratio", &"limit", &"peak MiB", &"limit"]),
            row([&"DuckDB: GROUP BY, one Parquet", &format!("{theirs:.1}"), &"", &"", &"", &""]),
            row([
                &"azimg: the whole snapshot",
                &format!("{own:.1}"),
                &format!("{:.2}", own / theirs),
                &"1.00",
                &mib,
                &512,
            ]),
        ],
    );
}
