//! Merges one publisher: its results from all locations, its rows of the previous snapshot and the
//! details of single versions become rows and their coverage.
//!
//! Where locations disagree, these rules apply. Names are written as in the alphabetically first
//! location. A property is taken from the first location that has it. The status is the most
//! advanced one (deprecated before scheduled before active), and a date is the earliest. The merge
//! is a pure function: nothing depends on when or in what order results arrived.

pub use super::fold::FoldedListings;

use super::{CarriedRows, ScopeResult};
use crate::image::marketplace::{
    DetailedVersion, DetailsFrom, MarketplaceImage, VersionDetail, mark_latest, share_details,
};
use crate::pipeline::coverage::{CoverageLine, Totals};
use crate::pipeline::newer::NewerRuns;
use crate::work::{Gap, RunId, SourceName, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// The list of offers that a location's result is based on.
#[derive(Debug, Clone, Default)]
pub struct OfferList {
    /// When an earlier run made the list. `None` if this run made it.
    pub listed_at: Option<OffsetDateTime>,
    /// The offers, in lower case, if an earlier run made the list.
    pub offers: HashSet<String>,
}

/// What one location listed of a publisher.
pub type LocationResult = ScopeResult<OfferList>;

impl LocationResult {
    /// Whether the result is based on a list of offers that was made before `row` was observed and
    /// does not contain its offer.
    fn lacks(&self, row: &MarketplaceImage) -> bool {
        self.scope.listed_at.is_some_and(|listed_at| row.observed_at > listed_at)
            && !self.scope.offers.contains(&row.offer.to_ascii_lowercase())
    }
}

/// What a run was asked to crawl in a location.
#[derive(Debug, Clone)]
pub struct LocationRequest {
    /// Whether the location's list of publishers is complete.
    pub listed: bool,
    /// If not empty, only publishers whose name contains one of these were asked for.
    pub only: Vec<String>,
}

/// The input of the merge for one publisher.
#[derive(Debug, Default)]
pub struct PublisherInput {
    /// The publisher's name.
    pub name: String,
    /// The result of each location.
    pub results: BTreeMap<String, LocationResult>,
    /// The versions that the locations list.
    pub fresh: FoldedListings,
    /// The publisher's rows in the previous snapshot.
    pub previous: Vec<MarketplaceImage>,
    /// The details of single versions.
    pub details: Vec<DetailedVersion>,
    /// The scopes that newer runs have answered.
    pub newer: Arc<NewerRuns>,
}

/// The result of the merge for one publisher.
#[derive(Debug, Default)]
pub struct MergedPublisher {
    /// The publisher's rows, in the table's order.
    pub rows: Vec<MarketplaceImage>,
    /// The publisher's rows in the previous snapshot.
    pub previous: Vec<MarketplaceImage>,
    /// The publisher's coverage lines.
    pub lines: Vec<CoverageLine>,
    /// Counts of the publisher's listings.
    pub totals: Totals,
    /// Number of rows in locations, or of publishers, that the run was not asked to crawl.
    pub outside: u64,
    /// Versions whose details were requested without success.
    pub requested_details: HashSet<VersionKey>,
    /// Rows that are kept for locations whose list of publishers is incomplete.
    pub unlisted: BTreeMap<String, CarriedRows>,
}

/// The key of a version within its publisher, in lower case.
pub type VersionKey = (String, String, String);

/// Builds the key of a version.
pub fn key(offer: &str, sku: &str, version: &str) -> VersionKey {
    (offer.to_ascii_lowercase(), sku.to_ascii_lowercase(), version.to_ascii_lowercase())
}

/// Merges one publisher. `requests` has the locations of the run. `run` is the run's id and start.
pub fn merge_publisher(
    publisher: PublisherInput,
    requests: &BTreeMap<String, LocationRequest>,
    run: (RunId, OffsetDateTime),
) -> MergedPublisher {
    let PublisherInput { name, results, fresh, previous, details, newer } = publisher;
    let mut merged = MergedPublisher::default();
    let mut rows = Vec::new();
    let mut row_details = Vec::new();
    for (row, detail) in fresh.rows(&name, run) {
        rows.push(row);
        row_details.push(detail);
    }
    let by_name = if previous.is_empty() && details.is_empty() {
        HashMap::new()
    } else {
        let name = |row: &MarketplaceImage| key(&row.offer, &row.sku, &row.version);
        rows.iter().enumerate().map(|(at, row)| (name(row), at)).collect()
    };
    let mut carried_rows: BTreeMap<(String, Option<usize>), CarriedRows> = BTreeMap::new();
    let index = ScopeIndex::new(&name, &results, requests, &newer);
    for previous in &previous {
        let mut kept = CarriedLocations::default();
        let mut outside = false;
        for location in &previous.locations {
            match index.fate(location, previous) {
                Fate::Drop => continue,
                Fate::Outside => outside = true,
                Fate::Newer => kept.is_newer = true,
                Fate::Unlisted => {
                    merged.unlisted.entry(location.clone()).or_default().add(previous.observed_at);
                    kept.unanswered.insert(location.clone());
                }
                Fate::Carry(gap) => {
                    carried_rows
                        .entry((location.clone(), gap))
                        .or_default()
                        .add(previous.observed_at);
                    kept.unanswered.insert(location.clone());
                }
            }
            kept.locations.insert(location.clone());
        }
        let at = by_name.get(&key(&previous.offer, &previous.sku, &previous.version));
        let row = at.and_then(|at| rows.get_mut(*at));
        merged.outside += u64::from(outside);
        merged.rows.extend(carry(row, previous, kept));
    }
    add_details(&mut rows, row_details, &details, &by_name);
    let carried = !merged.rows.is_empty();
    merged.rows.append(&mut rows);
    if carried {
        merged.rows.sort_by(MarketplaceImage::compare);
    }
    share_details(&mut merged.rows);
    // The status at the start of the run: a scheduled date may have passed since Azure last
    // announced it.
    for row in &mut merged.rows {
        row.status = row.status_at(run.1);
    }
    mark_latest(&mut merged.rows);
    cover(&name, &results, &carried_rows, run.1, &mut merged);
    merged.previous = previous;
    merged
}

/// The locations in which a row of the previous snapshot is kept.
#[derive(Debug, Default)]
struct CarriedLocations {
    /// All of these locations.
    locations: BTreeSet<String>,
    /// Those that were asked for and not answered.
    unanswered: BTreeSet<String>,
    /// Whether a newer run answered for one of them.
    is_newer: bool,
}

/// Copies what the old row knew to the new one. A row that no location lists again is returned
/// unchanged, for the locations that were not asked for or not answered.
fn carry(
    row: Option<&mut MarketplaceImage>,
    previous: &MarketplaceImage,
    kept: CarriedLocations,
) -> Option<MarketplaceImage> {
    match row {
        Some(row) => {
            row.first_seen_at = previous.first_seen_at;
            if previous.has_details() {
                row.add_details(&previous.details(), DetailsFrom::This);
            }
            if kept.is_newer && previous.observed_at > row.observed_at {
                row.observed_at = previous.observed_at;
                row.observed_run.clone_from(&previous.observed_run);
                row.status = previous.status;
                row.scheduled_deprecation_at = previous.scheduled_deprecation_at;
                row.alternative.clone_from(&previous.alternative);
            }
            let mut locations: BTreeSet<String> = row.locations.drain(..).collect();
            row.stale = !kept.unanswered.is_subset(&locations);
            locations.extend(kept.locations);
            row.locations = locations.into_iter().collect();
            None
        }
        None if kept.locations.is_empty() => None,
        None => Some(MarketplaceImage {
            locations: kept.locations.into_iter().collect(),
            stale: !kept.unanswered.is_empty(),
            ..previous.clone()
        }),
    }
}

/// Adds the details from GET requests, both those made with the listings and those of the second
/// round. Of several results for one version, the last location's is used: details are the same
/// everywhere.
fn add_details(
    rows: &mut [MarketplaceImage],
    row_details: Vec<Option<Box<VersionDetail>>>,
    details: &[DetailedVersion],
    by_name: &HashMap<VersionKey, usize>,
) {
    for (row, detail) in rows.iter_mut().zip(row_details) {
        if let Some(detail) = detail {
            row.add_details(&detail, DetailsFrom::This);
        }
    }
    for DetailedVersion { urn, detail } in details {
        let at = by_name.get(&key(&urn.offer, &urn.sku, &urn.version));
        if let Some(row) = at.and_then(|at| rows.get_mut(*at)) {
            row.add_details(detail, DetailsFrom::This);
        }
    }
}

/// What happens to a row of the previous snapshot in one of its locations.
enum Fate {
    /// The location was asked. It lists the row again, or no longer.
    Drop,
    /// The run was not asked to crawl the location or the publisher.
    Outside,
    /// It was observed later than this run looked.
    Newer,
    /// The location's list of publishers is incomplete.
    Unlisted,
    /// It is kept because the publisher, or the part of it with this gap, could not be listed.
    Carry(Option<usize>),
}

/// Indexes what was asked of a publisher, by location.
struct ScopeIndex<'a> {
    lower: String,
    results: &'a BTreeMap<String, LocationResult>,
    requests: &'a BTreeMap<String, LocationRequest>,
    gaps: BTreeMap<&'a str, HashMap<(String, Option<String>), usize>>,
    newer: &'a NewerRuns,
}

