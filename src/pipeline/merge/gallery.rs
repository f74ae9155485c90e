//! Merges one group of gallery rows: the results of its items, its rows of the previous snapshot
//! and the replication of single versions become rows and their coverage.
//!
//! A group is one subscription of ours, all galleries shared with us directly, or all community
//! galleries. A gallery of others is listed per location. Names and properties are taken from the
//! alphabetically first location, and the row has all locations that list it.

use super::{CarriedRows, ScopeResult};
use crate::image::gallery::{GalleryImage, Kind, Replicated, mark_latest};
use crate::pipeline::coverage::{CoverageLine, Totals};
use crate::pipeline::newer::NewerRuns;
use crate::source::gallery::MANAGED_IMAGES;
use crate::work::{GalleryScope, RunId, SourceName, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use time::OffsetDateTime;

/// The scope of one item of a group.
#[derive(Debug, Clone)]
pub struct GroupScope {
    /// The item's scope.
    pub of: GalleryScope,
    /// Whether the scope is too large for one item, and further items cover its parts.
    pub is_split: bool,
}

/// How one item of a group ended.
pub type GroupResult = ScopeResult<GroupScope>;

/// The input of the merge for one group.
#[derive(Debug, Default)]
pub struct GroupInput {
    /// How the group's items ended.
    pub results: Vec<GroupResult>,
    /// The rows they found.
    pub rows: Vec<GalleryImage>,
    /// The replication of single versions.
    pub replicated: Vec<Replicated>,
    /// The group's rows in the previous snapshot.
    pub previous: Vec<GalleryImage>,
    /// The scopes that newer runs have answered.
    pub newer: Arc<NewerRuns>,
}

/// The result of the merge for one group.
#[derive(Debug, Default)]
pub struct MergedGroup {
    /// The group's rows, in the table's order.
    pub rows: Vec<GalleryImage>,
    /// The group's rows in the previous snapshot.
    pub previous: Vec<GalleryImage>,
    /// The group's coverage lines.
    pub lines: Vec<CoverageLine>,
    /// Counts of the group's listings.
    pub totals: Totals,
    /// Number of rows that the run was not asked to crawl.
    pub outside: u64,
}

/// What happens to a row of the previous snapshot in one location.
enum Fate {
    /// It was asked for. It is listed again, or it is gone.
    Drop,
    /// The run was not asked to crawl the location.
    Outside,
    /// A newer run observed it.
    Newer,
    /// It is kept because the result with this number, or this gap of the result, is incomplete.
    Carry(usize, Option<usize>),
}

/// Indexes the results of a group by what they cover. Names are in lower case.
#[derive(Default)]
struct ScopeIndex {
    subscription: Option<usize>,
    /// By resource group and gallery.
    galleries: HashMap<(String, String), usize>,
    /// By resource group, gallery and definition.
    parts: HashMap<(String, String, String), usize>,
    /// Lists of galleries of others, by location.
    locations: HashMap<String, usize>,
    /// Galleries of others, by location and gallery.
    foreign: HashMap<(String, String), usize>,
}

impl ScopeIndex {
    fn new(results: &[GroupResult]) -> Self {
        let mut index = Self::default();
        let lower = str::to_ascii_lowercase;
        for (at, result) in results.iter().enumerate() {
            match &result.scope.of {
                GalleryScope::Subscription { .. } => index.subscription = Some(at),
                GalleryScope::Gallery { own, definitions, .. } => {
                    let name = (lower(&own.resource_group), lower(&own.gallery));
                    if definitions.is_empty() {
                        index.galleries.insert(name, at);
                        continue;
                    }
                    for definition in definitions {
                        let (group, gallery) = name.clone();
                        index.parts.insert((group, gallery, lower(definition)), at);
                    }
                }
                GalleryScope::Replication { .. } => {}
                GalleryScope::SharedIn { location, .. } => {
                    // An incomplete part of a list makes the whole list incomplete: the galleries
                    // in that part are unknown.
                    let list = index.locations.entry(location.clone()).or_insert(at);
                    if !result.state.is_complete() {
                        *list = at;
                    }
                }
                GalleryScope::CommunityIn { location, galleries, .. } => {
                    // The first item of a location is its list, and later ones are parts of the
                    // list. Galleries that are configured by name have one item each.
                    let is_part = index.locations.contains_key(location);
                    if !is_part {
                        index.locations.insert(location.clone(), at);
                        continue;
                    }
                    for gallery in galleries {
                        index.foreign.insert((location.clone(), lower(gallery)), at);
                    }
                }
                GalleryScope::Foreign { location, gallery, .. } => {
                    index.foreign.insert((location.clone(), lower(gallery)), at);
                }
            }
        }
        index
    }

    /// The fate of a row of ours.
    fn own(&self, results: &[GroupResult], row: &GalleryImage) -> Fate {
        let Some(subscription) = self.subscription else { return Fate::Outside };
        let result = &results[subscription];
        if !result.state.is_complete() {
            return Fate::Carry(subscription, None);
        }
        if row.kind == Kind::ManagedImage {
            let gap = result.gaps.iter().position(|gap| gap.offer == MANAGED_IMAGES);
            let gap = gap.filter(|gap| !result.gaps[*gap].state.is_complete());
            return gap.map_or(Fate::Drop, |gap| Fate::Carry(subscription, Some(gap)));
        }
        let lower =
            |name: &Option<String>| name.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (group, gallery) = (lower(&row.resource_group), lower(&row.gallery));
        let part = (group.clone(), gallery.clone(), row.definition.to_ascii_lowercase());
        let Some(gallery_result) = self.galleries.get(&(group, gallery)) else { return Fate::Drop };
        let at = if results[*gallery_result].scope.is_split {
            self.parts.get(&part)
        } else {
            Some(gallery_result)
        };
        match at {
            Some(at) if !results[*at].state.is_complete() => Fate::Carry(*at, None),
            _ => Fate::Drop,
        }
    }

    /// The fate of a row of others in one location.
    fn foreign(&self, results: &[GroupResult], row: &GalleryImage, location: &str) -> Fate {
        let Some(list) = self.locations.get(location) else { return Fate::Outside };
        if !results[*list].state.is_complete() {
            return Fate::Carry(*list, None);
        }
        let gallery = row.gallery.as_deref().unwrap_or_default().to_ascii_lowercase();
        match self.foreign.get(&(location.to_owned(), gallery)) {
            Some(at) if !results[*at].state.is_complete() => Fate::Carry(*at, None),
            _ => Fate::Drop,
        }
    }
}

/// Merges one group. `run` is the run's id and start.
pub fn merge_group(group: GroupInput, run: (RunId, OffsetDateTime)) -> MergedGroup {
    let GroupInput { results, mut rows, replicated, previous, newer } = group;
    let mut merged = MergedGroup::default();
    rows.retain(|row| !row.locations.iter().any(|location| is_newer(&newer, row, location)));
    let mut fresh = folded(rows);
    let replicated_by_id: HashMap<String, &Replicated> =
        replicated.iter().map(|entry| (entry.id.to_ascii_lowercase(), entry)).collect();
    for (id, row) in &mut fresh {
        row.observed_at = run.1;
        row.observed_run = run.0.to_string();
        row.first_seen_at = run.1;
        if let Some(entry) = replicated_by_id.get(id) {
            row.add_replication(entry);
        }
    }
    let index = ScopeIndex::new(&results);
    let mut carried_rows: BTreeMap<(usize, Option<usize>), CarriedRows> = BTreeMap::new();
    for old in &previous {
        let is_own = old.subscription_id.is_some();
        let (mut kept, mut unanswered) = (BTreeSet::new(), BTreeSet::new());
        let mut outside = false;
        // A row of ours is kept or dropped in all locations together.
        let places: Vec<&str> =
            if is_own { vec![""] } else { old.locations.iter().map(String::as_str).collect() };
        for location in places {
            let fate = if is_newer(&newer, old, location) {
                Fate::Newer
            } else if is_own {
                index.own(&results, old)
            } else {
                index.foreign(&results, old, location)
            };
            match fate {
                Fate::Drop => continue,
                Fate::Outside => outside = true,
                Fate::Newer => {}
                Fate::Carry(at, gap) => {
                    carried_rows.entry((at, gap)).or_default().add(old.observed_at);
                    unanswered.insert(location.to_owned());
                }
            }
            kept.insert(location.to_owned());
        }
        merged.outside += u64::from(outside);
        let row = fresh.get_mut(&old.id.to_ascii_lowercase());
        merged.rows.extend(carry(row, old, kept, &unanswered));
    }
    merged.rows.extend(fresh.into_values());
    merged.rows.sort_by(GalleryImage::compare);
    for row in &mut merged.rows {
        row.status = row.status_at(run.1);
    }
    mark_latest(&mut merged.rows);
    cover(&results, &carried_rows, &mut merged);
    merged.previous = previous;
    merged
}

/// Whether a newer run answered for `row` in `location`.
fn is_newer(newer: &NewerRuns, row: &GalleryImage, location: &str) -> bool {
    if newer.is_empty() {
        return false;
    }
    let gallery = row.gallery.as_deref().unwrap_or_default();
    let Some(subscription) = &row.subscription_id else {
        return newer.has_foreign(row.sharing.as_deref().unwrap_or_default(), location, gallery);
    };
    if row.kind == Kind::ManagedImage {
        return newer.has_managed_images(subscription);
    }
    newer.has_definition(subscription, gallery, &row.definition)
}

/// The rows by id. Rows of others with the same id in several locations become one row.
fn folded(mut rows: Vec<GalleryImage>) -> HashMap<String, GalleryImage> {
    rows.sort_by(|a, b| a.compare(b).then_with(|| a.locations.cmp(&b.locations)));
    let mut fresh: HashMap<String, GalleryImage> = HashMap::with_capacity(rows.len());
    for row in rows {
        match fresh.entry(row.id.to_ascii_lowercase()) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(row);
            }
            std::collections::hash_map::Entry::Occupied(first) if row.subscription_id.is_none() => {
                let first = first.into_mut();
                let all: BTreeSet<String> =
                    first.locations.drain(..).chain(row.locations).collect();
                first.locations = all.into_iter().collect();
            }
            // A resource that was listed twice.
            std::collections::hash_map::Entry::Occupied(_) => {}
        }
    }
    fresh
}

