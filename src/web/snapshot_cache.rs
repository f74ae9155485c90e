//! Cache of the snapshot being served, and of the answers given from it.
//!
//! A request never waits for a newer snapshot: it is answered from the current one while a single
//! task looks for a newer one. Each request uses one snapshot throughout.

use super::reply::Validators;
use crate::blocking::blocking;
use crate::catalog::{Catalog, PassedOver};
use crate::error::{Error, ErrorKind, Result};
use crate::image::nanoseconds;
use crate::pipeline::{snapshot, verify};
use crate::store::Store;
use crate::work::RunId;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::num::NonZero;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

/// Maximum size of the cached answers of one snapshot, in bytes.
const ANSWERS: u64 = 32 << 20;
/// Estimated number of cached answers, for the initial allocation.
const ANSWERS_AT_FIRST: usize = 10_000;
/// Snapshots kept for unfinished lists, in addition to the current one.
const HELD: usize = 2;

/// Weighs an answer by its size in bytes.
#[derive(Debug, Clone)]
struct Size;

impl Weighter<String, Bytes> for Size {
    fn weight(&self, key: &String, answer: &Bytes) -> u64 {
        (key.len() + answer.len() + 64) as u64
    }
}

/// A snapshot, with the cached bodies of answers by request.
pub(super) struct Snapshot {
    pub(super) catalog: Catalog,
    /// Validators of answers as of the start of the run.
    validators: Validators,
    responses: Cache<String, Bytes, Size>,
}

/// A snapshot as of a given time.
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    /// The last time, up to the request's, at which an image reached its end. All requests until
    /// the next such time have the same answers.
    pub(super) moment: OffsetDateTime,
}

impl View {
    /// The validators of answers from this view.
    pub(super) fn validators(&self) -> Validators {
        let manifest = &self.snapshot.catalog.manifest;
        if self.moment == manifest.started_at {
            return self.snapshot.validators.clone();
        }
        Validators::new(manifest, Some(self.moment))
    }

    /// The cache key of an answer.
    fn name(&self, path: &str) -> String {
        format!("{} {path}", nanoseconds(self.moment))
    }

    /// Returns the cached answer to `path`, or makes and caches it.
    pub(super) fn answer(
        &self,
        path: &str,
        make: impl FnOnce(&Catalog, OffsetDateTime) -> Result<Vec<u8>>,
    ) -> Result<Bytes> {
        self.snapshot.answer(self.name(path), |catalog| make(catalog, self.moment))
    }

    /// Like [`answer`](Self::answer), for lookups that scan whole tables. `make` runs on a blocking
    /// thread, so that it does not delay other requests, and concurrency is limited by [`PERMITS`].
    pub(super) async fn answer_on_blocking_thread(
        &self,
        path: &str,
        make: impl FnOnce(&Catalog, OffsetDateTime) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes> {
        let moment = self.moment;
        let make = move |catalog: &Catalog| make(catalog, moment);
        self.snapshot.answer_on_blocking_thread(self.name(path), make).await
    }
}

impl Snapshot {
    fn new(catalog: Catalog) -> Arc<Self> {
        let responses = Cache::with_weighter(ANSWERS_AT_FIRST, ANSWERS, Size);
        let validators = Validators::new(&catalog.manifest, None);
        Arc::new(Self { catalog, validators, responses })
    }

    /// A view of this snapshot as of `now`.
    pub(super) fn at(self: &Arc<Self>, now: OffsetDateTime) -> View {
        View { snapshot: Arc::clone(self), moment: self.catalog.moment(now) }
    }

    /// Returns the cached answer to `path`, or makes and caches it.
    fn answer(
        &self,
        path: String,
        make: impl FnOnce(&Catalog) -> Result<Vec<u8>>,
    ) -> Result<Bytes> {
        if let Some(known) = self.responses.get(&path) {
            return Ok(known);
        }
        let mut body = make(&self.catalog)?;
        // The weight of an answer is its length.
        body.shrink_to_fit();
        let body = Bytes::from(body);
        self.responses.insert(path, body.clone());
        Ok(body)
    }

