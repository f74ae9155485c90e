//! A row of image usage.

use super::finding::Finding;
use crate::image::machine::MachineKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A machine, with the finding for its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The subscription of the machine.
    pub subscription_id: String,
    /// The Resource Manager id of the virtual machine or scale set.
    pub machine: String,
    /// The name of the machine.
    pub name: String,
    /// The kind of machine.
    pub machine_kind: MachineKind,
    /// The location of the machine.
    pub location: String,
    /// The kind of image: `marketplace`, `gallery-version` or `managed-image`; null for a disk.
    #[schemars(extend("enum" = ["marketplace", "gallery-version", "managed-image", null]))]
    pub image_kind: Option<String>,
    /// The image without its version: publisher:offer:sku, or an id.
    pub image: Option<String>,
    /// The publisher of the image; for a gallery image, as stated by its definition.
    pub publisher: Option<String>,
    /// The offer of the image.
    pub offer: Option<String>,
    /// The SKU of the image.
    pub sku: Option<String>,
    /// The version that the machine runs; null if the machine follows the latest and its version is
    /// not known.
    pub version: Option<String>,
    /// Whether the machine specifies a version instead of following the latest.
    pub is_pinned: bool,
    /// The finding for the image.
    pub finding: Finding,
    /// When the image is deprecated or reaches its end of life; may be in the past.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ends_at: Option<OffsetDateTime>,
    /// Whether the version is the newest that can be deployed in the location of the machine; null
    /// if either is not known.
    pub is_latest: Option<bool>,
    /// The recommended replacement, by URN or id: the newest image that can be deployed in the
    /// location of the machine, is newer than its own, and boots in the same way.
    pub move_to: Option<String>,
    /// The reason for the finding, where the finding alone is not sufficient.
    pub reason: Option<String>,
}