/// Copies what the old row knew to the new one. A row that is not listed again is returned
/// unchanged, for the locations that were not asked for or not answered.
fn carry(
    row: Option<&mut GalleryImage>,
    old: &GalleryImage,
    kept: BTreeSet<String>,
    unanswered: &BTreeSet<String>,
) -> Option<GalleryImage> {
    let is_own = old.subscription_id.is_some();
    match row {
        Some(row) => {
            row.first_seen_at = old.first_seen_at;
            if row.replication_state.is_none()
                && row.locations == old.locations
                && old.is_replicated()
            {
                row.replication_state.clone_from(&old.replication_state);
                row.replication.clone_from(&old.replication);
            }
            if !is_own {
                let mut locations: BTreeSet<String> = row.locations.drain(..).collect();
                row.stale = !unanswered.is_subset(&locations);
                locations.extend(kept);
                row.locations = locations.into_iter().collect();
            }
            None
        }
        None if kept.is_empty() => None,
        None => {
            let stale = !unanswered.is_empty();
            let locations = if is_own { old.locations.clone() } else { kept.into_iter().collect() };
            Some(GalleryImage { stale, locations, ..old.clone() })
        }
    }
}

fn line(scope: &GalleryScope) -> CoverageLine {
    let (resource_group, gallery) = match scope {
        GalleryScope::Gallery { own, .. } | GalleryScope::Replication { own, .. } => {
            (Some(own.resource_group.clone()), Some(own.gallery.clone()))
        }
        GalleryScope::Foreign { gallery, .. } => (None, Some(gallery.clone())),
        _ => (None, None),
    };
    let subscription = match scope {
        GalleryScope::Subscription { subscription, .. } => Some(subscription.clone()),
        GalleryScope::Gallery { own, .. } | GalleryScope::Replication { own, .. } => {
            Some(own.subscription.clone())
        }
        _ => None,
    };
    let sharing = match scope {
        GalleryScope::SharedIn { .. } => Some("shared"),
        GalleryScope::CommunityIn { .. } => Some("community"),
        _ => None,
    };
    CoverageLine {
        location: scope.location().to_owned(),
        subscription,
        resource_group,
        gallery,
        sharing: sharing.map(str::to_owned),
        ..CoverageLine::new(SourceName::Gallery)
    }
}

