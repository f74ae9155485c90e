//! Production code under a clock, a network, a store and queues that a seed drives: throttling in
//! every form, broken, slow, cut and wrong answers, messages twice, late, out of order and lost,
//! workers that die between any two steps, two on one item, clocks that are wrong. The snapshot is
//! that of a run without faults, byte for byte.
//!
//! `AZIMG_SEED=N` replays one seed, `AZIMG_SEEDS=N` runs so many; both together, one so often.

use crate::support::fleet::{Direct, Fleet, Luck, app};
use crate::support::seeds;
use crate::support::steps::{Shaky, Stepped};
use crate::tests;
use azimg::testing::sim::{
    Conditions, FaultsSpec, OrganisationSize, QuotaSpec, Scale, Sim, World, generate,
};
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

tests![whatever_happens_the_snapshot_is_the_same slow "two hundred whole runs"];

/// A few publishers: empty ones, ghosts, some with many versions.
fn world(second: bool) -> World {
    let World { locations, mut publishers, .. } = generate(Scale::Small, 21);
    publishers.sort_by(|a, b| a.name.cmp(&b.name));
    publishers.truncate(9);
    if second {
        publishers.remove(3);
        for sku in publishers.iter_mut().flat_map(|p| &mut p.offers).flat_map(|o| &mut o.skus) {
            if let Some(mut version) = sku.versions.pop().filter(|_| sku.name.len() % 2 == 0) {
                version.version.push('1');
                sku.versions.push(version);
            }
        }
    }
    let mut world = World::new(locations, publishers)
        .with_generated_organisation(
            OrganisationSize { subscriptions: 3, galleries: 5, ..OrganisationSize::FEW },
            21,
        )
        .with_registries(2, 7, 21);
    if second {
        for gallery in world.organisation.galleries.values_mut() {
            for definition in gallery.definitions.values_mut() {
                definition.versions.pop_first();
            }
        }
        world.organisation.galleries.pop_last();
        for registry in &mut world.registries {
            registry.repositories.pop_last();
            for repository in registry.repositories.values_mut() {
                if let Some((tag, found)) = repository.tags.pop_first() {
                    repository.tags.insert(format!("{tag}-again"), found);
                }
                repository.manifests.retain(|digest, _| !digest.ends_with('7'));
                let kept = &repository.manifests;
                repository.tags.retain(|_, tag| kept.contains_key(&tag.digest));
            }
            registry.findings.pop();
        }
    }
    world
}

/// What decides a simulation.
struct Fate {
    /// Whether there is a snapshot before.
    second: bool,
    workers: usize,
    luck: Luck,
    quota: QuotaSpec,
    faults: FaultsSpec,
    /// The share of steps on the store that fail.
    store: f64,
    /// Whether recorded limits are assumed from the first request on.
    assume: bool,
    subscriptions: u8,
}

impl Fate {
    fn kind(second: bool) -> Self {
        Self {
            second,
            workers: 1,
            luck: Luck::none(),
            quota: QuotaSpec::default(),
            faults: FaultsSpec::default(),
            store: 0.0,
            assume: false,
            subscriptions: 1,
        }
    }

    fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let some = |random: &mut StdRng, most: f64| {
            if random.random_bool(0.7) { random.random::<f64>() * most } else { 0.0 }
        };
        let shares = ["429", "5xx", "timeout", "slow", "cut", "reset", "shape"];
        let shares: Vec<String> =
            shares.iter().map(|name| format!("{name}={:.3}", some(&mut random, 0.12))).collect();
        let luck = Luck {
            seed,
            lost: some(&mut random, 0.1),
            twice: some(&mut random, 0.3),
            late: Duration::from_secs_f64(some(&mut random, 90.0)),
            deaths: random.random_range(0..6),
            skew: random.random_range(0..300),
        };
        let store = some(&mut random, 0.04);
        let quota = ["off", "real", "offers=3/12", "arm=20/2,offers=9/40"];
        // A request is tried five times: what is met more often is an outage.
        let times = random.random_range(1..=4);
        Self {
            second: random.random_bool(0.5),
            workers: random.random_range(1..4),
            luck,
            quota: quota[random.random_range(0..quota.len())].parse().unwrap(),
            faults: format!("{},times={times},seed={seed}", shares.join(",")).parse().unwrap(),
            store,
            assume: random.random_bool(0.3),
            subscriptions: random.random_range(1..=3),
        }
    }

    /// Runs it on a store that holds `before`; what the store holds then, and the requests made.
    fn run(self, before: &MemoryStore) -> (MemoryStore, u64) {
        crate::support::paused(async {
            let conditions = Conditions {
                quota: self.quota,
                faults: self.faults,
                subscriptions: self.subscriptions,
                ..Conditions::default()
            };
            let sim = Sim::new(world(self.second), conditions);
            let random = Arc::new(Mutex::new(StdRng::seed_from_u64(self.luck.seed)));
            let latency = Duration::from_millis(400);
            let wire = Direct { sim: Arc::clone(&sim), latency, random: Some(random) };
            let memory = Arc::new(before.clone());
            let met = Arc::default();
            let lives = AtomicU64::new(self.luck.seed << 8);
            let endpoint =
                if self.assume { "https://management.azure.com" } else { "http://127.0.0.1:1" };
            let make = || {
                // The first one only starts the run and sweeps: whoever starts a run is told
                // whether that went well, and starts another if it did not.
                let life = lives.fetch_add(1, Ordering::Relaxed);
                let share = if life == self.luck.seed << 8 { 0.0 } else { self.store };
                let random = Mutex::new(StdRng::seed_from_u64(life));
                let around = Shaky { random, share, met: Arc::clone(&met) };
                let store = Stepped { inner: Arc::clone(&memory) as Arc<dyn Store>, around };
                app(Arc::new(wire.clone()), Arc::new(store), endpoint)
            };
            let starts_at = if self.second { 7_200 } else { 0 };
            let fleet = Fleet {
                workers: self.workers,
                at_once: 8,
                make: &make,
                luck: self.luck.clone(),
                starts_at,
            };
            fleet.run("").await;
            (MemoryStore::clone(&memory), sim.stats.to_json()["requests"].as_u64().unwrap())
        })
    }
}

/// The files of the current snapshot; the moment when it was published is not looked at.
fn snapshot(store: &MemoryStore) -> BTreeMap<String, Bytes> {
    let contents = store.contents();
    let current: Value = serde_json::from_slice(&contents["current.json"]).unwrap();
    let prefix = format!("snapshots/{}/", current["run"].as_str().unwrap());
    let files = contents.into_iter().filter(|(name, _)| name.starts_with(&prefix));
    files
        .map(|(name, bytes)| {
            if !name.ends_with("manifest.json") {
                return (name, bytes);
            }
            let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(manifest.as_object_mut().unwrap().remove("publishedAt").is_some());
            (name, manifest.to_string().into())
        })
        .collect()
}

/// The store before the second run, and what each kind of run is to end with.
type Expected = (MemoryStore, [BTreeMap<String, Bytes>; 2]);

/// By the number of subscriptions, from one: each has a line in the coverage.
static EXPECTED: LazyLock<[Expected; 3]> = LazyLock::new(|| {
    [1, 2, 3].map(|subscriptions| {
        let kind = |second| Fate { subscriptions, ..Fate::kind(second) };
        let (first, _) = kind(false).run(&MemoryStore::default());
        let (second, _) = kind(true).run(&first);
        let expected = [snapshot(&first), snapshot(&second)];
        (first, expected)
    })
});

fn simulate(seed: u64) -> u64 {
    let fate = Fate::of(seed);
    let (before, expected) = &EXPECTED[usize::from(fate.subscriptions) - 1];
    let second = fate.second;
    let none = MemoryStore::default();
    let (store, requests) = fate.run(if second { before } else { &none });
    let (found, expected) = (snapshot(&store), &expected[usize::from(second)]);
    let names = |files: &BTreeMap<String, Bytes>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(expected));
    // Why something is missing is in the coverage, which comes before the tables this way round.
    let coverage_first = |(name, _): &(&String, &Bytes)| !name.ends_with("coverage.json");
    let mut files: Vec<_> = expected.iter().collect();
    files.sort_by_key(coverage_first);
    for (name, bytes) in files {
        if found[name] != *bytes {
            let text = |bytes: &Bytes| {
                if name.contains(".zst") {
                    String::from_utf8_lossy(&zstd::decode_all(bytes.as_ref()).unwrap()).into_owned()
                } else {
                    String::from_utf8_lossy(bytes).replace("},{", "},\n{")
                }
            };
            let (found, expected) = (text(&found[name]), text(bytes));
            let differs: Vec<_> =
                found.lines().zip(expected.lines()).filter(|(a, b)| a != b).take(3).collect();
            panic!("{name} is another one: {differs:#?}");
        }
    }
    requests
}

fn whatever_happens_the_snapshot_is_the_same() {
    let requests = AtomicU64::new(0);
    let count = seeds::each("simulation", |seed| {
        requests.fetch_add(simulate(seed), Ordering::Relaxed);
    });
    println!("{count} seeds, {} requests", requests.into_inner());
}
