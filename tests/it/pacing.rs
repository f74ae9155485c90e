//! Real limits in simulated time: how long a run takes, and how many requests are refused.

use crate::support::fleet::{Direct, Fleet, Luck, app};
use azimg::sim::{Scale, Sim, World, generate};
use azimg::store::Store;
use azimg::store::memory::MemoryStore;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Crawls `world` under real limits with so many processes on one quota; how long it took, and the
/// statistics of the simulated Azure.
fn crawl(world: World, processes: usize, endpoint: &str) -> (Duration, Value) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let sim = Sim::new(world, Duration::ZERO, "real".parse().unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let latency = Duration::from_millis(80);
        let wire = Direct { sim: Arc::clone(&sim), latency, random: None };
        let fleet = Fleet {
            workers: processes,
            at_once: 32,
            make: &|| app(Arc::new(wire.clone()), Arc::clone(&store), endpoint),
            luck: Luck::none(),
            starts_at: 0,
        };
        let (took, queue) = fleet.run("").await;
        let mut stats = sim.stats.to_json();
        stats["messages"] = serde_json::json!(*queue.sent.lock().unwrap());
        (took, stats)
    })
}

/// One region: 2,640 listings of offers at 200 every three minutes and 1,000 every half hour, and
/// 78,460 other requests at 25 a second.
fn check(processes: usize, endpoint: &str) {
    let (took, stats) = crawl(generate(Scale::Region, 1), processes, endpoint);
    let requests = stats["requests"].as_u64().unwrap();
    let throttled = stats["throttled"].as_u64().unwrap();
    println!("{processes} at {endpoint}: {took:?}, {stats}");
    assert_eq!(requests - throttled, 81_100);
    let shortest = Duration::from_mins(60 + 9);
    assert!(took.as_secs_f64() <= shortest.as_secs_f64() * 1.05, "{took:?}");
    assert!(throttled * 100 <= requests, "{throttled} of {requests}");
}

#[test]
fn one_process_that_is_told_of_limits_by_answers_is_done_as_soon_as_they_permit() {
    check(1, "http://127.0.0.1:1");
}

#[test]
fn eight_processes_on_one_quota_are_done_as_soon_as_it_permits() {
    check(8, "https://management.azure.com");
}
