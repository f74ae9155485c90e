//! One publisher's answers from all locations, its rows of the snapshot before, and what was asked
//! of single versions: merged into rows, with the coverage that belongs to them.
//!
//! The rule where locations disagree: names are written as the alphabetically first location
//! writes them, a property is what the first location that has it says, the status is the most
//! advanced one (deprecated before scheduled before active) and a date is the earliest.
//! A pure function: nothing here depends on when or in what order answers came.

use super::coverage::{Line, Totals};
use crate::image::Status;
use crate::image::marketplace::{Detailed, KIND, Listed, MarketplaceImage, mark_latest};
use crate::work::{Gap, RunId, SourceName, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use time::OffsetDateTime;

/// What one location answered for a publisher.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How the publisher's scope ended.
    pub state: State,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Listings that had something in them.
    pub listed: u64,
    /// Parts that ended otherwise.
    pub gaps: Vec<Gap>,
    /// When its offers were listed, if that was in an earlier run.
    pub offers_listed_at: Option<OffsetDateTime>,
    /// The versions.
    pub rows: Vec<Listed>,
}

/// What a run was to learn of a location.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Whether its whole list of publishers is in.
    pub listed: bool,
    /// Only publishers whose name contains one of these were asked for.
    pub only: Vec<String>,
}

/// Everything about one publisher.
#[derive(Debug, Default)]
pub struct Publisher {
    /// Its name.
    pub name: String,
    /// What each location answered.
    pub answers: BTreeMap<String, Answer>,
    /// Its rows in the snapshot before.
    pub previous: Vec<MarketplaceImage>,
    /// What was asked of single versions.
    pub details: Vec<Detailed>,
}

/// Rows that stand in for a scope that was not answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// How many.
    pub rows: u64,
    /// When the oldest of them was observed.
    pub since: Option<OffsetDateTime>,
}

impl Standing {
    fn add(&mut self, at: OffsetDateTime) {
        self.rows += 1;
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }
}

/// What becomes of a publisher.
#[derive(Debug, Default)]
pub struct Merged {
    /// Its rows, in the table's order.
    pub rows: Vec<MarketplaceImage>,
    /// Its lines of coverage.
    pub lines: Vec<Line>,
    /// Its listings.
    pub totals: Totals,
    /// Rows of locations and publishers that the run was not asked to crawl.
    pub outside: u64,
    /// Versions whose details were asked for in vain.
    pub asked: HashSet<VersionKey>,
    /// Rows that stand in for locations whose list of publishers is not in.
    pub unlisted: BTreeMap<String, Standing>,
}

/// A version's key within its publisher, without case.
pub type VersionKey = (String, String, String);

/// The key of a version.
pub fn key(offer: &str, sku: &str, version: &str) -> VersionKey {
    (offer.to_ascii_lowercase(), sku.to_ascii_lowercase(), version.to_ascii_lowercase())
}

/// Merges one publisher. `reach` has the locations of the run, `run` its name and start.
pub fn merge(
    publisher: &Publisher,
    reach: &BTreeMap<String, Reach>,
    run: (RunId, OffsetDateTime),
) -> Merged {
    let mut merged = Merged::default();
    let mut rows = fresh_rows(publisher, run);
    let mut standing: BTreeMap<(String, Option<usize>), Standing> = BTreeMap::new();
    let gaps: BTreeMap<&str, HashMap<(String, Option<String>), usize>> = publisher
        .answers
        .iter()
        .map(|(location, answer)| (location.as_str(), index(&answer.gaps)))
        .collect();

    for previous in &publisher.previous {
        let mut kept = BTreeSet::new();
        let mut outside = false;
        for location in &previous.locations {
            match fate(publisher, reach, &gaps, location, previous) {
                Fate::Drop => continue,
                Fate::Outside => outside = true,
                Fate::Unlisted => {
                    merged.unlisted.entry(location.clone()).or_default().add(previous.observed_at);
                }
                Fate::StandsIn(gap) => {
                    standing.entry((location.clone(), gap)).or_default().add(previous.observed_at);
                }
            }
            kept.insert(location.clone());
        }
        let row = rows.get_mut(&key(&previous.offer, &previous.sku, &previous.version));
        merged.outside += u64::from(outside);
        merged.rows.extend(carry(row, previous, kept));
    }
    add_details(publisher, &mut rows);
    merged.rows.extend(rows.into_values());
    merged.rows.sort_by(MarketplaceImage::compare);
    mark_latest(&mut merged.rows);
    cover(publisher, &standing, run.1, &mut merged);
    merged
}

