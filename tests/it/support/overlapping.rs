//! Two runs and more on one store, driven step by step.

use super::fleet::{Direct, app, call};
use azimg::testing::functions::{App, Message, PUBLISH, Trigger};
use azimg::testing::pipeline::coverage::Coverage;
use azimg::testing::pipeline::snapshot::{self, Manifest};
use azimg::testing::sim::{Conditions, OrganisationSize, Scale, Sim, World, generate};
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::RunId;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

const START: i64 = 1_795_000_000;

pub fn at(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(START + minutes * 60).unwrap()
}

/// A tenant and whoever crawls it, one message after the other.
pub struct Bench {
    pub sim: Arc<Sim>,
    pub store: Arc<MemoryStore>,
    pub app: App,
}

impl Bench {
    pub fn over(world: World, store: Arc<MemoryStore>) -> Self {
        let sim = Sim::new(world, Conditions::default());
        let wire = Direct { sim: Arc::clone(&sim), latency: Duration::ZERO, random: None };
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let app = app(Arc::new(wire), shared, "http://127.0.0.1:1");
        Self { sim, store, app }
    }

    pub fn new() -> Self {
        Self::over(world(), Arc::default())
    }

    pub fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    /// Begins a run, also where one is under way that was asked for the same.
    pub async fn begin(&self, mut request: Value, now: OffsetDateTime) -> Under {
        request["force"] = true.into();
        let http = Trigger::Http { body: request.to_string() };
        let sent = call(&self.app, "start", http, now).await.unwrap();
        let first: Value = serde_json::from_str(&sent[0].text).unwrap();
        Under { run: first["run"].as_str().unwrap().parse().unwrap(), open: sent.into() }
    }

    /// Crawls until only the messages are left that come round.
    pub async fn crawl(&self, under: &mut Under, now: OffsetDateTime) {
        let mut round = Vec::new();
        while let Some(message) = under.open.pop_front() {
            if message.queue == PUBLISH {
                round.push(message);
                continue;
            }
            under.open.extend(self.deliver("crawl", message, 1, now).await);
        }
        under.open.extend(round);
    }

    pub async fn deliver(
        &self,
        name: &str,
        m: Message,
        delivery: u32,
        at: OffsetDateTime,
    ) -> Vec<Message> {
        call(&self.app, name, Trigger::Queue { text: m.text, delivery }, at).await.unwrap()
    }

    /// Crawls and publishes to the end.
    pub async fn finish(&self, under: &mut Under, now: OffsetDateTime) -> Manifest {
        for _ in 0..8 {
            self.crawl(under, now).await;
            let Some(message) = under.open.pop_front() else { break };
            under.open.extend(self.deliver("publish", message, 1, now).await);
        }
        self.manifest(under.run).await
    }

    pub async fn manifest(&self, run: RunId) -> Manifest {
        snapshot::manifest(self.store.as_ref(), run).await.unwrap().expect("it is published")
    }

    pub async fn current(&self) -> Manifest {
        snapshot::current(self.store.as_ref()).await.unwrap().unwrap()
    }

    pub fn lines(&self, run: RunId, file: SnapshotFile) -> Vec<Value> {
        let bytes = &self.store.contents()[&Key::Snapshot(run, file).to_string()];
        let text = zstd::decode_all(bytes.as_ref()).unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    pub fn marketplace(&self, run: RunId) -> Vec<Value> {
        self.lines(run, SnapshotFile::Ndjson(azimg::testing::work::SourceName::Marketplace))
    }

    pub fn coverage(&self, run: RunId) -> Coverage {
        let key = Key::Snapshot(run, SnapshotFile::Coverage).to_string();
        serde_json::from_slice(&self.store.contents()[&key]).unwrap()
    }

    pub fn requests(&self) -> u64 {
        self.sim.stats.to_json()["requests"].as_u64().unwrap()
    }
}

/// A run, and what is in its queues.
pub struct Under {
    pub run: RunId,
    pub open: VecDeque<Message>,
}

/// A handful of everything, in eight locations.
pub fn world() -> World {
    let World { locations, mut publishers, .. } = generate(Scale::Small, 21);
    publishers.sort_by(|a, b| a.name.cmp(&b.name));
    publishers.truncate(5);
    World::new(locations, publishers).with_generated_organisation(OrganisationSize::FEW, 21)
}

/// The world without the newest version of each SKU.
pub fn older_world() -> World {
    let World { locations, mut publishers, .. } = world();
    for sku in publishers.iter_mut().flat_map(|p| &mut p.offers).flat_map(|o| &mut o.skus) {
        sku.versions.pop();
    }
    World::new(locations, publishers).with_generated_organisation(OrganisationSize::FEW, 21)
}

pub fn marketplace(locations: &[&str]) -> Value {
    json!({"sources": ["marketplace"], "locations": locations, "details": "none"})
}

/// What a location has, as a table says.
pub fn names_in(rows: &[Value], location: &str) -> BTreeSet<String> {
    let here = |row: &&Value| row["locations"].as_array().unwrap().iter().any(|l| l == location);
    rows.iter().filter(here).map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}
