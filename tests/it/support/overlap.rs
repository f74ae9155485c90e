//! Processes on one store and one world whose runs overlap: messages in any order, steps in turns, faults, damage.

use super::chain::Chain;
use super::fleet::{EPOCH, app, perform};
use super::steps::{Around, Racing, Shaky, Stepped, Turn, Turns, race};
use super::worlds::{Changing, LOCATIONS, PUBLISHERS, SOURCES, STATES, WORLDS};
use async_trait::async_trait;
use azimg::error::Result;
use azimg::functions::{App, Effects, Message, PUBLISH, Reply, Trigger, WORK};
use azimg::pipeline::publish;
use azimg::store::memory::MemoryStore;
use azimg::store::{Key, SnapshotFile, Store};
use azimg::work::{Plan, RunId, SourceName, WorkItem};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use time::{Duration, OffsetDateTime};

/// A store whose steps wait for their turns, and fail now and then.
#[derive(Debug)]
pub struct Seam {
    shaky: Shaky,
    pub turns: Arc<Turns>,
}

#[async_trait]
impl Around for Seam {
    async fn before(&self, name: &str) -> Result<usize> {
        self.turns.wait().await;
        self.shaky.before(name).await
    }

    async fn after(&self, step: usize) -> Result<()> {
        self.shaky.after(step).await
    }
}

/// A message that nobody has in hand.
#[derive(Debug, Clone)]
pub struct Letter {
    pub queue: &'static str,
    pub text: String,
    pub delivery: u32,
}

impl Letter {
    pub fn run(&self) -> RunId {
        let text: Value = serde_json::from_str(&self.text).unwrap();
        text["run"].as_str().unwrap().parse().unwrap()
    }

    /// A look at a run that may be closed.
    pub fn look(run: RunId) -> Self {
        let text = json!({"v": 1, "run": run}).to_string();
        Self { queue: PUBLISH, text, delivery: 1 }
    }

    fn goes_round(&self) -> bool {
        self.queue == PUBLISH && self.text.contains("\"watch\":true")
    }
}

/// What one takes part in a race with.
#[derive(Debug, Clone)]
pub enum Act {
    Start(Value),
    Deliver(Letter),
    Poison(Letter),
    Sweep,
    /// Closes the run, whatever is missing.
    Force(RunId),
}

/// How rough it gets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fate {
    pub seed: u64,
    /// Runs, and steps on the way.
    pub runs: usize,
    pub steps: usize,
    /// The first run goes on while small ones come and go.
    pub is_crowd: bool,
    /// Shares of messages that are lost, futures that are dropped, steps on the store that fail, events
    /// whose clock is wrong, runs that are closed by force.
    pub lost: f64,
    pub dropped: f64,
    pub fails: f64,
    pub jumps: f64,
    pub forced: f64,
    pub damages: bool,
}

impl Fate {
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut some = |most: f64| {
            if random.random_bool(0.5) { random.random::<f64>() * most } else { 0.0 }
        };
        let (lost, dropped, fails) = (some(0.05), some(0.3), some(0.03));
        let (jumps, forced) = (some(0.2), some(0.06));
        let is_crowd = random.random_bool(0.1);
        let runs = if is_crowd { random.random_range(7..=8) } else { random.random_range(2..=4) };
        let steps = 25 * runs + random.random_range(0..40);
        // Which is the newest whole one cannot be known where clocks jump as well.
        let damages = jumps == 0.0 && random.random_bool(0.4);
        Self { seed, runs, steps, is_crowd, lost, dropped, fails, jumps, forced, damages }
    }
}

/// A few processes on one store and one world.
pub struct Model {
    pub fate: Fate,
    pub random: StdRng,
    pub store: Arc<MemoryStore>,
    pub wire: Arc<Changing>,
    pub turns: Arc<Turns>,
    pub met: Arc<Mutex<HashMap<String, u32>>>,
    processes: Vec<Arc<App>>,
    lives: u64,
    pub now: OffsetDateTime,
    letters: Vec<Letter>,
    /// What was delivered already, and may come again.
    old: Vec<Letter>,
    pub asked: BTreeMap<RunId, Value>,
    pub chain: Chain,
    /// The order of steps, by run.
    pub trace: Vec<RunId>,
    pub damaged: usize,
}

