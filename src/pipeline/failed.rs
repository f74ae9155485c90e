//! The record that a run could not be published. It only affects how long the sweep keeps trying: a
//! snapshot that is published later still counts.

use super::{read_json, to_json};
use crate::error::Result;
use crate::store::{Key, Store};
use crate::work::RunId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `failed.json` of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// When publishing was last given up.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The reason.
    pub reason: String,
}

/// Records why a run could not be published, replacing an earlier record.
pub async fn record(
    store: &dyn Store,
    run: RunId,
    reason: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let key = Key::Failed(run);
    let at = now.replace_nanosecond(0).unwrap_or(now);
    let bytes = to_json(&FailedRun { at, reason: reason.to_owned() })?;
    let tag = store.get(&key).await?.map(|object| object.tag);
    // If the swap fails, a concurrent writer has recorded a reason.
    store.swap(&key, bytes.into(), tag.as_deref()).await.map(drop)
}

/// Reads why publishing a run was given up, if it was.
pub async fn of(store: &dyn Store, run: RunId) -> Result<Option<FailedRun>> {
    read_json(store, &Key::Failed(run)).await
}
