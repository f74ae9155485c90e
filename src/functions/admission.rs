//! Admission of work items: only items that are in the plan of their run, or follow from it, are
//! done.
//!
//! Someone who can write to the queue must not be able to choose with whom, or at which address,
//! azimg's identity is used. A refusal is permanent and happens before any request is sent.

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::read_plan;
use crate::pipeline::survey::read_outcome;
use crate::store::Store;
use crate::work::{Bounds, Follows, Outcome, RegistryScope, RunId, Scope, SourceName, WorkItem};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Number of runs whose bounds a process caches. The newest are kept.
const MOST_RUNS: usize = 4;

/// Cache of the bounds of the runs that a process works on.
#[derive(Debug, Default)]
pub(super) struct Admissions(Mutex<BTreeMap<RunId, Arc<Mutex<Bounds>>>>);

impl Admissions {
    /// Returns the bounds of a run, read from its plan.
    async fn of(&self, store: &dyn Store, run: RunId) -> Result<Arc<Mutex<Bounds>>> {
        let mut runs = self.0.lock().await;
        if let Some(bounds) = runs.get(&run) {
            return Ok(Arc::clone(bounds));
        }
        let plan = read_plan(store, run).await?;
        let bounds = Arc::new(Mutex::new(Bounds::of(&plan)));
        runs.insert(run, Arc::clone(&bounds));
        while runs.len() > MOST_RUNS {
            runs.pop_first();
        }
        Ok(bounds)
    }

    /// Returns why an item is refused, or `None` if it is within the bounds of its run. Returns an
    /// error when another delivery may succeed.
    pub(super) async fn refusal(
        &self,
        store: &dyn Store,
        item: &WorkItem,
    ) -> Result<Option<Error>> {
        let bounds = match self.of(store, item.run).await {
            Ok(bounds) => bounds,
            // The run does not exist, or its plan can never be read. All of its items are refused.
            Err(error) if error.is_unreadable() || error.kind() == ErrorKind::NotFound => {
                return Ok(Some(error.context(&item.item)));
            }
            Err(error) => return Err(error),
        };
        // Held while an outcome is read, so that each is read only once. Few items need this.
        let mut bounds = bounds.lock().await;
        let listed: Vec<Scope> = match bounds.check(item) {
            Err(refused) => return Ok(Some(refused)),
            Ok(Follows::Fully) => return Ok(None),
            Ok(Follows::If(listing)) => {
                let listing = outcome(store, item.run, &listing).await?;
                let children = listing.into_iter().flat_map(|listing| listing.children);
                children.map(|child| child.scope).collect()
            }
            // The registry's own item was admitted, or it would not have ended with an outcome of
            // this kind.
            Ok(Follows::FromRegistry(registry)) => {
                let registry = outcome(store, item.run, &registry).await?;
                registry.into_iter().map(|registry| registry.scope).collect()
            }
        };
        for scope in &listed {
            if let Scope::Registry(RegistryScope::Registry { at, .. }) = scope {
                bounds.add(at);
            }
        }
        let is_found = matches!(bounds.check(item), Ok(Follows::Fully));
        if is_found {
            return Ok(None);
        }
        let (run, id) = (item.run, &item.item);
        let text = format!("{id}: no item of run {run} lists this registry");
        Ok(Some(Error::new(ErrorKind::Denied, text)))
    }
}

/// Returns the outcome of a registry source's item, if it has ended and other items followed from
/// it.
async fn outcome(store: &dyn Store, run: RunId, item: &str) -> Result<Option<Outcome>> {
    read_outcome(store, (run, SourceName::Registry, item), true).await
}