impl Model {
    pub fn new(fate: Fate) -> Self {
        let mut model = Self {
            fate,
            random: StdRng::seed_from_u64(fate.seed ^ 0x0e1a9),
            store: Arc::default(),
            wire: Arc::default(),
            turns: Arc::default(),
            met: Arc::default(),
            processes: Vec::new(),
            lives: 0,
            now: OffsetDateTime::from_unix_timestamp(EPOCH).unwrap(),
            letters: Vec::new(),
            old: Vec::new(),
            asked: BTreeMap::new(),
            chain: Chain::default(),
            trace: Vec::new(),
            damaged: 0,
        };
        model.processes = (0..2).map(|_| model.process(fate.fails)).collect();
        model
    }

    pub fn process(&mut self, fails: f64) -> Arc<App> {
        self.lives += 1;
        let random = Mutex::new(StdRng::seed_from_u64(self.fate.seed << 16 | self.lives));
        let shaky = Shaky { random, share: fails, met: Arc::clone(&self.met) };
        let around = Seam { shaky, turns: Arc::clone(&self.turns) };
        let store = Stepped { inner: Arc::clone(&self.store) as Arc<dyn Store>, around };
        let wire = Arc::clone(&self.wire);
        Arc::new(app(wire, Arc::new(store), "http://127.0.0.1:1"))
    }

    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.random_bool(share)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// The moment of an event, by a clock that may be wrong.
    fn clock(&mut self) -> OffsetDateTime {
        self.now += Duration::seconds(self.random.random_range(2..20));
        if self.chance(self.fate.jumps) {
            let most = [90, 3_600, 100_000][self.below(3)];
            return self.now + Duration::seconds(self.random.random_range(-most..=most));
        }
        self.now
    }

    /// What is to be done, by one of the processes.
    pub fn racing(&mut self, act: &Act) -> Racing<Result<Effects>> {
        let which = self.below(self.processes.len());
        let app = Arc::clone(&self.processes[which]);
        let now = self.clock();
        let invocation = format!("{} {}", self.fate.seed, self.random.random::<u64>());
        let (name, trigger) = match act.clone() {
            Act::Force(run) => {
                return Box::pin(async move {
                    publish::publish(&app.store, run, now, true).await.map(|_| Effects::default())
                });
            }
            Act::Start(body) => ("start", Trigger::Http { body: body.to_string() }),
            Act::Sweep => ("sweep", Trigger::Timer),
            Act::Poison(letter) => {
                ("poison", Trigger::Queue { text: letter.text, delivery: letter.delivery })
            }
            Act::Deliver(Letter { queue, text, delivery }) => {
                let name = if queue == WORK { "crawl" } else { "publish" };
                (name, Trigger::Queue { text, delivery })
            }
        };
        let is_over = name == "crawl" && {
            let item = WorkItem::parse(match &trigger {
                Trigger::Queue { text, .. } => text,
                _ => "",
            });
            item.is_ok_and(|item| app.progress.of(item.run).is_some_and(|run| run.published))
        };
        let wire = Arc::clone(&self.wire);
        Box::pin(async move {
            let before = wire.requests.load(Ordering::Relaxed);
            let done = perform(&app, name, trigger.clone(), now, &invocation).await;
            let after = wire.requests.load(Ordering::Relaxed);
            assert!(
                !is_over || before == after,
                "its run is published, and it was asked: {trigger:?}"
            );
            done
        })
    }

    /// Does some things at once, in turns; what each ended with.
    pub async fn at_once(&mut self, acts: &[Act]) -> Vec<Option<Result<Effects>>> {
        for act in acts {
            match act {
                Act::Deliver(letter) | Act::Poison(letter) => self.trace.push(letter.run()),
                Act::Force(run) => self.trace.push(*run),
                Act::Start(_) | Act::Sweep => {}
            }
        }
        let futures = acts.iter().map(|act| self.racing(act)).collect();
        let (turns, store) = (Arc::clone(&self.turns), Arc::clone(&self.store));
        let Self { random, chain, fate, .. } = self;
        let next = |left| Turn {
            who: random.random_range(0..left),
            steps: if random.random_bool(0.3) { 10_000 } else { random.random_range(1..=12) },
            is_dropped: fate.dropped > 0.0 && random.random_bool(fate.dropped / 4.0),
        };
        let many = acts.len() > 1;
        let moment = || {
            if many {
                chain.verify(&store.contents());
            }
        };
        let ended = race(futures, &turns, next, moment).await;
        self.look();
        ended
    }

