//! The images in the catalog: plain values that do not know Azure's transport, stores or file
//! formats.

pub mod gallery;
pub mod identity;
pub mod limits;
pub mod machine;
pub mod marketplace;
pub mod name;
pub mod names;
pub mod referrers;
pub mod registry;
pub mod resource_id;
pub mod version;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Nanoseconds since 1970, saturating at the limits of `i64`.
pub fn nanoseconds(at: OffsetDateTime) -> i64 {
    let nanos = at.unix_timestamp_nanos();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The kinds of all rows, in the order of lists.
pub const KINDS: [&str; 5] =
    [marketplace::KIND, "gallery-definition", "gallery-version", "managed-image", registry::KIND];

/// The feature that holds the security types with which an image boots.
pub const SECURITY_TYPE: &str = "SecurityType";

/// The lifecycle status of an image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The image can be deployed.
    Active,
    /// The image can be deployed until a known date.
    Scheduled,
    /// The image can no longer be deployed.
    Deprecated,
    /// The image is past the end of life that its owner declared (informational in Azure).
    EndOfLife,
    /// The image is no longer listed.
    Gone,
}

impl Status {
    /// The name in tables and filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Scheduled => "scheduled",
            Self::Deprecated => "deprecated",
            Self::EndOfLife => "end-of-life",
            Self::Gone => "gone",
        }
    }

    /// All statuses, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::Scheduled, Self::Deprecated, Self::EndOfLife, Self::Gone];

    /// The names of all statuses, in the same order.
    pub const NAMES: [&str; 5] = ["active", "scheduled", "deprecated", "end-of-life", "gone"];

    /// Converts a number, as `as u8` returns it, to a status; `None` for any other number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The status at `now` of an image whose life ends at `ends_at`: `ended` if that time has
    /// passed since the status was observed.
    #[must_use]
    pub fn at(self, now: OffsetDateTime, ends_at: Option<OffsetDateTime>, ended: Self) -> Self {
        match (self, ends_at) {
            (Self::Active | Self::Scheduled, Some(ends_at)) if ends_at <= now => ended,
            _ => self,
        }
    }

    /// Whether a new deployment may use the image. Only a deployable image can be the latest.
    pub fn is_deployable(self) -> bool {
        matches!(self, Self::Active | Self::Scheduled)
    }
}

/// The four names that identify a marketplace image: `publisher:offer:sku:version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Urn {
    /// Publisher, in Azure's casing.
    pub publisher: String,
    /// Offer.
    pub offer: String,
    /// SKU.
    pub sku: String,
    /// Version.
    pub version: String,
}

impl std::fmt::Display for Urn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}:{}", self.publisher, self.offer, self.sku, self.version)
    }
}

impl std::str::FromStr for Urn {
    type Err = crate::error::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':').map(str::trim);
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        match (next(), next(), next(), next(), next()) {
            (Some(publisher), Some(offer), Some(sku), Some(version), None) => {
                Ok(Self { publisher, offer, sku, version })
            }
            _ => Err(crate::error::Error::invalid(format!(
                "'{text}' is not a URN: use publisher:offer:sku:version"
            ))),
        }
    }
}
