//! Real limits in simulated time: how long a run takes, and how many requests are refused.

use crate::support::fleet::{Direct, Fleet, Luck, app};
use crate::tests;
use azimg::testing::sim::{Conditions, Scale, Sim, World, generate};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

tests![
    a_registry_is_read_at_the_rate_that_it_permits,
    one_process_keeps_to_the_limits_that_responses_report,
    eight_processes_on_one_quota_use_all_of_it,
    two_subscriptions_take_half_as_long,
];

/// Crawls a region under real limits with so many processes on one quota, in so many subscriptions; how long it took, and the
/// statistics of the simulated Azure.
fn crawl(processes: usize, subscriptions: u8, endpoint: &str) -> (Duration, Value) {
    crate::support::paused(async {
        let quota = "real".parse().unwrap();
        let world = generate(Scale::Region, 1);
        let sim = Sim::new(world, Conditions { quota, subscriptions, ..Conditions::default() });
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
        let (took, queue) = fleet.run(r#"{"sources": ["marketplace"]}"#).await;
        let mut stats = sim.stats.to_json();
        stats["messages"] = serde_json::json!(*queue.sent.lock().unwrap());
        (took, stats)
    })
}

/// A registry of 9,400 repositories, which takes a minute's worth of reads and more: what no tier allows
/// one identity at once.
fn a_registry_is_read_at_the_rate_that_it_permits() {
    let (took, stats) = crate::support::paused(async {
        let quota = "real".parse().unwrap();
        let World { locations, .. } = generate(Scale::Small, 1);
        let world = World::new(locations, Vec::new()).with_registries(1, 9_400, 3);
        let sim = Sim::new(world, Conditions { quota, ..Conditions::default() });
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let latency = Duration::from_millis(80);
        let wire = Direct { sim: Arc::clone(&sim), latency, random: None };
        let fleet = Fleet {
            workers: 1,
            at_once: 32,
            make: &|| {
                app(Arc::new(wire.clone()), Arc::clone(&store), "https://management.azure.com")
            },
            luck: Luck::none(),
            starts_at: 0,
        };
        let request = r#"{"sources": ["registry"], "details": "none"}"#;
        let (took, _) = fleet.run(request).await;
        (took, sim.stats.to_json())
    });
    let requests = stats["requests"].as_f64().unwrap();
    let throttled = stats["throttled"].as_f64().unwrap();
    // A minute's worth at once, then 83 a second.
    let least = (requests - 5_000.0) / (5_000.0 / 60.0);
    println!("{requests} requests, {throttled} refused, {took:?} where {least:.0} s is the least");
    assert!(throttled <= requests / 100.0, "{throttled} of {requests} refused");
    assert!(took.as_secs_f64() < least * 3.0, "{took:?} where {least:.0} s is the least");
}

/// One region: 2,640 listings of offers at 200 every three minutes and 1,000 every half hour, and
/// 78,460 other requests at 25 a second, in each subscription.
fn check(processes: usize, subscriptions: u8, endpoint: &str) {
    let (took, stats) = crawl(processes, subscriptions, endpoint);
    let requests = stats["requests"].as_u64().unwrap();
    let throttled = stats["throttled"].as_u64().unwrap();
    println!("{processes} in {subscriptions} at {endpoint}: {took:?}, {stats}");
    // Of several subscriptions, each is asked once whether it may be asked at all.
    let asked_first = if subscriptions > 1 { u64::from(subscriptions) } else { 0 };
    assert_eq!(requests - throttled, 81_100 + asked_first);
    let shortest = Duration::from_mins(if subscriptions == 1 { 60 + 9 } else { 30 + 3 });
    assert!(took.as_secs_f64() <= shortest.as_secs_f64() * 1.05, "{took:?}");
    assert!(throttled * 100 <= requests, "{throttled} of {requests}");
}

fn one_process_keeps_to_the_limits_that_responses_report() {
    check(1, 1, "http://127.0.0.1:1");
}

fn eight_processes_on_one_quota_use_all_of_it() {
    check(8, 1, "https://management.azure.com");
}

fn two_subscriptions_take_half_as_long() {
    check(1, 2, "https://management.azure.com");
}