    pub fn look(&mut self) {
        let state = self.wire.state.load(Ordering::Relaxed);
        self.chain.look(&self.store.contents(), state);
    }

    /// Takes what was done, with its messages, or puts back what was not.
    pub fn settle(&mut self, act: Act, ended: Option<Result<Effects>>) -> Option<Reply> {
        let letter = match act {
            Act::Deliver(letter) | Act::Poison(letter) => Some(letter),
            _ => None,
        };
        let Some(Ok(effects)) = ended else {
            if let Some(letter) = letter {
                let delivery = (letter.delivery + 1).min(4);
                self.letters.push(Letter { delivery, ..letter });
            }
            return None;
        };
        self.old.extend(letter.filter(|letter| !letter.goes_round()));
        for Message { queue, text, .. } in effects.messages {
            let letter = Letter { queue, text, delivery: 1 };
            if !self.chance(self.fate.lost) {
                self.letters.push(letter);
            }
        }
        effects.reply
    }

    pub async fn act(&mut self, act: Act) -> Option<Reply> {
        let ended = self.at_once(std::slice::from_ref(&act)).await.pop().unwrap();
        self.settle(act, ended)
    }

    /// Asks for a run: an equal one that is under way is the answer, unless another is forced.
    pub async fn start(&mut self, body: Value) -> Option<RunId> {
        let plain = plain(&body);
        let before: BTreeSet<RunId> = self.chain.runs().into_iter().collect();
        let under_way = self.chain.under_way();
        let equal: Vec<RunId> =
            under_way.into_iter().filter(|run| self.asked.get(run) == Some(&plain)).collect();
        let reply = self.act(Act::Start(body.clone())).await;
        let begun: Vec<RunId> =
            self.chain.runs().into_iter().filter(|run| !before.contains(run)).collect();
        // One that was planned in vain is a run as well: nobody knows of it but the sweep.
        self.asked.extend(begun.iter().map(|run| (*run, plain.clone())));
        let reply = reply?;
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        let run: RunId = answer["run"].as_str().unwrap().parse().unwrap();
        let location = ("Location".to_owned(), format!("/api/runs/{run}"));
        assert!(reply.headers.contains(&location), "{reply:?}");
        match reply.status {
            200 => assert!(equal.contains(&run) && begun.is_empty(), "{reply:?} of {equal:?}"),
            202 => {
                assert_eq!(begun, [run]);
                // One that has failed, that has its manifest already or whose plan was damaged is joined by nobody.
                let contents = self.store.contents();
                let is_joinable = |run: &RunId| {
                    let has = |name: &str| contents.contains_key(name);
                    let plan = contents.get(&format!("runs/{run}/plan.json"));
                    let is_whole =
                        plan.is_some_and(|plan| serde_json::from_slice::<Plan>(plan).is_ok());
                    is_whole
                        && !has(&format!("runs/{run}/failed.json"))
                        && !has(&format!("snapshots/{run}/manifest.json"))
                };
                let is_right = body["force"] == true
                    || !equal.iter().any(is_joinable)
                    || self.fate.jumps > 0.0;
                assert!(is_right, "{run} is equal to {equal:?}");
            }
            status => panic!("{status}: {}", reply.body),
        }
        Some(run)
    }

    /// A request for some part of the world.
    pub fn request(&mut self) -> Value {
        let mut some = |all: &[&str], share: f64| -> Vec<String> {
            if self.random.random_bool(share) {
                return Vec::new();
            }
            let some = all.iter().filter(|_| self.random.random_bool(0.5));
            some.map(|name| (*name).to_owned()).collect()
        };
        let (sources, locations) = (some(&SOURCES, 0.5), some(&LOCATIONS, 0.6));
        let publishers = some(&PUBLISHERS, 0.7);
        request(&sources, &locations, &publishers)
    }

    pub fn take(&mut self, which: impl Fn(&Letter) -> bool) -> Option<Letter> {
        let fit: Vec<usize> =
            (0..self.letters.len()).filter(|at| which(&self.letters[*at])).collect();
        let at = *fit.get(self.random.random_range(0..fit.len().max(1)))?;
        Some(self.letters.swap_remove(at))
    }

