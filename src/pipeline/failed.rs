//! What is written down of a run that could not be published. Nothing is decided by it but how long the sweep
//! goes on trying: a snapshot that comes after all counts.

use super::{read_json, to_json};
use crate::error::Result;
use crate::store::{Key, Store};
use crate::work::RunId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `failed.json` of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// When it was last given up.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Why.
    pub reason: String,
}

/// Writes down why a run could not be published, over what was written earlier.
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
    // Whoever was faster had a reason as well.
    store.swap(&key, bytes.into(), tag.as_deref()).await.map(drop)
}

/// Why a run could not be published, if that was given up.
pub async fn of(store: &dyn Store, run: RunId) -> Result<Option<FailedRun>> {
    read_json(store, &Key::Failed(run)).await
}
