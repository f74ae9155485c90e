//! Virtual machines and scale sets, and the images they use.

use super::Urn;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of resource that uses an image.
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
    /// A marketplace image; the version is `latest` if none is pinned.
    Marketplace(Urn),
    /// An image of a gallery, our own or another owner's: the id of the definition, and the version
    /// if one is pinned.
    Gallery(String, Option<String>),
    /// A managed image, by id.
    Managed(String),
    /// An attached disk, or an unknown image.
    None,
}

/// A virtual machine or scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Resource Manager id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Kind of machine.
    pub kind: MachineKind,
    /// Subscription id.
    pub subscription: String,
    /// Short name of the location.
    pub location: String,
    /// The image that it refers to.
    pub image: MachineImage,
    /// Whether the image is known only from its disk, because the machine has no image reference.
    pub by_disk: bool,
    /// The exact version that it was created from, if Azure reports it.
    pub exact: Option<String>,
}

impl Machine {
    /// The version that it uses; `None` if it follows the latest and the exact version is unknown.
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