    /// One step on the way; what it is, a seed decides.
    pub async fn step(&mut self) {
        let begun = self.chain.runs().len();
        if begun == 0 || (begun < self.fate.runs && self.chance(0.12)) {
            let mut body = self.request();
            if self.fate.is_crowd {
                let place = [LOCATIONS[self.below(2)].to_owned()];
                let small = request(&["marketplace".to_owned()], &place, &["beta".to_owned()]);
                body = if begun == 0 { request(&[], &[], &[]) } else { small };
            }
            if self.chance(0.2) {
                body["force"] = true.into();
            }
            self.start(body).await;
            return;
        }
        // The first one of a crowd is in no hurry.
        let waits = self.fate.is_crowd.then(|| self.chain.runs()[0]);
        let hurries = |letter: &Letter| waits != Some(letter.run());
        match self.below(100) {
            0..60 => {
                let letter = self.take(|letter| letter.queue == WORK && hurries(letter));
                let letter = letter.or_else(|| self.take(|letter| letter.queue == WORK));
                if let Some(letter) = letter {
                    self.act(Act::Deliver(letter)).await;
                }
            }
            60..72 => {
                if let Some(letter) = self.take(|letter| letter.queue == PUBLISH) {
                    self.act(Act::Deliver(letter)).await;
                }
            }
            72..84 => self.race().await,
            84..88 => {
                self.act(Act::Sweep).await;
            }
            88..93 => {
                let state = self.below(STATES);
                self.wire.state.store(state, Ordering::Relaxed);
            }
            93..95 => {
                let at = self.below(self.old.len().max(1));
                self.letters.extend(self.old.get(at).cloned());
            }
            95..97 => {
                let which = self.below(2);
                self.processes[which] = self.process(self.fate.fails);
            }
            97 => {
                if let Some(letter) = self.take(|letter| letter.queue == WORK) {
                    self.act(Act::Poison(letter)).await;
                }
            }
            _ => self.damage().await,
        }
        if self.chance(self.fate.forced) {
            let under_way = self.chain.under_way();
            if let Some(run) = under_way.get(self.below(under_way.len().max(1))) {
                self.act(Act::Force(*run)).await;
            }
        }
    }

    /// Several who publish one run, and whoever comes in between.
    async fn race(&mut self) {
        let under_way = self.chain.under_way();
        let Some(run) = under_way.get(self.below(under_way.len().max(1))).copied() else { return };
        let mut acts = vec![Act::Deliver(Letter::look(run)), Act::Deliver(Letter::look(run))];
        if self.chance(self.fate.forced * 4.0) {
            acts[0] = Act::Force(run);
        }
        let other = under_way[self.below(under_way.len())];
        match self.below(4) {
            0 => acts.push(Act::Deliver(Letter::look(other))),
            1 => acts.push(Act::Sweep),
            2 => acts.extend(self.take(|letter| letter.queue == WORK).map(Act::Deliver)),
            _ => {}
        }
        let ended = self.at_once(&acts).await;
        for (act, ended) in acts.into_iter().zip(ended) {
            self.settle(act, ended);
        }
    }

    /// Damages one object, once or twice in a seed.
    async fn damage(&mut self) {
        if !self.fate.damages || self.damaged >= 2 {
            return;
        }
        let Some(current) = self.chain.order().last().copied() else { return };
        let of_snapshot = format!("snapshots/{current}/");
        let under_way = self.chain.under_way();
        let kind = self.below(3);
        let names: Vec<String> = self.store.contents().into_keys().collect();
        let fits = |name: &&String| match kind {
            0 => {
                let is_data = !name.ends_with("_SUCCESS") && !name.ends_with(".schema.json");
                name.starts_with(&of_snapshot) && is_data
            }
            1 => *name == "current.json",
            _ => {
                name.contains("/shards/")
                    && under_way.iter().any(|run| name.starts_with(&format!("runs/{run}/")))
            }
        };
        let names: Vec<&String> = names.iter().filter(fits).collect();
        if let Some(name) = names.get(self.below(names.len().max(1))) {
            self.break_object(name).await;
        }
    }

    pub async fn break_object(&mut self, name: &str) {
        self.damaged += 1;
        let key = key(name);
        let object = self.store.get(&key).await.unwrap().unwrap();
        let mut bytes = object.bytes.to_vec();
        let at = self.below(bytes.len());
        bytes[at] ^= 0x15;
        let bytes = Bytes::from(bytes);
        assert!(self.store.swap(&key, bytes.clone(), Some(&object.tag)).await.unwrap());
        self.chain.damage(name, &bytes);
    }

