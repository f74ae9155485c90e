//! Distinct SKUs of the images that a filter accepts, with counts, facets and the latest version.

use super::facets::{Facets, Tally};
use super::group::{count, differ, name, ones, unite};
use crate::catalog::list::{Candidate, ListQuery};
use crate::catalog::{Catalog, Filter};
use crate::error::Result;
use crate::format::index::{GroupPath, Index, Level};
use crate::image::names::ClosedSet;
use crate::image::{Status, nanoseconds};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use time::OffsetDateTime;

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
    /// The URN of the latest version; or of the newest one that matches, if `latest` is null.
    pub id: String,
    /// The lifecycle status of that version; null if it cannot be read.
    pub status: Option<Status>,
    /// When that version can no longer be deployed.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub scheduled_deprecation_at: Option<OffsetDateTime>,
    /// The operating system of that version; null if it is not known.
    pub os: Option<String>,
    /// The architecture of that version; null if it is not known.
    pub architecture: Option<String>,
    /// The Hyper-V generation of that version; null if it is not known.
    pub hyper_v_generation: Option<String>,
    /// Whether that version has a purchase plan; null if it is not known.
    pub plan: Option<bool>,
    /// The locations where any of its images is available, sorted, by short name.
    pub in_locations: Vec<String>,
    /// The locations where the latest version is available, sorted, by short name; empty if
    /// `latest` is null.
    pub latest_in: Vec<String>,
    /// Whether the last run could not list that version in at least one of its locations.
    pub stale: bool,
}

/// The order of SKUs in a list. Equal ones are in table order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SkuOrder {
    /// The best match of the search first; without a search, as by name.
    #[default]
    Relevance,
    /// By publisher, offer and SKU.
    Name,
    /// The most images first.
    Images,
    /// The most locations first.
    Locations,
    /// The first to end first; those without an end last.
    Ends,
}

impl SkuOrder {
    /// The names of the orders.
    pub const SET: ClosedSet =
        ClosedSet { what: "order", names: &["relevance", "name", "images", "locations", "ends"] };

    /// The order with this name.
    pub fn find(name: &str) -> Result<Self> {
        Ok(match Self::SET.find(name)? {
            "name" => Self::Name,
            "images" => Self::Images,
            "locations" => Self::Locations,
            "ends" => Self::Ends,
            _ => Self::Relevance,
        })
    }
}

/// The accepted images of one SKU.
struct SkuGroup {
    /// Path of its first accepted image.
    first: GroupPath,
    /// Path of its last accepted image.
    last: GroupPath,
    /// The last accepted image, which is the newest.
    newest: u32,
    /// The newest accepted image that is deployable, and its path.
    deployable: Option<(u32, GroupPath)>,
    images: u32,
    /// One bit per location.
    locations: Vec<u64>,
    /// The best search score of any of its images.
    score: usize,
}

/// The SKUs of the images that a filter accepts at a moment, in the order of a list.
pub struct SkuGroups<'a> {
    index: &'a Index,
    now: i64,
    groups: Vec<SkuGroup>,
    facets: Option<Facets>,
}

impl<'a> SkuGroups<'a> {
    /// Finds the SKUs of the images that `filter` accepts at `now`; and counts facets if
    /// `with_facets` is set. Images of other tables are counted if they have been
    /// [read](Catalog::others).
    pub fn find(
        catalog: &'a Catalog,
        filter: &Filter,
        with_facets: bool,
        now: OffsetDateTime,
    ) -> Self {
        let mut this = Self::of(&catalog.index, filter, with_facets, now);
        if let (Some(facets), Some(table)) = (&mut this.facets, catalog.others.get()) {
            facets.add_kinds(table, filter, now);
        }
        this
    }

    /// As [`find`](Self::find), without images of other tables.
    pub fn of(index: &'a Index, filter: &Filter, with_facets: bool, now: OffsetDateTime) -> Self {
        let mut groups: Vec<SkuGroup> = Vec::new();
        let mut tally = with_facets.then(|| Tally::new(index));
        // Adjacent rows usually have the same location set, so its bits are not merged again.
        let mut last_set = None;
        if let Some(query) = ListQuery::new(index, filter, now) {
            query.visit_candidates(filter, with_facets, |candidate| {
                if let Some(tally) = &mut tally {
                    tally.add(&candidate);
                }
                if candidate.lacks == 0 {
                    add(index, &mut groups, &mut last_set, &candidate);
                }
            });
        }
        let facets = tally.map(|tally| tally.finish(groups.len()));
        // The sort is stable: groups with equal scores keep the table order.
        groups.sort_by_key(|group| Reverse(group.score));
        Self { index, now: nanoseconds(now), groups, facets }
    }

