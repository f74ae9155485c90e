//! Retention of snapshots: which are kept, and how the others are removed.

use super::{closing, is_permanent, read_plan, snapshot, verify};
use crate::error::{Error, Result};
use crate::span::Span;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::RunId;
use std::collections::BTreeSet;
use std::str::FromStr;
use time::{Duration, OffsetDateTime};

/// How long a snapshot stays after another one became current. A reader that read `current.json`
/// just before the swap has this time to read the snapshot it named.
const GRACE: Duration = Duration::hours(1);
/// Clocks differ by less than this.
const SKEW: Duration = Duration::hours(1);

/// Which snapshots are kept: the newest `number`, and all that are younger than `age`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Number of newest snapshots to keep.
    pub number: usize,
    /// Snapshots of runs that started less than this long ago are kept.
    pub age: std::time::Duration,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { number: 10, age: std::time::Duration::from_hours(30 * 24) }
    }
}

impl FromStr for RetentionPolicy {
    type Err = Error;

    /// Parses `10`, `30d`, `10,30d` or `all`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{text}' does not specify which snapshots to keep: use a number, an age, or both, \
                 such as 10,30d; or all"
            ))
        };
        if text == "all" {
            return Ok(Self { number: usize::MAX, age: std::time::Duration::ZERO });
        }
        let mut keep = Self { number: 0, age: std::time::Duration::ZERO };
        for part in text.split(',').map(str::trim) {
            if let Ok(number) = part.parse() {
                keep.number = number;
            } else {
                keep.age = part.parse::<Span>().map_err(|error| error.context(bad()))?.length();
            }
        }
        Ok(keep)
    }
}

/// Removes the snapshots that are not kept, and returns their number. Never removes the current
/// one, one that a run under way carries rows over from, or one that was current within the last
/// hour.
pub async fn retain(
    store: &dyn Store,
    keep: RetentionPolicy,
    now: OffsetDateTime,
) -> Result<usize> {
    let Some(current) = snapshot::head(store).await? else { return Ok(0) };
    let mut older = snapshot::runs(store).await?;
    older.retain(|run| *run != current);
    older.truncate(older.len().saturating_sub(keep.number.saturating_sub(1)));
    let since = Span::new(keep.age).before(now);
    // A run id from a clock that was ahead does not reveal the run's age.
    let may_go = |run: &RunId| run.planned_at() < since || run.planned_at() > now + SKEW;
    older.retain(may_go);
    if older.is_empty() {
        return Ok(0);
    }
    let (needed, manifests) =
        (needed(store, current).await?, verify::readable_manifests(store).await?);
    let mut removed = 0;
    for run in older {
        let own = manifests.iter().find(|manifest| manifest.run == run);
        let next = manifests.iter().find(|manifest| manifest.previous_run == Some(run));
        let is_young = own.is_some_and(|own| own.published_at >= since && own.published_at <= now);
        let is_fresh = next.is_some_and(|next| (now - next.published_at).abs() < GRACE);
        if is_young || is_fresh || needed.contains(&run) {
            continue;
        }
        remove(store, run).await?;
        tracing::info!(%run, "old snapshot removed");
        removed += 1;
    }
    Ok(removed)
}

/// The snapshots that runs under way carry rows over from, and these runs themselves.
async fn needed(store: &dyn Store, current: RunId) -> Result<BTreeSet<RunId>> {
    let mut needed = BTreeSet::new();
    for name in store.list_level("runs/").await? {
        let Ok(run) = name.parse::<RunId>() else { continue };
        match snapshot::manifest(store, run).await {
            Ok(None) => {}
            Ok(Some(_)) => continue,
            // A run with an unreadable manifest is over.
            Err(error) if error.is_unreadable() => {
                continue;
            }
            Err(error) => return Err(error),
        }
        needed.insert(run);
        match read_plan(store, run).await {
            Ok(plan) => needed.extend(plan.previous),
            Err(error) if is_permanent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // The run that is being published, and its base.
    let turn = closing::turn(store).await?.turn.filter(|turn| turn.run != current);
    needed.extend(turn.into_iter().flat_map(|turn| turn.base.into_iter().chain([turn.run])));
    Ok(needed)
}

/// Removes the plan and the internals of the run first, since a run without a snapshot would be
/// published again. Then removes the marker and the manifest, so that nobody takes the remaining
/// files for a whole snapshot.
async fn remove(store: &dyn Store, run: RunId) -> Result<()> {
    store.delete(&Key::Plan(run).to_string()).await?;
    for entry in store.list(&Key::run_prefix(run)).await? {
        store.delete(&entry.name).await?;
    }
    for file in [SnapshotFile::Success, SnapshotFile::Manifest] {
        store.delete(&Key::Snapshot(run, file).to_string()).await?;
    }
    for entry in store.list(&Key::snapshot_prefix(run)).await? {
        store.delete(&entry.name).await?;
    }
    Ok(())
}
