//! The snapshot that is being served, and the answers that were given from it.
//!
//! A request never waits for a newer snapshot to be read: it is answered from the one at hand while
//! one task looks for a newer one. Each request holds one snapshot from its beginning to its end.

use super::reply::Validators;
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::snapshot;
use crate::store::Store;
use crate::work::RunId;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    pub(super) validators: Validators,
    answers: Cache<String, Bytes, Size>,
}

impl Snapshot {
    fn new(catalog: Catalog) -> Arc<Self> {
        let answers = Cache::with_weighter(ANSWERS_AT_FIRST, ANSWERS, Size);
        let validators = Validators::new(&catalog.manifest);
        Arc::new(Self { catalog, validators, answers })
    }

    /// The body that was answered to `asked` before, or is made now.
    pub(super) fn answer(
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
}

#[derive(Default)]
struct State {
    current: Option<Arc<Snapshot>>,
    looked: Option<Instant>,
    /// Others that lists were begun in, the last used at the end.
    held: Vec<Arc<Snapshot>>,
}

/// What is being served.
pub(super) struct Served {
    store: Arc<dyn Store>,
    look_every: Duration,
    state: Mutex<State>,
    /// Held while a snapshot is being read.
    reading: tokio::sync::Mutex<()>,
}

impl Served {
    /// What `store` holds, which is looked at so often.
    pub(super) fn new(store: Arc<dyn Store>, look_every: Duration) -> Arc<Self> {
        let reading = tokio::sync::Mutex::default();
        Arc::new(Self { store, look_every, state: Mutex::default(), reading })
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
        let snapshot = Snapshot::new(Catalog::open(self.store.as_ref()).await?);
        self.put(&snapshot);
        Ok(snapshot)
    }

    /// Takes over a newer snapshot, if there is one that verifies.
    async fn refresh(&self) {
        let _reading = self.reading.lock().await;
        let served = self.state().current.as_ref().map(|current| current.catalog.manifest.run);
        let newer = async {
            let current = snapshot::current(self.store.as_ref()).await?;
            let Some(run) = current.map(|manifest| manifest.run) else { return Ok(None) };
            if served.is_some_and(|served| run <= served) {
                return Ok(None);
            }
            Catalog::open_run(self.store.as_ref(), run).await
        };
        match newer.await {
            Ok(Some(catalog)) => self.put(&Snapshot::new(catalog)),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "the new snapshot is refused; the one before is served");
            }
        }
    }

    fn put(&self, snapshot: &Arc<Snapshot>) {
        let mut state = self.state();
        state.looked = Some(Instant::now());
        if let Some(before) = state.current.replace(Arc::clone(snapshot)) {
            hold(&mut state.held, before);
        }
    }

    /// The snapshot of `run`, for a list that was begun in it.
    pub(super) async fn of(self: &Arc<Self>, run: RunId) -> Result<Arc<Snapshot>> {
        let current = self.current().await?;
        let is_it = |snapshot: &&Arc<Snapshot>| snapshot.catalog.manifest.run == run;
        if let Some(found) = Some(&current).filter(is_it).or(self.state().held.iter().find(is_it)) {
            return Ok(Arc::clone(found));
        }
        let _reading = self.reading.lock().await;
        if let Some(found) = self.state().held.iter().find(is_it) {
            return Ok(Arc::clone(found));
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
