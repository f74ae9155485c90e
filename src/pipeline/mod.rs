//! The stages of a run: plan, crawl, survey, merge, publish, sweep. They communicate only through
//! blobs and messages. Each stage is a function of what is stored, so it can be repeated.

pub mod answered;
pub mod changes;
pub mod closing;
pub mod coverage;
pub(crate) mod coverage_groups;
pub mod crawl;
pub mod failed;
pub mod merge;
pub mod newer;
pub mod plan;
pub mod previous;
pub mod publish;
pub(crate) mod report;
pub mod retain;
pub mod schema;
pub mod snapshot;
pub mod survey;
pub mod sweep;
pub mod verify;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{Plan, RunId, WORK_VERSION, WorkItem};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads the plan of a run.
pub async fn read_plan(store: &dyn Store, run: RunId) -> Result<Plan> {
    let plan: Plan = read_json(store, &Key::Plan(run))
        .await?
        .ok_or_else(|| Error::not_found(format!("no run {run} in {}", store.address())))?;
    if plan.schema_version != WORK_VERSION {
        return Err(Error::invalid(format!(
            "run {run} was planned by another version of azimg (schema {}; this version uses \
             {WORK_VERSION})",
            plan.schema_version
        )));
    }
    if plan.run != run || !are_of(&plan.items, run) {
        let (address, key) = (store.address(), Key::Plan(run));
        return Err(Error::corrupt(format!("{address}/{key}: damaged (its names do not match)")));
    }
    Ok(plan)
}

/// Whether a read error is permanent: the document is missing, of another version, or damaged.
/// After any other error the document may exist, so it must not be treated as absent.
fn is_permanent(error: &Error) -> bool {
    error.is_unreadable() || error.kind() == ErrorKind::NotFound
}

/// Whether all items belong to `run` and have the id that follows from their scope. Damage can
/// produce an id under which nobody would find the item.
fn are_of(items: &[WorkItem], run: RunId) -> bool {
    items.iter().all(|item| item.run == run && item.item == item.scope.id())
}

/// Reads the items of a run's second round. `None` until they are planned.
async fn read_details_plan(store: &dyn Store, run: RunId) -> Result<Option<Vec<WorkItem>>> {
    let key = Key::DetailsPlan(run);
    let items: Option<Vec<WorkItem>> = read_json(store, &key).await?;
    if items.as_ref().is_some_and(|items| !are_of(items, run)) {
        let address = store.address();
        return Err(Error::corrupt(format!("{address}/{key}: damaged (its names do not match)")));
    }
    Ok(items)
}

/// Reads a small stored JSON document.
pub(crate) async fn read_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
) -> Result<Option<T>> {
    let Some(object) = store.get(key).await? else { return Ok(None) };
    parse_json(store, key, &object.bytes).map(Some)
}

/// Parses a small JSON document that was already read from `key`.
pub(crate) fn parse_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    bytes: &[u8],
) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt(format!("{}/{key}: cannot be read ({e})", store.address())))
}

/// Serializes a value as JSON with a trailing newline.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|e| Error::bug("writing JSON").with_source(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}
