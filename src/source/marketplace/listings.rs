//! The listings of the compute provider: their paths, their answers, and the pitfalls of both.

use super::client::Marketplace;
use super::listing_path::ListingPath;
use crate::client::lenient;
use crate::client::version::VM_IMAGES;
use crate::error::{Error, ErrorKind, Result};
use crate::image::marketplace::{ListedVersion, VersionDetail};
use crate::image::name::caseless;
use crate::image::{Status, version};
use crate::work::State;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The API version of the recorded answers. Recordings of all versions of this API agree.
const API_VERSION: (&str, &str) = VM_IMAGES.parameter();

/// The named entries of a listing, and the number of unnamed ones. An unnamed entry cannot be
/// requested, and may be one that the previous snapshot has.
pub(super) struct Listing<T> {
    pub(super) rows: Vec<T>,
    nameless: usize,
}

impl<T> Listing<T> {
    fn new(rows: Vec<T>, entries: usize) -> Self {
        Self { nameless: entries - rows.len(), rows }
    }

    /// How a listing with unnamed entries ends: as failed; `None` if all entries have names.
    pub(super) fn gap(&self) -> Option<(State, String, u32)> {
        (self.nameless > 0).then(|| {
            let (nameless, all) = (self.nameless, self.nameless + self.rows.len());
            (State::Failed, format!("{nameless} of its {all} entries have no name"), 1)
        })
    }
}

