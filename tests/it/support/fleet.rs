//! A fleet of workers on one queue and one store, under a clock that advances only when all of them
//! wait. Hours of real limits pass in seconds, and a seed can be replayed.

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use azimg::testing::client::{Wire, WireRequest, WireResponse};
use azimg::testing::config::{Config, Flags};
use azimg::testing::error::{Error, Result};
use azimg::testing::functions::{
    App, Effects, Event, Function, Message, PUBLISH, Progress, RunCache, Trigger, WORK,
};
use azimg::testing::sim::{Sim, SimCredential};
use azimg::testing::store::{Key, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The start of simulated time.
pub const EPOCH: i64 = 1_795_000_000;
/// `maxDequeueCount` and `visibilityTimeout` of `host.json`, and how long a message whose worker
/// died stays invisible.
const MOST_DELIVERIES: u32 = 4;
const REDELIVERY: Duration = Duration::from_secs(10);
const INVISIBLE: Duration = Duration::from_mins(10);
/// The maximum duration of a run. The deadline of a run is a day.
const LONGEST: Duration = Duration::from_hours(23);

/// A [`Wire`] to a simulated Azure in this process. Each response takes up to `latency`.
#[derive(Clone)]
pub struct Direct {
    pub sim: Arc<Sim>,
    pub latency: Duration,
    pub random: Option<Arc<Mutex<StdRng>>>,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

#[async_trait]
impl Wire for Direct {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let share = self.random.as_ref().map_or(1.0, |random| random.lock().unwrap().random());
        tokio::time::sleep(self.latency.mul_f64(share)).await;
        let body = request.body.clone().map_or_else(Body::empty, Body::from);
        let request = Request::builder().method(&request.method).uri(request.url.as_str());
        let request = match authorized {
            Some(authorized) => request.header(AUTHORIZATION, authorized),
            None => request,
        };
        let request = request.body(body).unwrap();
        let response = self.sim.answer(request).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .map_err(|_| Error::transient("the connection broke"))?;
        Ok(WireResponse { status: parts.status, headers: parts.headers, body })
    }
}

/// An app that sends requests over `wire` and writes to `store`. The name of the endpoint decides
/// whether recorded limits are assumed.
pub fn app(wire: Arc<dyn Wire>, store: Arc<dyn Store>, endpoint: &str) -> App {
    let config = Config::from(HashMap::new(), Flags::default()).unwrap();
    let config = config
        .with_resource_manager(endpoint.parse().unwrap(), Arc::new(SimCredential))
        .with_wire(wire);
    let app = Arc::into_inner(config.app().unwrap().0).unwrap();
    App { store, progress: Progress::default(), memory: RunCache::default(), ..app }
}

/// Random events for messages and workers, by a seed.
#[derive(Debug, Clone)]
pub struct Luck {
    pub seed: u64,
    /// The fraction of messages that are lost, and that are duplicated.
    pub lost: f64,
    pub twice: f64,
    /// The maximum delay of a message.
    pub late: Duration,
    /// The number of workers that die.
    pub deaths: u32,
    /// The maximum clock skew, in seconds.
    pub skew: i64,
}

impl Luck {
    /// No random events.
    pub fn none() -> Self {
        Self { seed: 0, lost: 0.0, twice: 0.0, late: Duration::ZERO, deaths: 0, skew: 0 }
    }
}

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Instant,
    number: u64,
    delivery: u32,
    queue: &'static str,
    text: String,
}

/// The queues of a fleet.
pub struct Queue {
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
    /// The messages that a worker has received and not completed.
    in_hand: Mutex<BTreeMap<u64, (usize, Waiting)>>,
    arrived: Notify,
    luck: Luck,
    random: Mutex<StdRng>,
    numbers: Mutex<u64>,
    /// How often each message was duplicated.
    doubled: Mutex<HashMap<String, u32>>,
    /// Messages sent, by queue.
    pub sent: Mutex<BTreeMap<&'static str, u64>>,
}

