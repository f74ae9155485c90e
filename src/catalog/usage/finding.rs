//! How the image of a machine stands.

use crate::error::{Error, Result};
use crate::image::Status;
use crate::image::names::ClosedSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// How the image of a machine stands, the worst first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The image is no longer where the machine runs: nothing can be made of it any more.
    Gone,
    /// It can no longer be deployed.
    Deprecated,
    /// It is past the end of life that its owner declared.
    EndOfLife,
    /// There is a newer version that can be deployed where the machine runs.
    NotLatest,
    /// It is the latest, and has an end that is known.
    Scheduled,
    /// It is newer than the latest that can be deployed where the machine runs, such as a version that is
    /// excluded from latest.
    Ahead,
    /// It is the latest, or the machine follows the latest.
    Current,
    /// The catalog does not tell: the reason says why.
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

    /// The name of each.
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

    /// The same as a set.
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

    /// How an image of that status stands whose version compares so with the latest.
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

    /// Whether something is to be moved away from.
    pub(super) fn moves(self) -> bool {
        matches!(self, Self::Gone | Self::Deprecated | Self::EndOfLife | Self::NotLatest)
    }
}

impl std::str::FromStr for Finding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = Self::SET.find(text)?;
        let found = Self::ALL.into_iter().find(|finding| finding.as_str() == name);
        found.ok_or_else(|| Error::bug("a finding without its name"))
    }
}
