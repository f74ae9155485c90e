//! Any file of a store may be damaged at any time: a changed byte, a missing end, a missing file. The next crawl ends
//! complete or reports what is lost, and lookups answer.

use crate::support::damaged::world;
use crate::support::fleet::{Direct, app, call};
use crate::support::paused;
use crate::tests;
use azimg::testing::catalog::{Catalog, Filter};
use azimg::testing::functions::{App, Message, PUBLISH, Trigger};
use azimg::testing::pipeline::coverage::Coverage;
use azimg::testing::pipeline::snapshot;
use azimg::testing::pipeline::verify::{self, CheckProgress, SnapshotCondition};
use azimg::testing::sim::{Conditions, Sim};
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::RunId;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

tests![
    a_crawl_after_any_damage_ends_complete_or_says_what_is_lost slow "five hundred crawls",
    a_run_under_way_survives_any_damage,
];

const START: i64 = 1_795_000_000;

fn at(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(START + minutes * 60).unwrap()
}

/// A process: it knows nothing but what is in the store.
fn process(sim: &Arc<Sim>, store: &Arc<MemoryStore>) -> App {
    let wire = Direct { sim: Arc::clone(sim), latency: Duration::ZERO, random: None };
    let shared = Arc::clone(store) as Arc<dyn Store>;
    app(Arc::new(wire), shared, "http://127.0.0.1:1")
}

/// Queues, and what failed in them for good.
struct Queues {
    open: Vec<Message>,
    /// What was said of that.
    said: Vec<String>,
}

impl Queues {
    async fn begin(app: &App, request: Value, now: OffsetDateTime) -> Self {
        let mut queues = Self { open: Vec::new(), said: Vec::new() };
        match call(app, "start", Trigger::Http { body: request.to_string() }, now).await {
            Ok(messages) => queues.open = messages,
            Err(error) => queues.said.push(error.to_string()),
        }
        queues
    }

    /// Delivers one message, up to four times.
    async fn deliver(&mut self, app: &App, message: Message, now: OffsetDateTime) {
        let name = if message.queue == PUBLISH { "publish" } else { "crawl" };
        for delivery in 1..=4 {
            let trigger = Trigger::Queue { text: message.text.clone(), delivery };
            match call(app, name, trigger, now).await {
                Ok(messages) => return self.open.extend(messages),
                Err(error) if delivery == 4 => self.said.push(error.to_string()),
                Err(_) => {}
            }
        }
        if name == "crawl" {
            let poison = Trigger::Queue { text: message.text, delivery: 1 };
            match call(app, "poison", poison, now).await {
                Ok(messages) => self.open.extend(messages),
                Err(error) => self.said.push(error.to_string()),
            }
        }
    }

    /// Crawls until only the messages are left that come round.
    async fn crawl(&mut self, app: &App, now: OffsetDateTime) {
        let mut round = Vec::new();
        while let Some(message) = self.open.pop() {
            if message.queue == PUBLISH {
                round.push(message);
            } else {
                self.deliver(app, message, now).await;
            }
        }
        self.open = round;
    }

    /// Goes on, with a sweep every ten minutes, until nothing comes round any more; whether that was so at last.
    async fn finish(&mut self, app: &App, begins: OffsetDateTime) -> bool {
        for round in 0..12 {
            let now = begins + time::Duration::minutes(round * 10);
            if round > 0 {
                match call(app, "sweep", Trigger::Timer, now).await {
                    Ok(messages) => self.open.extend(messages),
                    Err(error) => self.said.push(error.to_string()),
                }
                if self.open.is_empty() {
                    return true;
                }
            }
            self.crawl(app, now).await;
            let round = std::mem::take(&mut self.open);
            for message in round {
                self.deliver(app, message, now).await;
            }
        }
        false
    }

    /// The run of the first message.
    fn run(&self) -> Option<RunId> {
        let message: Value = serde_json::from_str(&self.open.first()?.text).unwrap();
        message["run"].as_str()?.parse().ok()
    }
}