impl Queue {
    fn new(luck: Luck) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(luck.seed));
        Self {
            waiting: Mutex::default(),
            in_hand: Mutex::default(),
            arrived: Notify::new(),
            luck,
            random,
            numbers: Mutex::default(),
            doubled: Mutex::default(),
            sent: Mutex::default(),
        }
    }

    fn chance(&self, share: f64) -> bool {
        share > 0.0 && self.random.lock().unwrap().random_bool(share)
    }

    fn send(&self, message: &Message, delivery: u32) {
        *self.sent.lock().unwrap().entry(message.queue).or_default() += 1;
        let copies = match () {
            () if self.chance(self.luck.lost) => 0,
            () if self.chance(self.luck.twice) => 2,
            () => 1,
        };
        // A message that is sent again would be duplicated each time, so the duplicates of a text
        // are limited.
        let copies = if copies == 2 && !self.may_double(&message.text) { 1 } else { copies };
        for _ in 0..copies {
            let late = self.luck.late.mul_f64(self.random.lock().unwrap().random());
            self.put(message.queue, message.text.clone(), message.delay + late, delivery);
        }
    }

    fn may_double(&self, text: &str) -> bool {
        let mut doubled = self.doubled.lock().unwrap();
        let times = doubled.entry(text.to_owned()).or_default();
        *times += 1;
        *times <= 2
    }

    fn put(&self, queue: &'static str, text: String, delay: Duration, delivery: u32) {
        let number = {
            let mut numbers = self.numbers.lock().unwrap();
            *numbers += 1;
            *numbers
        };
        let at = Instant::now() + delay;
        let message = Waiting { at, number, delivery, queue, text };
        self.waiting.lock().unwrap().push(Reverse(message));
        self.arrived.notify_waiters();
    }

    async fn receive(&self, worker: usize) -> Waiting {
        loop {
            let arrived = self.arrived.notified();
            let next = {
                let mut waiting = self.waiting.lock().unwrap();
                let at = waiting.peek().map(|Reverse(message)| message.at);
                if at.is_some_and(|at| at <= Instant::now()) {
                    let Reverse(message) = waiting.pop().unwrap();
                    let in_hand = (worker, message.clone());
                    self.in_hand.lock().unwrap().insert(message.number, in_hand);
                    return message;
                }
                at
            };
            let wait = next.map_or(Duration::from_hours(1), |at| at - Instant::now());
            let _ = tokio::time::timeout(wait, arrived).await;
        }
    }

    /// Returns the messages of a dead worker to the queue.
    fn bury(&self, worker: usize) {
        let mut in_hand = self.in_hand.lock().unwrap();
        let all = std::mem::take(&mut *in_hand);
        for (number, (who, message)) in all {
            if who == worker {
                self.put(message.queue, message.text, INVISIBLE, again(message.delivery));
            } else {
                in_hand.insert(number, (who, message));
            }
        }
    }
}

/// The number of the next delivery. It stays at [`MOST_DELIVERIES`], so the last delivery is
/// repeated until it succeeds. An item that fails four times or loses its worker four times is an
/// outage, which shows in the coverage and is the subject of other tests.
fn again(delivery: u32) -> u32 {
    (delivery + 1).min(MOST_DELIVERIES)
}

/// Calls a function at a moment.
pub async fn call(
    app: &App,
    name: &str,
    trigger: Trigger,
    now: OffsetDateTime,
) -> Result<Vec<Message>> {
    perform(app, name, trigger, now, "one").await.map(|effects| effects.messages)
}

/// Completes a run, one message after the other. `body` is that of `POST /api/runs`.
pub async fn run(app: &App, body: String, now: OffsetDateTime) {
    let begun = call(app, "start", Trigger::Http { body }, now).await.unwrap();
    let mut queue: VecDeque<_> = begun.into_iter().map(|message| (message, 1)).collect();
    while let Some((message, delivery)) = queue.pop_front() {
        if message.text.contains("\"watch\":true") && !queue.is_empty() {
            queue.push_back((message, delivery));
            continue;
        }
        assert!(delivery <= MOST_DELIVERIES, "given up: {}", message.text);
        let function = if message.queue == PUBLISH { "publish" } else { "crawl" };
        let trigger = Trigger::Queue { text: message.text.clone(), delivery };
        match call(app, function, trigger, now).await {
            Ok(next) => queue.extend(next.into_iter().map(|message| (message, 1))),
            Err(_) => queue.push_back((message, delivery + 1)),
        }
    }
}

/// Calls a function at a moment, with this invocation id, and returns all its effects.
pub async fn perform(
    app: &App,
    name: &str,
    trigger: Trigger,
    now: OffsetDateTime,
    invocation: &str,
) -> Result<Effects> {
    let function = Function::named(name).unwrap();
    let event = Event { now, invocation: invocation.to_owned(), trigger };
    function.run.unwrap()(app, event).await
}

/// A fleet: the number of workers, the number of messages each handles concurrently, and how a
/// worker's app is made.
pub struct Fleet<'a> {
    pub workers: usize,
    pub at_once: usize,
    pub make: &'a (dyn Fn() -> App + Sync),
    pub luck: Luck,
    /// When its run starts, in seconds after [`EPOCH`].
    pub starts_at: u64,
}

