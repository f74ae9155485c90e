//! What functions work with, and what a process knows of the runs that pass through it.
//!
//! Progress is a view for people and a hint that a run may be closed; nothing depends on it. What
//! counts is in the store.

use crate::client::Traffic;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::known;
use crate::pipeline::retain::Keep;
use crate::source::{Known, Source};
use crate::store::Store;
use crate::work::{Outcome, Request, RunId, SourceName, WorkItem};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// What concerns all items of a process is told so often.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// What functions are told by configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a run without a narrower request crawls.
    pub request: Request,
    /// What is missing this long after a run's start is given up.
    pub run_deadline: Duration,
    /// An item begins nothing new after this long.
    pub item_budget: Duration,
    /// `maxDequeueCount` of `host.json`: the delivery on which failures are recorded.
    pub most_deliveries: u32,
    /// Which snapshots are kept.
    pub keep: Keep,
    /// Lookups look for a newer snapshot this often.
    pub look_every: Duration,
}

/// What functions work with.
pub struct App {
    /// Where runs and snapshots are kept.
    pub store: Arc<dyn Store>,
    /// Where images come from.
    pub sources: Vec<Arc<dyn Source>>,
    /// What has been asked of Azure.
    pub traffic: Arc<Traffic>,
    /// Configuration.
    pub settings: Settings,
    /// What this process knows of its runs.
    pub progress: Progress,
    /// What the snapshot before the run under way tells.
    pub memory: Memory,
}

/// What one snapshot tells, read once for all items of the run that follows it.
#[derive(Debug, Default)]
pub struct Memory(tokio::sync::Mutex<Option<(RunId, Arc<Known>)>>);

impl App {
    /// The source of that name.
    pub fn source(&self, name: SourceName) -> Result<&dyn Source> {
        let source = self.sources.iter().find(|source| source.name() == name);
        source.map(AsRef::as_ref).ok_or_else(|| Error::bug(format!("there is no source {name}")))
    }

    /// How long a message of `item` should wait for its turn, seen from `now`.
    pub fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration {
        self.source(item.source).map_or(Duration::ZERO, |source| source.turn(item, now))
    }

    /// What the last snapshot tells, as far as `item` needs it.
    pub async fn known(&self, item: &WorkItem) -> Result<Arc<Known>> {
        let Some(previous) = item.previous.filter(|_| item.scope.asks_what_is_known()) else {
            return Ok(Arc::default());
        };
        let mut memory = self.memory.0.lock().await;
        if let Some((_, known)) = memory.as_ref().filter(|(run, _)| *run == previous) {
            return Ok(Arc::clone(known));
        }
        let known = match known::known(self.store.as_ref(), previous).await {
            Ok(known) => Arc::new(known),
            // What cannot be read is asked anew.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "the last snapshot tells nothing");
                Arc::default()
            }
            Err(error) => return Err(error),
        };
        *memory = Some((previous, Arc::clone(&known)));
        Ok(known)
    }

    /// A request with what it leaves open filled in from the configuration.
    pub fn complete(&self, mut request: Request) -> Request {
        let defaults = &self.settings.request;
        let fill = |wanted: &mut Vec<String>, default: &Vec<String>| {
            if wanted.is_empty() {
                wanted.clone_from(default);
            }
        };
        fill(&mut request.locations, &defaults.locations);
        fill(&mut request.publishers, &defaults.publishers);
        fill(&mut request.subscriptions, &defaults.subscriptions);
        if request.sources.is_empty() {
            request.sources.clone_from(&defaults.sources);
        }
        request.offers_max_age = request.offers_max_age.or(defaults.offers_max_age);
        request.details = Some(request.details.or(defaults.details).unwrap_or_default());
        request
    }
}

/// What a process knows of one run.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    /// Items known of.
    pub known: usize,
    /// Items that have ended.
    pub ended: usize,
    /// Rows found.
    pub rows: u64,
    /// Whether its snapshot is there.
    pub published: bool,
    /// Why it cannot be published.
    pub failure: Option<(crate::error::ErrorKind, String)>,
}

