//! Benchmarks. Each measures a ratio to a peer or to a limit, within a single run.
//!
//! `cargo bench --bench bench -- NAME…` runs the named ones, `cargo bench --bench bench` all of
//! them.

#![allow(unreachable_pub, reason = "one crate, many modules: pub says what they share")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "benches say what environment a program gets")]
#![allow(clippy::similar_names, clippy::format_collect, clippy::single_match_else)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests use the rest")]
mod support;

mod again;
mod large;
mod listing;
mod lookup;
mod memory;
mod page;
mod peers;
mod publish;
mod quota;
mod registry;
mod wire;

use azimg::testing::sim::{Conditions, Scale, World, generate};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use support::Azure;

/// A region's catalog.
fn region() -> World {
    generate(Scale::Region, 1)
}

/// A tenth of a region's publishers.
fn tenth() -> World {
    let World { locations, mut publishers, .. } = region();
    publishers.truncate(264);
    World::new(locations, publishers)
}

/// A simulated Azure in this process with the real limits, sixty times as fast.
fn limited(world: World) -> Azure {
    let conditions = Conditions { quota: "60x".parse().unwrap(), ..Conditions::default() };
    Azure::under(world, conditions, None)
}

/// Crawls into `store`, and returns the output of `crawl -o json`.
fn crawl(azure: &Azure, store: &Path, more: &[&str]) -> Value {
    let mut arguments = vec!["crawl", "--quiet", "--store", store.to_str().unwrap(), "-o", "json"];
    arguments.extend_from_slice(more);
    support::json(&mut azure.azimg(&arguments))
}

/// The minimum time for this many listings of offers under limits sixty times as fast (200 in 3
/// seconds, 1,000 in 30 seconds), with bursts as large as permitted.
fn shortest(listings: u32) -> Duration {
    let last = listings - 1;
    Duration::from_secs(u64::from(last / 1_000 * 30 + last % 1_000 / 200 * 3))
}

/// Prints a table whose first row is its header.
fn table(title: &str, rows: &[Vec<String>]) {
    println!("\n{title}");
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<w$}", w = width(column)),
            _ => format!("{cell:>w$}", w = width(column)),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let lines = (0..row.len()).map(|column| "-".repeat(width(column)));
            println!("| {} |", lines.collect::<Vec<_>>().join(" | "));
        }
    }
}

/// A row of a table.
fn row<const N: usize>(cells: [&dyn std::fmt::Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn main() {
    let benches: [(&str, fn()); 10] = [
        ("quota", quota::run),
        ("peers", peers::run),
        ("wire", wire::run),
        ("again", again::run),
        ("memory", memory::run),
        ("publish", publish::run),
        ("lookup", lookup::run),
        ("page", page::run),
        ("listing", listing::run),
        ("registry", registry::run),
    ];
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let unknown = asked.iter().find(|name| !benches.iter().any(|(known, _)| known == name));
    assert!(unknown.is_none(), "there is no bench {unknown:?}");
    for (name, bench) in benches {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            bench();
        }
    }
}
