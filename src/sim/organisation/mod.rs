//! The model of a simulated organisation: galleries in its subscriptions, managed images, machines
//! created from images, galleries that others share with it, and operations.

mod generate;

pub use generate::OrganisationSize;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// An asynchronous operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The time at which it ends.
    pub ends: Instant,
    /// The text of its error, if it fails.
    pub failure: Option<String>,
    /// The path of the changed resource, in lower case.
    pub about: String,
}

/// A version of an image definition.
#[derive(Debug, Clone)]
pub struct SimVersion {
    /// Its name.
    pub name: String,
    /// The time of its publication, as RFC 3339 with seven digits of a second.
    pub published: String,
    /// Its end of life, in the same format.
    pub end_of_life: Option<String>,
    /// Whether `latest` leaves it out.
    pub excluded: bool,
    /// Its target regions, as objects of the API.
    pub regions: Vec<Value>,
    /// Its provisioning state.
    pub state: &'static str,
    /// Its safety profile.
    pub safety: Value,
    /// In a shared gallery, when it was soft-deleted: the end of its consumption.
    pub soft_deleted: Option<String>,
    /// Its tags.
    pub tags: Value,
}

/// An image definition.
#[derive(Debug, Clone)]
pub struct SimDefinition {
    /// Its name.
    pub name: String,
    /// Its properties.
    pub properties: Value,
    /// Its tags.
    pub tags: Value,
    /// Its versions.
    pub versions: BTreeMap<String, SimVersion>,
}

/// A gallery.
#[derive(Debug, Clone)]
pub struct SimGallery {
    /// Its subscription; empty in other organisations' galleries.
    pub subscription: String,
    /// Its resource group; empty in other organisations' galleries.
    pub group: String,
    /// Its name.
    pub name: String,
    /// The display name of its location.
    pub location: String,
    /// Its description.
    pub description: Option<String>,
    /// Its sharing profile; `None` is private.
    pub sharing: Option<Value>,
    /// Its soft deletion policy, if it has one.
    pub soft_delete: Option<Value>,
    /// Its tags.
    pub tags: Value,
    /// Its definitions by name in lower case.
    pub definitions: BTreeMap<String, SimDefinition>,
}

/// An organisation.
#[derive(Debug, Clone, Default)]
pub struct Organisation {
    /// Galleries by their id in lower case.
    pub galleries: BTreeMap<String, SimGallery>,
    /// Galleries that others share directly, by their unique name in lower case.
    pub shared: BTreeMap<String, SimGallery>,
    /// Galleries of communities, by their public name in lower case.
    pub communities: BTreeMap<String, SimGallery>,
    /// Managed images by their id in lower case.
    pub images: BTreeMap<String, Value>,
    /// Machines and scale sets as rows of Resource Graph, by their id in lower case.
    pub machines: BTreeMap<String, Value>,
    /// Subscriptions that the identity may not read.
    pub denied: BTreeSet<String>,
    /// Subscriptions without the compute provider.
    pub unregistered: BTreeSet<String>,
    /// Operations by their id; those that have ended too.
    pub operations: BTreeMap<String, Operation>,
}

impl SimGallery {
    /// Its Resource Manager id.
    pub fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/galleries/{}",
            self.subscription, self.group, self.name
        )
    }
}

impl Organisation {
    /// Number of image versions in its own galleries.
    pub fn versions(&self) -> usize {
        let definitions = self.galleries.values().flat_map(|gallery| gallery.definitions.values());
        definitions.map(|definition| definition.versions.len()).sum()
    }
}
