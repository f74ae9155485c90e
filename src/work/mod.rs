//! What is to be done, and how it ended: plain values, versioned, idempotent by name.
//!
//! Invariant: an item's id is a function of (source, scope) alone and the run is beside it, so the
//! same work has the same blob names however often and in whatever order it is delivered.

mod bounds;
mod gallery;
mod id;
mod item;
mod malformed;
mod registry;
mod request;

pub use bounds::{Bounds, Follows};
pub use gallery::{GalleryScope, OwnGallery, Sharing, group_of};
pub use id::fragment;
pub(crate) use item::is_zero;
pub use item::{KnownOffers, Rank, Scope, WorkItem};
pub use malformed::Malformed;
pub use registry::{ALL_TAGS, AtRegistry, RegistryScope, registry_group};
pub use request::{Request, in_parts, left_out};

use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use time::OffsetDateTime;
use ulid::Ulid;

/// The version of work items, plans, outcomes and shards.
pub const WORK_VERSION: u32 = 1;

/// No invocation emits more messages than this (a bound of the design: 3,000).
pub const MOST_MESSAGES: usize = 2_900;

/// No message is longer, in bytes: a storage queue takes 64 KiB of base64.
pub const LARGEST_MESSAGE: usize = 48 << 10;

/// A run's name: a ULID, so that names sort by the start of the run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct RunId(#[schemars(with = "String")] pub Ulid);

impl RunId {
    /// A new name for a run that starts at `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self::after(None, now, &Ulid::generate().to_string())
    }

    /// A new name that sorts behind `previous`, even if the clock was set back since. Its random
    /// part follows from `invocation`, the host's name for what starts the run.
    pub fn after(previous: Option<Self>, now: OffsetDateTime, invocation: &str) -> Self {
        let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let least = previous.map_or(0, |previous| previous.0.timestamp_ms() + 1);
        let hash = Sha256::digest(invocation.as_bytes());
        let random = hash.iter().take(10).fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        Self(Ulid::from_parts(millis.max(least), random))
    }

    /// When the run was planned.
    pub fn planned_at(self) -> OffsetDateTime {
        let nanos = i128::from(self.millis()) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// When the run was planned, in milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ulid::from_string(&text.to_ascii_uppercase()).map(Self).map_err(|_| {
            Error::invalid(format!("'{text}' is no run: a run is named by 26 letters and digits"))
        })
    }
}

/// Where images come from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SourceName {
    /// Marketplace VM images.
    Marketplace,
    /// Compute Galleries and managed images.
    Gallery,
    /// Container registries.
    Registry,
}

impl SourceName {
    /// Every source there is.
    pub const ALL: &[Self] = &[Self::Marketplace, Self::Gallery, Self::Registry];

    /// The name used in blob names, flags and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketplace => "marketplace",
            Self::Gallery => "gallery",
            Self::Registry => "registry",
        }
    }
}

impl Details {
    /// None: what a scope without a word of details asks for.
    pub fn none() -> Self {
        Self::None
    }

    /// Whether none are asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which versions are asked one by one for what listings do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Details {
    /// None.
    None,
    /// The newest version of each SKU.
    #[default]
    Latest,
    /// Every version.
    All,
}

/// How a scope ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Listed, with something in it.
    Done,
    /// Listed, and there is nothing in it.
    Empty,
    /// Was listed by its parent, and then was not found (404).
    Gone,
    /// The identity may not list it.
    Denied,
    /// Could not be listed.
    Failed,
    /// Could not be listed; rows of an earlier run stand in.
    Carried,
}

impl State {
    /// Its name, as coverage has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Empty => "empty",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Carried => "carried",
        }
    }

    /// Whether Azure gave the whole answer.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Done | Self::Empty | Self::Gone)
    }
}

/// A part of an item's scope that ended otherwise than the item as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// The offer.
    pub offer: String,
    /// The SKU, unless the whole offer is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The version, when only its details are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How it ended.
    pub state: State,
    /// Why, in Azure's words where it had any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often it was asked in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

/// How an item ended. Written last, once; the first one written is the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`WORK_VERSION`].
    pub v: u32,
    /// What it covered.
    pub scope: Scope,
    /// How it ended.
    pub state: State,
    /// Why, when it did not end well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often it was tried in vain; zero when it ended well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Listings that were answered with something in them.
    pub listed: u64,
    /// Rows in the item's shard; no shard when zero.
    pub rows: u64,
    /// Parts that ended otherwise, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Members of the answers that were of another form and were taken for absent, or were longer than a row holds
    /// and were cut.
    #[serde(default, skip_serializing_if = "Malformed::is_empty")]
    pub malformed: Malformed,
    /// Items that follow from this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<WorkItem>,
}

impl Outcome {
    /// An outcome without rows or children.
    pub fn bare(scope: Scope, state: State, reason: impl Into<String>, attempts: u32) -> Self {
        Self {
            v: WORK_VERSION,
            scope,
            state,
            reason: reason.into(),
            attempts,
            listed: 0,
            rows: 0,
            gaps: Vec::new(),
            malformed: Malformed::default(),
            children: Vec::new(),
        }
    }
}

/// What a run is to do: written once, before its first message is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`WORK_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: RunId,
    /// Its start: what `observed_at` of its rows says.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When what is missing is given up.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline_at: OffsetDateTime,
    /// The snapshot that this run carries rows over from and compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<RunId>,
    /// What was asked for.
    pub request: Request,
    /// The items it begins with.
    pub items: Vec<WorkItem>,
}