fn cover(
    results: &[GroupResult],
    carried_rows: &BTreeMap<(usize, Option<usize>), CarriedRows>,
    merged: &mut MergedGroup,
) {
    let mut listed_locations: HashSet<String> = HashSet::new();
    for (at, result) in results.iter().enumerate() {
        let own = carried_rows.get(&(at, None)).copied().unwrap_or_default();
        let state = own.ends(result.state);
        merged.totals.add(State::Done, result.listed);
        if state != State::Done {
            merged.totals.add(state, 1);
        }
        let base = CoverageLine {
            state,
            reason: result.reason.clone(),
            attempts: result.attempts,
            rows: result.rows + own.rows,
            since: own.since,
            ..line(&result.scope.of)
        };
        let with_malformed = CoverageLine { malformed: result.malformed.clone(), ..base.clone() };
        match &result.scope.of {
            _ if state.is_complete() && !result.malformed.is_empty() => {
                merged.lines.push(with_malformed);
            }
            // Parts and details that are complete add nothing to the line of their gallery.
            GalleryScope::Replication { versions, .. } => {
                if !state.is_complete() {
                    merged.lines.extend(versions.iter().map(|[definition, version]| {
                        CoverageLine {
                            definition: Some(definition.clone()),
                            version: Some(version.clone()),
                            rows: 0,
                            ..base.clone()
                        }
                    }));
                }
            }
            GalleryScope::Gallery { definitions, .. } if !definitions.is_empty() => {
                if !state.is_complete() {
                    merged.lines.extend(definitions.iter().map(|definition| CoverageLine {
                        definition: Some(definition.clone()),
                        ..base.clone()
                    }));
                }
            }
            GalleryScope::CommunityIn { .. } | GalleryScope::SharedIn { .. }
                if !listed_locations.insert(result.scope.of.location().to_owned()) =>
            {
                if !state.is_complete() {
                    merged.lines.push(base.clone());
                }
            }
            _ => merged.lines.push(with_malformed),
        }
        for (number, gap) in result.gaps.iter().enumerate() {
            let own = carried_rows.get(&(at, Some(number))).copied().unwrap_or_default();
            let state = own.ends(gap.state);
            merged.totals.add(state, 1);
            merged.lines.push(CoverageLine {
                definition: Some(gap.offer.clone()),
                version: gap.version.clone(),
                state,
                reason: gap.reason.clone(),
                attempts: gap.attempts,
                rows: own.rows,
                since: own.since,
                ..base.clone()
            });
        }
    }
}
