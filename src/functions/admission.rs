//! Which messages are done: those of items that are in the plan of their run, or follow from it.
//!
//! Whoever may write to the queue shall choose neither whom the identity speaks to nor where. What is refused here is
//! refused before anything is sent, and for good.

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::read_plan;
use crate::pipeline::survey::read_outcome;
use crate::store::Store;
use crate::work::{Bounds, Follows, Outcome, RegistryScope, RunId, Scope, SourceName, WorkItem};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A process remembers the bounds of this many runs, the newest ones.
const MOST_RUNS: usize = 4;

/// The bounds of the runs that pass through a process; each is read once.
#[derive(Debug, Default)]
pub(super) struct Admissions(Mutex<BTreeMap<RunId, Arc<Mutex<Bounds>>>>);

impl Admissions {
    /// The bounds of a run, by its plan.
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

    /// Why an item is not done, if it is not one of its run's. An error is one that another delivery may heal.
    pub(super) async fn refusal(
        &self,
        store: &dyn Store,
        item: &WorkItem,
    ) -> Result<Option<Error>> {
        let bounds = match self.of(store, item.run).await {
            Ok(bounds) => bounds,
            // There is no such run, or its plan can never be read: nothing of it counts.
            Err(error) if error.is_unreadable() || error.kind() == ErrorKind::NotFound => {
                return Ok(Some(error.context(&item.item)));
            }
            Err(error) => return Err(error),
        };
        // Held while an outcome is read, so that each is read once; few items need that.
        let mut bounds = bounds.lock().await;
        let listed: Vec<Scope> = match bounds.check(item) {
            Err(refused) => return Ok(Some(refused)),
            Ok(Follows::Fully) => return Ok(None),
            Ok(Follows::If(listing)) => {
                let listing = outcome(store, item.run, &listing).await?;
                let children = listing.into_iter().flat_map(|listing| listing.children);
                children.map(|child| child.scope).collect()
            }
            // The registry's own item passed here, or it would not have ended so.
            Ok(Follows::Behind(registry)) => {
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
        let text = format!("{id}: nothing in run {run} leads to this registry");
        Ok(Some(Error::new(ErrorKind::Denied, text)))
    }
}

/// How an item of registries ended, if it has, and others followed from it.
async fn outcome(store: &dyn Store, run: RunId, item: &str) -> Result<Option<Outcome>> {
    read_outcome(store, (run, SourceName::Registry, item), true).await
}
