//! Looks after runs: what was lost is sent again, what is overdue is closed, what is old is removed.

use super::survey::survey;
use super::{read_json, read_plan, snapshot};
use crate::error::{ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{MOST_MESSAGES, RunId, WorkItem};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

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

/// A run that has not moved for so long has lost messages: none waits longer for its turn than the
/// longest window of a quota, which is half an hour, and no item takes longer than five minutes.
const LOST_AFTER: Duration = Duration::minutes(35);

/// How far a run was, and since when; or when its items were last sent again.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    ended: usize,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// Sweeps all runs. Items count as lost when their run has not moved for longer than any of them
/// may wait, or at once with `all` (for a host that knows its queue to be empty).
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
    let mark: Option<Mark> = read_json(store, &key).await?;
    let moved = mark.as_ref().is_none_or(|mark| mark.ended != survey.ended.len());
    let lost = all || mark.is_some_and(|mark| !moved && now - mark.since >= LOST_AFTER);
    if moved || lost {
        let mark = Mark { ended: survey.ended.len(), since: now };
        let tag = store.get(&key).await?.map(|object| object.tag);
        store.swap(&key, super::to_json(&mark)?.into(), tag.as_deref()).await?;
    }
    if lost {
        swept.lost.extend(survey.missing);
    }
    Ok(())
}
