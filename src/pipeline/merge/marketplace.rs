//! One publisher's results from all locations, its rows of the snapshot before, and what was asked
//! of single versions: merged into rows, with the coverage that belongs to them.
//!
//! The rule where locations disagree: names are written as the alphabetically first location
//! writes them, a property is what the first location that has it says, the status is the most
//! advanced one (deprecated before scheduled before active) and a date is the earliest.
//! A pure function: nothing here depends on when or in what order results came.

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

/// The list of offers that a location's result rests on.
#[derive(Debug, Clone, Default)]
pub struct OfferList {
    /// When it was made, if an earlier run made it.
    pub listed_at: Option<OffsetDateTime>,
    /// Its offers, in lower case, if an earlier run made it.
    pub offers: HashSet<String>,
}

/// What one location listed of a publisher.
pub type LocationResult = ScopeResult<OfferList>;

impl LocationResult {
    /// Whether it rests on a list of offers that was made before `row` was observed, and that does not have
    /// its offer.
    fn lacks(&self, row: &MarketplaceImage) -> bool {
        self.scope.listed_at.is_some_and(|listed_at| row.observed_at > listed_at)
            && !self.scope.offers.contains(&row.offer.to_ascii_lowercase())
    }
}

/// What a run was to learn of a location.
#[derive(Debug, Clone)]
pub struct LocationRequest {
    /// Whether its whole list of publishers is in.
    pub listed: bool,
    /// Only publishers whose name contains one of these were asked for.
    pub only: Vec<String>,
}

/// Everything about one publisher.
#[derive(Debug, Default)]
pub struct PublisherInput {
    /// Its name.
    pub name: String,
    /// What each location answered.
    pub results: BTreeMap<String, LocationResult>,
    /// What they list.
    pub fresh: FoldedListings,
    /// Its rows in the snapshot before.
    pub previous: Vec<MarketplaceImage>,
    /// What was asked of single versions.
    pub details: Vec<DetailedVersion>,
    /// What newer runs have answered.
    pub newer: Arc<NewerRuns>,
}

/// What becomes of a publisher.
#[derive(Debug, Default)]
pub struct MergedPublisher {
    /// Its rows, in the table's order.
    pub rows: Vec<MarketplaceImage>,
    /// Its rows in the snapshot before.
    pub previous: Vec<MarketplaceImage>,
    /// Its lines of coverage.
    pub lines: Vec<CoverageLine>,
    /// Its listings.
    pub totals: Totals,
    /// Rows of locations and publishers that the run was not asked to crawl.
    pub outside: u64,
    /// Versions whose details were asked for in vain.
    pub asked: HashSet<VersionKey>,
    /// Rows that stand in for locations whose list of publishers is not in.
    pub unlisted: BTreeMap<String, CarriedRows>,
}

/// A version's key within its publisher, without case.
pub type VersionKey = (String, String, String);

/// The key of a version.
pub fn key(offer: &str, sku: &str, version: &str) -> VersionKey {
    (offer.to_ascii_lowercase(), sku.to_ascii_lowercase(), version.to_ascii_lowercase())
}

