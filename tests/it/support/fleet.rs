//! A fleet of workers on one queue and one store, under a clock that only moves when everyone
//! waits: hours of real limits pass in seconds, and every moment can be repeated from a seed.

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use azimg::client::{Answer, Wire};
use azimg::config::{Config, Flags};
use azimg::error::Result;
use azimg::functions::{App, Event, Function, Memory, Message, Progress, Trigger, WORK};
use azimg::sim::{Sim, SimCredential};
use azimg::store::Store;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;
use url::Url;

/// When the simulated time begins.
pub const EPOCH: i64 = 1_795_000_000;

/// A wire into a simulated Azure in this process; every answer takes `latency`.
#[derive(Clone)]
pub struct Direct {
    pub sim: Arc<Sim>,
    pub latency: Duration,
    /// The moment, depth and status of every request.
    pub log: Arc<Mutex<Vec<(Instant, usize, u16)>>>,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

#[async_trait]
impl Wire for Direct {
    async fn get(&self, url: &Url, bearer: HeaderValue) -> Result<Answer> {
        tokio::time::sleep(self.latency).await;
        let request = Request::get(url.as_str()).header(AUTHORIZATION, bearer);
        let response = self.sim.answer(request.body(Body::empty()).unwrap()).await;
        let depth = url.path().split_once("/publishers").map_or(0, |(_, rest)| rest.matches('/').count());
        self.log.lock().unwrap().push((Instant::now(), depth, response.status().as_u16()));
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// An app that asks over `wire` and keeps what it finds in `store`. The endpoint's name decides
/// whether recorded limits are assumed.
pub fn app(wire: Arc<dyn Wire>, store: Arc<dyn Store>, endpoint: &str) -> App {
    let config = Config::from(HashMap::new(), Flags::default()).unwrap();
    let config = config
        .with_resource_manager(endpoint.parse().unwrap(), Arc::new(SimCredential))
        .with_wire(wire);
    let app = Arc::into_inner(config.app().unwrap().0).unwrap();
    App { store, progress: Progress::default(), memory: Memory::default(), ..app }
}

/// A message in the queue, by the moment it can be seen and the order of arrival.
type Waiting = Reverse<(Instant, u64, u32, &'static str, String)>;

/// The queue of a fleet.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<(u64, BinaryHeap<Waiting>)>,
    arrived: Notify,
    /// Messages sent, by queue.
    pub sent: Mutex<BTreeMap<&'static str, u64>>,
}

impl Queue {
    pub fn send(&self, message: Message, delivery: u32) {
        *self.sent.lock().unwrap().entry(message.queue).or_default() += 1;
        let mut waiting = self.waiting.lock().unwrap();
        waiting.0 += 1;
        let at = Instant::now() + message.delay;
        let number = waiting.0;
        waiting.1.push(Reverse((at, number, delivery, message.queue, message.text)));
        drop(waiting);
        self.arrived.notify_waiters();
    }

    async fn receive(&self) -> (&'static str, String, u32) {
        loop {
            let arrived = self.arrived.notified();
            let next = {
                let mut waiting = self.waiting.lock().unwrap();
                let at = waiting.1.peek().map(|Reverse((at, ..))| *at);
                if at.is_some_and(|at| at <= Instant::now()) {
                    let Reverse((_, _, delivery, queue, text)) = waiting.1.pop().unwrap();
                    return (queue, text, delivery);
                }
                at
            };
            let wait = next.map_or(Duration::from_hours(1), |at| at - Instant::now());
            let _ = tokio::time::timeout(wait, arrived).await;
        }
    }
}

/// The moment in simulated time.
pub fn now(begun: Instant) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(EPOCH).unwrap() + begun.elapsed()
}

/// Calls a function.
pub async fn call(app: &App, name: &str, trigger: Trigger, at: OffsetDateTime) -> Result<Vec<Message>> {
    let function = Function::named(name).unwrap();
    let event = Event { now: at, invocation: "one".into(), trigger };
    function.run.unwrap()(app, event).await.map(|effects| effects.messages)
}

/// Runs one run to its end by `workers` that do `at_once` messages each; how long it took.
pub async fn run(workers: Vec<App>, at_once: usize, request: &str) -> (Duration, Arc<Queue>) {
    let begun = Instant::now();
    let queue = Arc::new(Queue::default());
    let workers: Vec<Arc<App>> = workers.into_iter().map(Arc::new).collect();
    let trigger = Trigger::Http { body: request.to_owned() };
    for message in call(&workers[0], "start", trigger, now(begun)).await.unwrap() {
        queue.send(message, 1);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in &workers {
        for _ in 0..at_once {
            let (worker, queue) = (Arc::clone(worker), Arc::clone(&queue));
            tasks.spawn(async move {
                loop {
                    let (name, text, delivery) = queue.receive().await;
                    let function = if name == WORK { "crawl" } else { "publish" };
                    let trigger = Trigger::Queue { text: text.clone(), delivery };
                    match call(&worker, function, trigger, now(begun)).await {
                        Ok(messages) => messages.into_iter().for_each(|m| queue.send(m, 1)),
                        Err(_) => {
                            let delay = Duration::from_secs(10);
                            queue.send(Message { queue: name, text, delay }, delivery + 1);
                        }
                    }
                }
            });
        }
    }
    let store = Arc::clone(&workers[0].store);
    while store.get(&azimg::store::Key::Current).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(begun.elapsed() < Duration::from_hours(6), "it does not end");
    }
    tasks.shutdown().await;
    (begun.elapsed(), queue)
}
