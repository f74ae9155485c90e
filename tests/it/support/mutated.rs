//! A crawl of registries whose answers are changed, held against a crawl without changes.

use super::changing::{Change, Changing};
use super::fleet::{Fleet, Luck, app};
use super::{paused, timeless};
use azimg::testing::sim::{Conditions, Sim, World};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

pub fn world() -> World {
    World::new(vec!["eastus".to_owned()], Vec::new()).with_registries(2, 5, 7)
}

/// Crawls the registries of `world` as `change` has them, over what `before` holds.
pub fn crawl(world: World, change: Change, before: Option<&MemoryStore>) -> Crawl {
    Crawl::of(run(world, r#"{"sources": ["registry"], "details": "none"}"#, change, before))
}

/// Does what `request` asks for; what the store holds then.
pub fn run(
    world: World,
    request: &str,
    change: Change,
    before: Option<&MemoryStore>,
) -> MemoryStore {
    paused(async {
        let wire = Changing::new(&Sim::new(world, Conditions::default()), change);
        let memory = Arc::new(before.cloned().unwrap_or_default());
        let make = || {
            let store = Arc::clone(&memory) as Arc<dyn Store>;
            app(Arc::new(wire.clone()), store, "http://127.0.0.1:1")
        };
        let starts_at = if before.is_some() { 7_200 } else { 0 };
        let fleet = Fleet { workers: 1, at_once: 8, make: &make, luck: Luck::none(), starts_at };
        fleet.run(request).await;
        MemoryStore::clone(&memory)
    })
}

/// A file of the current snapshot.
fn file(store: &MemoryStore, name: &str) -> Bytes {
    let contents = store.contents();
    let current: Value = serde_json::from_slice(&contents["current.json"]).unwrap();
    contents[&format!("snapshots/{}/{name}", current["run"].as_str().unwrap())].clone()
}

pub fn coverage(store: &MemoryStore) -> Value {
    serde_json::from_slice(&file(store, "coverage.json")).unwrap()
}

pub fn unchanged() -> Change {
    Arc::new(|_, _| {})
}

/// What a crawl left behind.
pub struct Crawl {
    pub store: MemoryStore,
    /// Rows by id, without what differs from run to run.
    pub rows: BTreeMap<String, Value>,
    pub coverage: Value,
    pub changes: Vec<Value>,
}

impl Crawl {
    pub fn of(store: MemoryStore) -> Self {
        let lines = |name: &str| -> Vec<Value> {
            let text = zstd::decode_all(file(&store, name).as_ref()).unwrap();
            let text = String::from_utf8(text).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let rows = timeless(lines("registry.ndjson.zst"));
        Self {
            rows: rows
                .into_iter()
                .map(|row| (row["id"].as_str().unwrap().to_owned(), row))
                .collect(),
            coverage: coverage(&store),
            changes: lines("changes.ndjson.zst"),
            store,
        }
    }

    /// Lines of coverage that ended otherwise than well.
    pub fn failed(&self) -> Vec<&Value> {
        let lines = self.coverage["scopes"].as_array().unwrap().iter();
        lines.filter(|line| !matches!(line["state"].as_str(), Some("done" | "empty"))).collect()
    }

    /// What was of another form, over all lines.
    pub fn malformed(&self) -> Vec<String> {
        let lines = self.coverage["scopes"].as_array().unwrap().iter();
        let all = lines.filter_map(|line| line["malformed"].as_object());
        all.flatten().map(|(what, _)| what.clone()).collect()
    }
}

/// A crawl of what nobody changed.
pub static WHOLE: LazyLock<Crawl> = LazyLock::new(|| crawl(world(), unchanged(), None));
