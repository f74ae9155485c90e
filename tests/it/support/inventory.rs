//! The rows of container registries in a snapshot.

use super::{read_json, read_ndjson};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn snapshot(store: &Path) -> PathBuf {
    let current = read_json(&store.join("current.json"));
    store.join("snapshots").join(current["run"].as_str().unwrap())
}

pub fn rows(store: &Path) -> Vec<Value> {
    read_ndjson(&snapshot(store).join("registry.ndjson.zst"))
}
