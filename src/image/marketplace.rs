//! A marketplace VM image: one row per URN over all crawled locations.

use super::name::caseless;
use super::{Status, Urn, version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// The `kind` of every row of the marketplace table.
pub const KIND: &str = "marketplace";

/// The origin of the details of a row. Details are what only a GET of a single version returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DetailsFrom {
    /// The details are those of the image itself.
    This,
    /// The details are those of the newest queried version of the SKU: versions of a SKU rarely
    /// differ in them.
    Sku,
}

impl DetailsFrom {
    /// The name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::This => "this",
            Self::Sku => "sku",
        }
    }
}

/// One row of the marketplace table. Details (`os`, `plan*`, `features`) are those of the image or
/// of its SKU, as `detailsFrom` states; where that is null, the details are not known, and their
/// null values mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarketplaceImage {
    /// Always `marketplace`.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// The URN.
    pub id: String,
    /// The lifecycle status: at the start of the run in a table, and at the time of the request in
    /// a response; null if the status from Azure cannot be read.
    pub status: Option<Status>,
    /// Whether this is the newest deployable version of its SKU across all crawled locations.
    pub is_latest: bool,
    /// The start of the run that observed the row.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub observed_at: OffsetDateTime,
    /// The run that observed the row.
    pub observed_run: String,
    /// Whether the last run could not list at least one of the locations, so that the location is
    /// carried over.
    pub stale: bool,
    /// The publisher, in the casing of Azure.
    pub publisher: String,
    /// The offer.
    pub offer: String,
    /// The SKU.
    pub sku: String,
    /// The version.
    pub version: String,
    /// The locations where the image is available, sorted, by short name.
    pub locations: Vec<String>,
    /// The origin of the details: `this` image, or the newest queried version of its `sku`; null if
    /// neither is known.
    #[serde(default)]
    pub details_from: Option<DetailsFrom>,
    /// The operating system: `Linux` or `Windows` (a detail).
    pub os: Option<String>,
    /// `x64` or `Arm64`.
    pub architecture: Option<String>,
    /// `V1` or `V2`.
    pub hyper_v_generation: Option<String>,
    /// The publisher of the purchase plan (a detail). A plan means that terms must be accepted.
    pub plan_publisher: Option<String>,
    /// The product of the purchase plan (a detail).
    pub plan_product: Option<String>,
    /// The name of the purchase plan (a detail).
    pub plan_name: Option<String>,
    /// When the image can no longer be deployed.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub scheduled_deprecation_at: Option<OffsetDateTime>,
    /// The replacement that the publisher names, as `type:value`.
    pub alternative: Option<String>,
    /// Features, by name (a detail).
    pub features: BTreeMap<String, String>,
    /// The start of the first run that observed the image.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub first_seen_at: OffsetDateTime,
}

/// One version as listed in one location; the row of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedVersion {
    /// Offer, in the casing of the offers listing.
    pub offer: String,
    /// SKU.
    pub sku: String,
    /// Version.
    pub version: String,
    /// `x64` or `Arm64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// `V1` or `V2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyper_v_generation: Option<String>,
    /// Deprecation status, if the listing has one that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether the listing has a status that cannot be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_status_unread: bool,
    /// When it will no longer be deployable.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub scheduled_deprecation_at: Option<OffsetDateTime>,
    /// Its replacement, as `type:value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternative: Option<String>,
    /// The details from a GET of the version, if it was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<VersionDetail>>,
}

impl ListedVersion {
    /// The status as far as it is known: without a status in the listing, a version is deployable.
    pub fn known_status(&self) -> Option<Status> {
        self.status.or((!self.is_status_unread).then_some(Status::Active))
    }

    /// The order of the table within one publisher; equal for the same image.
    pub fn compare(&self, other: &Self) -> Ordering {
        if self.version == other.version && self.sku == other.sku && self.offer == other.offer {
            return Ordering::Equal;
        }
        caseless(&self.offer, &other.offer)
            .then_with(|| caseless(&self.sku, &other.sku))
            .then_with(|| version::compare_caseless(&self.version, &other.version))
    }
}

/// The details of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailedVersion {
    /// The URN of the image.
    #[serde(flatten)]
    pub urn: Urn,
    /// The details.
    #[serde(flatten)]
    pub detail: VersionDetail,
}

/// Details that only a GET of a single version returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionDetail {
    /// `Linux` or `Windows`.
    pub os: Option<String>,
    /// `x64` or `Arm64`.
    pub architecture: Option<String>,
    /// `V1` or `V2`.
    pub hyper_v_generation: Option<String>,
    /// Purchase plan: publisher, product, name.
    pub plan: Option<(String, String, String)>,
    /// Features by name.
    pub features: BTreeMap<String, String>,
}

impl MarketplaceImage {
    /// The order of the table.
    pub fn compare(&self, other: &Self) -> Ordering {
        order(self.names(), other.names())
    }

