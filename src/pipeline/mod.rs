//! The stages of a run: plan, crawl, survey, merge, publish, sweep. They meet only through blobs
//! and messages; each is a function of what is stored, so each can be done again.

pub mod changes;
pub mod coverage;
pub mod crawl;
pub mod known;
pub mod merge;
pub mod plan;
pub mod publish;
pub mod retain;
pub mod schema;
pub mod snapshot;
pub mod survey;
pub mod sweep;

use crate::error::{Error, Result};
use crate::store::{Key, Store};
use crate::work::{Plan, RunId, WORK_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The plan of a run.
pub async fn read_plan(store: &dyn Store, run: RunId) -> Result<Plan> {
    let plan: Plan = read_json(store, &Key::Plan(run))
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no run {run} in {}", store.address())))?;
    if plan.schema_version != WORK_VERSION {
        return Err(Error::invalid(format!(
            "run {run} was planned by another azimg (schema {}, this one has {WORK_VERSION})",
            plan.schema_version
        )));
    }
    Ok(plan)
}

/// A small stored JSON document.
pub(crate) async fn read_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
) -> Result<Option<T>> {
    let Some(object) = store.get(key).await? else { return Ok(None) };
    parse_json(store, key, &object.bytes).map(Some)
}

/// A small stored JSON document that was read already.
pub(crate) fn parse_json<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    bytes: &[u8],
) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::corrupt(format!("{}/{key}: not what azimg writes there ({e})", store.address()))
    })
}

/// JSON bytes of a value of ours, with a line's end.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|e| Error::bug("writing JSON").with_source(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}