    async fn answer_on_blocking_thread(
        self: &Arc<Self>,
        path: String,
        make: impl FnOnce(&Catalog) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes> {
        if let Some(known) = self.responses.get(&path) {
            return Ok(known);
        }
        let permit = Arc::clone(&PERMITS).acquire_owned().await;
        let this = Arc::clone(self);
        // The permit belongs to the work, which continues after its caller is gone.
        let work = move || {
            let _permit = permit;
            this.answer(path, make)
        };
        blocking("a lookup", work).await
    }
}

/// Permits for concurrent lookups that scan whole tables: one per available thread.
static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(threads))
});

#[derive(Default)]
struct State {
    current: Option<Arc<Snapshot>>,
    looked: Option<Instant>,
    /// The current snapshot, when another is served because it is damaged.
    passed_over: Option<PassedOver>,
    /// Other snapshots with unfinished lists, the most recently used last.
    held: Vec<Arc<Snapshot>>,
}

/// The snapshots being served.
pub(super) struct SnapshotCache {
    store: Arc<dyn Store>,
    look_every: Duration,
    state: Mutex<State>,
    /// Held while reading a snapshot that is to become the current one.
    reading: tokio::sync::Mutex<()>,
    /// Held while reading another snapshot, for a list that was begun in it.
    opening: tokio::sync::Mutex<()>,
}

impl SnapshotCache {
    /// Creates a cache of the snapshots in `store`, which is checked for a newer one every
    /// `look_every`.
    pub(super) fn new(store: Arc<dyn Store>, look_every: Duration) -> Arc<Self> {
        let (reading, opening) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { store, look_every, state: Mutex::default(), reading, opening })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current snapshot. Starts a background check for a newer one when it is due.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Snapshot>> {
        {
            let mut state = self.state();
            if let Some(current) = state.current.clone() {
                if state.looked.is_none_or(|looked| looked.elapsed() >= self.look_every) {
                    state.looked = Some(Instant::now());
                    let this = Arc::clone(self);
                    tokio::spawn(async move { this.refresh().await });
                }
                return Ok(current);
            }
        }
        let _reading = self.reading.lock().await;
        if let Some(current) = self.state().current.clone() {
            return Ok(current);
        }
        let catalog = Catalog::open(self.store.as_ref()).await?;
        let passed_over = catalog.passed_over.clone();
        let snapshot = Snapshot::new(catalog);
        self.put(&snapshot, passed_over);
        Ok(snapshot)
    }

    /// Returns the current snapshot with its gallery and registry tables read. If they do not match
    /// its manifest, returns the newest snapshot whose tables do.
    pub(super) async fn with_others(self: &Arc<Self>) -> Result<Arc<Snapshot>> {
        let store = self.store.as_ref();
        let snapshot = self.current().await?;
        let Err(error) = snapshot.catalog.others(store).await else { return Ok(snapshot) };
        let _reading = self.reading.lock().await;
        let now = self.state().current.clone();
        if let Some(current) = now.filter(|now| !Arc::ptr_eq(now, &snapshot)) {
            current.catalog.others(store).await?;
            return Ok(current);
        }
        let catalog = snapshot.catalog.without(store, error).await?;
        let passed_over = catalog.passed_over.clone();
        let snapshot = Snapshot::new(catalog);
        self.put(&snapshot, passed_over);
        Ok(snapshot)
    }

    /// Returns the run that is served instead of the current snapshot, and why, if one is.
    pub(super) async fn instead(self: &Arc<Self>) -> Result<Option<(RunId, PassedOver)>> {
        let served = self.current().await?.catalog.manifest.run;
        Ok(self.state().passed_over.clone().map(|passed_over| (served, passed_over)))
    }

