//! Runs that overlap: random scopes of a world that changes, their messages in any order, several
//! publishers of one run that take their steps in turns and are dropped, closings by force and items that
//! end behind them, clocks that jump, damage. Whatever happens, snapshots are one chain, every one of them
//! is whole, and each part of the world is as the newest run saw it that was answered
//! (`support/chain`).
//!
//! `AZIMG_SEED=N` replays one seed, `AZIMG_SEEDS=N` runs so many; both together, one so often.

use crate::support::overlap::{Act, Fate, Letter, quiet, request, simulated};
use crate::support::seeds;
use crate::support::steps::{Turn, race};
use crate::tests;
use azimg::testing::work::RunId;
use serde_json::Value;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

tests![
    two_narrow_runs_at_once_lose_nothing,
    a_long_run_becomes_current_and_keeps_newer_observations,
    outcomes_after_the_close_of_a_run_do_not_count,
    an_equal_request_is_answered_with_the_run_that_is_under_way,
    small_runs_beside_a_long_one_leave_its_internals_alone,
    a_damaged_snapshot_is_passed_over,
    runs_that_overlap_lose_nothing slow "two hundred times up to eight runs at once",
];

/// A request for publishers of a location.
fn narrow(location: &str, publishers: &[&str]) -> Value {
    let publishers: Vec<String> = publishers.iter().map(|name| (*name).to_owned()).collect();
    request(&["marketplace".to_owned()], &[location.to_owned()], &publishers)
}

fn everything() -> Value {
    request(&[], &[], &[])
}

/// The order in which the steps of these runs were taken, if they overlapped.
fn interleaving(trace: &[RunId], runs: &[RunId]) -> Option<u64> {
    let place = |run: &RunId| runs.iter().position(|other| other == run);
    let order: Vec<usize> = trace.iter().filter_map(place).collect();
    let mut turns = order.clone();
    turns.dedup();
    let all: BTreeSet<usize> = order.iter().copied().collect();
    if all.len() < runs.len() || turns.len() <= runs.len() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    order.hash(&mut hasher);
    Some(hasher.finish())
}

fn two_narrow_runs_at_once_lose_nothing() {
    quiet(async |mut model| {
        let one = model.start(narrow("eastus", &[])).await.unwrap();
        let other = model.start(narrow("westus2", &[])).await.unwrap();
        model.publish(one).await;
        model.publish(other).await;
        assert_eq!(model.chain.order(), [one, other]);
        model.finish().await;
    });
}

fn a_long_run_becomes_current_and_keeps_newer_observations() {
    quiet(async |mut model| {
        let first = model.start(everything()).await.unwrap();
        model.publish(first).await;
        model.wire.state.store(1, Ordering::Relaxed);
        let long = model.start(everything()).await.unwrap();
        model.crawl(long, usize::MAX).await;
        model.wire.state.store(2, Ordering::Relaxed);
        for body in [narrow("eastus", &["alpha", "gamma"]), request(&["registry".into()], &[], &[])]
        {
            let small = model.start(body).await.unwrap();
            model.publish(small).await;
        }
        model.publish(long).await;
        assert_eq!(model.chain.order().len(), 4);
        model.finish().await;
    });
}

fn outcomes_after_the_close_of_a_run_do_not_count() {
    quiet(async |mut model| {
        let first = model.start(everything()).await.unwrap();
        model.publish(first).await;
        model.wire.state.store(3, Ordering::Relaxed);
        let run = model.start(everything()).await.unwrap();
        model.crawl(run, 9).await;
        // One publisher closes it and dies; items end; two others publish it together.
        let mut steps = 0;
        while !model.store.contents().keys().any(|name| name.contains(&format!("{run}/closing"))) {
            steps += 1;
            let forced = model.racing(&Act::Force(run));
            let turn = |_| Turn { who: 0, steps, is_dropped: true };
            race(vec![forced], &Arc::clone(&model.turns), turn, || {}).await;
            model.look();
            assert!(steps < 1_000, "it is never closed");
        }
        model.crawl(run, 5).await;
        let look = Act::Deliver(Letter::look(run));
        model.at_once(&[Act::Force(run), look]).await;
        model.finish().await;
        assert_eq!(model.chain.order(), [first, run]);
    });
}

