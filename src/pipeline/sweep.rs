//! Maintenance of runs: resends lost items, closes overdue runs, removes old ones.

use super::survey::survey;
use super::{failed, is_permanent, read_json, read_plan, snapshot};
use crate::error::{ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{MOST_MESSAGES, RunId, WorkItem};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// Number of finished runs whose internals are kept.
const KEEP_RUNS: usize = 5;

/// The results of a sweep.
#[derive(Debug, Default)]
pub struct SweepResult {
    /// Items whose messages are apparently lost.
    pub lost: Vec<WorkItem>,
    /// Runs that can be closed, or are overdue.
    pub close: Vec<RunId>,
    /// Number of removed blobs.
    pub removed: usize,
}

/// A run that has made no progress for this time has lost messages. A message waits at most for the
/// longest quota window, which is 30 minutes, and an item that need not wait for a permit takes 5
/// minutes at most. Sending again an item that is only late does no harm: its first outcome counts.
const LOST_AFTER: Duration = Duration::minutes(35);

/// A run with no ended item after this time was planned and never sent: the quota of its first
/// items is not scarce.
const UNSENT_AFTER: Duration = Duration::minutes(10);

/// A run without a readable plan may be in planning, or belong to another version. It is removed
/// after this time.
const UNREADABLE_KEPT_FOR: Duration = Duration::days(7);

/// The progress of a run and the time of its last change, or the time its items were last resent.
#[derive(Debug, Serialize, Deserialize)]
struct SweepMark {
    ended: usize,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// Sweeps all runs. Items count as lost if their run has made no progress for longer than any of
/// them may wait. With `all`, for a host that knows that its queue is empty, missing items count as
/// lost immediately.
pub async fn sweep(store: &dyn Store, now: OffsetDateTime, all: bool) -> Result<SweepResult> {
    let mut swept = SweepResult::default();
    let mut runs: Vec<RunId> =
        store.list_level("runs/").await?.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    let mut over = 0;
    for run in runs {
        let published = match snapshot::manifest(store, run).await {
            Ok(manifest) => manifest.is_some(),
            // Readers report the damaged manifest. The run's internals are not needed for that.
            Err(error) if error.is_unreadable() => true,
            Err(error) => return Err(error),
        };
        // A run under way keeps its internals, no matter how many runs have finished since.
        if !published && sweep_unpublished(store, run, now, all, &mut swept).await? {
            continue;
        }
        over += 1;
        if over > KEEP_RUNS {
            for entry in store.list(&Key::run_prefix(run)).await? {
                store.delete(&entry.name).await?;
                swept.removed += 1;
            }
        }
    }
    swept.lost.truncate(MOST_MESSAGES);
    Ok(swept)
}

/// Sweeps a run that is not published. Returns whether it is under way.
async fn sweep_unpublished(
    store: &dyn Store,
    run: RunId,
    now: OffsetDateTime,
    all: bool,
    swept: &mut SweepResult,
) -> Result<bool> {
    let plan = match read_plan(store, run).await {
        Ok(plan) => plan,
        // A run of another version, or one whose plan was never completed, is left alone.
        Err(error) if is_permanent(&error) => {
            tracing::warn!(%error, "a run is skipped: its plan cannot be read");
            return Ok(now - run.planned_at() < UNREADABLE_KEPT_FOR);
        }
        Err(error) => return Err(error),
    };
    let survey = survey(store, &plan).await?;
    if survey.missing.is_empty() || now >= plan.deadline_at {
        // A run that could not be published after its deadline is not tried again, except by a host
        // that starts.
        if now >= plan.deadline_at && !all && failed::of(store, run).await?.is_some() {
            // The clock may be ahead, in which case the run is still under way.
            return Ok(now - plan.deadline_at < UNREADABLE_KEPT_FOR);
        }
        swept.close.push(run);
        return Ok(true);
    }
    let key = Key::Swept(run);
    let mark: Option<SweepMark> = match read_json(store, &key).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        read => read?,
    };
    let moved = mark.as_ref().is_none_or(|mark| mark.ended != survey.ended.len());
    // The planner may have died before it sent anything.
    let lost_after = if survey.ended.is_empty() { UNSENT_AFTER } else { LOST_AFTER };
    let lost = all || mark.is_some_and(|mark| !moved && now - mark.since >= lost_after);
    if moved || lost {
        let mark = SweepMark { ended: survey.ended.len(), since: now };
        let tag = store.get(&key).await?.map(|object| object.tag);
        store.swap(&key, super::to_json(&mark)?.into(), tag.as_deref()).await?;
    }
    if lost {
        swept.lost.extend(survey.missing);
    }
    Ok(true)
}
