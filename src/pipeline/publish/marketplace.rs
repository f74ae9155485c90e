//! Collects a run's marketplace shards, publisher by publisher.

use super::base::BaseSnapshot;
use super::details::{WantedDetails, wants};
use super::gather::{
    DamagedItem, Grouped, Groups, ItemRead, LoadedGroup, NOT_REACHED, PARTS_AHEAD, PreviousRows,
    RunItem, parts, read, read_part,
};
use super::report::{CoverageBuilder, join};
use crate::blocking::in_place;
use crate::error::{ErrorKind, Result};
use crate::image::marketplace::{DetailedVersion, ListedVersion, MarketplaceImage};
use crate::pipeline::coverage::CoverageLine;
use crate::pipeline::merge::marketplace::{
    LocationRequest, LocationResult, MergedPublisher, OfferList, PublisherInput, key,
    merge_publisher,
};
use crate::pipeline::newer::NewerRuns;
use crate::pipeline::survey::Survey;
use crate::store::Store;
use crate::work::{Gap, Malformed, Outcome, Plan, Scope, SourceName, State};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

impl Grouped for MarketplaceImage {
    const TABLE: SourceName = SourceName::Marketplace;

    fn group(&self) -> String {
        self.publisher.to_ascii_lowercase()
    }

    fn is_of(&self, group: &str) -> bool {
        self.publisher.eq_ignore_ascii_case(group)
    }
}

/// Merges the marketplace. Returns the versions whose details are wanted and the items with damaged
/// shards.
pub(super) async fn build(
    shared: &Arc<dyn Store>,
    (plan, survey): (&Plan, &Survey),
    base: &BaseSnapshot,
    ask_details: bool,
    (files, report): &mut super::Into<'_>,
) -> Result<(Vec<WantedDetails>, Vec<DamagedItem>)> {
    let store = shared.as_ref();
    let mut shards = Shards::list(store, plan, survey).await?;
    let mut previous: PreviousRows<MarketplaceImage> =
        PreviousRows::open(store, base.run()).await?;
    let requests = shards.requests(store, plan).await?;
    let mut wanted = Vec::new();
    let run = (plan.run, plan.started_at);
    let mut groups = shards.publishers(shared, &base.newer);
    while let Some((publisher, previous)) = groups.next(&mut previous).await? {
        let mut publisher = publisher.unwrap_or_default();
        if publisher.name.is_empty() {
            let first = previous.first();
            publisher.name = first.map(|row| row.publisher.clone()).unwrap_or_default();
        }
        let newer = Arc::clone(&base.newer);
        let publisher = PublisherInput { previous, newer, ..publisher };
        in_place(|| {
            let merged = merge_publisher(publisher, &requests, run);
            if ask_details {
                let policy = plan.request.details.unwrap_or_default();
                let was_requested = |row: &MarketplaceImage| {
                    merged.requested_details.contains(&key(&row.offer, &row.sku, &row.version))
                };
                let rows = merged.rows.iter().filter(|row| !was_requested(row));
                wanted.extend(rows.filter_map(|row| wants(row, policy, plan.run)));
            }
            report.add(&merged);
            files.changed((&merged.previous, &merged.rows), run, base.run())?;
            merged.rows.iter().try_for_each(|row| files.write(row))
        })?;
    }
    report.locations(&requests, &shards);
    let mut damaged = groups.finish();
    damaged.append(&mut shards.damaged);
    Ok((wanted, damaged))
}

/// The marketplace items of a run, by publisher.
struct Shards {
    locations: Vec<RunItem>,
    groups: BTreeMap<String, Vec<RunItem>>,
    missing_locations: HashSet<String>,
    ends: HashMap<String, (State, String, u32)>,
    /// Malformed members in the responses to lists of publishers, by location.
    malformed: HashMap<String, Malformed>,
    /// Locations whose lists of publishers are unreadable.
    damaged: Vec<DamagedItem>,
}

