//! Old snapshots: which are kept, and how the others go.

use super::read_plan;
use super::snapshot;
use crate::error::{Error, Result};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::RunId;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;
use time::OffsetDateTime;

/// Whoever read `current.json` just before it was swapped has this long to read the snapshot that it
/// named.
const GRACE: Duration = Duration::from_hours(1);

/// Which snapshots are kept: the newest so many, and all that are younger than so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub number: usize,
    /// All whose runs started less than this long ago.
    pub age: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { number: 10, age: Duration::from_hours(30 * 24) }
    }
}

impl FromStr for Keep {
    type Err = Error;

    /// Reads `10`, `30d`, `10,30d` or `all`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{text}' does not say which snapshots to keep: give a number, an age, or both, \
                 such as 10,30d; or all"
            ))
        };
        if text == "all" {
            return Ok(Self { number: usize::MAX, age: Duration::ZERO });
        }
        let mut keep = Self { number: 0, age: Duration::ZERO };
        for part in text.split(',').map(str::trim) {
            if let Ok(number) = part.parse() {
                keep.number = number;
            } else {
                keep.age = humantime::parse_duration(part).map_err(|_| bad())?;
            }
        }
        Ok(keep)
    }
}

/// Removes the snapshots that are not kept; how many. Never the current one or a later one, one that
/// a run under way carries rows over from, or one that was current within the last hour.
pub async fn retain(store: &dyn Store, keep: Keep, now: OffsetDateTime) -> Result<usize> {
    let Some(current) = snapshot::current(store).await?.map(|manifest| manifest.run) else {
        return Ok(0);
    };
    let runs = snapshot::runs(store).await?;
    let older: Vec<RunId> = runs.iter().copied().filter(|run| *run < current).collect();
    let too_many = older.len().saturating_sub(keep.number.saturating_sub(1));
    let oldest = now - keep.age;
    let candidates: Vec<RunId> =
        older[..too_many].iter().copied().filter(|run| run.planned_at() < oldest).collect();
    if candidates.is_empty() {
        return Ok(0);
    }
    let needed = needed(store).await?;
    let mut removed = 0;
    for run in candidates {
        let follower = runs.iter().copied().find(|other| *other > run).unwrap_or(current);
        let superseded = snapshot::manifest(store, follower).await?.map(|m| m.published_at);
        let fresh = superseded.is_some_and(|at| now - at < GRACE);
        if fresh || needed.contains(&run) {
            continue;
        }
        remove(store, run).await?;
        tracing::info!(%run, "an old snapshot was removed");
        removed += 1;
    }
    Ok(removed)
}

/// The snapshots that runs under way carry rows over from, and these runs themselves.
async fn needed(store: &dyn Store) -> Result<BTreeSet<RunId>> {
    let mut needed = BTreeSet::new();
    for name in store.list_level("runs/").await? {
        let Ok(run) = name.parse::<RunId>() else { continue };
        if snapshot::manifest(store, run).await?.is_some() {
            continue;
        }
        needed.insert(run);
        if let Ok(plan) = read_plan(store, run).await {
            needed.extend(plan.previous);
        }
    }
    Ok(needed)
}

/// First what the run left behind, since a run without a snapshot would be published again; then
/// what says that the snapshot is whole, so that nobody takes the rest for one.
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
