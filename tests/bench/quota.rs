//! Under quota: the fraction of the permitted requests that is used, and the fraction refused.

use crate::support::{rows, timeless};
use crate::{Azure, crawl, limited, region, row, shortest, table, tenth};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Seconds from the first to the last answered listing of offers, and the number of these.
fn listings(azure: &Azure) -> (f64, u32) {
    let stats = azure.sim.stats.to_json();
    let offers = &stats["operations"]["ListOffers"];
    let answered = offers["200"].as_u64().unwrap_or(0) + offers["404"].as_u64().unwrap_or(0);
    (stats["seconds"]["ListOffers"].as_f64().unwrap(), u32::try_from(answered).unwrap())
}

fn report(who: &str, azure: &Azure, took: Duration) -> Vec<String> {
    let (spent, count) = listings(azure);
    let permitted = shortest(count);
    let stats = azure.sim.stats.to_json();
    let number = |name: &str| stats[name].as_u64().unwrap() as f64;
    row([
        &who,
        &count,
        &format!("{:.1} s", took.as_secs_f64()),
        &format!("{:.0} s", permitted.as_secs_f64()),
        &format!("{:.3}", took.as_secs_f64() / permitted.as_secs_f64()),
        &format!("{:.1} %", 100.0 * permitted.as_secs_f64() / spent),
        &format!("{:.2} %", 100.0 * number("throttled") / number("requests")),
    ])
}

pub fn run() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = vec![row([
        &"who",
        &"listings of offers",
        &"took",
        &"shortest",
        &"took ÷ shortest",
        &"of the permitted rate",
        &"429s",
    ])];

    let azure = limited(region());
    let begun = Instant::now();
    crawl(&azure, &folder.path().join("one"), &[]);
    lines.push(report("1 process, a region", &azure, begun.elapsed()));

    let free = Azure::start(tenth());
    crawl(&free, &folder.path().join("free"), &[]);
    let expected = timeless(rows(&folder.path().join("free")));
    let azure = limited(tenth());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for process in 0..8 {
            let store = folder.path().join(format!("eight-{process}"));
            let (azure, expected) = (&azure, &expected);
            scope.spawn(move || {
                let result: Value = crawl(azure, &store, &[]);
                assert_eq!(result["state"], "complete");
                assert_eq!(timeless(rows(&store)), *expected, "rows differ");
            });
        }
    });
    lines.push(report("8 processes, a tenth of a region each", &azure, begun.elapsed()));
    table("Real limits, sixty times as fast (limit: ≤ 1.05, ≥ 95 %, ≤ 1 %)", &lines);
}
