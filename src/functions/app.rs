//! What functions work with, and what a process knows of the runs that pass through it.
//!
//! Progress is a view for people and a hint that a run may be closed; nothing depends on it. What
//! counts is in the store.

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

/// A process remembers this many runs, the newest ones.
const MOST_RUNS: usize = 16;
/// What concerns all items of a process is told so often.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Whether a run is over is looked for so often.
const LOOKED_FOR: Duration = Duration::from_secs(30);

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
    pub keep: RetentionPolicy,
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
    /// What the run under way rests on.
    pub memory: RunCache,
}

/// What is read once for all items of a run.
#[derive(Debug, Default)]
pub struct RunCache {
    /// What the snapshot tells that the run follows.
    known: tokio::sync::Mutex<Option<(RunId, Arc<PreviousFindings>)>>,
    /// What its items may be about.
    admissions: Admissions,
}

impl App {
    /// The source of that name.
    pub fn source(&self, name: SourceName) -> Result<&dyn Source> {
        let source = self.sources.iter().find(|source| source.name() == name);
        source.map(AsRef::as_ref).ok_or_else(|| Error::bug(format!("there is no source {name}")))
    }

    /// Why an item is not done, if it is not one of its run's. An error is one that another delivery may heal.
    pub(super) async fn refusal(&self, item: &WorkItem) -> Result<Option<Error>> {
        self.memory.admissions.refusal(self.store.as_ref(), item).await
    }

    /// How long a message of `item` should wait for its turn, seen from `now`.
    pub fn turn(&self, item: &WorkItem, now: OffsetDateTime) -> Duration {
        self.source(item.source).map_or(Duration::ZERO, |source| source.turn(item, now))
    }

    /// What the last snapshot tells, as far as `item` needs it.
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

    /// Whether a run is published, so that what it still has in the queue is asked in vain; as of a moment ago.
    pub async fn is_over(&self, run: RunId) -> Result<bool> {
        if let Some(over) = self.progress.is_over(run) {
            return Ok(over);
        }
        let over = match snapshot::manifest(self.store.as_ref(), run).await {
            Ok(manifest) => manifest.is_some(),
            // It was published, whatever has become of that.
            Err(error) if error.is_unreadable() => true,
            Err(error) => return Err(error),
        };
        self.progress.saw(run, over);
        Ok(over)
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
struct RunState {
    open: HashSet<u64>,
    ended: HashSet<u64>,
    rows: u64,
    /// How many items it had, once its snapshot is there: which they were is forgotten then.
    published: Option<usize>,
    failure: Option<(crate::error::ErrorKind, String)>,
    /// When the store was last asked whether it is over, and whether it was.
    looked: Option<(Instant, bool)>,
}

/// What a process knows of its runs.
#[derive(Debug)]
pub struct Progress {
    runs: Mutex<BTreeMap<RunId, RunState>>,
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
    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, RunState>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a run; the oldest run is forgotten for a new one.
    fn of_run(runs: &mut BTreeMap<RunId, RunState>, run: RunId) -> &mut RunState {
        while runs.len() >= MOST_RUNS && !runs.contains_key(&run) {
            runs.pop_first();
        }
        runs.entry(run).or_default()
    }

    /// Items were sent.
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

    /// Items are known to have ended earlier.
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

    /// Items of a run that looked closed are to be done after all; whether this process had taken
    /// all of them for ended, so that nobody else has their messages.
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

    /// Whether a run is over, if that was looked for lately.
    fn is_over(&self, run: RunId) -> Option<bool> {
        let runs = self.runs();
        let seen = runs.get(&run)?;
        if seen.published.is_some() {
            return Some(true);
        }
        let (at, over) = seen.looked?;
        (over || at.elapsed() < LOOKED_FOR).then_some(over)
    }

    /// The store was asked whether a run is over.
    fn saw(&self, run: RunId, over: bool) {
        Self::of_run(&mut self.runs(), run).looked = Some((Instant::now(), over));
    }

    /// A run's snapshot is there.
    pub fn publish(&self, run: RunId) {
        let mut runs = self.runs();
        let known = Self::of_run(&mut runs, run);
        let (open, ended) = (std::mem::take(&mut known.open), std::mem::take(&mut known.ended));
        known.published.get_or_insert(open.len() + ended.len());
        drop(runs);
        self.changed.send_replace(());
    }

    /// A run cannot be published.
    pub fn fail(&self, run: RunId, error: &Error) {
        let mut runs = self.runs();
        Self::of_run(&mut runs, run).failure = Some((error.kind(), error.to_string()));
        drop(runs);
        self.changed.send_replace(());
    }

    /// What is known of a run.
    pub fn of(&self, run: RunId) -> Option<RunProgress> {
        self.runs().get(&run).map(|known| RunProgress {
            known: known.published.unwrap_or(known.open.len() + known.ended.len()),
            ended: known.published.unwrap_or(known.ended.len()),
            rows: known.rows,
            published: known.published.is_some(),
            failure: known.failure.clone(),
        })
    }

    /// Wakes whenever something changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
