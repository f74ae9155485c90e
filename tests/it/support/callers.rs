//! What a caller made an embedded host do: runs, and requests to Azure.

use super::Azure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The runs that a store knows of.
pub fn runs(store: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(store.join("runs")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many requests Azure was asked, of every kind.
pub fn asked(azure: &Azure) -> u64 {
    let stats = azure.sim.stats.to_json();
    let operations = stats["operations"].as_object().unwrap().values();
    operations
        .flat_map(|counts| counts.as_object().unwrap().values())
        .filter_map(Value::as_u64)
        .sum()
}
