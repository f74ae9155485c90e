//! The state that functions work with, and a process's knowledge of its runs.
//!
//! [`Progress`] is for display, and a hint that a run may be closed. Nothing depends on it: the
//! authoritative state is in the store.

use super::admission::Admissions;
use crate::client::Traffic;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::retain::RetentionPolicy;
use crate::pipeline::{previous, snapshot};
use crate::source::{PreviousFindings, Source};
use crate::store::Store;
use crate::work::{Outcome, Request, RunId, SourceName, WorkItem};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// Number of runs whose progress a process remembers. The newest are kept.
const MOST_RUNS: usize = 16;
/// Minimum interval between log lines that concern all items of a process.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// How long an answer of the store, that a run is not over, is reused.
const CHECK_VALID_FOR: Duration = Duration::from_secs(30);

/// Configuration of the functions.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The request of a run that does not specify a narrower one.
    pub request: Request,
    /// Time after a run's start at which its missing items are given up.
    pub run_deadline: Duration,
    /// Time after which an item starts no further work.
    pub item_budget: Duration,
    /// `maxDequeueCount` of `host.json`: the delivery on which failures are recorded.
    pub most_deliveries: u32,
    /// Which snapshots to keep.
    pub keep: RetentionPolicy,
    /// Interval at which lookups check for a newer snapshot.
    pub look_every: Duration,
}

/// The state that functions work with.
pub struct App {
    /// The store of runs and snapshots.
    pub store: Arc<dyn Store>,
    /// The sources of images.
    pub sources: Vec<Arc<dyn Source>>,
    /// Counts of the requests sent to Azure.
    pub traffic: Arc<Traffic>,
    /// Configuration.
    pub settings: Settings,
    /// Progress of the runs of this process.
    pub progress: Progress,
    /// Data about the run under way, read once.
    pub memory: RunCache,
}

/// Data that is read once for all items of a run.
#[derive(Debug, Default)]
pub struct RunCache {
    /// Findings of the previous snapshot, with that snapshot's run.
    known: tokio::sync::Mutex<Option<(RunId, Arc<PreviousFindings>)>>,
    /// The bounds of the runs' items.
    admissions: Admissions,
}

impl App {
    /// Returns the source named `name`.
    pub fn source(&self, name: SourceName) -> Result<&dyn Source> {
        let source = self.sources.iter().find(|source| source.name() == name);
        source.map(AsRef::as_ref).ok_or_else(|| Error::bug(format!("no source {name}")))
    }

    /// Returns why an item is refused, or `None` if it is within the bounds of its run. Returns an
    /// error when another delivery may succeed.
    pub(super) async fn refusal(&self, item: &WorkItem) -> Result<Option<Error>> {
        self.memory.admissions.refusal(self.store.as_ref(), item).await
    }

    /// How long a message of `item` should be delayed to respect the known limits, as of `now`.
    pub fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration {
        self.source(item.source).map_or(Duration::ZERO, |source| source.turn(item, now))
    }

    /// Returns the findings of the previous snapshot, if `item` uses them; empty otherwise.
    pub async fn known(&self, item: &WorkItem) -> Result<Arc<PreviousFindings>> {
        let Some(previous) = item.previous.filter(|_| item.scope.asks_what_is_known()) else {
            return Ok(Arc::default());
        };
        let mut memory = self.memory.known.lock().await;
        if let Some((_, known)) = memory.as_ref().filter(|(run, _)| *run == previous) {
            return Ok(Arc::clone(known));
        }
        let known = match previous::findings(self.store.as_ref(), previous).await {
            Ok(known) => Arc::new(known),
            // Data that cannot be read is requested from Azure again.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "the last snapshot cannot be read; its findings are \
                                        requested from Azure again");
                Arc::default()
            }
            Err(error) => return Err(error),
        };
        *memory = Some((previous, Arc::clone(&known)));
        Ok(known)
    }

    /// Whether a run is published, so that its remaining messages are obsolete. The answer may be
    /// up to 30 seconds old.
    pub async fn is_over(&self, run: RunId) -> Result<bool> {
        if let Some(over) = self.progress.is_over(run) {
            return Ok(over);
        }
        let over = match snapshot::manifest(self.store.as_ref(), run).await {
            Ok(manifest) => manifest.is_some(),
            // An unreadable manifest still means that the run was published.
            Err(error) if error.is_unreadable() => true,
            Err(error) => return Err(error),
        };
        self.progress.record_state(run, over);
        Ok(over)
    }

    /// Fills the unset fields of a request from the configuration.
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

/// Progress of one run, as known to this process.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    /// Number of items known.
    pub known: usize,
    /// Number of items that have ended.
    pub ended: usize,
    /// Number of rows found.
    pub rows: u64,
    /// Whether the run's snapshot is published.
    pub published: bool,
    /// Why the run cannot be published.
    pub failure: Option<(crate::error::ErrorKind, String)>,
}