    /// Replaces the served snapshot by a newer current one, if that verifies.
    async fn refresh(&self) {
        let _reading = self.reading.lock().await;
        let served = self.state().current.clone();
        match self.other(served.as_deref()).await {
            Ok(Some(catalog)) => self.put(&Snapshot::new(catalog), None),
            Ok(None) => self.state().passed_over = None,
            Err(error) => {
                tracing::error!(%error, "cannot open the new snapshot; serving the previous one");
                if error.kind() == ErrorKind::Corrupt {
                    let named = verify::named(self.store.as_ref()).await;
                    let run = named.ok().and_then(|named| named.run);
                    let reason = error.to_string();
                    self.state().passed_over = Some(PassedOver { run, reason });
                }
            }
        }
    }

    /// Opens the current snapshot, unless it is already served.
    async fn other(&self, served: Option<&Snapshot>) -> Result<Option<Catalog>> {
        let store = self.store.as_ref();
        let Some(current) = snapshot::current(store).await? else {
            return Err(Error::corrupt(format!("{}/current.json is missing", store.address())));
        };
        if served.is_some_and(|served| served.catalog.manifest.run == current.run) {
            return Ok(None);
        }
        let Some(catalog) = Catalog::open_run(store, current.run).await? else { return Ok(None) };
        // A snapshot that was refused may have been refused because of its other tables.
        let passed_over = self.state().passed_over.clone();
        if passed_over.is_some_and(|passed_over| passed_over.run == Some(current.run)) {
            catalog.others(store).await?;
        }
        Ok(Some(catalog))
    }

    fn put(&self, snapshot: &Arc<Snapshot>, passed_over: Option<PassedOver>) {
        let mut state = self.state();
        state.passed_over = passed_over;
        state.looked = Some(Instant::now());
        if let Some(before) = state.current.replace(Arc::clone(snapshot)) {
            hold(&mut state.held, before);
        }
    }

    /// Returns the snapshot of `run` if it is in memory, and marks it as the most recently used.
    fn cached(&self, run: RunId) -> Option<Arc<Snapshot>> {
        let mut state = self.state();
        let is_it = |snapshot: &&Arc<Snapshot>| snapshot.catalog.manifest.run == run;
        if let Some(current) = state.current.as_ref().filter(is_it) {
            return Some(Arc::clone(current));
        }
        let at = state.held.iter().position(|held| is_it(&held))?;
        let found = state.held.remove(at);
        state.held.push(Arc::clone(&found));
        Some(found)
    }

    /// Returns the snapshot of `run`, for a list that was begun in it.
    pub(super) async fn of(self: &Arc<Self>, run: RunId) -> Result<Arc<Snapshot>> {
        // Keep checking for a newer snapshot even if all requests are for later pages.
        self.current().await?;
        if let Some(found) = self.cached(run) {
            return Ok(found);
        }
        // One at a time, because each takes memory. Reading a newer current snapshot is not blocked
        // by this.
        let _opening = self.opening.lock().await;
        if let Some(found) = self.cached(run) {
            return Ok(found);
        }
        let gone = || {
            Error::new(
                ErrorKind::Gone,
                format!(
                    "the list started in run {run}, whose snapshot is no longer kept: start the \
                     list again"
                ),
            )
        };
        // A token may name any run. If this store has no snapshot of it, the list is gone.
        let opened = Catalog::open_run(self.store.as_ref(), run).await;
        let catalog = match opened {
            Ok(catalog) => catalog.ok_or_else(gone)?,
            Err(error) if error.kind() == ErrorKind::Corrupt => return Err(gone()),
            Err(error) => return Err(error),
        };
        let snapshot = Snapshot::new(catalog);
        hold(&mut self.state().held, Arc::clone(&snapshot));
        Ok(snapshot)
    }
}

fn hold(held: &mut Vec<Arc<Snapshot>>, snapshot: Arc<Snapshot>) {
    held.push(snapshot);
    if held.len() > HELD {
        held.remove(0);
    }
}
