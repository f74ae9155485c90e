//! Distinct publishers, offers, SKUs and locations of the images that a filter accepts, with
//! counts.

mod facets;
mod group;
mod locations;
mod skus;

pub use facets::Facets;
pub use locations::{LocationCount, locations};
pub use skus::{SkuCount, SkuGroups, SkuOrder, skus};

use super::Filter;
use super::list::ListQuery;
use crate::format::index::{GroupPath, Index, Level};
use group::{count, differ, name, unite};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use time::OffsetDateTime;

/// A publisher, with counts of its offers, SKUs and images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublisherCount {
    /// The name of the publisher.
    pub publisher: String,
    /// The number of its offers.
    pub offers: u32,
    /// The number of its SKUs.
    pub skus: u32,
    /// The number of its images; each version counts as one.
    pub images: u32,
    /// The number of locations where any of its images is available.
    pub locations: u32,
}

/// An offer, with counts of its SKUs and images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferCount {
    /// The publisher of the offer.
    pub publisher: String,
    /// The name of the offer.
    pub offer: String,
    /// The number of its SKUs.
    pub skus: u32,
    /// The number of its images; each version counts as one.
    pub images: u32,
    /// The number of locations where any of its images is available.
    pub locations: u32,
}

/// Counts of the accepted images of one publisher or offer.
struct Group {
    /// Paths of its first and its last accepted image.
    first: GroupPath,
    last: GroupPath,
    offers: u32,
    skus: u32,
    images: u32,
    /// One bit per location.
    locations: Vec<u64>,
    /// The best search score of any of its images.
    score: usize,
}

/// Groups of `level` that have images accepted by `filter` at `now`, by descending search score,
/// then in table order.
fn groups(index: &Index, filter: &Filter, level: Level, now: OffsetDateTime) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let Some(query) = ListQuery::new(index, filter, now) else { return groups };
    // Adjacent rows usually have the same location set, so its bits are not merged again.
    let mut last_set = None;
    query.visit(|group_path, at, score| {
        let row = index.row(at);
        let is_other = |group: &Group| {
            group.last != group_path && differ(index, level, group.last, group_path)
        };
        if groups.last().is_none_or(is_other) {
            groups.push(Group {
                first: group_path,
                last: group_path,
                offers: 1,
                skus: 1,
                images: 0,
                locations: Vec::new(),
                score,
            });
            last_set = None;
        }
        let Some(group) = groups.last_mut() else { return };
        if group.last != group_path {
            group.offers += u32::from(differ(index, Level::Offer, group.last, group_path));
            group.skus += u32::from(differ(index, Level::Sku, group.last, group_path));
            group.last = group_path;
        }
        group.images += 1;
        group.score = group.score.max(score);
        if last_set != Some(row.locations()) {
            last_set = Some(row.locations());
            unite(&mut group.locations, index.location_bits(row.locations()));
        }
    });
    // The sort is stable: groups with equal scores keep the table order.
    groups.sort_by_key(|group| Reverse(group.score));
    groups
}

/// The publishers of the images that `filter` accepts at `now`.
pub fn publishers<'a>(
    index: &'a Index,
    filter: &Filter,
    now: OffsetDateTime,
) -> impl Iterator<Item = PublisherCount> + use<'a> {
    let counted = move |group: Group| PublisherCount {
        publisher: name(index, Level::Publisher, group.first).to_owned(),
        offers: group.offers,
        skus: group.skus,
        images: group.images,
        locations: count(&group.locations),
    };
    groups(index, filter, Level::Publisher, now).into_iter().map(counted)
}

/// The offers of the images that `filter` accepts at `now`.
pub fn offers<'a>(
    index: &'a Index,
    filter: &Filter,
    now: OffsetDateTime,
) -> impl Iterator<Item = OfferCount> + use<'a> {
    let counted = move |group: Group| OfferCount {
        publisher: name(index, Level::Publisher, group.first).to_owned(),
        offer: name(index, Level::Offer, group.first).to_owned(),
        skus: group.skus,
        images: group.images,
        locations: count(&group.locations),
    };
    groups(index, filter, Level::Offer, now).into_iter().map(counted)
}
