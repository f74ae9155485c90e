//! The names of everything that is stored, with their content types.

use crate::work::{RunId, SourceName, WorkItem};
use std::fmt;

/// A file of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SnapshotFile {
    /// The table as Parquet.
    Parquet(SourceName),
    /// The table as newline-delimited JSON, zstd.
    Ndjson(SourceName),
    /// What changed since the snapshot before, zstd.
    Changes,
    /// How every scope ended.
    Coverage,
    /// The tables' index, for lookups.
    Index,
    /// The JSON Schema of a record.
    Schema(&'static str),
    /// What the snapshot consists of.
    Manifest,
    /// Empty; written after the manifest.
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

/// A stored name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// What a run is to do.
    Plan(RunId),
    /// The items that ask for details, planned when every listing is in.
    DetailsPlan(RunId),
    /// How a run was closed on a snapshot, or without one.
    Closing(RunId, Option<RunId>),
    /// Why a run could not be published.
    Failed(RunId),
    /// How far a run was when it was last swept.
    Swept(RunId),
    /// The rows of one item.
    Shard {
        /// The run.
        run: RunId,
        /// The source.
        source: SourceName,
        /// The item's id.
        item: String,
    },
    /// How one item ended. `parent` outcomes have children; the name says so, so that a run can be
    /// surveyed by listing names and reading only these.
    Outcome {
        /// The run.
        run: RunId,
        /// The source.
        source: SourceName,
        /// The item's id.
        item: String,
        /// Whether it lists children.
        parent: bool,
    },
    /// A file of a snapshot.
    Snapshot(RunId, SnapshotFile),
    /// Whose turn it is to publish.
    Publishing,
    /// Which snapshot is the current one.
    Current,
    /// What is written to see whether that can be done, and removed at once.
    Tried(RunId),
}

const PARENT: &str = ".parent.json";
const LEAF: &str = ".json";
const SHARD: &str = ".ndjson.zst";

impl Key {
    /// The shard of an item.
    pub fn shard(item: &WorkItem) -> Self {
        Self::Shard { run: item.run, source: item.source, item: item.item.clone() }
    }

    /// The outcome of an item.
    pub fn outcome(item: &WorkItem, parent: bool) -> Self {
        Self::Outcome { run: item.run, source: item.source, item: item.item.clone(), parent }
    }

    /// Everything of a run: `runs/{run}/`.
    pub fn run_prefix(run: RunId) -> String {
        format!("runs/{run}/")
    }

    /// Everything of a run's snapshot: `snapshots/{run}/`.
    pub fn snapshot_prefix(run: RunId) -> String {
        format!("snapshots/{run}/")
    }

    /// All shards of a source in a run.
    pub fn shards_prefix(run: RunId, source: SourceName) -> String {
        format!("runs/{run}/shards/{source}/")
    }

    /// All outcomes of a source in a run.
    pub fn outcomes_prefix(run: RunId, source: SourceName) -> String {
        format!("runs/{run}/outcomes/{source}/")
    }

    /// Reads the item's id, and whether it is a parent, back out of an outcome's name.
    pub fn parse_outcome(name: &str, run: RunId, source: SourceName) -> Option<(&str, bool)> {
        let rest = name.strip_prefix(&Self::outcomes_prefix(run, source))?;
        match rest.strip_suffix(PARENT) {
            Some(item) => Some((item, true)),
            None => rest.strip_suffix(LEAF).map(|item| (item, false)),
        }
    }

    /// Reads the item's id back out of a shard's name.
    pub fn parse_shard(name: &str, run: RunId, source: SourceName) -> Option<&str> {
        name.strip_prefix(&Self::shards_prefix(run, source))?.strip_suffix(SHARD)
    }

    /// What a reader is told of the bytes.
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