#[derive(Debug, Default)]
struct RunState {
    open: HashSet<u64>,
    ended: HashSet<u64>,
    rows: u64,
    /// Number of items, once the snapshot is published; the items themselves are forgotten then.
    published: Option<usize>,
    failure: Option<(crate::error::ErrorKind, String)>,
    /// When the store was last asked whether the run is over, and its answer.
    looked: Option<(Instant, bool)>,
}

/// Progress of the runs of a process.
#[derive(Debug)]
pub struct Progress {
    runs: Mutex<BTreeMap<RunId, RunState>>,
    changed: watch::Sender<()>,
    /// When the identity was first refused, with no item that ended since, and when that was last
    /// logged.
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
    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, RunState>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state of a run. Removes the oldest run to make room for a new one.
    fn of_run(runs: &mut BTreeMap<RunId, RunState>, run: RunId) -> &mut RunState {
        while runs.len() >= MOST_RUNS && !runs.contains_key(&run) {
            runs.pop_first();
        }
        runs.entry(run).or_default()
    }

    /// Records that items were sent.
    pub fn begin(&self, run: RunId, items: &[WorkItem]) {
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, run);
        if known.published.is_some() {
            return;
        }
        for item in items.iter().map(id) {
            if !known.ended.contains(&item) {
                known.open.insert(item);
            }
        }
    }

    /// Records that items had ended earlier.
    pub fn settle(&self, run: RunId, items: &[WorkItem]) {
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, run);
        if known.published.is_some() {
            return;
        }
        for item in items.iter().map(id) {
            known.open.remove(&item);
            known.ended.insert(item);
        }
    }

    /// Records that the identity was refused or is missing. Returns for how long this has been so,
    /// with no item that ended in between, and whether to log it, which is at most once a minute.
    pub fn signed_out(&self) -> (Duration, bool) {
        let mut known = self.signed_out.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (since, logged_at) = *known.get_or_insert((now, now));
        let should_log = since == now || now >= logged_at + LOG_INTERVAL;
        if should_log {
            *known = Some((since, now));
        }
        (now - since, should_log)
    }

    /// Records that an item has ended. Returns whether the run looks closed to this process. Only a
    /// process that took part in sending the items can tell; otherwise each of many instances would
    /// take the run for closed after every item.
    pub fn end(&self, item: &WorkItem, outcome: &Outcome) -> bool {
        *self.signed_out.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.begin(item.run, &outcome.children);
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, item.run);
        if known.published.is_some() {
            return false;
        }
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

    /// Records that items of a run that looked closed must be done after all. Returns whether this
    /// process considered all of them ended, which means that no messages for them exist elsewhere.
    pub fn reopen(&self, run: RunId, items: &[WorkItem]) -> bool {
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, run);
        let ours = items.iter().all(|item| known.ended.contains(&id(item)));
        if ours {
            for item in items.iter().map(id) {
                known.ended.remove(&item);
                known.open.insert(item);
            }
        }
        ours && !items.is_empty()
    }

    /// Whether a run is over, if the answer is known and recent.
    fn is_over(&self, run: RunId) -> Option<bool> {
        let runs = self.runs();
        let seen = runs.get(&run)?;
        if seen.published.is_some() {
            return Some(true);
        }
        let (at, over) = seen.looked?;
        (over || at.elapsed() < CHECK_VALID_FOR).then_some(over)
    }

    /// Records the store's answer whether a run is over.
    fn record_state(&self, run: RunId, over: bool) {
        Self::of_run(&mut self.runs(), run).looked = Some((Instant::now(), over));
    }

    /// Records that a run's snapshot is published.
    pub fn publish(&self, run: RunId) {
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, run);
        let (open, ended) = (std::mem::take(&mut known.open), std::mem::take(&mut known.ended));
        known.published.get_or_insert(open.len() + ended.len());
        drop(runs);
        self.changed.send_replace(());
    }

    /// Records that a run cannot be published.
    pub fn fail(&self, run: RunId, error: &Error) {
        let mut runs = self.runs();
        Self::of_run(&mut runs, run).failure = Some((error.kind(), error.to_string()));
        drop(runs);
        self.changed.send_replace(());
    }

    /// Returns the progress of a run, if this process knows it.
    pub fn of(&self, run: RunId) -> Option<RunProgress> {
        self.runs().get(&run).map(|known| RunProgress {
            known: known.published.unwrap_or(known.open.len() + known.ended.len()),
            ended: known.published.unwrap_or(known.ended.len()),
            rows: known.rows,
            published: known.published.is_some(),
            failure: known.failure.clone(),
        })
    }

    /// Returns a receiver that is notified of every change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
