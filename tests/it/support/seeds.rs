//! Seeds of simulations. `AZIMG_SEED=N` replays seed N, `AZIMG_SEEDS=N` runs N seeds. With both,
//! the seed is replayed that many times.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Simulates each seed, on two threads, and returns their number. `filter` selects the test on a
/// command line.
pub fn each(filter: &str, simulate: impl Fn(u64) + Sync) -> usize {
    times(filter, 200, simulate)
}

/// The same with `usual` seeds, unless `AZIMG_SEEDS` is set.
pub fn times(filter: &str, usual: u64, simulate: impl Fn(u64) + Sync) -> usize {
    // The order of hash maps differs between replays, so a seed may have to be replayed many times.
    let seeds: Vec<u64> = match number("AZIMG_SEED") {
        Some(seed) => {
            let times = number("AZIMG_SEEDS").unwrap_or(1);
            (0..times).map(|_| seed).collect()
        }
        None => (0..number("AZIMG_SEEDS").unwrap_or(usual)).collect(),
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(usize::try_from(at).unwrap()) else { break };
                    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| simulate(*seed)));
                    assert!(
                        ended.is_ok(),
                        "seed {seed} failed; again: AZIMG_SEED={seed} cargo test --test it \
                         {filter} -- --nocapture"
                    );
                }
            });
        }
    });
    seeds.len()
}