impl Shards {
    async fn list(store: &dyn Store, plan: &Plan, survey: &Survey) -> Result<Self> {
        let mut this = Self {
            locations: Vec::new(),
            groups: BTreeMap::new(),
            missing_locations: HashSet::new(),
            ends: HashMap::new(),
            malformed: HashMap::new(),
            damaged: Vec::new(),
        };
        for part in parts(store, plan, survey, SourceName::Marketplace).await? {
            match part.item.scope.publisher().map(str::to_ascii_lowercase) {
                Some(publisher) => this.groups.entry(publisher).or_default().push(part),
                None if part.has_ended() => this.locations.push(part),
                None => {
                    this.missing_locations.insert(part.item.scope.location().to_owned());
                }
            }
        }
        Ok(this)
    }

    /// The locations of the run, and whether their lists of publishers are complete.
    async fn requests(
        &mut self,
        store: &dyn Store,
        plan: &Plan,
    ) -> Result<BTreeMap<String, LocationRequest>> {
        let mut requests: BTreeMap<String, LocationRequest> = BTreeMap::new();
        for item in &plan.items {
            let Scope::Location { location, only, .. } = &item.scope else { continue };
            let listed = !self.missing_locations.contains(location);
            requests.insert(location.clone(), LocationRequest { listed, only: only.clone() });
        }
        for part in &self.locations {
            let location = part.item.scope.location();
            let outcome = match read::<ListedVersion>(store, part).await {
                Ok((outcome, _)) => outcome,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let (item, damage) = (part.item.clone(), error.to_string());
                    let outcome = Outcome::bare(item.scope.clone(), State::Failed, &damage, 1);
                    self.damaged.push(DamagedItem { item, damage });
                    outcome
                }
                Err(error) => return Err(error),
            };
            if let Some(requests) = requests.get_mut(location) {
                requests.listed &= outcome.state.is_complete();
            }
            let malformed = self.malformed.entry(location.to_owned()).or_default();
            malformed.join(&outcome.malformed);
            let end = (outcome.state, outcome.reason, outcome.attempts);
            let worst = self.ends.entry(location.to_owned()).or_insert_with(|| end.clone());
            let tells_more = worst.1.is_empty() && !end.1.is_empty();
            if worst.0.is_complete() && (!end.0.is_complete() || tells_more) {
                *worst = end;
            }
        }
        Ok(requests)
    }

    /// Malformed members in the responses to a location's list of publishers.
    fn malformed(&self, location: &str) -> Malformed {
        self.malformed.get(location).cloned().unwrap_or_default()
    }

    /// How a location's list of publishers ended.
    fn location_end(&self, location: &str) -> (State, String, u32) {
        if self.missing_locations.contains(location) {
            return (State::Failed, NOT_REACHED.to_owned(), 0);
        }
        let unknown = || (State::Failed, NOT_REACHED.to_owned(), 0);
        self.ends.get(location).cloned().unwrap_or_else(unknown)
    }

    /// Takes the publishers of the run, in order. Each is read in its own task. Must be called only
    /// once.
    fn publishers(
        &mut self,
        store: &Arc<dyn Store>,
        newer: &Arc<NewerRuns>,
    ) -> Groups<PublisherInput> {
        Groups::new(std::mem::take(&mut self.groups), (store, newer), load)
    }
}