/// The name of an entry, unless it is missing or empty.
fn name(entry: &Value) -> Option<String> {
    entry["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// A listing entry that is known to have a name.
struct Entry(Value);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let entry = Value::deserialize(deserializer)?;
        match name(&entry) {
            Some(_) => Ok(Self(entry)),
            None => Err(D::Error::custom("an entry has no name")),
        }
    }
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
    /// A feature without a name is skipped; the other features are kept.
    #[serde(default)]
    name: Option<String>,
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

    /// The malformed-member record for an unknown deprecation state.
    fn unread(&self) -> (String, u64) {
        let word: String =
            self.image_state.as_deref().unwrap_or("nothing").chars().take(40).collect();
        (format!("[].properties.imageDeprecationStatus.imageState: unknown state '{word}'"), 1)
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
    /// Returns the entries of a listing. An answer with an unnamed entry may be a one-off mistake,
    /// so it is retried first; only if it persists are the entries returned as they are.
    async fn entries(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<Value>> {
        match self.client.get::<Vec<Entry>>(path, query).await {
            Ok(entries) => Ok(entries.into_iter().map(|Entry(entry)| entry).collect()),
            Err(error)
                if error.is_transient() && error.caused_by::<serde_json::Error>().is_some() =>
            {
                self.client.get(path, query).await
            }
            Err(error) => Err(error),
        }
    }

    async fn names(
        &self,
        listing_path: ListingPath<'_>,
        below: &[&str],
    ) -> Result<Listing<String>> {
        let entries = self.entries(&listing_path.path(below), &[API_VERSION]).await?;
        let mut listing = Listing::new(entries.iter().filter_map(name).collect(), entries.len());
        let names = &mut listing.rows;
        names.sort_by(|a, b| caseless(a, b).then_with(|| a.cmp(b)));
        names.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        Ok(listing)
    }

    /// Returns the publishers of a location, sorted.
    pub(super) async fn publishers(
        &self,
        subscription: &str,
        location: &str,
    ) -> Result<Listing<String>> {
        let listing_path = ListingPath { subscription, otherwise: &[], location, publisher: "" };
        self.names(listing_path, &[]).await
    }

    pub(super) async fn offers(&self, listing_path: ListingPath<'_>) -> Result<Listing<String>> {
        self.names(listing_path, &["artifacttypes", "vmimage", "offers"]).await
    }

    pub(super) async fn skus(
        &self,
        listing_path: ListingPath<'_>,
        offer: &str,
    ) -> Result<Listing<String>> {
        self.names(listing_path, &["artifacttypes", "vmimage", "offers", offer, "skus"]).await
    }

    pub(super) async fn versions(
        &self,
        listing_path: ListingPath<'_>,
        offer: &str,
        sku: &str,
    ) -> Result<Listing<ListedVersion>> {
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions"];
        let query = [("$expand", "properties"), API_VERSION];
        let entries = self.entries(&listing_path.path(&below), &query).await?;
        let rows = entries
            .iter()
            .filter_map(|entry| Some(listed([offer, sku], name(entry)?, &entry["properties"])));
        let mut listing = Listing::new(rows.collect(), entries.len());
        let rows = &mut listing.rows;
        rows.sort_by(|a, b| version::compare(&a.version, &b.version));
        rows.dedup_by(|a, b| a.version.eq_ignore_ascii_case(&b.version));
        Ok(listing)
    }

    pub(super) async fn image(
        &self,
        listing_path: ListingPath<'_>,
        image: [&str; 3],
    ) -> Result<VersionDetail> {
        let [offer, sku, version] = image;
        let below = ["artifacttypes", "vmimage", "offers", offer, "skus", sku, "versions", version];
        let answer = self.client.get(&listing_path.path(&below), &[API_VERSION]).await;
        // An answer without a name is treated as a wrong answer and retried.
        let Entry(image) = answer.map_err(vanished)?;
        let properties = properties(&image["properties"]);
        Ok(VersionDetail {
            os: properties.os_disk_image.and_then(|disk| disk.operating_system),
            architecture: properties.architecture,
            hyper_v_generation: properties.hyper_v_generation,
            plan: properties.plan.map(|plan| (plan.publisher, plan.product, plan.name)),
            features: properties
                .features
                .unwrap_or_default()
                .into_iter()
                .filter_map(|feature| Some((feature.name?, feature.value)))
                .collect(),
        })
    }
}

/// The resource kind under which malformed members of listings are recorded.
const LISTING: &str = VM_IMAGES.resource;

/// Reads the properties of a version leniently.
fn properties(value: &Value) -> Properties {
    match lenient::of_value::<Option<Properties>>(value) {
        Ok((properties, malformed)) => {
            lenient::log_malformed(LISTING, &malformed);
            properties.unwrap_or_default()
        }
        Err(error) => {
            lenient::log_malformed(LISTING, &vec![(format!("[].properties: {error}"), 1)]);
            Properties::default()
        }
    }
}

/// Whether the properties contain a deprecation status, readable or not; null counts as absent.
fn has_status(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(members) => {
            members.get("imageDeprecationStatus").is_some_and(|status| !status.is_null())
        }
        _ => true,
    }
}

/// Converts a listed version to a row. If its status is present but unreadable, it is unknown
/// whether the version is deployable.
fn listed([offer, sku]: [&str; 2], version: String, value: &Value) -> ListedVersion {
    let properties = properties(value);
    let deprecation = properties.image_deprecation_status.as_ref();
    let status = deprecation.and_then(Deprecation::status);
    if let Some(unread) = deprecation.filter(|_| status.is_none()).map(Deprecation::unread) {
        lenient::log_malformed(LISTING, &vec![unread]);
    }
    ListedVersion {
        is_status_unread: status.is_none() && has_status(value),
        offer: offer.to_owned(),
        sku: sku.to_owned(),
        version,
        status,
        scheduled_deprecation_at: deprecation.and_then(Deprecation::at),
        alternative: deprecation.and_then(Deprecation::alternative),
        architecture: properties.architecture,
        hyper_v_generation: properties.hyper_v_generation,
        detail: None,
    }
}

/// Treats 400 "The value of parameter version is invalid." as 404: a version that was listed may
/// answer a GET with it (azure-rest §3).
fn vanished(error: Error) -> Error {
    let gone = error.kind() == ErrorKind::BadAnswer && error.has_code("InvalidParameter");
    if gone { Error::not_found(error.to_string()) } else { error }
}
