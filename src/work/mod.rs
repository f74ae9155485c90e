//! Work to do and its outcomes: plain values, versioned, idempotent by name.
//!
//! Invariant: the id of an item is a function of its source and scope alone, and the run is kept
//! separately. The same work therefore has the same blob names, regardless of the number and order
//! of deliveries.

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

/// Version of the format of work items, plans, outcomes and shards.
pub const WORK_VERSION: u32 = 1;

/// Maximum number of messages that an invocation emits (the design limits it to 3,000).
pub const MOST_MESSAGES: usize = 2_900;

/// Maximum length of a message, in bytes: a storage queue accepts 64 KiB of base64.
pub const LARGEST_MESSAGE: usize = 48 << 10;

/// The name of a run: a ULID, so that names sort by the start of the run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct RunId(#[schemars(with = "String")] pub Ulid);

impl RunId {
    /// Creates an id for a run that starts at `now`.
    pub fn new(now: OffsetDateTime) -> Self {
        Self::after(None, now, &Ulid::generate().to_string())
    }

    /// Creates an id that sorts after `previous`, even if the clock was set back since. Its random
    /// part is derived from `invocation`, the host's id of the invocation that starts the run.
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
            Error::invalid(format!(
                "'{text}' is not a run: the name of a run has 26 letters and digits"
            ))
        })
    }
}

/// The source of images.
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
    /// All sources.
    pub const ALL: &[Self] = &[Self::Marketplace, Self::Gallery, Self::Registry];

    /// The name in blob names, flags and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketplace => "marketplace",
            Self::Gallery => "gallery",
            Self::Registry => "registry",
        }
    }
}

impl Details {
    /// [`Details::None`], the default for a serialized scope without details.
    pub fn none() -> Self {
        Self::None
    }

    /// Whether no details are requested.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which versions are queried one by one for details that listings do not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Details {
    /// No version.
    None,
    /// The newest version of each SKU.
    #[default]
    Latest,
    /// Every version.
    All,
}

/// The outcome of a scope.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The scope was listed and is not empty.
    Done,
    /// The scope was listed and is empty.
    Empty,
    /// The parent listed the scope, but it was not found (404).
    Gone,
    /// The identity is not allowed to list the scope.
    Denied,
    /// The scope could not be listed.
    Failed,
    /// The scope could not be listed; rows of an earlier run are carried over.
    Carried,
}

impl State {
    /// The name in coverage.
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

    /// Whether Azure returned the complete answer.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Done | Self::Empty | Self::Gone)
    }
}

/// A part of an item's scope that ended differently from the item as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// The offer.
    pub offer: String,
    /// The SKU; `None` if the gap is the whole offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The version, if the gap is only its details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How it ended.
    pub state: State,
    /// The reason, in Azure's words if there are any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Number of failed attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

/// How an item ended. Written last, and only once: the first outcome written counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// [`WORK_VERSION`].
    pub v: u32,
    /// The scope of the item.
    pub scope: Scope,
    /// How it ended.
    pub state: State,
    /// The reason, if it did not end well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Number of failed attempts; zero if it ended well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Number of listings that were not empty.
    pub listed: u64,
    /// Number of rows in the item's shard; without rows there is no shard.
    pub rows: u64,
    /// Parts that ended differently, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Members of the answers that were malformed and treated as absent, or were longer than a row
    /// permits and truncated.
    #[serde(default, skip_serializing_if = "Malformed::is_empty")]
    pub malformed: Malformed,
    /// Items that follow from this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<WorkItem>,
}

impl Outcome {
    /// Creates an outcome without rows and children.
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

/// The plan of a run. Written once, before its first message is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`WORK_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: RunId,
    /// The start of the run, which becomes `observed_at` of its rows.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// When the run stops waiting for missing items.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline_at: OffsetDateTime,
    /// The snapshot from which this run carries rows over, and with which it is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<RunId>,
    /// The request.
    pub request: Request,
    /// The items with which the run begins.
    pub items: Vec<WorkItem>,
}
