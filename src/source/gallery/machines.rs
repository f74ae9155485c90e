//! Which machines and scale sets stand on which image, over all subscriptions: one query.

use super::Gallery;
use super::parse;
use crate::error::Result;
use crate::image::Urn;
use crate::image::machine::{Machine, MachineKind, Reference};
use crate::source::locations::short_name;
use serde::Deserialize;

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

const SETS: &str = "microsoft.compute/virtualmachinescalesets";

fn query() -> String {
    format!(
        "resources | where type in~ ('microsoft.compute/virtualmachines', '{SETS}') | extend image \
         = iff(type =~ '{SETS}', properties.virtualMachineProfile.storageProfile.imageReference, \
         properties.storageProfile.imageReference) | project id, name, type, location, image | \
         order by id asc"
    )
}

impl Gallery {
    /// The machines of `subscriptions`; all that the identity can see when there are none. Sorted by
    /// id.
    pub async fn machines(&self, subscriptions: &[String]) -> Result<Vec<Machine>> {
        let rows: Vec<Row> = self.client.graph(&query(), subscriptions).await?;
        let mut machines: Vec<Machine> = rows.into_iter().map(Row::into_machine).collect();
        machines.sort_by_key(|machine| machine.id.to_ascii_lowercase());
        machines.dedup_by(|a, b| a.id.eq_ignore_ascii_case(&b.id));
        Ok(machines)
    }
}

impl Row {
    fn into_machine(self) -> Machine {
        let is_set = self.kind.eq_ignore_ascii_case(SETS);
        let image = self.image.unwrap_or_default();
        Machine {
            subscription: parse::part(&self.id, "subscriptions").unwrap_or_default().to_owned(),
            kind: if is_set { MachineKind::ScaleSet } else { MachineKind::VirtualMachine },
            location: short_name(&self.location),
            exact: image.exact_version.clone().filter(|version| !version.is_empty()),
            image: image.reference(),
            id: self.id,
            name: self.name,
        }
    }
}

impl Image {
    fn reference(self) -> Reference {
        let told = |text: Option<String>| text.filter(|text| !text.is_empty());
        let foreign = told(self.shared_gallery_image_id).or(told(self.community_gallery_image_id));
        if let Some(id) = foreign.or(told(self.id)) {
            if parse::part(&id, "galleries").is_none()
                && parse::part(&id, "sharedGalleries").is_none()
                && parse::part(&id, "communityGalleries").is_none()
            {
                return Reference::Managed(id);
            }
            let at = id.to_ascii_lowercase().find("/versions/");
            let Some(at) = at else { return Reference::Gallery(id, None) };
            let version = id[at + "/versions/".len()..].to_owned();
            let pinned = Some(version).filter(|version| !version.eq_ignore_ascii_case("latest"));
            return Reference::Gallery(id[..at].to_owned(), pinned);
        }
        match (told(self.publisher), told(self.offer), told(self.sku)) {
            (Some(publisher), Some(offer), Some(sku)) => {
                let version = told(self.version).unwrap_or_else(|| "latest".to_owned());
                Reference::Marketplace(Urn { publisher, offer, sku, version })
            }
            _ => Reference::None,
        }
    }
}