    /// Sorts the SKUs. To be called once.
    #[must_use]
    pub fn in_order(mut self, order: SkuOrder) -> Self {
        let path = |group: &SkuGroup| group.first;
        match order {
            SkuOrder::Relevance => {}
            SkuOrder::Name => self.groups.sort_by_key(path),
            SkuOrder::Images => {
                self.groups.sort_by_key(|group| (Reverse(group.images), path(group)));
            }
            SkuOrder::Locations => {
                self.groups.sort_by_key(|group| (Reverse(count(&group.locations)), path(group)));
            }
            SkuOrder::Ends => {
                let (index, now) = (self.index, self.now);
                self.groups.sort_by_cached_key(|group| {
                    let end = index.deprecated_at(index.row(shown(index, group, now).0));
                    (end.is_none(), end, path(group))
                });
            }
        }
        self
    }

    /// The number of SKUs.
    pub fn total(&self) -> usize {
        self.groups.len()
    }

    /// The number of accepted images.
    pub fn images(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.images)).sum()
    }

    /// The facets, if they were counted.
    pub fn facets(&mut self) -> Option<Facets> {
        self.facets.take()
    }

    /// The rows of at most `top` SKUs, starting at position `from`.
    pub fn rows(&self, from: usize, top: usize) -> Vec<SkuCount> {
        self.groups.iter().skip(from).take(top).map(|group| self.row(group)).collect()
    }

    fn row(&self, group: &SkuGroup) -> SkuCount {
        let index = self.index;
        let (at, path, is_latest) = shown(index, group, self.now);
        let row = index.row(at);
        let names = Level::ALL.map(|l| name(index, l, path));
        let version = index.versions().get(row.version());
        let traits = index.traits_of(row.traits());
        let latest_in = is_latest.then(|| self.places(index.location_bits(row.locations())));
        let text = |text: Option<&str>| text.map(str::to_owned);
        SkuCount {
            publisher: name(index, Level::Publisher, group.first).to_owned(),
            offer: name(index, Level::Offer, group.first).to_owned(),
            sku: name(index, Level::Sku, group.first).to_owned(),
            latest: is_latest.then(|| version.to_owned()),
            images: group.images,
            locations: count(&group.locations),
            id: format!("{}:{version}", names.join(":")),
            status: index.status(row, self.now),
            scheduled_deprecation_at: index.deprecated_at(row),
            os: text(traits.os),
            architecture: text(traits.architecture),
            hyper_v_generation: text(traits.hyper_v_generation),
            plan: traits.is_detailed.then_some(traits.has_plan),
            in_locations: self.places(group.locations.iter().copied()),
            latest_in: latest_in.unwrap_or_default(),
            stale: row.is_stale(),
        }
    }

    /// The names of locations, sorted.
    fn places(&self, bits: impl Iterator<Item = u64>) -> Vec<String> {
        let numbers = ones(bits).filter_map(|number| u32::try_from(number).ok());
        let mut names: Vec<&str> = numbers.map(|id| self.index.locations().get(id)).collect();
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The version that stands for a SKU, its path, and whether it is the latest of the SKU.
fn shown(index: &Index, group: &SkuGroup, now: i64) -> (u32, GroupPath, bool) {
    match group.deployable {
        Some((at, path)) if index.is_latest(at, path[2], now) => (at, path, true),
        _ => (group.newest, group.last, false),
    }
}

/// Adds an accepted row to its SKU, which is the last one or a new one.
fn add(
    index: &Index,
    groups: &mut Vec<SkuGroup>,
    last_set: &mut Option<u32>,
    candidate: &Candidate,
) {
    let Candidate { found: (at, group_path), status, score, .. } = *candidate;
    let is_other = |group: &SkuGroup| {
        group.last != group_path && differ(index, Level::Sku, group.last, group_path)
    };
    if groups.last().is_none_or(is_other) {
        groups.push(SkuGroup {
            first: group_path,
            last: group_path,
            newest: at,
            deployable: None,
            images: 0,
            locations: Vec::new(),
            score,
        });
        *last_set = None;
    }
    let Some(group) = groups.last_mut() else { return };
    (group.newest, group.last) = (at, group_path);
    group.images += 1;
    group.score = group.score.max(score);
    if status.is_some_and(Status::is_deployable) {
        group.deployable = Some((at, group_path));
    }
    let set = index.row(at).locations();
    if *last_set != Some(set) {
        *last_set = Some(set);
        unite(&mut group.locations, index.location_bits(set));
    }
}

/// The SKUs of the images that `filter` accepts, and the latest of each, at `now`.
pub fn skus<'a>(
    index: &'a Index,
    filter: &Filter,
    now: OffsetDateTime,
) -> impl Iterator<Item = SkuCount> + use<'a> {
    let found = SkuGroups::of(index, filter, false, now);
    (0..found.total()).flat_map(move |at| found.rows(at, 1))
}
