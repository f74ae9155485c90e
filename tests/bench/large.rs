//! A snapshot of 400,000 images.

use crate::region;
use crate::support::runs::{listed, write_run};
use azimg::testing::image::marketplace::ListedVersion;
use azimg::testing::pipeline::publish::publish;
use azimg::testing::store::Store;
use azimg::testing::store::local::LocalStore;
use azimg::testing::work::RunId;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

/// Copies of each version of a region's catalog: four make 400,000.
const COPIES: usize = 4;
/// Writes a snapshot of 400,000 images, and returns their names.
pub fn write_large(folder: &Path) -> Vec<[String; 4]> {
    let world = region();
    let publishers: Vec<String> = world.publishers.iter().map(|p| p.name.clone()).collect();
    let mut names = Vec::new();
    let listings: Vec<Vec<ListedVersion>> = world
        .publishers
        .iter()
        .map(|publisher| {
            let skus = publisher.offers.iter().flat_map(|o| o.skus.iter().map(move |s| (o, s)));
            let versions = skus.flat_map(|(o, s)| s.versions.iter().map(move |v| (o, s, v)));
            let copies = versions.flat_map(|(o, s, v)| {
                (0..COPIES)
                    .map(move |copy| listed(&o.name, &s.name, format!("{}{copy}", v.version)))
            });
            copies.collect()
        })
        .collect();
    for (publisher, rows) in publishers.iter().zip(&listings) {
        for row in rows {
            let row = row.clone();
            names.push([publisher.clone(), row.offer, row.sku, row.version]);
        }
    }
    let now = OffsetDateTime::now_utc();
    let run = RunId::new(now);
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(folder.to_owned()));
    let runtime = Runtime::new().unwrap();
    let rows = |_: usize, publisher: usize| listings[publisher].clone();
    runtime.block_on(write_run(store.as_ref(), (run, now, None), 2, &publishers, rows));
    runtime.block_on(publish(&store, run, now, false)).unwrap();
    names
}