fn an_equal_request_is_answered_with_the_run_that_is_under_way() {
    quiet(async |mut model| {
        let body = narrow("eastus", &["alpha", "beta"]);
        let run = model.start(body.clone()).await;
        assert_eq!(model.start(body.clone()).await, run);
        // Neither order nor case nor repetition tells anything.
        assert_eq!(model.start(narrow("EastUS", &["beta", "Alpha", "alpha"])).await, run);
        let mut forced = body.clone();
        forced["force"] = true.into();
        let other = model.start(forced).await;
        assert_ne!(other, run);
        assert_ne!(model.start(narrow("eastus", &["alpha"])).await, run);
        model.publish(run.unwrap()).await;
        assert_eq!(model.start(body.clone()).await, other);
        model.publish(other.unwrap()).await;
        assert!(![run, other].contains(&model.start(body).await));
        model.finish().await;
    });
}

fn small_runs_beside_a_long_one_leave_its_internals_alone() {
    quiet(async |mut model| {
        let long = model.start(everything()).await.unwrap();
        model.crawl(long, 6).await;
        for _ in 0..8 {
            let small = model.start(narrow("westus2", &["beta"])).await.unwrap();
            model.publish(small).await;
            model.act(Act::Sweep).await;
        }
        model.publish(long).await;
        assert_eq!(model.chain.order().len(), 9);
        model.finish().await;
    });
}

fn a_damaged_snapshot_is_passed_over() {
    let needed =
        ["marketplace.ndjson.zst", "registry.ndjson.zst", "coverage.json", "manifest.json"];
    for file in needed.into_iter().chain(["index.bin", "changes.ndjson.zst", "current.json"]) {
        quiet(async |mut model| {
            let mut before = Vec::new();
            for state in 0..2 {
                model.wire.state.store(state, Ordering::Relaxed);
                before.push(model.start(everything()).await.unwrap());
                model.publish(before[state]).await;
            }
            let name = format!("snapshots/{}/{file}", before[1]);
            model.break_object(if file == "current.json" { file } else { &name }).await;
            model.wire.state.store(2, Ordering::Relaxed);
            let narrow = model.start(narrow("eastus", &["alpha"])).await.unwrap();
            model.publish(narrow).await;
            model.finish().await;
        });
    }
}

fn runs_that_overlap_lose_nothing() {
    let (requests, published) = (AtomicU64::new(0), AtomicU64::new(0));
    let orders: [Mutex<BTreeSet<u64>>; 2] = Default::default();
    let count = seeds::each("overlaps::runs", |seed| {
        let fate = Fate::of(seed);
        simulated(fate, async |mut model| {
            for _ in 0..fate.steps {
                model.step().await;
            }
            model.finish().await;
            requests.fetch_add(model.wire.requests.load(Ordering::Relaxed), Ordering::Relaxed);
            let runs = model.chain.runs();
            published.fetch_add(runs.len() as u64, Ordering::Relaxed);
            for (at, one) in runs.iter().enumerate() {
                for (beside, other) in runs.iter().enumerate().skip(at + 1) {
                    orders[0].lock().unwrap().extend(interleaving(&model.trace, &[*one, *other]));
                    for third in &runs[beside + 1..] {
                        let three = [*one, *other, *third];
                        orders[1].lock().unwrap().extend(interleaving(&model.trace, &three));
                    }
                }
            }
        });
    });
    let [two, three] = orders.map(|orders| orders.into_inner().unwrap().len());
    println!(
        "{count} seeds, {} runs, {} requests; {two} interleavings of two runs, {three} of three",
        published.into_inner(),
        requests.into_inner()
    );
}