/// Takes over what the row before knew; a row that no location listed anew lives on as it was, in
/// the locations that could not be asked.
fn carry(
    row: Option<&mut MarketplaceImage>,
    previous: &MarketplaceImage,
    kept: BTreeSet<String>,
) -> Option<MarketplaceImage> {
    match row {
        Some(row) => {
            row.first_seen_at = previous.first_seen_at;
            row.os.clone_from(&previous.os);
            row.plan_publisher.clone_from(&previous.plan_publisher);
            row.plan_product.clone_from(&previous.plan_product);
            row.plan_name.clone_from(&previous.plan_name);
            row.features.clone_from(&previous.features);
            if previous.has_details() {
                row.architecture = row.architecture.take().or(previous.architecture.clone());
                row.hyper_v_generation =
                    row.hyper_v_generation.take().or(previous.hyper_v_generation.clone());
            }
            let mut locations: BTreeSet<String> = row.locations.drain(..).collect();
            row.stale = !kept.is_subset(&locations);
            locations.extend(kept);
            row.locations = locations.into_iter().collect();
            None
        }
        None if kept.is_empty() => None,
        None => Some(MarketplaceImage {
            locations: kept.into_iter().collect(),
            stale: true,
            ..previous.clone()
        }),
    }
}

/// Adds what GETs told, those with the listings and those of the second round. Of several answers
/// for one version the last location's counts; they are the same everywhere.
fn add_details(publisher: &Publisher, rows: &mut BTreeMap<VersionKey, MarketplaceImage>) {
    let listed = publisher.answers.values().flat_map(|answer| &answer.rows).filter_map(|listed| {
        let detail = listed.detail.as_deref()?;
        Some((key(&listed.offer, &listed.sku, &listed.version), detail))
    });
    let single = publisher
        .details
        .iter()
        .map(|Detailed { urn, detail }| (key(&urn.offer, &urn.sku, &urn.version), detail));
    for (key, detail) in listed.chain(single) {
        if let Some(row) = rows.get_mut(&key) {
            row.add_details(detail);
        }
    }
}

fn fresh_rows(
    publisher: &Publisher,
    (run, at): (RunId, OffsetDateTime),
) -> BTreeMap<VersionKey, MarketplaceImage> {
    let mut rows: BTreeMap<VersionKey, MarketplaceImage> = BTreeMap::new();
    for (location, answer) in &publisher.answers {
        for listed in &answer.rows {
            let entry = rows.entry(key(&listed.offer, &listed.sku, &listed.version));
            let row = entry.or_insert_with(|| blank(&publisher.name, listed, run, at));
            if row.locations.last() == Some(location) {
                continue;
            }
            row.locations.push(location.clone());
            row.status = row.status.max(listed.status.unwrap_or(Status::Active));
            row.scheduled_deprecation_at =
                match (row.scheduled_deprecation_at, listed.scheduled_deprecation_at) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            let fill = |into: &mut Option<String>, from: &Option<String>| {
                if into.is_none() {
                    into.clone_from(from);
                }
            };
            fill(&mut row.architecture, &listed.architecture);
            fill(&mut row.hyper_v_generation, &listed.hyper_v_generation);
            fill(&mut row.alternative, &listed.alternative);
        }
    }
    rows
}

