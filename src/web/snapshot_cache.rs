//! The snapshot that is being served, and the answers that were given from it.
//!
//! A request never waits for a newer snapshot to be read: it is answered from the one at hand while
//! one task looks for a newer one. Each request holds one snapshot from its beginning to its end.

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

/// Answers that are kept of one snapshot, in bytes.
const ANSWERS: u64 = 64 << 20;
/// Room for so many before the first is forgotten.
const ANSWERS_AT_FIRST: usize = 10_000;
/// Snapshots that are held for lists that were begun in them, beside the current one.
const HELD: usize = 2;

/// Weighs an answer by its size.
#[derive(Debug, Clone)]
struct Size;

impl Weighter<String, Bytes> for Size {
    fn weight(&self, key: &String, answer: &Bytes) -> u64 {
        (key.len() + answer.len() + 64) as u64
    }
}

/// A snapshot, and bodies of answers given from it, by what was asked.
pub(super) struct Snapshot {
    pub(super) catalog: Catalog,
    /// Those of answers in which everything stands as it did when the run began.
    validators: Validators,
    answers: Cache<String, Bytes, Size>,
}

/// A snapshot as it stands at a moment.
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    /// When something in it ended last before it was asked: all answers until something else ends are of this moment.
    pub(super) moment: OffsetDateTime,
}

impl View {
    /// What tells a caller whether it has the answer already.
    pub(super) fn validators(&self) -> Validators {
        let manifest = &self.snapshot.catalog.manifest;
        if self.moment == manifest.started_at {
            return self.snapshot.validators.clone();
        }
        Validators::new(manifest, Some(self.moment))
    }

    /// The name of an answer among those that are kept.
    fn name(&self, asked: &str) -> String {
        format!("{} {asked}", nanoseconds(self.moment))
    }

    /// The body that was answered to `asked` before, or is made now.
    pub(super) fn answer(
        &self,
        asked: &str,
        make: impl FnOnce(&Catalog, OffsetDateTime) -> Result<Vec<u8>>,
    ) -> Result<Bytes> {
        self.snapshot.answer(self.name(asked), |catalog| make(catalog, self.moment))
    }

    /// The same of what goes through whole tables: it is made on a thread of its own, so that those that answer
    /// everybody else are not held up, and so many at once as leave room for these.
    pub(super) async fn answer_apart(
        &self,
        asked: &str,
        make: impl FnOnce(&Catalog, OffsetDateTime) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes> {
        let moment = self.moment;
        let make = move |catalog: &Catalog| make(catalog, moment);
        self.snapshot.answer_apart(self.name(asked), make).await
    }
}

impl Snapshot {
    fn new(catalog: Catalog) -> Arc<Self> {
        let answers = Cache::with_weighter(ANSWERS_AT_FIRST, ANSWERS, Size);
        let validators = Validators::new(&catalog.manifest, None);
        Arc::new(Self { catalog, validators, answers })
    }

    /// This snapshot as it stands at `now`.
    pub(super) fn at(self: &Arc<Self>, now: OffsetDateTime) -> View {
        View { snapshot: Arc::clone(self), moment: self.catalog.moment(now) }
    }

    /// The body that was answered to `asked` before, or is made now.
    fn answer(
        &self,
        asked: String,
        make: impl FnOnce(&Catalog) -> Result<Vec<u8>>,
    ) -> Result<Bytes> {
        if let Some(known) = self.answers.get(&asked) {
            return Ok(known);
        }
        let body = Bytes::from(make(&self.catalog)?);
        self.answers.insert(asked, body.clone());
        Ok(body)
    }

    async fn answer_apart(
        self: &Arc<Self>,
        asked: String,
        make: impl FnOnce(&Catalog) -> Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes> {
        if let Some(known) = self.answers.get(&asked) {
            return Ok(known);
        }
        let place = Arc::clone(&PLACES).acquire_owned().await;
        let this = Arc::clone(self);
        // Held by the work, which goes on when nobody waits for it any more.
        let work = move || {
            let _place = place;
            this.answer(asked, make)
        };
        blocking("a lookup", work).await
    }
}

/// Lookups through whole tables that a process makes at once.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new(threads))
});

