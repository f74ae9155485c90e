//! Looks after runs: what was lost is sent again, what is overdue is closed, what is old is removed.

use super::survey::survey;
use super::{failed, is_for_good, read_json, read_plan, snapshot};
use crate::error::{ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{MOST_MESSAGES, RunId, WorkItem};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// The internals of this many runs that are over are kept.
const KEEP_RUNS: usize = 5;

/// What a sweep found to be done.
#[derive(Debug, Default)]
pub struct SweepResult {
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

/// A run of which nothing has ended for so long was planned and never sent: its first items are not scarce.
const UNSENT_AFTER: Duration = Duration::minutes(10);

/// What lies there without a plan that can be read may be a run that is being planned, or that another version
/// does; it is removed after this.
const LEFT_ALONE_FOR: Duration = Duration::days(7);

/// How far a run was, and since when; or when its items were last sent again.
#[derive(Debug, Serialize, Deserialize)]
struct SweepMark {
    ended: usize,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// Sweeps all runs. Items count as lost when their run has not moved for longer than any of them
/// may wait, or at once with `all` (for a host that knows its queue to be empty).
pub async fn sweep(store: &dyn Store, now: OffsetDateTime, all: bool) -> Result<SweepResult> {
    let mut swept = SweepResult::default();
    let mut runs: Vec<RunId> =
        store.list_level("runs/").await?.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    let mut over = 0;
    for run in runs {
        let published = match snapshot::manifest(store, run).await {
            Ok(manifest) => manifest.is_some(),
            // Whoever reads it is told; what made it is not needed for that.
            Err(error) if error.is_unreadable() => true,
            Err(error) => return Err(error),
        };
        // A run that is going keeps what it has, however many came and went meanwhile.
        if !published && look_after(store, run, now, all, &mut swept).await? {
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

/// Looks after a run that is not published; whether it is going.
async fn look_after(
    store: &dyn Store,
    run: RunId,
    now: OffsetDateTime,
    all: bool,
    swept: &mut SweepResult,
) -> Result<bool> {
    let plan = match read_plan(store, run).await {
        Ok(plan) => plan,
        // A run of another version, or one whose plan was never finished, is left alone.
        Err(error) if is_for_good(&error) => {
            tracing::warn!(%error, "a run is left alone");
            return Ok(now - run.planned_at() < LEFT_ALONE_FOR);
        }
        Err(error) => return Err(error),
    };
    let survey = survey(store, &plan).await?;
    if survey.missing.is_empty() || now >= plan.deadline_at {
        // What cannot be published at its deadline cannot be published: a host that begins tries once more.
        if now >= plan.deadline_at && !all && failed::of(store, run).await?.is_some() {
            // By a clock that is ahead it may be going all the same.
            return Ok(now - plan.deadline_at < LEFT_ALONE_FOR);
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
    // Whoever planned it may have died before anything was sent.
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
