//! The images of virtual machines and scale sets across all subscriptions. One query lists the
//! machines; further queries resolve the disks of machines without an image reference.

use super::Gallery;
use crate::client::quoted;
use crate::error::Result;
use crate::image::Urn;
use crate::image::machine::{Machine, MachineImage, MachineKind};
use crate::image::name::short_name;
use crate::image::resource_id;
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    image: Option<Image>,
    /// Id of its OS disk, if that is a managed disk.
    #[serde(default)]
    disk: Option<String>,
}

/// A disk and the image it was created from (Disks - Get, `CreationData`).
#[derive(Deserialize)]
struct Disk {
    id: String,
    #[serde(default)]
    made: Option<Made>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Made {
    image_reference: Option<Image>,
    gallery_image_reference: Option<Image>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    id: Option<String>,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    version: Option<String>,
    exact_version: Option<String>,
    shared_gallery_image_id: Option<String>,
    community_gallery_image_id: Option<String>,
}

/// Disks per query, which contains their ids.
const DISKS_PER_QUERY: usize = 100;

const SETS: &str = "microsoft.compute/virtualmachinescalesets";

fn query() -> String {
    format!(
        "resources | where type in~ ('microsoft.compute/virtualmachines', '{SETS}') | extend image \
         = iff(type =~ '{SETS}', properties.virtualMachineProfile.storageProfile.imageReference, \
         properties.storageProfile.imageReference) | project id, name, type, location, image, \
         disk = tostring(properties.storageProfile.osDisk.managedDisk.id) | order by id asc"
    )
}

fn disks_query(ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| quoted(id)).collect();
    format!(
        "resources | where type =~ 'microsoft.compute/disks' | where id in~ ({}) | project id, made = \
         properties.creationData | order by id asc",
        ids.join(", ")
    )
}

impl Gallery {
    /// Returns the machines of `subscriptions`, or all visible ones if empty, sorted by id.
    pub async fn machines(&self, subscriptions: &[String]) -> Result<Vec<Machine>> {
        let rows: Vec<Row> = self.client.graph(&query(), subscriptions).await?;
        let attached: Vec<String> = rows.iter().filter_map(Row::attached).collect();
        let mut images = self.images_of_disks(attached).await?;
        let machines = rows.into_iter().map(|row| {
            let disk = row.attached();
            let image = disk.and_then(|disk| images.remove(&disk.to_ascii_lowercase()));
            row.into_machine(image)
        });
        let mut machines: Vec<Machine> = machines.collect();
        machines.sort_by_key(|machine| machine.id.to_ascii_lowercase());
        machines.dedup_by(|a, b| a.id.eq_ignore_ascii_case(&b.id));
        Ok(machines)
    }

    /// Returns the images that disks were created from, by lower-case disk id. A disk that is not
    /// visible has no entry.
    async fn images_of_disks(&self, mut ids: Vec<String>) -> Result<HashMap<String, Image>> {
        ids.sort_unstable();
        ids.dedup();
        let mut found = HashMap::new();
        for ids in ids.chunks(DISKS_PER_QUERY) {
            // A disk may be in another subscription than its machine.
            let disks: Vec<Disk> = self.client.graph(&disks_query(ids), &[]).await?;
            for Disk { id, made } in disks {
                let made = made.unwrap_or_default();
                let image = made.gallery_image_reference.or(made.image_reference);
                found.extend(image.map(|image| (id.to_ascii_lowercase(), image)));
            }
        }
        Ok(found)
    }
}

impl Row {
    /// The disk that identifies the machine's image, if the machine itself has no image reference.
    fn attached(&self) -> Option<String> {
        let names_nothing = self.image.as_ref().is_none_or(Image::is_empty);
        self.disk.clone().filter(|disk| names_nothing && !disk.is_empty())
    }

    /// Builds the machine, with the image of its disk if it has no image reference.
    fn into_machine(self, of_disk: Option<Image>) -> Machine {
        let is_set = self.kind.eq_ignore_ascii_case(SETS);
        let by_disk = of_disk.is_some();
        let image = of_disk.or(self.image).unwrap_or_default();
        Machine {
            subscription: resource_id::part(&self.id, "subscriptions")
                .unwrap_or_default()
                .to_owned(),
            kind: if is_set { MachineKind::ScaleSet } else { MachineKind::VirtualMachine },
            location: short_name(&self.location),
            exact: image.exact_version.clone().filter(|version| !version.is_empty()),
            image: image.reference(),
            by_disk,
            id: self.id,
            name: self.name,
        }
    }
}

impl Image {
    fn is_empty(&self) -> bool {
        let ids = [&self.id, &self.shared_gallery_image_id, &self.community_gallery_image_id];
        ids.into_iter()
            .chain([&self.publisher])
            .all(|name| name.as_ref().is_none_or(String::is_empty))
    }

    fn reference(self) -> MachineImage {
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let foreign =
            non_empty(self.shared_gallery_image_id).or(non_empty(self.community_gallery_image_id));
        if let Some(id) = foreign.or(non_empty(self.id)) {
            if let Some(urn) = marketplace(&id) {
                return MachineImage::Marketplace(urn);
            }
            if resource_id::part(&id, "galleries").is_none()
                && resource_id::part(&id, "sharedGalleries").is_none()
                && resource_id::part(&id, "communityGalleries").is_none()
            {
                return MachineImage::Managed(id);
            }
            let at = id.to_ascii_lowercase().find("/versions/");
            let Some(at) = at else { return MachineImage::Gallery(id, None) };
            let version = id[at + "/versions/".len()..].to_owned();
            let pinned = Some(version).filter(|version| !version.eq_ignore_ascii_case("latest"));
            return MachineImage::Gallery(id[..at].to_owned(), pinned);
        }
        match (non_empty(self.publisher), non_empty(self.offer), non_empty(self.sku)) {
            (Some(publisher), Some(offer), Some(sku)) => {
                let version = non_empty(self.version).unwrap_or_else(|| "latest".to_owned());
                MachineImage::Marketplace(Urn { publisher, offer, sku, version })
            }
            _ => MachineImage::None,
        }
    }
}

/// Parses the id of a marketplace version; disks refer to the images they were created from in this
/// form.
fn marketplace(id: &str) -> Option<Urn> {
    let part = |name: &str| resource_id::part(id, name).map(str::to_owned);
    Some(Urn {
        publisher: part("publishers")?,
        offer: part("offers")?,
        sku: part("skus")?,
        version: part("versions")?,
    })
}