impl<'a> ScopeIndex<'a> {
    fn new(
        publisher: &str,
        results: &'a BTreeMap<String, LocationResult>,
        requests: &'a BTreeMap<String, LocationRequest>,
        newer: &'a NewerRuns,
    ) -> Self {
        let gaps = results
            .iter()
            .map(|(location, result)| (location.as_str(), index(&result.gaps)))
            .collect();
        Self { lower: publisher.to_ascii_lowercase(), results, requests, gaps, newer }
    }

    fn fate(&self, location: &str, row: &MarketplaceImage) -> Fate {
        if self.newer.has_sku(location, &row.publisher, &row.offer, &row.sku) {
            return Fate::Newer;
        }
        let Some(requests) = self.requests.get(location) else { return Fate::Outside };
        let is_requested = |only: &String| self.lower.contains(&only.to_ascii_lowercase());
        if !requests.only.is_empty() && !requests.only.iter().any(is_requested) {
            return Fate::Outside;
        }
        match self.results.get(location) {
            None if requests.listed => Fate::Drop,
            None => Fate::Unlisted,
            Some(result) if !result.state.is_complete() => Fate::Carry(None),
            Some(result) if result.lacks(row) => Fate::Newer,
            Some(result) if result.gaps.is_empty() => Fate::Drop,
            Some(result) => {
                let (offer, sku) = (row.offer.to_ascii_lowercase(), row.sku.to_ascii_lowercase());
                let gaps = &self.gaps[location];
                let gap = gaps
                    .get(&(offer.clone(), None))
                    .or_else(|| gaps.get(&(offer, Some(sku))))
                    // A gap without a name stands for unnamed offers, which may include this one.
                    .or_else(|| gaps.get(&(String::new(), None)));
                match gap {
                    Some(gap) if !result.gaps[*gap].state.is_complete() => Fate::Carry(Some(*gap)),
                    _ => Fate::Drop,
                }
            }
        }
    }
}

