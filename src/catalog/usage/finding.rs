//! The state of a machine's image.

use crate::error::{Error, Result};
use crate::image::Status;
use crate::image::names::ClosedSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// The finding for the image of a machine, worst first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The image is no longer available where the machine runs; it cannot be deployed again.
    Gone,
    /// The image can no longer be deployed.
    Deprecated,
    /// The image is past the end of life that its owner declared.
    EndOfLife,
    /// A newer version can be deployed where the machine runs.
    NotLatest,
    /// The image is the latest, and its deprecation or end of life is scheduled.
    Scheduled,
    /// The image is newer than the latest that can be deployed where the machine runs, such as a
    /// version that is excluded from latest.
    Ahead,
    /// The image is the latest, or the machine follows the latest.
    Current,
    /// The catalog has no answer; `reason` states why.
    Unknown,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 8] = [
        Self::Gone,
        Self::Deprecated,
        Self::EndOfLife,
        Self::NotLatest,
        Self::Scheduled,
        Self::Ahead,
        Self::Current,
        Self::Unknown,
    ];

    /// The names of [`ALL`](Self::ALL), in the same order.
    pub const NAMES: [&str; 8] = [
        "gone",
        "deprecated",
        "end-of-life",
        "not-latest",
        "scheduled",
        "ahead",
        "current",
        "unknown",
    ];

    /// [`NAMES`](Self::NAMES) as a closed set.
    pub const SET: ClosedSet = ClosedSet { what: "finding", names: &Self::NAMES };

    /// The name that rows and filters use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Deprecated => "deprecated",
            Self::EndOfLife => "end-of-life",
            Self::Scheduled => "scheduled",
            Self::NotLatest => "not-latest",
            Self::Ahead => "ahead",
            Self::Current => "current",
            Self::Unknown => "unknown",
        }
    }

    /// The finding for an image with this status, where `with_latest` compares its version with the
    /// latest.
    pub(super) fn of(status: Status, with_latest: Ordering) -> Self {
        match (status, with_latest) {
            (Status::Gone, _) => Self::Gone,
            (Status::Deprecated, _) => Self::Deprecated,
            (Status::EndOfLife, _) => Self::EndOfLife,
            (_, Ordering::Less) => Self::NotLatest,
            (_, Ordering::Greater) => Self::Ahead,
            (Status::Scheduled, Ordering::Equal) => Self::Scheduled,
            (Status::Active, Ordering::Equal) => Self::Current,
        }
    }

    /// Whether the machine should move to another image.
    pub(super) fn moves(self) -> bool {
        matches!(self, Self::Gone | Self::Deprecated | Self::EndOfLife | Self::NotLatest)
    }
}

impl std::str::FromStr for Finding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = Self::SET.find(text)?;
        let found = Self::ALL.into_iter().find(|finding| finding.as_str() == name);
        found.ok_or_else(|| Error::bug("the finding has no name"))
    }
}
