//! The listings of the compute provider: their addresses, what they answer, and the traps in both.

use super::Marketplace;
use crate::client::version::VM_IMAGES;
use crate::error::{Error, ErrorKind, Result};
use crate::image::marketplace::{Detail, Listed, caseless};
use crate::image::{Status, version};
use crate::work::{Details, Scope};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Recorded answers to every version of this API agree; this one is in the recordings.
const API_VERSION: (&str, &str) = VM_IMAGES.parameter();
/// The address of one listing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) subscription: &'a str,
    pub(super) location: &'a str,
    pub(super) publisher: &'a str,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    properties: Option<Properties>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    #[serde(rename = "hyperVGeneration")]
    hyper_v_generation: Option<String>,
    architecture: Option<String>,
    image_deprecation_status: Option<Deprecation>,
    plan: Option<PurchasePlan>,
    os_disk_image: Option<OsDisk>,
    features: Option<Vec<Feature>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deprecation {
    #[serde(default)]
    image_state: Option<String>,
    #[serde(default)]
    scheduled_deprecation_time: Option<String>,
    #[serde(default)]
    alternative_option: Option<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct PurchasePlan {
    #[serde(default)]
    publisher: String,
    #[serde(default)]
    product: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OsDisk {
    #[serde(default)]
    operating_system: Option<String>,
}

#[derive(Deserialize)]
struct Feature {
    name: String,
    #[serde(default)]
    value: String,
}

impl Deprecation {
    fn status(&self) -> Option<Status> {
        match self.image_state.as_deref()?.to_ascii_lowercase().as_str() {
            "active" => Some(Status::Active),
            "scheduledfordeprecation" => Some(Status::Scheduled),
            "deprecated" => Some(Status::Deprecated),
            _ => None,
        }
    }

    fn at(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.scheduled_deprecation_time.as_deref()?, &Rfc3339).ok()
    }

    fn alternative(&self) -> Option<String> {
        let alternative = self.alternative_option.as_ref()?;
        let kind = alternative.kind.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("none"))?;
        Some(format!("{kind}:{}", alternative.value.as_deref().unwrap_or_default()))
    }
}

impl Marketplace {
    pub(super) async fn names(&self, place: Place<'_>, below: &[&str]) -> Result<Vec<String>> {
        let path = place.path(below);
        let entries: Vec<Named> = self.client.get(&path, &[API_VERSION]).await?;
        let mut names: Vec<String> =
            entries.into_iter().map(|n| n.name).filter(|name| !name.is_empty()).collect();
        names.sort_by(|a, b| caseless(a, b).then_with(|| a.cmp(b)));
        names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Ok(names)
    }

    /// The publishers of a location, sorted.
    pub(super) async fn publishers(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Vec<String>> {
        self.names(Place { subscription, location, publisher: "" }, &[]).await
    }

    pub(super) async fn offers(&self, place: Place<'_>) -> Result<Vec<String>> {
        self.names(place, &["artifacttypes", "vmimage", "offers"]).await
    }

    pub(super) async fn skus(&self, place: Place<'_>, offer: &str) -> Result<Vec<String>> {
        self.names(place, &["artifacttypes", "vmimage", "offers", offer, "skus"]).await
    }

    pub(super) async fn versions(
        &self,
        place: Place<'_>,
        offer: &str,
        sku: &str,
    ) -> Result<Vec<Listed>> {
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions"];
        let query = [("$expand", "properties"), API_VERSION];
        let entries: Vec<Entry> = self.client.get(&place.path(&below), &query).await?;
        let mut listed: Vec<Listed> = entries
            .into_iter()
            .filter(|entry| !entry.name.is_empty())
            .map(|entry| {
                let properties = entry.properties.unwrap_or_default();
                let deprecation = properties.image_deprecation_status.as_ref();
                Listed {
                    offer: offer.to_owned(),
                    sku: sku.to_owned(),
                    version: entry.name,
                    status: deprecation.and_then(Deprecation::status),
                    scheduled_deprecation_at: deprecation.and_then(Deprecation::at),
                    alternative: deprecation.and_then(Deprecation::alternative),
                    architecture: properties.architecture,
                    hyper_v_generation: properties.hyper_v_generation,
                    detail: None,
                }
            })
            .collect();
        listed.sort_by(|a, b| version::compare(&a.version, &b.version));
        listed.dedup_by(|a, b| a.version.eq_ignore_ascii_case(&b.version));
        Ok(listed)
    }

    pub(super) async fn image(&self, place: Place<'_>, image: [&str; 3]) -> Result<Detail> {
        let [offer, sku, version] = image;
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions", version];
        let answer = self.client.get(&place.path(&below), &[API_VERSION]).await;
        let entry: Entry = answer.map_err(vanished)?;
        let properties = entry.properties.unwrap_or_default();
        Ok(Detail {
            os: properties.os_disk_image.and_then(|disk| disk.operating_system),
            architecture: properties.architecture,
            hyper_v_generation: properties.hyper_v_generation,
            plan: properties.plan.map(|plan| (plan.publisher, plan.product, plan.name)),
            features: properties
                .features
                .unwrap_or_default()
                .into_iter()
                .map(|feature| (feature.name, feature.value))
                .collect(),
        })
    }
}

/// A version that was listed may answer a GET with 400 "The value of parameter version is
/// invalid." instead of 404 (azure-rest §3).
fn vanished(error: Error) -> Error {
    let gone = error.kind() == ErrorKind::Invalid && error.to_string().contains("InvalidParameter");
    if gone { Error::not_found(error.to_string()) } else { error }
}

impl<'a> Place<'a> {
    fn path<'b>(self, below: &[&'b str]) -> Vec<&'b str>
    where
        'a: 'b,
    {
        let mut path = vec![
            "subscriptions",
            self.subscription,
            "providers",
            "Microsoft.Compute",
            "locations",
            self.location,
            "publishers",
        ];
        if !self.publisher.is_empty() {
            path.push(self.publisher);
        }
        path.extend_from_slice(below);
        path
    }

    pub(super) fn offers(self, offers: &[String], details: Details) -> Scope {
        Scope::Offers {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            publisher: self.publisher.to_owned(),
            offers: offers.to_vec(),
            details,
        }
    }

    pub(super) fn details(self, images: Vec<[String; 3]>) -> Scope {
        Scope::Details {
            location: self.location.to_owned(),
            subscription: self.subscription.to_owned(),
            publisher: self.publisher.to_owned(),
            images,
        }
    }
}