    /// Goes on without any trouble until every run is published.
    pub async fn finish(&mut self) {
        const MOST: usize = 600;
        self.fate = Fate { seed: self.fate.seed, ..Fate::default() };
        self.processes = vec![self.process(0.0)];
        for round in 0.. {
            let under_way = self.chain.under_way();
            if under_way.is_empty() {
                break;
            }
            assert!(round < MOST, "they are never published: {under_way:?}");
            self.now += Duration::seconds(61);
            for letter in std::mem::take(&mut self.letters) {
                self.act(Act::Deliver(letter)).await;
            }
            if round % 10 == 9 {
                self.act(Act::Sweep).await;
            }
        }
        // What comes late changes nothing.
        for letter in std::mem::take(&mut self.old).into_iter().rev().take(20) {
            let current = self.chain.order().last().copied();
            self.act(Act::Deliver(letter)).await;
            assert_eq!(self.chain.order().last().copied(), current);
        }
    }

    /// Delivers the messages of one run until none is left but those that go round; so many at most.
    pub async fn crawl(&mut self, run: RunId, most: usize) {
        for _ in 0..most {
            let Some(letter) = self.take(|letter| letter.queue == WORK && letter.run() == run)
            else {
                break;
            };
            self.act(Act::Deliver(letter)).await;
        }
    }

    /// Ends one run.
    pub async fn publish(&mut self, run: RunId) {
        self.crawl(run, usize::MAX).await;
        self.act(Act::Deliver(Letter::look(run))).await;
        assert_eq!(self.chain.order().last(), Some(&run), "it is published, and the current one");
    }
}

/// The key of an object of a snapshot, of a shard, or of what names the current snapshot.
fn key(name: &str) -> Key {
    let parts: Vec<&str> = name.splitn(3, '/').collect();
    let (folder, run, rest) = match parts[..] {
        [folder, run, rest] => (folder, run.parse().unwrap(), rest),
        _ => return Key::Current,
    };
    if folder == "runs" {
        let (source, item) = rest.strip_prefix("shards/").unwrap().split_once('/').unwrap();
        let source = SourceName::ALL.iter().copied().find(|name| name.as_str() == source).unwrap();
        let item = item.strip_suffix(".ndjson.zst").unwrap().to_owned();
        return Key::Shard { run, source, item };
    }
    let file = match rest {
        "changes.ndjson.zst" => SnapshotFile::Changes,
        "coverage.json" => SnapshotFile::Coverage,
        "index.bin" => SnapshotFile::Index,
        "manifest.json" => SnapshotFile::Manifest,
        _ => {
            let tables = SourceName::ALL.iter().copied();
            let tables = tables.flat_map(|t| [SnapshotFile::Parquet(t), SnapshotFile::Ndjson(t)]);
            tables.into_iter().find(|file| file.to_string() == rest).unwrap()
        }
    };
    Key::Snapshot(run, file)
}

pub fn request(sources: &[String], locations: &[String], publishers: &[String]) -> Value {
    json!({"sources": sources, "locations": locations, "publishers": publishers,
        "details": "none", "full": true})
}

/// Runs `work` on a clock that goes on by itself, once it is known what the worlds show.
pub fn simulated(fate: Fate, work: impl AsyncFnOnce(Model)) {
    assert_eq!(WORLDS.len(), STATES);
    crate::support::paused(async { work(Model::new(fate)).await });
}

pub fn quiet(work: impl AsyncFnOnce(Model)) {
    simulated(Fate::default(), work);
}

/// What a request asks for, whoever wrote it: lists in order, each name once and in small letters.
fn plain(body: &Value) -> Value {
    let members = body.as_object().unwrap().iter().filter(|(name, _)| *name != "force");
    let in_order = |(name, value): (&String, &Value)| {
        let value = match value.as_array() {
            Some(list) => {
                let names = list.iter().map(|name| name.as_str().unwrap().to_lowercase());
                Value::from_iter(names.collect::<BTreeSet<String>>())
            }
            None => value.clone(),
        };
        (name.clone(), value)
    };
    members.map(in_order).collect::<serde_json::Map<_, _>>().into()
}
