//! Publishing: 12 million shard rows of sixty locations become one snapshot, compared with
//! `DuckDB`'s GROUP BY and Parquet over the same shards.

use crate::support::runs::{listed, write_run};
use crate::support::{azimg, python};
use crate::{region, row, table};
use azimg::testing::image::marketplace::ListedVersion;
use azimg::testing::sim::World;
use azimg::testing::store::local::LocalStore;
use azimg::testing::work::RunId;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use time::OffsetDateTime;

const LOCATIONS: usize = 60;
const ROWS: usize = 12_000_000;

/// The listing of a publisher in one location: all but one row in a hundred of the copied catalog.
fn listing(world: &World, publisher: usize, copies: usize, location: usize) -> Vec<ListedVersion> {
    let mut rows = Vec::new();
    for offer in &world.publishers[publisher].offers {
        for sku in &offer.skus {
            for (number, version) in sku.versions.iter().enumerate() {
                for copy in 0..copies {
                    if (publisher + number * 7 + copy * 3 + location).is_multiple_of(100) {
                        continue;
                    }
                    let version = format!("{}{copy}", version.version);
                    rows.push(listed(&offer.name, &sku.name, version));
                }
            }
        }
    }
    rows
}

/// Writes a run whose work items have all ended, and returns the number of rows in its shards.
fn make(folder: &Path, rows_wanted: usize) -> (RunId, usize) {
    let world = region();
    let copies = rows_wanted.div_ceil(LOCATIONS * world.versions());
    let now = OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap();
    let run = RunId::new(now);
    let publishers: Vec<String> = world.publishers.iter().map(|p| p.name.clone()).collect();
    let store = LocalStore::new(folder.to_owned());
    let rows = |location: usize, publisher: usize| listing(&world, publisher, copies, location);
    let written = write_run(&store, (run, now, None), LOCATIONS, &publishers, rows);
    (run, tokio::runtime::Runtime::new().unwrap().block_on(written))
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
    let output = Command::new(python::readers().unwrap().join("python"))
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
