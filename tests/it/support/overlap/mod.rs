//! Processes on one store and one world whose runs overlap: messages in any order, steps in turns, faults, damage.

mod steps;

use super::chain::Chain;
use super::fleet::{EPOCH, app, perform};
use super::steps::{Around, Racing, Shaky, Stepped, Turn, Turns, race};
use super::worlds::{ChangingWorlds, STATES, WORLDS};
use async_trait::async_trait;
use azimg::testing::error::Result;
use azimg::testing::functions::{App, Effects, Message, PUBLISH, Reply, Trigger, WORK};
use azimg::testing::pipeline::publish;
use azimg::testing::store::Store;
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::work::{Plan, RunId, WorkItem};
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
    pub wire: Arc<ChangingWorlds>,
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