impl Fleet<'_> {
    /// Completes a run and everything left in the queue. Returns how long it took until its
    /// snapshot was the current one.
    pub async fn run(&self, request: &str) -> (Duration, Arc<Queue>) {
        let begun = Instant::now();
        let epoch = OffsetDateTime::from_unix_timestamp(EPOCH).unwrap();
        let epoch = epoch + Duration::from_secs(self.starts_at);
        let queue = Arc::new(Queue::new(self.luck.clone()));
        let first = (self.make)();
        let store = Arc::clone(&first.store);
        let before = current(&store).await;
        let trigger = Trigger::Http { body: request.to_owned() };
        // A failed start is reported to the caller, who repeats it.
        let mut begun_with = call(&first, "start", trigger.clone(), epoch).await;
        while begun_with.as_ref().is_err_and(Error::is_transient) {
            begun_with = call(&first, "start", trigger.clone(), epoch).await;
        }
        for message in begun_with.unwrap() {
            queue.send(&message, 1);
        }
        let mut random = StdRng::seed_from_u64(self.luck.seed ^ 0xdead);
        let skew = self.luck.skew;
        let mut clock = || epoch + time::Duration::seconds(random.random_range(-skew..=skew));
        let mut lives: Vec<JoinSet<()>> =
            (0..self.workers).map(|who| self.life(who, clock(), begun, &queue)).collect();
        let mut deaths = StdRng::seed_from_u64(self.luck.seed ^ 0xbeef);
        let mut left = self.luck.deaths;
        let mut swept = Instant::now();
        while current(&store).await == before {
            // Runs are short unless something is lost, so workers die early or after a sweep.
            let wait = if left > 0 { deaths.random_range(10..5_000) } else { 1_000 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let is_late = begun.elapsed() >= LONGEST;
            assert!(!is_late, "the run does not end: {}", left_open(&store).await);
            if left > 0 {
                left -= 1;
                let who = deaths.random_range(0..self.workers);
                lives[who].shutdown().await;
                queue.bury(who);
                lives[who] = self.life(who, clock(), begun, &queue);
            }
            if swept.elapsed() >= Duration::from_mins(10) {
                swept = Instant::now();
                let now = clock() + begun.elapsed();
                for message in call(&first, "sweep", Trigger::Timer, now).await.unwrap_or_default()
                {
                    queue.send(&message, 1);
                }
            }
        }
        let took = begun.elapsed();
        // Late messages must change nothing.
        if self.luck.twice > 0.0 {
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        for mut life in lives {
            life.shutdown().await;
        }
        (took, queue)
    }

    /// A worker, from its start to its death, with its own clock.
    fn life(
        &self,
        who: usize,
        epoch: OffsetDateTime,
        begun: Instant,
        queue: &Arc<Queue>,
    ) -> JoinSet<()> {
        let app = Arc::new((self.make)());
        let mut tasks = JoinSet::new();
        for _ in 0..self.at_once {
            let (app, queue) = (Arc::clone(&app), Arc::clone(queue));
            tasks.spawn(async move {
                loop {
                    let message = queue.receive(who).await;
                    let Waiting { number, delivery, queue: name, text, .. } = message;
                    let function = if name == WORK { "crawl" } else { "publish" };
                    let trigger = Trigger::Queue { text: text.clone(), delivery };
                    let done = call(&app, function, trigger, epoch + begun.elapsed()).await;
                    queue.in_hand.lock().unwrap().remove(&number);
                    match done {
                        Ok(messages) => messages.iter().for_each(|m| queue.send(m, 1)),
                        Err(_) => queue.put(name, text, REDELIVERY, again(delivery)),
                    }
                }
            });
        }
        tasks
    }
}

/// What is missing from the runs that are not published.
async fn left_open(store: &Arc<dyn Store>) -> String {
    let mut lacks = Vec::new();
    for run in store.list_level("runs/").await.unwrap_or_default() {
        let Ok(run) = run.parse() else { continue };
        let Ok(plan) = azimg::testing::pipeline::read_plan(store.as_ref(), run).await else {
            continue;
        };
        let Ok(survey) = azimg::testing::pipeline::survey::survey(store.as_ref(), &plan).await
        else {
            continue;
        };
        let missing: Vec<&str> = survey.missing.iter().map(|item| item.item.as_str()).collect();
        lacks.push(format!("{run} lacks {missing:?} of {}", survey.expected()));
    }
    lacks.join("; ")
}

async fn current(store: &Arc<dyn Store>) -> Option<bytes::Bytes> {
    loop {
        if let Ok(object) = store.get(&Key::Current).await {
            return object.map(|object| object.bytes);
        }
    }
}