#[derive(Default)]
struct State {
    current: Option<Arc<Snapshot>>,
    looked: Option<Instant>,
    /// The current snapshot, when another is served because it is damaged.
    passed_over: Option<PassedOver>,
    /// Others that lists were begun in, the last used at the end.
    held: Vec<Arc<Snapshot>>,
}

/// What is being served.
pub(super) struct SnapshotCache {
    store: Arc<dyn Store>,
    look_every: Duration,
    state: Mutex<State>,
    /// Held while a snapshot is being read that is to be the current one.
    reading: tokio::sync::Mutex<()>,
    /// Held while another one is being read, for a list that was begun in it.
    opening: tokio::sync::Mutex<()>,
}

impl SnapshotCache {
    /// What `store` holds, which is looked at so often.
    pub(super) fn new(store: Arc<dyn Store>, look_every: Duration) -> Arc<Self> {
        let (reading, opening) = (tokio::sync::Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { store, look_every, state: Mutex::default(), reading, opening })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current snapshot.
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

    /// The current snapshot with its gallery and registry tables read; when they are not what was published,
    /// the newest snapshot whose tables are.
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

    /// The run that is served instead of the current snapshot, and why, if it is.
    pub(super) async fn instead(self: &Arc<Self>) -> Result<Option<(RunId, PassedOver)>> {
        let served = self.current().await?.catalog.manifest.run;
        Ok(self.state().passed_over.clone().map(|passed_over| (served, passed_over)))
    }

    /// Takes over another snapshot that has become the current one, if it verifies.
    async fn refresh(&self) {
        let _reading = self.reading.lock().await;
        let served = self.state().current.clone();
        match self.other(served.as_deref()).await {
            Ok(Some(catalog)) => self.put(&Snapshot::new(catalog), None),
            Ok(None) => self.state().passed_over = None,
            Err(error) => {
                tracing::error!(%error, "the new snapshot is refused; the one before is served");
                if error.kind() == ErrorKind::Corrupt {
                    let named = verify::named(self.store.as_ref()).await;
                    let run = named.ok().and_then(|named| named.run);
                    let reason = error.to_string();
                    self.state().passed_over = Some(PassedOver { run, reason });
                }
            }
        }
    }

    /// The current snapshot, unless it is the one that is served.
    async fn other(&self, served: Option<&Snapshot>) -> Result<Option<Catalog>> {
        let store = self.store.as_ref();
        let Some(current) = snapshot::current(store).await? else {
            return Err(Error::corrupt(format!("{}/current.json is gone", store.address())));
        };
        if served.is_some_and(|served| served.catalog.manifest.run == current.run) {
            return Ok(None);
        }
        let Some(catalog) = Catalog::open_run(store, current.run).await? else { return Ok(None) };
        // One that was refused may have been so for its other tables.
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

    /// The snapshot of `run` if it is in memory; one that is used goes last.
    fn at_hand(&self, run: RunId) -> Option<Arc<Snapshot>> {
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

    /// The snapshot of `run`, for a list that was begun in it.
    pub(super) async fn of(self: &Arc<Self>, run: RunId) -> Result<Arc<Snapshot>> {
        // What is current is looked for as ever: a list may be all that anybody asks for.
        self.current().await?;
        if let Some(found) = self.at_hand(run) {
            return Ok(found);
        }
        // One at a time, each of which takes memory; a newer current one is read meanwhile.
        let _opening = self.opening.lock().await;
        if let Some(found) = self.at_hand(run) {
            return Ok(found);
        }
        let gone = || {
            Error::new(
                ErrorKind::Gone,
                format!("the list was begun in run {run}, which is no longer kept: begin it anew"),
            )
        };
        // A token may name anything: what is not a snapshot of this store is gone.
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