/// A tenant, a store after one crawl of it, one in the middle of the next, and what a crawl finds.
struct Stage {
    sim: Arc<Sim>,
    crawled: MemoryStore,
    first: RunId,
    between: (MemoryStore, Vec<Message>, RunId),
    ids: BTreeSet<String>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    paused(async {
        let sim = Sim::new(world(), Conditions::default());
        let store = Arc::new(MemoryStore::default());
        let app = process(&sim, &store);
        let mut queues = Queues::begin(&app, json!({}), at(0)).await;
        let first = queues.run().unwrap();
        call(&app, "sweep", Trigger::Timer, at(0)).await.unwrap();
        assert!(queues.finish(&app, at(1)).await && queues.said.is_empty(), "{:?}", queues.said);
        let crawled = MemoryStore::clone(&store);
        let mut queues = Queues::begin(&app, json!({"force": true, "full": true}), at(1_440)).await;
        let second = queues.run().unwrap();
        call(&app, "sweep", Trigger::Timer, at(1_440)).await.unwrap();
        queues.crawl(&app, at(1_441)).await;
        let between = (MemoryStore::clone(&store), queues.open, second);
        let ids = ids(&crawled).await;
        assert!(ids.len() > 20, "{}", ids.len());
        let contents = between.0.contents();
        for part in ["plan.json", "swept.json", "/shards/", "/outcomes/", "closing", "publishing"] {
            assert!(contents.keys().any(|name| name.contains(part)), "there is no {part}");
        }
        Stage { sim, crawled, first, between, ids }
    })
});

