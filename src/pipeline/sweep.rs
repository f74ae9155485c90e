//! Looks after runs: what was lost is sent again, what is overdue is closed, what is old is removed.

use super::survey::survey;
use super::{read_json, read_plan, snapshot};
use crate::error::{ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{MOST_MESSAGES, RunId, WorkItem};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The internals of this many runs are kept.
const KEEP_RUNS: usize = 5;

/// What a sweep found to be done.
#[derive(Debug, Default)]
pub struct Swept {
    /// Items whose messages seem lost.
    pub lost: Vec<WorkItem>,
    /// Runs that look closed, or are overdue.
    pub close: Vec<RunId>,
    /// Blobs that were removed.
    pub removed: usize,
}

/// How far a run was at the last sweep.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Mark {
    ended: usize,
}

/// Sweeps all runs. An item counts as lost when its run has not moved since the last sweep, or at
/// once with `all` (for a host that knows its queue to be empty).
pub async fn sweep(store: &dyn Store, now: OffsetDateTime, all: bool) -> Result<Swept> {
    let mut swept = Swept::default();
    let mut runs: Vec<RunId> =
        store.list_level("runs/").await?.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    for (age, run) in runs.into_iter().enumerate() {
        let published = snapshot::manifest(store, run).await?.is_some();
        if age >= KEEP_RUNS {
            for entry in store.list(&Key::run_prefix(run)).await? {
                store.delete(&entry.name).await?;
                swept.removed += 1;
            }
        } else if !published {
            look_after(store, run, now, all, &mut swept).await?;
        }
    }
    swept.lost.truncate(MOST_MESSAGES);
    Ok(swept)
}

async fn look_after(
    store: &dyn Store,
    run: RunId,
    now: OffsetDateTime,
    all: bool,
    swept: &mut Swept,
) -> Result<()> {
    let plan = match read_plan(store, run).await {
        Ok(plan) => plan,
        // A run of another version, or one whose plan was never finished, is left alone.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {
            tracing::warn!(%error, "a run is left alone");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let survey = survey(store, &plan).await?;
    if survey.missing.is_empty() || now >= plan.deadline_at {
        swept.close.push(run);
        return Ok(());
    }
    let key = Key::Swept(run);
    let mark = Mark { ended: survey.ended.len() };
    let last: Option<Mark> = read_json(store, &key).await?;
    if all || last.as_ref() == Some(&mark) {
        swept.lost.extend(survey.missing);
    }
    if last.as_ref() != Some(&mark) {
        let tag = store.get(&key).await?.map(|object| object.tag);
        store.swap(&key, super::to_json(&mark)?.into(), tag.as_deref()).await?;
    }
    Ok(())
}