    /// Compares the row with the image of this id, in the order of the table.
    pub fn compare_id(&self, id: &str) -> Ordering {
        let mut names = id.splitn(4, ':');
        let [publisher, offer, sku, version] =
            std::array::from_fn(|_| names.next().unwrap_or_default());
        order(self.names(), [publisher, offer, sku, version, id])
    }

    fn names(&self) -> [&str; 5] {
        [&self.publisher, &self.offer, &self.sku, &self.version, &self.id]
    }

    /// Whether the row has its own details.
    pub fn has_details(&self) -> bool {
        has_own_details(self.details_from, self.os.as_ref())
    }

    /// Whether the row has details, its own or those of its SKU.
    pub fn is_detailed(&self) -> bool {
        self.details_from.is_some() || self.os.is_some()
    }

    /// Sets the details from a GET of this version, or of another version of its SKU, without
    /// overwriting what listings contain.
    pub fn add_details(&mut self, detailed: &VersionDetail, from: DetailsFrom) {
        // An answer without any details does not count: a later one may have some.
        let has_any_detail =
            detailed.os.is_some() || detailed.plan.is_some() || !detailed.features.is_empty();
        self.details_from = has_any_detail.then_some(from);
        self.os.clone_from(&detailed.os);
        self.architecture = self.architecture.take().or_else(|| detailed.architecture.clone());
        self.hyper_v_generation =
            self.hyper_v_generation.take().or_else(|| detailed.hyper_v_generation.clone());
        if let Some((publisher, product, name)) = &detailed.plan {
            self.plan_publisher = Some(publisher.clone());
            self.plan_product = Some(product.clone());
            self.plan_name = Some(name.clone());
        }
        self.features.clone_from(&detailed.features);
    }

    /// The details of the row.
    pub fn details(&self) -> VersionDetail {
        let plan = [&self.plan_publisher, &self.plan_product, &self.plan_name];
        let [publisher, product, name] = plan.map(|part| part.clone().unwrap_or_default());
        VersionDetail {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            hyper_v_generation: self.hyper_v_generation.clone(),
            plan: plan.iter().any(|part| part.is_some()).then_some((publisher, product, name)),
            features: self.features.clone(),
        }
    }

    /// The status at `now`: a scheduled deprecation may have taken effect since the listing.
    pub fn status_at(&self, now: OffsetDateTime) -> Option<Status> {
        let status = self.status?;
        Some(status.at(now, self.scheduled_deprecation_at, Status::Deprecated))
    }

    /// The URN of the image.
    pub fn urn(&self) -> Urn {
        Urn {
            publisher: self.publisher.clone(),
            offer: self.offer.clone(),
            sku: self.sku.clone(),
            version: self.version.clone(),
        }
    }
}

/// The order of the table, by publisher, offer, SKU, version, id.
fn order(left: [&str; 5], right: [&str; 5]) -> Ordering {
    caseless(left[0], right[0])
        .then_with(|| caseless(left[1], right[1]))
        .then_with(|| caseless(left[2], right[2]))
        .then_with(|| version::compare(left[3], right[3]))
        .then_with(|| left[4].cmp(right[4]))
}

/// Whether a row has its own details, according to `detailsFrom` and its operating system. Tables
/// that were written before `detailsFrom` existed have only the latter.
pub fn has_own_details(mark: Option<DetailsFrom>, os: Option<&String>) -> bool {
    match mark {
        Some(from) => from == DetailsFrom::This,
        None => os.is_some(),
    }
}

fn is_of_sku(a: &MarketplaceImage, b: &MarketplaceImage) -> bool {
    a.offer.eq_ignore_ascii_case(&b.offer)
        && a.sku.eq_ignore_ascii_case(&b.sku)
        && a.publisher.eq_ignore_ascii_case(&b.publisher)
}

/// Sets the details of versions without details of their own to those of the newest version of
/// their SKU that has some, and sets `details_from` in every row. `rows` must be in the order of
/// the table.
pub fn share_details(rows: &mut [MarketplaceImage]) {
    for sku in rows.chunk_by_mut(is_of_sku) {
        let newest = sku.iter().rev().find(|row| row.has_details());
        let newest_details = newest.map(MarketplaceImage::details);
        for row in sku {
            if row.has_details() {
                row.details_from = Some(DetailsFrom::This);
                continue;
            }
            // Details inherited earlier may come from another version of the SKU.
            row.details_from = None;
            row.os = None;
            (row.plan_publisher, row.plan_product, row.plan_name) = (None, None, None);
            row.features.clear();
            if let Some(newest_details) = &newest_details {
                row.add_details(newest_details, DetailsFrom::Sku);
            }
        }
    }
}

/// Marks the latest deployable version of each SKU. `rows` must be in the order of the table. A
/// version with an unreadable status is never the latest, since it may not be deployable.
pub fn mark_latest(rows: &mut [MarketplaceImage]) {
    for sku in rows.chunk_by_mut(is_of_sku) {
        for row in sku.iter_mut() {
            row.is_latest = false;
        }
        let deployable =
            |row: &&mut MarketplaceImage| row.status.is_some_and(Status::is_deployable);
        if let Some(latest) = sku.iter_mut().rev().find(deployable) {
            latest.is_latest = true;
        }
    }
}