fn blank(publisher: &str, listed: &Listed, run: RunId, at: OffsetDateTime) -> MarketplaceImage {
    let Listed { offer, sku, version, .. } = listed;
    MarketplaceImage {
        kind: KIND.to_owned(),
        id: format!("{publisher}:{offer}:{sku}:{version}"),
        status: Status::Active,
        is_latest: false,
        observed_at: at,
        observed_run: run.to_string(),
        stale: false,
        publisher: publisher.to_owned(),
        offer: offer.clone(),
        sku: sku.clone(),
        version: version.clone(),
        locations: Vec::new(),
        os: None,
        architecture: None,
        hyper_v_generation: None,
        plan_publisher: None,
        plan_product: None,
        plan_name: None,
        scheduled_deprecation_at: None,
        alternative: None,
        features: BTreeMap::new(),
        first_seen_at: at,
    }
}

/// What becomes of a row of the snapshot before, in one of its locations.
enum Fate {
    /// The location was asked and no longer lists it, or lists it anew.
    Drop,
    /// The run was not asked to look there.
    Outside,
    /// The location's list of publishers is not in.
    Unlisted,
    /// The publisher, or the part of it with this gap, could not be listed.
    StandsIn(Option<usize>),
}

fn fate(
    publisher: &Publisher,
    reach: &BTreeMap<String, Reach>,
    gaps: &BTreeMap<&str, HashMap<(String, Option<String>), usize>>,
    location: &str,
    row: &MarketplaceImage,
) -> Fate {
    let Some(reach) = reach.get(location) else { return Fate::Outside };
    let lower = publisher.name.to_ascii_lowercase();
    let asked = |only: &String| lower.contains(&only.to_ascii_lowercase());
    if !reach.only.is_empty() && !reach.only.iter().any(asked) {
        return Fate::Outside;
    }
    match publisher.answers.get(location) {
        None if reach.listed => Fate::Drop,
        None => Fate::Unlisted,
        Some(answer) if !answer.state.is_complete() => Fate::StandsIn(None),
        Some(answer) => {
            let (offer, sku) = (row.offer.to_ascii_lowercase(), row.sku.to_ascii_lowercase());
            let gaps = &gaps[location];
            let gap = gaps.get(&(offer.clone(), None)).or_else(|| gaps.get(&(offer, Some(sku))));
            match gap {
                Some(gap) if !answer.gaps[*gap].state.is_complete() => Fate::StandsIn(Some(*gap)),
                _ => Fate::Drop,
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
    publisher: &Publisher,
    standing: &BTreeMap<(String, Option<usize>), Standing>,
    now: OffsetDateTime,
    merged: &mut Merged,
) {
    let stands_in = |location: &String, gap| {
        standing.get(&(location.clone(), gap)).copied().unwrap_or_default()
    };
    let state_of = |state: State, standing: Standing| match state {
        State::Failed if standing.rows > 0 => State::Carried,
        state => state,
    };
    for (location, answer) in &publisher.answers {
        let own = stands_in(location, None);
        let line = Line {
            source: SourceName::Marketplace,
            location: location.clone(),
            publisher: Some(publisher.name.clone()),
            offer: None,
            sku: None,
            version: None,
            state: state_of(answer.state, own),
            reason: answer.reason.clone(),
            attempts: answer.attempts,
            rows: answer.rows.len() as u64 + own.rows,
            since: own.since,
            offers_listed_at: answer
                .state
                .is_complete()
                .then(|| answer.offers_listed_at.unwrap_or(now)),
        };
        merged.totals.add(State::Done, answer.listed);
        if line.state != State::Done {
            merged.totals.add(line.state, 1);
        }
        merged.lines.push(line.clone());
        for (i, gap) in answer.gaps.iter().enumerate() {
            let own = stands_in(location, Some(i));
            let state = state_of(gap.state, own);
            merged.totals.add(state, 1);
            if let (Some(sku), Some(version)) = (&gap.sku, &gap.version) {
                merged.asked.insert(key(&gap.offer, sku, version));
            }
            merged.lines.push(Line {
                offer: Some(gap.offer.clone()),
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
