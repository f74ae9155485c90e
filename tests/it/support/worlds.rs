//! A small simulated world with several states, and what each part of a state shows in the snapshot
//! of a run without concurrent changes.

use super::fleet::{Direct, Fleet, Luck, app};
use super::write_rows;
use async_trait::async_trait;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::error::Result;
use azimg::testing::sim::{Conditions, OrganisationSize, Sim, World};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The number of states.
pub const STATES: usize = 4;
pub const LOCATIONS: [&str; 2] = ["eastus", "westus2"];
pub const PUBLISHERS: [&str; 3] = ["alpha", "beta", "gamma"];
pub const SOURCES: [&str; 3] = ["marketplace", "gallery", "registry"];

/// A part of the world that is answered as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// A publisher in a location.
    Publisher(String, String),
    /// A gallery.
    Gallery(String),
    /// The managed images of the subscription.
    Managed,
    /// A repository.
    Repository(String),
}

/// The rows of each part, by id. For a publisher, only the ids of its versions.
pub type Cells = BTreeMap<Cell, BTreeMap<String, Value>>;

/// A state of the world.
pub struct State {
    pub sim: Arc<Sim>,
    /// What a run without concurrent changes shows.
    pub cells: Cells,
}

pub static WORLDS: LazyLock<Vec<State>> = LazyLock::new(|| {
    let state = |number| {
        let sim = Sim::new(world(number), Conditions::default());
        let cells = crawled(&sim);
        State { sim, cells }
    };
    (0..STATES).map(state).collect()
});

/// All parts that exist in any state.
pub static CELLS: LazyLock<BTreeSet<Cell>> =
    LazyLock::new(|| WORLDS.iter().flat_map(|state| state.cells.keys().cloned()).collect());

fn world(number: usize) -> World {
    let mut random = StdRng::seed_from_u64(number as u64);
    let mut rows = Vec::new();
    let names = [("alpha", "one"), ("alpha", "two"), ("beta", "one"), ("gamma", "one")];
    for (at, (publisher, offer)) in names.iter().enumerate() {
        // The last offer is missing from every other state.
        if at + 1 == names.len() && number % 2 == 1 {
            continue;
        }
        for version in 0..4 {
            let mut listed = |_: &&str| version == 0 || random.random_bool(0.5);
            let locations: Vec<&str> = LOCATIONS.iter().copied().filter(&mut listed).collect();
            if locations.is_empty() {
                continue;
            }
            let mut row = json!({"publisher": publisher, "offer": offer, "sku": "sku",
                "version": format!("1.0.{version}"), "locations": locations, "os": "Linux"});
            if random.random_bool(0.3) {
                row["status"] = "scheduled".into();
                row["scheduledDeprecationAt"] = format!("2031-01-0{}T00:00:00Z", 1 + number).into();
            }
            rows.push(row);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("catalog.ndjson");
    write_rows(&file, &rows);
    let size = OrganisationSize {
        subscriptions: 1,
        galleries: 3,
        definitions: 3,
        versions: 9,
        managed: 2,
        machines: 0,
        shared: 0,
        communities: 0,
    };
    let mut world = World::load(&[&file])
        .unwrap()
        .with_generated_organisation(size, 5)
        .with_registries(1, 4, 5);
    alter(&mut world, number);
    world
}

/// Removes some of what the first state has, and makes the rest recognizable by its tags.
fn alter(world: &mut World, number: usize) {
    let mut random = StdRng::seed_from_u64(number as u64 ^ 0xa17e4);
    let mut stays = |share: f64| random.random_bool(share);
    let own = &mut world.organisation;
    own.images.retain(|_, _| stays(0.6));
    own.galleries.retain(|name, _| !name.ends_with(&format!("_00{number}")));
    for gallery in own.galleries.values_mut() {
        for definition in gallery.definitions.values_mut() {
            // Nothing may depend on the current time.
            definition.properties.as_object_mut().unwrap().remove("endOfLifeDate");
            definition.versions.retain(|_, _| stays(0.6));
            for version in definition.versions.values_mut() {
                version.end_of_life = None;
                version.tags = json!({"state": number.to_string()});
            }
        }
    }
    for registry in &mut world.registries {
        registry.findings.clear();
        let gone = registry.repositories.keys().nth(number).cloned();
        registry.repositories.retain(|name, _| Some(name) != gone.as_ref());
        for repository in registry.repositories.values_mut() {
            if let Some((tag, found)) = repository.tags.pop_first() {
                repository.tags.insert(format!("{tag}-{number}"), found);
            }
        }
    }
}

/// A [`Wire`] to a world that changes. Counts requests.
#[derive(Debug, Default)]
pub struct ChangingWorlds {
    pub state: AtomicUsize,
    pub requests: AtomicU64,
}

#[async_trait]
impl Wire for ChangingWorlds {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let sim = Arc::clone(&WORLDS[self.state.load(Ordering::Relaxed)].sim);
        let wire = Direct { sim, latency: Duration::from_millis(50), random: None };
        wire.send(request, authorized).await
    }
}

/// The parts of an Azure as shown by a run without concurrent changes.
fn crawled(sim: &Arc<Sim>) -> Cells {
    super::paused(async {
        let wire =
            Direct { sim: Arc::clone(sim), latency: Duration::from_millis(50), random: None };
        let memory = Arc::new(MemoryStore::default());
        let make = || {
            let store = Arc::clone(&memory) as Arc<dyn Store>;
            app(Arc::new(wire.clone()), store, "http://127.0.0.1:1")
        };
        let fleet = Fleet { workers: 1, at_once: 4, make: &make, luck: Luck::none(), starts_at: 0 };
        fleet.run(r#"{"details":"none","full":true}"#).await;
        let contents = memory.contents();
        let current: Value = serde_json::from_slice(&contents["current.json"]).unwrap();
        cells(&contents, current["run"].as_str().unwrap())
    })
}

/// The rows of a table of a snapshot. Empty if there is no such table.
pub fn rows(contents: &BTreeMap<String, Bytes>, run: &str, table: &str) -> Vec<Value> {
    let name = format!("snapshots/{run}/{table}.ndjson.zst");
    let Some(bytes) = contents.get(&name) else { return Vec::new() };
    let text = String::from_utf8(zstd::decode_all(bytes.as_ref()).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of each part in a snapshot.
pub fn cells(contents: &BTreeMap<String, Bytes>, run: &str) -> Cells {
    let mut cells = Cells::new();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for row in rows(contents, run, "marketplace") {
        for location in row["locations"].as_array().unwrap() {
            let cell = Cell::Publisher(text(location), text(&row["publisher"]));
            cells.entry(cell).or_default().insert(text(&row["id"]), Value::Null);
        }
    }
    for table in &SOURCES[1..] {
        for mut row in rows(contents, run, table) {
            let cell = match row["gallery"].as_str() {
                _ if *table == "registry" => Cell::Repository(text(&row["repository"])),
                Some(gallery) => Cell::Gallery(gallery.to_owned()),
                None => Cell::Managed,
            };
            let id = text(&row["id"]);
            // Members that differ from run to run, or come from another source than the listing.
            for name in
                ["observedAt", "observedRun", "firstSeenAt", "stale", "scannedAt", "scanStatus"]
            {
                row.as_object_mut().unwrap().remove(name);
            }
            cells.entry(cell).or_default().insert(id, row);
        }
    }
    cells
}