#[derive(Debug, Default)]
struct Seen {
    open: HashSet<u64>,
    ended: HashSet<u64>,
    rows: u64,
    published: bool,
    failure: Option<(crate::error::ErrorKind, String)>,
}

/// What a process knows of its runs.
#[derive(Debug)]
pub struct Progress {
    runs: Mutex<HashMap<RunId, Seen>>,
    changed: watch::Sender<()>,
    /// Since when the identity is refused, with nothing that ended in between, and when that was told.
    signed_out: Mutex<Option<(Instant, Instant)>>,
}

impl Default for Progress {
    fn default() -> Self {
        let changed = watch::Sender::new(());
        Self { runs: Mutex::default(), changed, signed_out: Mutex::default() }
    }
}

fn id(item: &WorkItem) -> u64 {
    let mut hasher = DefaultHasher::new();
    (item.source, &item.item).hash(&mut hasher);
    hasher.finish()
}

impl Progress {
    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, Seen>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Items were sent.
    pub fn begin(&self, run: RunId, items: &[WorkItem]) {
        let mut runs = self.runs();
        let known = runs.entry(run).or_default();
        for item in items.iter().map(id) {
            if !known.ended.contains(&item) {
                known.open.insert(item);
            }
        }
    }

    /// Items are known to have ended earlier.
    pub fn settle(&self, run: RunId, items: &[WorkItem]) {
        let mut runs = self.runs();
        let known = runs.entry(run).or_default();
        for item in items.iter().map(id) {
            known.open.remove(&item);
            known.ended.insert(item);
        }
    }

    /// The identity was refused, or there is none: for how long that has been so, with no item that ended in
    /// between, and whether it is to be told, which is once a minute.
    pub fn signed_out(&self) -> (Duration, bool) {
        let mut known = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, told) = *known.get_or_insert((now, now));
        let is_news = since == now || now >= told + TOLD_EVERY;
        if is_news {
            *known = Some((since, now));
        }
        (now - since, is_news)
    }

    /// An item has ended; whether its run looks closed from here. Only whoever had a part in sending a
    /// run's items can know: of many instances, each would take the run for closed after every item.
    pub fn end(&self, item: &WorkItem, outcome: &Outcome) -> bool {
        *self.signed_out.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.begin(item.run, &outcome.children);
        let mut runs = self.runs();
        let known = runs.entry(item.run).or_default();
        let was_sent_here = known.open.remove(&id(item));
        let is_new = known.ended.insert(id(item));
        if is_new && !item.scope.adds_details() {
            known.rows += outcome.rows;
        }
        let closed = was_sent_here && known.open.is_empty();
        drop(runs);
        self.changed.send_replace(());
        closed
    }

    /// Items of a run that looked closed are to be done after all; whether this process had taken
    /// all of them for ended, so that nobody else has their messages.
    pub fn reopen(&self, run: RunId, items: &[WorkItem]) -> bool {
        let mut runs = self.runs();
        let known = runs.entry(run).or_default();
        let ours = items.iter().all(|item| known.ended.contains(&id(item)));
        if ours {
            for item in items.iter().map(id) {
                known.ended.remove(&item);
                known.open.insert(item);
            }
        }
        ours && !items.is_empty()
    }

    /// A run's snapshot is there.
    pub fn publish(&self, run: RunId) {
        self.runs().entry(run).or_default().published = true;
        self.changed.send_replace(());
    }

    /// A run cannot be published.
    pub fn fail(&self, run: RunId, error: &Error) {
        self.runs().entry(run).or_default().failure = Some((error.kind(), error.to_string()));
        self.changed.send_replace(());
    }

    /// What is known of a run.
    pub fn of(&self, run: RunId) -> Option<RunProgress> {
        self.runs().get(&run).map(|known| RunProgress {
            known: known.open.len() + known.ended.len(),
            ended: known.ended.len(),
            rows: known.rows,
            published: known.published,
            failure: known.failure.clone(),
        })
    }

    /// Wakes whenever something changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
