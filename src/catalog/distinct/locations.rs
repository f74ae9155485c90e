//! Distinct locations of the images that a filter accepts, with counts.

use super::group::{differ, ones, unite};
use crate::catalog::list::ListQuery;
use crate::catalog::regions::region;
use crate::catalog::{Catalog, Filter};
use crate::format::index::{GroupPath, Index, Level};
use crate::image::names::folded;
use crate::image::registry;
use crate::work::State;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A location, with counts of the images available there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
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
    /// The name for people, such as `West Europe`; the short name if no other is known.
    pub display_name: String,
    /// The geography, such as `Europe`; null if it is not known.
    pub geography: Option<&'static str>,
    /// Since when all marketplace images there are known: the start of the run that listed the
    /// location completely, or of the oldest one that carried rows are from; null if some were
    /// never listed.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub listed_at: Option<OffsetDateTime>,
    /// The outcome of listing the publishers there in the run of the snapshot; null if the run was
    /// not asked for them.
    pub state: Option<State>,
}

/// A location without images.
fn place(catalog: &Catalog, location: &str) -> LocationCount {
    let listed = catalog.listed.get().and_then(|listed| listed.get(location));
    let region = region(location);
    LocationCount {
        location: location.to_owned(),
        publishers: 0,
        marketplace: 0,
        gallery: 0,
        registry: 0,
        display_name: region.map_or(location, |region| region.display_name).to_owned(),
        geography: region.map(|region| region.geography),
        listed_at: listed.and_then(|listed| listed.at),
        state: listed.and_then(|listed| listed.state),
    }
}

/// Whether listing the publishers of a location did not end well.
fn is_missing(state: Option<State>) -> bool {
    matches!(state, Some(State::Denied | State::Failed | State::Carried))
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
/// images, and those of the other tables if they have been [read](Catalog::others). Includes
/// locations that were to be listed and could not be, if it is [known](Catalog::listed). The words
/// of the filter's search are matched against location names.
pub fn locations(catalog: &Catalog, filter: &Filter, now: OffsetDateTime) -> Vec<LocationCount> {
    let words = filter.words();
    let filter = &Filter { search: None, ..filter.clone() };
    let mut found: BTreeMap<&str, LocationCount> = BTreeMap::new();
    let counts = by_location(&catalog.index, filter, now);
    for (number, (publishers, marketplace)) in (0..).zip(counts).filter(|(_, (_, n))| *n > 0) {
        let name = catalog.index.locations().get(number);
        let counted = LocationCount { publishers, marketplace, ..place(catalog, name) };
        found.insert(name, counted);
    }
    if let Some(table) = catalog.others.get() {
        for row in table.list(filter, 0, usize::MAX, now).0 {
            let (kind, locations) = table.kind_and_locations(row);
            for location in locations {
                let counted = found.entry(location).or_insert_with(|| place(catalog, location));
                match kind {
                    registry::KIND => counted.registry += 1,
                    _ => counted.gallery += 1,
                }
            }
        }
    }
    let missing = catalog.listed.get().into_iter().flatten();
    let missing = missing.filter(|(_, listed)| is_missing(listed.state));
    for (name, _) in missing.filter(|_| filter.wants_marketplace()) {
        found.entry(name).or_insert_with(|| place(catalog, name));
    }
    let is_wanted = |name: &str| words.iter().all(|word| folded(name).contains(word));
    found.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, counted)| counted).collect()
}
