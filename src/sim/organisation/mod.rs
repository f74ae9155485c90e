//! The model of a simulated organisation: galleries in its subscriptions, managed images, machines made
//! from images, galleries that others share with it, and running operations.

mod generate;

pub use generate::OrganisationSize;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// An operation that was begun.
#[derive(Debug, Clone)]
pub struct Operation {
    /// When it is over.
    pub ends: Instant,
    /// Why it fails, if it does.
    pub failure: Option<String>,
    /// The path of what is changed, in lower case.
    pub about: String,
}

/// An image version.
#[derive(Debug, Clone)]
pub struct SimVersion {
    /// Its name.
    pub name: String,
    /// When it was published.
    pub published: String,
    /// Its end of life.
    pub end_of_life: Option<String>,
    /// Whether it is excluded from latest.
    pub excluded: bool,
    /// Its target regions, as requests have them.
    pub regions: Vec<Value>,
    /// Its provisioning state.
    pub state: &'static str,
    /// Its safety profile.
    pub safety: Value,
    /// Where others share it and it was deleted softly: until when it can be consumed.
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
    /// Its subscription; empty for one of others.
    pub subscription: String,
    /// Its resource group; empty for one of others.
    pub group: String,
    /// Its name.
    pub name: String,
    /// Where it lies, as a display name.
    pub location: String,
    /// Its description.
    pub description: Option<String>,
    /// Its sharing profile, if it was ever shared.
    pub sharing: Option<Value>,
    /// Its policy of soft deletion, if it ever had one.
    pub soft_delete: Option<Value>,
    /// Its tags.
    pub tags: Value,
    /// Its definitions, by name in lower case.
    pub definitions: BTreeMap<String, SimDefinition>,
}

/// What an organisation keeps.
#[derive(Debug, Clone, Default)]
pub struct Organisation {
    /// Galleries by their id in lower case.
    pub galleries: BTreeMap<String, SimGallery>,
    /// Galleries that others share directly, by unique name in lower case.
    pub shared: BTreeMap<String, SimGallery>,
    /// Galleries of communities, by public name in lower case.
    pub communities: BTreeMap<String, SimGallery>,
    /// Managed images, by id in lower case.
    pub images: BTreeMap<String, Value>,
    /// Machines and scale sets as Resource Graph has them, by id in lower case.
    pub machines: BTreeMap<String, Value>,
    /// Subscriptions that may not be read.
    pub denied: BTreeSet<String>,
    /// Subscriptions without the compute provider.
    pub unregistered: BTreeSet<String>,
    /// Operations that are under way: when they end, and what was asked.
    pub operations: BTreeMap<String, Operation>,
}

impl SimGallery {
    /// Its id.
    pub fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/galleries/{}",
            self.subscription, self.group, self.name
        )
    }
}

impl Organisation {
    /// How many versions it keeps itself.
    pub fn versions(&self) -> usize {
        let definitions = self.galleries.values().flat_map(|gallery| gallery.definitions.values());
        definitions.map(|definition| definition.versions.len()).sum()
    }
}
