//! Points `current.json` to the newest whole snapshot. Removes nothing.

use super::{SnapshotCondition, VerifiedSnapshot, VerifyReport};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::closing;
use crate::pipeline::snapshot::Current;
use crate::pipeline::to_json;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::RunId;

/// The result of a repair.
#[derive(Debug, Default, Clone)]
pub struct RepairResult {
    /// The new target of `current.json`, if it was written.
    pub moved: Option<MovedCurrent>,
    /// Whole snapshots that lacked the marker and received it.
    pub marked: Vec<RunId>,
}

/// How `current.json` was moved.
#[derive(Debug, Clone)]
pub struct MovedCurrent {
    /// What was wrong.
    pub reason: String,
    /// The snapshot that it names now.
    pub to: VerifiedSnapshot,
    /// Newer snapshots that are not whole. What only they contain must be crawled again.
    pub passed_over: Vec<VerifiedSnapshot>,
}

/// Points `current.json` to the newest whole snapshot if it is unreadable or names a snapshot that
/// is not whole. Writes the marker of whole snapshots that lack it. Afterwards, `report` describes
/// the remaining damage.
pub async fn repair(store: &dyn Store, report: &mut VerifyReport) -> Result<RepairResult> {
    let mut repair = RepairResult::default();
    for one in &mut report.snapshots {
        if one.state == SnapshotCondition::Damaged && one.is_usable() {
            let mark = Key::Snapshot(one.run, SnapshotFile::Success);
            store.create(&mark, bytes::Bytes::new()).await?;
            one.wrong.clear();
            one.state = SnapshotCondition::Whole;
            repair.marked.push(one.run);
        }
    }
    let named = report.snapshots.iter().find(|one| one.current);
    let reason = match (&report.current.wrong, named) {
        (Some(wrong), _) => format!("current.json {wrong}"),
        (None, Some(named)) if named.state != SnapshotCondition::Whole => {
            format!("current.json names run {}, which is damaged ({})", named.run, named.reason())
        }
        _ => return Ok(repair),
    };
    // A snapshot of a newer version of azimg must not be treated as damaged.
    if let Some(foreign) = report.foreign.take() {
        return Err(foreign);
    }
    let intact = report.snapshots.iter().position(|one| one.state == SnapshotCondition::Whole);
    let Some(at) = intact else {
        let text = format!(
            "{reason}, and no kept snapshot is intact: the next 'azimg crawl' lists everything \
             again"
        );
        return Err(Error::corrupt(text));
    };
    let to = &report.snapshots[at];
    let current = Current {
        run: to.run,
        manifest: Key::Snapshot(to.run, SnapshotFile::Manifest).to_string(),
        published_at: to.published_at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH),
    };
    let bytes = to_json(&current)?.into();
    if !store.swap(&Key::Current, bytes, report.current.tag.as_deref()).await? {
        let text = "current.json changed while snapshots were checked: run the command again";
        return Err(Error::new(ErrorKind::Conflict, text));
    }
    // The turn of the run that published the damaged snapshot is over.
    closing::settle(store, to.run, time::OffsetDateTime::now_utc()).await?;
    tracing::warn!(run = %to.run, reason, "current.json now names the newest intact snapshot");
    let unreadable =
        |one: &&VerifiedSnapshot| one.state == SnapshotCondition::Unreadable && one.current;
    let passed_over =
        report.snapshots[..at].iter().chain(report.snapshots.iter().filter(unreadable));
    let moved =
        MovedCurrent { reason, to: to.clone(), passed_over: passed_over.cloned().collect() };
    report.current.wrong = None;
    report.current.run = Some(moved.to.run);
    for one in &mut report.snapshots {
        one.current = one.run == moved.to.run;
    }
    repair.moved = Some(moved);
    Ok(repair)
}
