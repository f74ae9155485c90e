//! What runs on which image, and how that image stands: machines joined with the catalog.
//!
//! What the catalog has not is gone only where it was looked for and would have been found; everything else that it
//! has not is unknown.

mod finding;
mod images;
mod judge;

pub use finding::Finding;

use super::Catalog;
use crate::error::Result;
use crate::image::machine::{Machine, MachineKind};
use crate::pipeline::answered::{Standing, standings};
use crate::source::Source;
use crate::store::Store;
use crate::work::Request;
use images::Images;
use judge::judge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
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

/// The machines that `sources` know of in the subscriptions of `request`.
pub async fn machines(sources: &[Arc<dyn Source>], request: &Request) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for source in sources {
        machines.extend(source.machines(&request.subscriptions).await?);
    }
    Ok(machines)
}

/// Joins machines with a catalog, in their order, as things stand at `now`.
pub async fn usage(
    catalog: &Catalog,
    store: &dyn Store,
    machines: Vec<Machine>,
    now: OffsetDateTime,
) -> Result<Vec<Usage>> {
    let mut images = Images::new(catalog, catalog.others(store).await?, now);
    let mut found = Vec::with_capacity(machines.len());
    for machine in machines {
        let image = images.of(&machine)?;
        found.push((machine, image));
    }
    let scopes = found.iter().flat_map(|(_, image)| image.scopes.clone()).collect();
    let standings = standings(store, &catalog.manifest, scopes).await?;
    let judged = found.into_iter().map(|(machine, image)| {
        let mut told = image.scopes.iter().filter_map(|scope| standings.get(scope));
        let standing = told.find(|standing| **standing != Standing::Unasked);
        judge(machine, image, standing)
    });
    Ok(judged.collect())
}
