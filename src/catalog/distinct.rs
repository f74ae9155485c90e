//! Distinct publishers, offers, SKUs and locations of the images that a filter accepts, with
//! counts.

use super::list::ListQuery;
use super::{Catalog, Filter};
use crate::format::index::{GroupPath, Index, Level};
use crate::image::names::folded;
use crate::image::registry;
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
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

/// A SKU, with its latest version and counts of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkuCount {
    /// The publisher of the SKU.
    pub publisher: String,
    /// The offer of the SKU.
    pub offer: String,
    /// The name of the SKU.
    pub sku: String,
    /// The latest version of the SKU; null if no version is eligible, or if the latest does not
    /// match the filters.
    pub latest: Option<String>,
    /// The number of its images; each version counts as one.
    pub images: u32,
    /// The number of locations where any of its images is available.
    pub locations: u32,
}

/// A location, with counts of the images available there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocationCount {
    /// The short name of the location, such as `westeurope`.
    pub location: String,
    /// The number of publishers of marketplace images there.
    pub publishers: u32,
    /// The number of marketplace images; each version counts as one.
    pub marketplace: u32,
    /// The number of gallery definitions, gallery versions and managed images.
    pub gallery: u32,
    /// The number of manifests in container registries.
    pub registry: u32,
}

/// Counts of the accepted images of one publisher, offer or SKU.
struct Group {
    /// Paths of its first and its last accepted image.
    first: GroupPath,
    last: GroupPath,
    offers: u32,
    skus: u32,
    images: u32,
    latest: Option<u32>,
    /// One bit per location.
    locations: Vec<u64>,
    /// The best search score of any of its images.
    score: usize,
}

const LEVELS: [Level; 3] = [Level::Publisher, Level::Offer, Level::Sku];

fn name(index: &Index, level: Level, group_path: GroupPath) -> &str {
    index.names(level).get(index.group_name(level, group_path[level as usize]))
}

/// Whether two adjacent paths of the table differ in a name down to `level`. Azure treats names
/// that differ only in case as the same, and the table sorts such names next to each other.
fn differ(index: &Index, level: Level, one: GroupPath, other: GroupPath) -> bool {
    LEVELS.iter().take(level as usize + 1).any(|level| {
        let at = *level as usize;
        let names = || [one, other].map(|group_path| name(index, *level, group_path));
        one[at] != other[at] && !matches!(names(), [a, b] if a.eq_ignore_ascii_case(b))
    })
}

/// Sets in `bits` every bit that is set in `more`.
fn unite(bits: &mut Vec<u64>, more: impl Iterator<Item = u64>) {
    for (at, more) in more.enumerate() {
        match bits.get_mut(at) {
            Some(bits) => *bits |= more,
            None => bits.push(more),
        }
    }
}

fn count(bits: &[u64]) -> u32 {
    bits.iter().map(|word| word.count_ones()).sum()
}

/// Yields the positions of the set bits.
fn ones(bits: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    bits.enumerate().flat_map(|(at, word)| {
        (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
    })
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
                latest: None,
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
        group.latest =
            group.latest.or_else(|| query.is_latest(at, group_path).then(|| row.version()));
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

/// The SKUs of the images that `filter` accepts, and the latest of each, at `now`.
pub fn skus<'a>(
    index: &'a Index,
    filter: &Filter,
    now: OffsetDateTime,
) -> impl Iterator<Item = SkuCount> + use<'a> {
    let counted = move |group: Group| SkuCount {
        publisher: name(index, Level::Publisher, group.first).to_owned(),
        offer: name(index, Level::Offer, group.first).to_owned(),
        sku: name(index, Level::Sku, group.first).to_owned(),
        latest: group.latest.map(|version| index.versions().get(version).to_owned()),
        images: group.images,
        locations: count(&group.locations),
    };
    groups(index, filter, Level::Sku, now).into_iter().map(counted)
}

/// Number of publishers and images that `filter` accepts, per location, by location number.
fn by_location(index: &Index, filter: &Filter, now: OffsetDateTime) -> Vec<(u32, u32)> {
    let mut counts = vec![(0, 0); index.locations().len()];
    let Some(query) = ListQuery::new(index, filter, now) else { return counts };
    let mut in_sets = vec![0_u32; index.location_sets()];
    let (mut last, mut places) = (None, Vec::new());
    let mut count_publisher = |places: &mut Vec<u64>| {
        for location in ones(places.drain(..)) {
            if let Some((publishers, _)) = counts.get_mut(location) {
                *publishers += 1;
            }
        }
    };
    query.visit(|group_path, at, _| {
        let is_other = |last: GroupPath| {
            last[0] != group_path[0] && differ(index, Level::Publisher, last, group_path)
        };
        if last.replace(group_path).is_some_and(is_other) {
            count_publisher(&mut places);
        }
        let set = index.row(at).locations();
        in_sets[set as usize] += 1;
        unite(&mut places, index.location_bits(set));
    });
    count_publisher(&mut places);
    for (set, images) in (0..).zip(in_sets).filter(|(_, images)| *images > 0) {
        for location in ones(index.location_bits(set)) {
            if let Some((_, count)) = counts.get_mut(location) {
                *count += images;
            }
        }
    }
    counts
}

/// The locations of all images that `filter` accepts at `now`, sorted by name: those of marketplace
/// images, and those of the other tables if they have been [read](Catalog::others). The words of
/// the filter's search are matched against location names.
pub fn locations(catalog: &Catalog, filter: &Filter, now: OffsetDateTime) -> Vec<LocationCount> {
    let words = filter.words();
    let filter = &Filter { search: None, ..filter.clone() };
    let mut found: BTreeMap<&str, LocationCount> = BTreeMap::new();
    let counts = by_location(&catalog.index, filter, now);
    for (number, (publishers, marketplace)) in (0..).zip(counts).filter(|(_, (_, n))| *n > 0) {
        let counted = LocationCount { publishers, marketplace, ..LocationCount::default() };
        found.insert(catalog.index.locations().get(number), counted);
    }
    if let Some(table) = catalog.others.get() {
        for row in table.list(filter, 0, usize::MAX, now).0 {
            let (kind, locations) = table.kind_and_locations(row);
            for location in locations {
                let counted = found.entry(location).or_default();
                match kind {
                    registry::KIND => counted.registry += 1,
                    _ => counted.gallery += 1,
                }
            }
        }
    }
    let is_wanted = |name: &str| words.iter().all(|word| folded(name).contains(word));
    let found = found.into_iter().filter(|(name, _)| is_wanted(name));
    found.map(|(name, counted)| LocationCount { location: name.to_owned(), ..counted }).collect()
}