/// What lookups answer from a store: the ids of all rows.
async fn ids(store: &MemoryStore) -> BTreeSet<String> {
    let (filter, now) = (Filter::default(), OffsetDateTime::UNIX_EPOCH);
    let catalog = Catalog::open_with_others(store).await.unwrap_or_else(|e| panic!("lookups: {e}"));
    let rows = catalog.values(&catalog.list(&filter, 0, usize::MAX, now), now).unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// Damages the object of that name; what was done.
fn damage(store: &MemoryStore, name: &str, random: &mut StdRng) -> String {
    let object = store.contents().remove(name).unwrap();
    let (bytes, what) = match random.random_range(0..10) {
        0 => {
            store.remove(name);
            return format!("{name} is gone");
        }
        1 if !object.is_empty() => {
            let left = random.random_range(0..object.len());
            (object.slice(..left), format!("{name} ends after {left} bytes"))
        }
        _ => {
            let mut bytes = object.to_vec();
            let flip: u8 = random.random_range(1..=255);
            let at = random.random_range(0..bytes.len().max(1));
            match bytes.get_mut(at) {
                Some(byte) => *byte ^= flip,
                None => bytes.push(flip),
            }
            (Bytes::from(bytes), format!("{name} has another byte at {at} (^{flip:#04x})"))
        }
    };
    store.put(name, bytes);
    what
}

/// Tries every number below `count`, on two threads; what each said.
fn all(count: usize, test: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    if std::panic::catch_unwind(AssertUnwindSafe(|| test(seed))).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// What a crawl that has ended leaves behind, held against what there is.
async fn held_against(
    stage: &Stage,
    store: &MemoryStore,
    run: RunId,
    is_full: bool,
) -> &'static str {
    snapshot::manifest(store, run).await.unwrap().expect("it is published");
    // A run that lost its manifest may have been published once more, on top of this one.
    let manifest = snapshot::current(store).await.unwrap().unwrap();
    let run = manifest.run;
    let coverage = Key::Snapshot(run, SnapshotFile::Coverage).to_string();
    let coverage: Coverage = serde_json::from_slice(&store.contents()[&coverage]).unwrap();
    let found = ids(store).await;
    let lost: Vec<&String> = stage.ids.difference(&found).collect();
    assert!(found.is_subset(&stage.ids));
    assert!(!is_full || lost.is_empty(), "a crawl of everything lacks {lost:?}");
    assert_eq!(manifest.state.as_str(), "complete", "{:?}", coverage.passed_over);
    if lost.is_empty() {
        return if coverage.passed_over.is_empty() { "complete" } else { "complete, passed over" };
    }
    assert!(!coverage.passed_over.is_empty(), "lost in silence: {lost:?}");
    for passed_over in &coverage.passed_over {
        assert!(!passed_over.reason.contains('\n'), "{}", passed_over.reason);
    }
    "complete, and says what is lost"
}

/// What verifying finds after it: the damage, if it is in the first snapshot, and nothing in the last.
async fn verifies(stage: &Stage, store: &MemoryStore, name: &str) {
    let report = verify::verify(store, &CheckProgress::default()).await.unwrap();
    assert_eq!(report.current.wrong, None);
    let current = report.snapshots.iter().find(|one| one.current).unwrap();
    assert_eq!(current.state, SnapshotCondition::Whole, "{}", current.reason());
    let Some(file) = name.strip_prefix(&Key::snapshot_prefix(stage.first)) else { return };
    let first = report.snapshots.iter().find(|one| one.run == stage.first);
    let wrong = |one: &verify::VerifiedSnapshot| one.wrong.iter().any(|wrong| wrong.file == file);
    // Nothing says what the bytes of a manifest were, and the mark has none.
    let is_found = first.is_some_and(wrong);
    assert!(is_found || ["manifest.json", "_SUCCESS"].contains(&file), "{file} is not found");
}

fn tell(tally: &Mutex<BTreeMap<&'static str, usize>>, ended: &'static str) {
    *tally.lock().unwrap().entry(ended).or_default() += 1;
}

fn a_crawl_after_any_damage_ends_complete_or_says_what_is_lost() {
    let stage = &*STAGE;
    let names: Vec<String> = stage.crawled.contents().into_keys().collect();
    let tally = Mutex::default();
    all(500, |seed| {
        paused(async {
            let mut random = StdRng::seed_from_u64(seed as u64);
            let store = Arc::new(stage.crawled.clone());
            let name = &names[seed % names.len()];
            let what = damage(&store, name, &mut random);
            let is_full = random.random_bool(0.5);
            let mut request = json!({"force": random.random_bool(0.5)});
            if !is_full {
                request["locations"] = json!(["eastus"]);
                request["sources"] = json!(["marketplace"]);
            }
            eprintln!("seed {seed}: {what}; {request}");
            let app = process(&stage.sim, &store);
            let mut queues = Queues::begin(&app, request, at(1_440)).await;
            // A run that lost its manifest is under way again: it is the one that was asked for.
            let run = queues.run().unwrap_or(stage.first);
            assert!(queues.finish(&app, at(1_441)).await, "seed {seed}: {what}: without end");
            assert_eq!(queues.said, [""; 0], "seed {seed}: {what}");
            tell(&tally, Box::pin(held_against(stage, &store, run, is_full)).await);
            verifies(stage, &store, name).await;
        });
    });
    println!("{} files, {:?}", names.len(), tally.into_inner().unwrap());
}

fn a_run_under_way_survives_any_damage() {
    let stage = &*STAGE;
    let (before, open, second) = &stage.between;
    let names: Vec<String> = before.contents().into_keys().collect();
    let names: Vec<&String> =
        names.iter().filter(|name| !name.contains(&stage.first.to_string())).collect();
    let tally = Mutex::default();
    all(300, |seed| {
        paused(async {
            let mut random = StdRng::seed_from_u64(seed as u64);
            let store = Arc::new(before.clone());
            let name = names[seed % names.len()];
            let what = damage(&store, name, &mut random);
            eprintln!("seed {seed}: {what}");
            let app = process(&stage.sim, &store);
            let mut queues = Queues { open: open.clone(), said: Vec::new() };
            assert!(queues.finish(&app, at(1_442)).await, "seed {seed}: {what}: without end");
            let is_published = snapshot::manifest(store.as_ref(), *second).await.unwrap().is_some();
            if is_published {
                tell(&tally, Box::pin(held_against(stage, &store, *second, true)).await);
                return;
            }
            // Nobody can do it without its plan: it says so, and the next one is none the worse.
            assert!(name.ends_with("plan.json"), "seed {seed}: {what}: not published");
            let mut queues = Queues::begin(&app, json!({"force": true}), at(2_880)).await;
            let third = queues.run().unwrap();
            assert!(queues.finish(&app, at(2_881)).await, "seed {seed}: {what}: without end");
            Box::pin(held_against(stage, &store, third, true)).await;
            tell(&tally, "given up, and the next one is complete");
        });
    });
    println!("{} files, {:?}", names.len(), tally.into_inner().unwrap());
}
