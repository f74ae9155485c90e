//! Machines and scale sets, and the images that they stand on.

use super::Urn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands on an image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MachineKind {
    /// A virtual machine.
    VirtualMachine,
    /// A scale set.
    ScaleSet,
}

/// The image that a machine refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineImage {
    /// A marketplace image. Its version is `latest` where none is pinned.
    Marketplace(Urn),
    /// An image of a gallery, ours or others': the id of the definition, and the version if one is
    /// pinned.
    Gallery(String, Option<String>),
    /// A managed image, by id.
    Managed(String),
    /// A disk that was attached, or something that is not known.
    None,
}

/// A machine or scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its Resource Manager id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: MachineKind,
    /// Its subscription.
    pub subscription: String,
    /// Where it runs, by short name.
    pub location: String,
    /// What it refers to.
    pub image: MachineImage,
    /// Whether it names no image itself, and its disk tells what it was made of.
    pub by_disk: bool,
    /// The version that it was made of, where Azure tells.
    pub exact: Option<String>,
}

impl Machine {
    /// The version that it stands on; none where it follows the latest and nothing tells which.
    pub fn version(&self) -> Option<&str> {
        let pinned = match &self.image {
            MachineImage::Marketplace(urn) => {
                Some(urn.version.as_str()).filter(|version| !version.eq_ignore_ascii_case("latest"))
            }
            MachineImage::Gallery(_, version) => version.as_deref(),
            MachineImage::Managed(_) | MachineImage::None => None,
        };
        self.exact.as_deref().or(pinned)
    }
}
