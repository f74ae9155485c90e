//! Verifies that kept snapshots are what was published: `current.json`, the manifests, the size and
//! SHA-256 of every file, and whether this version of azimg can read its contents.
//!
//! The newest snapshot is the one that no other names as its `previousRun`. If there are several,
//! it is the one that was published last. Run ids do not determine the order: a run that began
//! earlier may be published later.

mod contents;
mod kept;
mod repair;

pub use kept::{CurrentName, KeptSnapshots, current_or_newest, kept, named, readable_manifests};
pub use repair::{MovedCurrent, RepairResult, repair};

use super::snapshot::{self, Manifest, measure};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::scratch::Scratch;
use crate::store::{Entry, Key, SnapshotFile, Store};
use crate::work::{RunId, SourceName};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use time::OffsetDateTime;

/// The condition of a kept snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotCondition {
    /// Every file is intact and readable.
    Whole,
    /// At least one file is damaged.
    Damaged,
    /// The manifest is damaged, so the state of the files is unknown.
    Unreadable,
}

/// The damage of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileDamage {
    /// The name of the file within the snapshot.
    pub file: String,
    /// What is wrong.
    pub what: String,
}

/// A kept snapshot and its damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedSnapshot {
    /// The run of the snapshot.
    pub run: RunId,
    /// The condition of the snapshot.
    pub state: SnapshotCondition,
    /// When the run was published.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub published_at: Option<OffsetDateTime>,
    /// The previous snapshot.
    pub previous_run: Option<RunId>,
    /// Whether `current.json` names this snapshot.
    pub current: bool,
    /// The number of rows of its tables.
    pub images: u64,
    /// The number of changes in its feed.
    pub changes: u64,
    /// The number of files.
    pub files: usize,
    /// The total size of the files, in bytes.
    pub bytes: u64,
    /// The damage of its files.
    pub wrong: Vec<FileDamage>,
}

impl VerifiedSnapshot {
    fn of(manifest: &Manifest, wrong: Vec<FileDamage>) -> Self {
        let rows = |ending: &str| -> u64 {
            let files = manifest.files.iter().filter(|file| file.name.ends_with(ending));
            files.map(|file| file.rows).sum()
        };
        Self {
            run: manifest.run,
            state: if wrong.is_empty() {
                SnapshotCondition::Whole
            } else {
                SnapshotCondition::Damaged
            },
            published_at: Some(manifest.published_at),
            previous_run: manifest.previous_run,
            current: false,
            images: rows(".parquet"),
            changes: rows("changes.ndjson.zst"),
            files: manifest.files.len(),
            bytes: bytes_of(manifest),
            wrong,
        }
    }

    fn unreadable(run: RunId, error: &Error) -> Self {
        let wrong =
            FileDamage { file: SnapshotFile::Manifest.to_string(), what: error.to_string() };
        Self {
            run,
            state: SnapshotCondition::Unreadable,
            published_at: None,
            previous_run: None,
            current: false,
            images: 0,
            changes: 0,
            files: 0,
            bytes: 0,
            wrong: vec![wrong],
        }
    }

    /// Whether all contents are as published. Only the marker may be missing.
    pub fn is_usable(&self) -> bool {
        let mark = SnapshotFile::Success.to_string();
        self.state != SnapshotCondition::Unreadable
            && self.wrong.iter().all(|wrong| wrong.file == mark)
    }

    /// What is wrong, in one line.
    pub fn reason(&self) -> String {
        let wrong = self.wrong.iter().map(|wrong| format!("{}: {}", wrong.file, wrong.what));
        wrong.collect::<Vec<_>>().join("; ")
    }
}

/// The result of verifying all kept snapshots.
#[derive(Debug)]
pub struct VerifyReport {
    /// The contents of `current.json`.
    pub current: CurrentName,
    /// All kept snapshots, newest first. Those without a manifest come last.
    pub snapshots: Vec<VerifiedSnapshot>,
    /// The first error about a snapshot of another version of azimg.
    foreign: Option<Error>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        let is_intact = |one: &VerifiedSnapshot| one.state == SnapshotCondition::Whole;
        self.current.wrong.is_none() && self.snapshots.iter().all(is_intact)
    }
}

/// The progress of a verification, in bytes.
#[derive(Debug, Clone, Default)]
pub struct CheckProgress(Arc<(AtomicU64, AtomicU64)>);

impl CheckProgress {
    /// The number of bytes checked so far, and in total.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
    }
}

fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
}

