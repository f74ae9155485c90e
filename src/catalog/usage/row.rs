//! A row of image usage.

use super::finding::Finding;
use crate::image::machine::MachineKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A machine, and how its image stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The subscription of the machine.
    pub subscription_id: String,
    /// The machine or scale set, by its Resource Manager id.
    pub machine: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub machine_kind: MachineKind,
    /// Where it runs.
    pub location: String,
    /// Kind of image: `marketplace`, `gallery-version`, `managed-image`; none for a disk.
    #[schemars(extend("enum" = ["marketplace", "gallery-version", "managed-image", null]))]
    pub image_kind: Option<String>,
    /// What it refers to without the version: publisher:offer:sku, or an id.
    pub image: Option<String>,
    /// The image's publisher; of a gallery's image, what its definition says.
    pub publisher: Option<String>,
    /// The image's offer.
    pub offer: Option<String>,
    /// The image's SKU.
    pub sku: Option<String>,
    /// The version that it stands on; none when it follows the latest and nothing tells which.
    pub version: Option<String>,
    /// Whether it names a version, rather than following the latest.
    pub is_pinned: bool,
    /// How its image stands.
    pub finding: Finding,
    /// When the image's life ends, or has ended.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ends_at: Option<OffsetDateTime>,
    /// Whether its version is the newest that can be deployed where it runs; none where either is not known.
    pub is_latest: Option<bool>,
    /// The image to move to: the newest that can be deployed where it runs, is newer than its own, and boots as its
    /// own does, by URN or id.
    pub move_to: Option<String>,
    /// Why the finding is what it is, where that does not tell all.
    pub reason: Option<String>,
}