/// Merges one publisher. `requests` has the locations of the run, `run` its name and start.
pub fn merge_publisher(
    publisher: PublisherInput,
    requests: &BTreeMap<String, LocationRequest>,
    run: (RunId, OffsetDateTime),
) -> MergedPublisher {
    let PublisherInput { name, results, fresh, previous, details, newer } = publisher;
    let mut merged = MergedPublisher::default();
    let mut rows = Vec::new();
    let mut told = Vec::new();
    for (row, detail) in fresh.rows(&name, run) {
        rows.push(row);
        told.push(detail);
    }
    let by_name = if previous.is_empty() && details.is_empty() {
        HashMap::new()
    } else {
        let name = |row: &MarketplaceImage| key(&row.offer, &row.sku, &row.version);
        rows.iter().enumerate().map(|(at, row)| (name(row), at)).collect()
    };
    let mut carried_rows: BTreeMap<(String, Option<usize>), CarriedRows> = BTreeMap::new();
    let asked = ScopeIndex::new(&name, &results, requests, &newer);
    for previous in &previous {
        let mut kept = CarriedLocations::default();
        let mut outside = false;
        for location in &previous.locations {
            match asked.fate(location, previous) {
                Fate::Drop => continue,
                Fate::Outside => outside = true,
                Fate::Newer => kept.is_newer = true,
                Fate::Unlisted => {
                    merged.unlisted.entry(location.clone()).or_default().add(previous.observed_at);
                    kept.unanswered.insert(location.clone());
                }
                Fate::StandsIn(gap) => {
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
    add_details(&mut rows, told, &details, &by_name);
    let carried = !merged.rows.is_empty();
    merged.rows.append(&mut rows);
    if carried {
        merged.rows.sort_by(MarketplaceImage::compare);
    }
    share_details(&mut merged.rows);
    // What holds when the run begins: a date may have come since Azure last said that it would.
    for row in &mut merged.rows {
        row.status = row.status_at(run.1);
    }
    mark_latest(&mut merged.rows);
    cover(&name, &results, &carried_rows, run.1, &mut merged);
    merged.previous = previous;
    merged
}

/// Where a row of the snapshot before lives on.
#[derive(Debug, Default)]
struct CarriedLocations {
    /// In these locations,
    locations: BTreeSet<String>,
    /// of which these were asked and did not result.
    unanswered: BTreeSet<String>,
    /// Whether a newer run answered for one of them.
    is_newer: bool,
}

/// Takes over what the row before knew; a row that no location listed anew lives on as it was, in
/// the locations that were not asked or did not result.
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

/// Adds what GETs told, those with the listings and those of the second round. Of several results
/// for one version the last location's counts; they are the same everywhere.
fn add_details(
    rows: &mut [MarketplaceImage],
    told: Vec<Option<Box<VersionDetail>>>,
    details: &[DetailedVersion],
    by_name: &HashMap<VersionKey, usize>,
) {
    for (row, detail) in rows.iter_mut().zip(told) {
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

/// What becomes of a row of the snapshot before, in one of its locations.
enum Fate {
    /// The location was asked and no longer lists it, or lists it anew.
    Drop,
    /// The run was not asked to look there.
    Outside,
    /// It was observed later than the run looked there.
    Newer,
    /// The location's list of publishers is not in.
    Unlisted,
    /// The publisher, or the part of it with this gap, could not be listed.
    StandsIn(Option<usize>),
}

/// What was asked of a publisher, location by location.
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
        let asked = |only: &String| self.lower.contains(&only.to_ascii_lowercase());
        if !requests.only.is_empty() && !requests.only.iter().any(asked) {
            return Fate::Outside;
        }
        match self.results.get(location) {
            None if requests.listed => Fate::Drop,
            None => Fate::Unlisted,
            Some(result) if !result.state.is_complete() => Fate::StandsIn(None),
            Some(result) if result.lacks(row) => Fate::Newer,
            Some(result) if result.gaps.is_empty() => Fate::Drop,
            Some(result) => {
                let (offer, sku) = (row.offer.to_ascii_lowercase(), row.sku.to_ascii_lowercase());
                let gaps = &self.gaps[location];
                let gap = gaps
                    .get(&(offer.clone(), None))
                    .or_else(|| gaps.get(&(offer, Some(sku))))
                    // Offers without a name: it may be one of them.
                    .or_else(|| gaps.get(&(String::new(), None)));
                match gap {
                    Some(gap) if !result.gaps[*gap].state.is_complete() => {
                        Fate::StandsIn(Some(*gap))
                    }
                    _ => Fate::Drop,
                }
            }
        }
    }
}

/// Gaps of listings by offer and SKU, without case.
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
    let state_of = |state: State, carried_rows: CarriedRows| match state {
        State::Failed if carried_rows.rows > 0 => State::Carried,
        state => state,
    };
    for (location, result) in results {
        let own = stands_in(location, None);
        let line = CoverageLine {
            location: location.clone(),
            publisher: Some(publisher.to_owned()),
            state: state_of(result.state, own),
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
            let state = state_of(gap.state, own);
            merged.totals.add(state, 1);
            if let (Some(sku), Some(version)) = (&gap.sku, &gap.version) {
                merged.asked.insert(key(&gap.offer, sku, version));
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