/// Verifies all kept snapshots. `checked` reports the progress.
pub async fn verify(store: &dyn Store, checked: &CheckProgress) -> Result<VerifyReport> {
    let mut current = named(store).await?;
    let KeptSnapshots { manifests, unreadable } = kept(store).await?;
    let all = manifests.iter().map(bytes_of).fold(0, u64::saturating_add);
    checked.0.1.store(all, Ordering::Relaxed);
    let mut snapshots = Vec::new();
    for manifest in &manifests {
        snapshots.extend(one_snapshot(store, manifest, checked).await?);
    }
    let mut foreign = None;
    for (run, error) in unreadable {
        snapshots.push(VerifiedSnapshot::unreadable(run, &error));
        if error.kind() == ErrorKind::Invalid {
            foreign = foreign.or(Some(error));
        }
    }
    let mut is_there = false;
    for one in &mut snapshots {
        one.current = current.run == Some(one.run);
        is_there |= one.current;
    }
    if current.wrong.is_none() && !is_there {
        current.wrong = match current.run {
            Some(run) => Some(format!("names run {run}, which has no snapshot")),
            None => (!snapshots.is_empty()).then(|| "is missing".to_owned()),
        };
    }
    Ok(VerifyReport { current, snapshots, foreign })
}

/// Verifies one snapshot. `None` if it was removed meanwhile.
async fn one_snapshot(
    store: &dyn Store,
    manifest: &Manifest,
    checked: &CheckProgress,
) -> Result<Option<VerifiedSnapshot>> {
    let run = manifest.run;
    let mut wrong = Vec::new();
    let entries = store.list(&Key::snapshot_prefix(run)).await?;
    let sizes: HashMap<&str, u64> = entries.iter().map(sized).collect();
    for file in &manifest.files {
        let mut add = |what: String| wrong.push(FileDamage { file: file.name.clone(), what });
        match sizes.get(file.name.as_str()) {
            None => add("is missing".to_owned()),
            Some(bytes) if *bytes != file.bytes => {
                add(format!("has {bytes} bytes instead of {}", file.bytes));
            }
            Some(_) => {
                if let Some(what) = one_file(store, manifest, file).await? {
                    add(what);
                }
            }
        }
        checked.0.0.fetch_add(file.bytes, Ordering::Relaxed);
    }
    let mark = SnapshotFile::Success.to_string();
    if !sizes.contains_key(mark.as_str()) {
        wrong.push(FileDamage { file: mark, what: "is missing".to_owned() });
    }
    if !wrong.is_empty() {
        // Retention may remove old snapshots at any time.
        match snapshot::manifest(store, run).await {
            Ok(None) => return Ok(None),
            Err(error) if !error.is_unreadable() => return Err(error),
            Ok(Some(_)) | Err(_) => {}
        }
    }
    Ok(Some(VerifiedSnapshot::of(manifest, wrong)))
}

/// The name of a file within its snapshot, and its size.
fn sized(entry: &Entry) -> (&str, u64) {
    (entry.name.rsplit('/').next().unwrap_or_default(), entry.bytes)
}

/// Checks the contents of a file that exists with the expected size. Returns what is wrong, if
/// anything.
async fn one_file(
    store: &dyn Store,
    manifest: &Manifest,
    file: &snapshot::File,
) -> Result<Option<String>> {
    // A file that a later version of azimg added is not known here.
    let Some(named) = named_file(&file.name) else { return Ok(None) };
    let scratch = Scratch::new()?;
    let copy = scratch.path().join(named.to_string());
    if !store.download(&Key::Snapshot(manifest.run, named), &copy).await? {
        return Ok(Some("is missing".to_owned()));
    }
    let (manifest, file) = (manifest.clone(), file.clone());
    let check = move || {
        // Moving `scratch` into the closure keeps the folder until the check ends.
        let copy = scratch.path().join(named.to_string());
        if measure(&copy)? != (file.bytes, file.sha256.clone()) {
            return Ok(Some("does not match its manifest".to_owned()));
        }
        match contents::check(&copy, named, &manifest, &file) {
            Ok(()) => Ok(None),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                let text = error.to_string();
                let named = format!("{}: ", file.name);
                Ok(Some(text.strip_prefix(&named).map_or(text.clone(), str::to_owned)))
            }
        }
    };
    blocking("checking a file", check).await
}

/// The file called `name`, if this version of azimg writes it.
fn named_file(name: &str) -> Option<SnapshotFile> {
    let tables = SourceName::ALL.iter().copied();
    let files =
        tables.flat_map(|table| [SnapshotFile::Parquet(table), SnapshotFile::Ndjson(table)]);
    let documents = [SnapshotFile::Changes, SnapshotFile::Coverage, SnapshotFile::Index];
    let schemas = super::schema::RECORDS.iter().map(|(name, _)| SnapshotFile::Schema(name));
    files.chain(documents).chain(schemas).find(|file| file.to_string() == name)
}
