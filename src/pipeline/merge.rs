//! One publisher's answers from all locations, its rows of the snapshot before, and what was asked
//! of single versions: merged into rows, with the coverage that belongs to them.
//!
//! The rule where locations disagree: names are written as the alphabetically first location
//! writes them, a property is what the first location that has it says, the status is the most
//! advanced one (deprecated before scheduled before active) and a date is the earliest.
//! A pure function: nothing here depends on when or in what order answers came.

mod fresh;
pub mod gallery;
pub mod registry;

pub use fresh::Fresh;

use super::coverage::{Line, Totals};
use super::newer::Newer;
use crate::image::marketplace::{
    Detail, Detailed, DetailsFrom, MarketplaceImage, mark_latest, share_details,
};
use crate::work::{Gap, Malformed, RunId, SourceName, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
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
    /// Members of the answers that were of another form.
    pub malformed: Malformed,
    /// When its offers were listed, if that was in an earlier run,
    pub offers_listed_at: Option<OffsetDateTime>,
    /// and which these were, in lower case.
    pub offers_known: HashSet<String>,
    /// How many versions it listed.
    pub rows: u64,
}

impl Answer {
    /// Whether it rests on a list of offers that was made before `row` was observed, and that does not have
    /// its offer.
    fn lacks(&self, row: &MarketplaceImage) -> bool {
        self.offers_listed_at.is_some_and(|listed_at| row.observed_at > listed_at)
            && !self.offers_known.contains(&row.offer.to_ascii_lowercase())
    }
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
    /// What they list.
    pub fresh: Fresh,
    /// Its rows in the snapshot before.
    pub previous: Vec<MarketplaceImage>,
    /// What was asked of single versions.
    pub details: Vec<Detailed>,
    /// What newer runs have answered.
    pub newer: Arc<Newer>,
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
    /// How a scope ended, seen together with what stands in for it.
    pub fn ends(self, state: State) -> State {
        match state {
            State::Failed if self.rows > 0 => State::Carried,
            state => state,
        }
    }

    /// One more row, observed then.
    pub fn add(&mut self, at: OffsetDateTime) {
        self.rows += 1;
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }
}

/// What becomes of a publisher.
#[derive(Debug, Default)]
pub struct Merged {
    /// Its rows, in the table's order.
    pub rows: Vec<MarketplaceImage>,
    /// Its rows in the snapshot before.
    pub previous: Vec<MarketplaceImage>,
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
    publisher: Publisher,
    reach: &BTreeMap<String, Reach>,
    run: (RunId, OffsetDateTime),
) -> Merged {
    let Publisher { name, answers, fresh, previous, details, newer } = publisher;
    let mut merged = Merged::default();
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
    let mut standing: BTreeMap<(String, Option<usize>), Standing> = BTreeMap::new();
    let asked = Asked::new(&name, &answers, reach, &newer);
    for previous in &previous {
        let mut kept = Kept::default();
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
                    standing.entry((location.clone(), gap)).or_default().add(previous.observed_at);
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
    cover(&name, &answers, &standing, run.1, &mut merged);
    merged.previous = previous;
    merged
}

/// Where a row of the snapshot before lives on.
#[derive(Debug, Default)]
struct Kept {
    /// In these locations,
    locations: BTreeSet<String>,
    /// of which these were asked and did not answer.
    unanswered: BTreeSet<String>,
    /// Whether a newer run answered for one of them.
    is_newer: bool,
}

/// Takes over what the row before knew; a row that no location listed anew lives on as it was, in
/// the locations that were not asked or did not answer.
fn carry(
    row: Option<&mut MarketplaceImage>,
    previous: &MarketplaceImage,
    kept: Kept,
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

/// Adds what GETs told, those with the listings and those of the second round. Of several answers
/// for one version the last location's counts; they are the same everywhere.
fn add_details(
    rows: &mut [MarketplaceImage],
    told: Vec<Option<Box<Detail>>>,
    details: &[Detailed],
    by_name: &HashMap<VersionKey, usize>,
) {
    for (row, detail) in rows.iter_mut().zip(told) {
        if let Some(detail) = detail {
            row.add_details(&detail, DetailsFrom::This);
        }
    }
    for Detailed { urn, detail } in details {
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
struct Asked<'a> {
    lower: String,
    answers: &'a BTreeMap<String, Answer>,
    reach: &'a BTreeMap<String, Reach>,
    gaps: BTreeMap<&'a str, HashMap<(String, Option<String>), usize>>,
    newer: &'a Newer,
}

impl<'a> Asked<'a> {
    fn new(
        publisher: &str,
        answers: &'a BTreeMap<String, Answer>,
        reach: &'a BTreeMap<String, Reach>,
        newer: &'a Newer,
    ) -> Self {
        let gaps = answers
            .iter()
            .map(|(location, answer)| (location.as_str(), index(&answer.gaps)))
            .collect();
        Self { lower: publisher.to_ascii_lowercase(), answers, reach, gaps, newer }
    }

    fn fate(&self, location: &str, row: &MarketplaceImage) -> Fate {
        if self.newer.has_sku(location, &row.publisher, &row.offer, &row.sku) {
            return Fate::Newer;
        }
        let Some(reach) = self.reach.get(location) else { return Fate::Outside };
        let asked = |only: &String| self.lower.contains(&only.to_ascii_lowercase());
        if !reach.only.is_empty() && !reach.only.iter().any(asked) {
            return Fate::Outside;
        }
        match self.answers.get(location) {
            None if reach.listed => Fate::Drop,
            None => Fate::Unlisted,
            Some(answer) if !answer.state.is_complete() => Fate::StandsIn(None),
            Some(answer) if answer.lacks(row) => Fate::Newer,
            Some(answer) if answer.gaps.is_empty() => Fate::Drop,
            Some(answer) => {
                let (offer, sku) = (row.offer.to_ascii_lowercase(), row.sku.to_ascii_lowercase());
                let gaps = &self.gaps[location];
                let gap = gaps
                    .get(&(offer.clone(), None))
                    .or_else(|| gaps.get(&(offer, Some(sku))))
                    // Offers without a name: it may be one of them.
                    .or_else(|| gaps.get(&(String::new(), None)));
                match gap {
                    Some(gap) if !answer.gaps[*gap].state.is_complete() => {
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
    answers: &BTreeMap<String, Answer>,
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
    for (location, answer) in answers {
        let own = stands_in(location, None);
        let line = Line {
            location: location.clone(),
            publisher: Some(publisher.to_owned()),
            state: state_of(answer.state, own),
            reason: answer.reason.clone(),
            attempts: answer.attempts,
            rows: answer.rows + own.rows,
            since: own.since,
            offers_listed_at: answer
                .state
                .is_complete()
                .then(|| answer.offers_listed_at.unwrap_or(now)),
            ..Line::new(SourceName::Marketplace)
        };
        merged.totals.add(State::Done, answer.listed);
        if line.state != State::Done {
            merged.totals.add(line.state, 1);
        }
        merged.lines.push(Line { malformed: answer.malformed.clone(), ..line.clone() });
        for (i, gap) in answer.gaps.iter().enumerate() {
            let own = stands_in(location, Some(i));
            let state = state_of(gap.state, own);
            merged.totals.add(state, 1);
            if let (Some(sku), Some(version)) = (&gap.sku, &gap.version) {
                merged.asked.insert(key(&gap.offer, sku, version));
            }
            merged.lines.push(Line {
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