/// The gaps of listings by offer and SKU, in lower case.
fn index(gaps: &[Gap]) -> HashMap<(String, Option<String>), usize> {
    gaps.iter()
        .enumerate()
        .filter(|(_, gap)| gap.version.is_none())
        .map(|(i, gap)| {
            let sku = gap.sku.as_ref().map(|sku| sku.to_ascii_lowercase());
            ((gap.offer.to_ascii_lowercase(), sku), i)
        })
        .collect()
}

fn cover(
    publisher: &str,
    results: &BTreeMap<String, LocationResult>,
    carried_rows: &BTreeMap<(String, Option<usize>), CarriedRows>,
    now: OffsetDateTime,
    merged: &mut MergedPublisher,
) {
    let stands_in = |location: &String, gap| {
        carried_rows.get(&(location.clone(), gap)).copied().unwrap_or_default()
    };
    for (location, result) in results {
        let own = stands_in(location, None);
        let line = CoverageLine {
            location: location.clone(),
            publisher: Some(publisher.to_owned()),
            state: own.ends(result.state),
            reason: result.reason.clone(),
            attempts: result.attempts,
            rows: result.rows + own.rows,
            since: own.since,
            offers_listed_at: result
                .state
                .is_complete()
                .then(|| result.scope.listed_at.unwrap_or(now)),
            ..CoverageLine::new(SourceName::Marketplace)
        };
        merged.totals.add(State::Done, result.listed);
        if line.state != State::Done {
            merged.totals.add(line.state, 1);
        }
        merged.lines.push(CoverageLine { malformed: result.malformed.clone(), ..line.clone() });
        for (i, gap) in result.gaps.iter().enumerate() {
            let own = stands_in(location, Some(i));
            let state = own.ends(gap.state);
            merged.totals.add(state, 1);
            if let (Some(sku), Some(version)) = (&gap.sku, &gap.version) {
                merged.requested_details.insert(key(&gap.offer, sku, version));
            }
            merged.lines.push(CoverageLine {
                offer: Some(gap.offer.clone()).filter(|offer| !offer.is_empty()),
                sku: gap.sku.clone(),
                version: gap.version.clone(),
                state,
                reason: gap.reason.clone(),
                attempts: gap.attempts,
                rows: own.rows,
                since: own.since,
                offers_listed_at: None,
                ..line.clone()
            });
        }
    }
}