/// Reads the items of a publisher, in alphabetical order of their locations, and folds them
/// together.
async fn load(
    (store, newer): (Arc<dyn Store>, Arc<NewerRuns>),
    key: String,
    mut parts: Vec<RunItem>,
) -> Result<LoadedGroup<PublisherInput>> {
    // The sort is stable: items of one location stay in the order of the survey.
    parts.sort_by(|a, b| a.item.scope.location().cmp(b.item.scope.location()));
    let names = parts.iter().filter_map(|part| {
        Some((part.item.scope.location(), part.item.scope.publisher()?.to_owned()))
    });
    let name = names.min().map(|(_, name)| name).unwrap_or_default();
    let newer_too = Arc::clone(&newer);
    let mut publisher = PublisherInput { name, newer: newer_too, ..PublisherInput::default() };
    let mut damaged = Vec::new();
    let mut listed: Vec<ListedVersion> = Vec::new();
    let mut read = stream::iter(parts)
        .map(|part| {
            let store = Arc::clone(&store);
            async move { read_part::<ListedVersion, DetailedVersion>(store.as_ref(), part).await }
        })
        .buffered(PARTS_AHEAD)
        .boxed();
    let mut at: Option<String> = None;
    while let Some(part) = read.try_next().await? {
        let ItemRead { item, outcome, mut rows, details, damage } = part;
        let location = item.scope.location();
        if !newer.is_empty() {
            rows.retain(|row| !newer.has_sku(location, &publisher.name, &row.offer, &row.sku));
        }
        if at.as_deref() != Some(location)
            && let Some(before) = at.replace(location.to_owned())
        {
            publisher.fresh.add(&before, std::mem::take(&mut listed));
        }
        let result = publisher.results.entry(location.to_owned()).or_insert_with(unasked);
        result.rows += rows.len() as u64;
        add(result, outcome);
        listed.extend(rows);
        publisher.details.extend(details);
        damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
    }
    if let Some(last) = at {
        publisher.fresh.add(&last, listed);
    }
    for result in publisher.results.values_mut() {
        result.gaps.sort();
    }
    publisher.details.sort_by(|a, b| a.urn.cmp(&b.urn));
    Ok(LoadedGroup { key, group: publisher, damaged })
}

fn unasked() -> LocationResult {
    LocationResult {
        scope: OfferList::default(),
        state: State::Done,
        reason: String::new(),
        attempts: 0,
        listed: 0,
        gaps: Vec::new(),
        malformed: Malformed::default(),
        rows: 0,
    }
}

/// Adds the outcome of one item to the result of its location. An incomplete part becomes gaps for
/// its offers or versions, so that the rest of the publisher counts as answered.
fn add(result: &mut LocationResult, outcome: Outcome) {
    let Outcome { scope, state, reason, attempts, listed, gaps, malformed, .. } = outcome;
    result.malformed.join(&malformed);
    let gap = |offer: &String, sku: Option<&String>, version: Option<&String>| Gap {
        offer: offer.clone(),
        sku: sku.cloned(),
        version: version.cloned(),
        state,
        reason: reason.clone(),
        attempts,
    };
    match &scope {
        Scope::Offers { offers, .. } if !state.is_complete() => {
            result.gaps.extend(offers.iter().map(|offer| gap(offer, None, None)));
        }
        Scope::Details { images, .. } if !state.is_complete() => {
            let gaps =
                images.iter().map(|[offer, sku, version]| gap(offer, Some(sku), Some(version)));
            result.gaps.extend(gaps);
        }
        Scope::Publisher { known, .. } => {
            result.scope.listed_at = known.as_ref().and_then(|known| known.listed_at);
            let offers = known.iter().flat_map(|known| &known.offers);
            result.scope.offers = offers.map(|offer| offer.to_ascii_lowercase()).collect();
            result.state = state;
            result.reason = reason;
            result.attempts = attempts;
        }
        _ => {}
    }
    result.listed += listed;
    result.gaps.extend(gaps);
}

impl CoverageBuilder {
    fn add(&mut self, merged: &MergedPublisher) {
        let known = merged.rows.iter().filter(|row| row.has_details()).count() as u64;
        self.details.known += known;
        self.details.unknown += merged.rows.len() as u64 - known;
        self.outside += merged.outside;
        self.lines.extend_from_slice(&merged.lines);
        join(&mut self.unlisted, &merged.unlisted);
        self.totals.join(&merged.totals);
    }

    /// Adds a line for each location's list of publishers.
    fn locations(&mut self, requests: &BTreeMap<String, LocationRequest>, shards: &Shards) {
        for location in requests.keys() {
            let carried = self.unlisted.get(location).copied().unwrap_or_default();
            let only = requests[location].only.clone();
            let (state, reason, attempts) = shards.location_end(location);
            let state = carried.ends(state);
            self.totals.add(state, 1);
            self.lines.push(CoverageLine {
                location: location.clone(),
                state,
                reason,
                attempts,
                malformed: shards.malformed(location),
                only,
                rows: carried.rows,
                since: carried.since,
                ..CoverageLine::new(SourceName::Marketplace)
            });
        }
    }
}
