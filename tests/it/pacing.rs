//! Real limits in simulated time: how long a run takes, and how many requests are refused.

use crate::support::fleet::{Direct, app, run};
use azimg::sim::{Scale, Sim, World, generate};
use azimg::store::Store;
use azimg::store::memory::MemoryStore;
use std::sync::Arc;
use std::time::Duration;

fn crawl(world: World, quota: &str, workers: usize, endpoint: &str) -> (Duration, serde_json::Value) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let sim = Sim::new(world, Duration::ZERO, quota.parse().unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let wire = Direct { sim: Arc::clone(&sim), latency: Duration::from_millis(80), log: Arc::default() };
        let log = Arc::clone(&wire.log);
        let begun = tokio::time::Instant::now();
        let workers = (0..workers)
            .map(|_| app(Arc::new(wire.clone()), Arc::clone(&store), endpoint))
            .collect();
        let (took, queue) = run(workers, 32, "").await;
        let mut stats = sim.stats.to_json();
        stats["messages"] = serde_json::json!(*queue.sent.lock().unwrap());
        if std::env::var("TRACE").is_ok() {
            let mut table: std::collections::BTreeMap<u64, [u32; 6]> = Default::default();
            for (at, depth, status) in log.lock().unwrap().iter() {
                let row = table.entry((*at - begun).as_secs() / 60).or_default();
                match (depth, status) { (_, 429) => row[if *depth == 4 { 4 } else { 5 }] += 1, (4, _) => row[0] += 1, (6, _) => row[1] += 1, (8, _) => row[2] += 1, _ => row[3] += 1 }
            }
            for (minute, row) in table { println!("{minute:4} offers {:4} skus {:4} versions {:4} images {:4} | 429 offers {:3} others {:3}", row[0], row[1], row[2], row[3], row[4], row[5]); }
        }
        (took, stats)
    })
}

#[test]
fn look() {
    for workers in [1, 8] {
        if std::env::var("WORKERS").is_ok_and(|w| w != workers.to_string()) { continue; }
        for endpoint in ["http://127.0.0.1:1", "https://management.azure.com"] {
            if std::env::var("ENDPOINT").is_ok_and(|w| !endpoint.contains(&w)) { continue; }
            let begun = std::time::Instant::now();
            let (took, stats) = crawl(generate(Scale::Region, 1), "real", workers, endpoint);
            println!(
                "{workers} {endpoint} {:.1} min, {:?} real\n{stats}",
                took.as_secs_f64() / 60.0,
                begun.elapsed()
            );
        }
    }
}
