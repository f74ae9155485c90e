//! Names and content types of all stored objects.

use crate::work::{RunId, SourceName, WorkItem};
use std::fmt;

/// A file of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotFile {
    /// The table as Parquet.
    Parquet(SourceName),
    /// The table as newline-delimited JSON, compressed with zstd.
    Ndjson(SourceName),
    /// The changes since the previous snapshot, compressed with zstd.
    Changes,
    /// The outcome of every scope.
    Coverage,
    /// The index of the tables, for lookups.
    Index,
    /// The JSON Schema of a record.
    Schema(&'static str),
    /// The manifest: run, completeness, coverage totals and files.
    Manifest,
    /// An empty marker, written after the manifest.
    Success,
}

impl fmt::Display for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parquet(source) => write!(f, "{source}.parquet"),
            Self::Ndjson(source) => write!(f, "{source}.ndjson.zst"),
            Self::Changes => f.write_str("changes.ndjson.zst"),
            Self::Coverage => f.write_str("coverage.json"),
            Self::Index => f.write_str("index.bin"),
            Self::Schema(name) => write!(f, "{name}.schema.json"),
            Self::Manifest => f.write_str("manifest.json"),
            Self::Success => f.write_str("_SUCCESS"),
        }
    }
}

/// The name of a stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The plan of a run.
    Plan(RunId),
    /// The items that fetch details. Planned when all listings are complete.
    DetailsPlan(RunId),
    /// How a run was closed, and on which snapshot, if any.
    Closing(RunId, Option<RunId>),
    /// Why a run could not be published.
    Failed(RunId),
    /// The progress of a run at its last sweep.
    Swept(RunId),
    /// The rows of one item, with its outcome.
    Shard {
        /// The run.
        run: RunId,
        /// The source.
        source: SourceName,
        /// The item's id.
        item: String,
    },
    /// The outcome of one item. An outcome with children has a name of its own (`parent`), so that
    /// a survey lists names and reads only these outcomes.
    Outcome {
        /// The run.
        run: RunId,
        /// The source.
        source: SourceName,
        /// The item's id.
        item: String,
        /// Whether the outcome lists children.
        parent: bool,
    },
    /// A file of a snapshot.
    Snapshot(RunId, SnapshotFile),
    /// The record of the turn to publish.
    Publishing,
    /// The pointer to the current snapshot.
    Current,
    /// A probe object that tests write access. It is removed after the test.
    Tried(RunId),
}

const PARENT: &str = ".parent.json";
const LEAF: &str = ".json";
const SHARD: &str = ".ndjson.zst";

impl Key {
    /// The name of an item's shard.
    pub fn shard(item: &WorkItem) -> Self {
        Self::Shard { run: item.run, source: item.source, item: item.item.clone() }
    }

    /// The name of an item's outcome.
    pub fn outcome(item: &WorkItem, parent: bool) -> Self {
        Self::Outcome { run: item.run, source: item.source, item: item.item.clone(), parent }
    }

    /// The prefix of all objects of a run: `runs/{run}/`.
    pub fn run_prefix(run: RunId) -> String {
        format!("runs/{run}/")
    }

    /// The prefix of all files of a run's snapshot: `snapshots/{run}/`.
    pub fn snapshot_prefix(run: RunId) -> String {
        format!("snapshots/{run}/")
    }

    /// The prefix of all shards of a source in a run.
    pub fn shards_prefix(run: RunId, source: SourceName) -> String {
        format!("runs/{run}/shards/{source}/")
    }

    /// The prefix of all outcomes of a source in a run.
    pub fn outcomes_prefix(run: RunId, source: SourceName) -> String {
        format!("runs/{run}/outcomes/{source}/")
    }

    /// Parses the name of an outcome into the item's id and whether it is a parent.
    pub fn parse_outcome(name: &str, run: RunId, source: SourceName) -> Option<(&str, bool)> {
        let rest = name.strip_prefix(&Self::outcomes_prefix(run, source))?;
        match rest.strip_suffix(PARENT) {
            Some(item) => Some((item, true)),
            None => rest.strip_suffix(LEAF).map(|item| (item, false)),
        }
    }

    /// Parses the name of a shard into the item's id.
    pub fn parse_shard(name: &str, run: RunId, source: SourceName) -> Option<&str> {
        name.strip_prefix(&Self::shards_prefix(run, source))?.strip_suffix(SHARD)
    }

    /// The content type of the object.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Shard { .. }
            | Self::Snapshot(_, SnapshotFile::Ndjson(_) | SnapshotFile::Changes) => {
                "application/zstd"
            }
            Self::Snapshot(_, SnapshotFile::Parquet(_)) => "application/vnd.apache.parquet",
            Self::Snapshot(_, SnapshotFile::Success | SnapshotFile::Index) => {
                "application/octet-stream"
            }
            _ => "application/json",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(run) => write!(f, "runs/{run}/plan.json"),
            Self::DetailsPlan(run) => write!(f, "runs/{run}/details.json"),
            Self::Closing(run, None) => write!(f, "runs/{run}/closing.json"),
            Self::Closing(run, Some(base)) => write!(f, "runs/{run}/closing-{base}.json"),
            Self::Failed(run) => write!(f, "runs/{run}/failed.json"),
            Self::Swept(run) => write!(f, "runs/{run}/swept.json"),
            Self::Shard { run, source, item } => {
                write!(f, "runs/{run}/shards/{source}/{item}{SHARD}")
            }
            Self::Outcome { run, source, item, parent } => {
                let suffix = if *parent { PARENT } else { LEAF };
                write!(f, "runs/{run}/outcomes/{source}/{item}{suffix}")
            }
            Self::Snapshot(run, file) => write!(f, "snapshots/{run}/{file}"),
            Self::Publishing => f.write_str("publishing.json"),
            Self::Current => f.write_str("current.json"),
            Self::Tried(name) => write!(f, "tried-{name}.json"),
        }
    }
}
