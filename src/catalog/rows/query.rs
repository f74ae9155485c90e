//! Filtering of gallery and registry rows. Each distinct name is compared once; rows are tested by
//! number.

use super::entry::{
    ARCHITECTURE, DEFINITION, Entry, GALLERY, GENERATION, KINDS, OFFER, OS, PUBLISHER, REGISTRY,
    REPOSITORY, SKU, SUBSCRIPTION, VERSION,
};
use super::table::RowTable;
use crate::catalog::Filter;
use crate::image::name::short_name;
use crate::image::names::folded;
use crate::image::{Status, registry};
use time::OffsetDateTime;

/// A filter, prepared for one table.
struct RowQuery<'a> {
    table: &'a RowTable,
    /// For each column with a condition: whether each name matches.
    columns: Vec<(usize, Vec<bool>)>,
    /// For each word of the search: whether it occurs in each name.
    words: Vec<Vec<bool>>,
    kinds: [bool; KINDS.len()],
    statuses: [bool; Status::ALL.len()],
    latest: bool,
    locations: Vec<bool>,
    /// Whether each feature set matches. Empty when the filter has no condition on features.
    features: Vec<bool>,
    plan: Option<bool>,
    /// The time of the query.
    now: OffsetDateTime,
    ends_before: Option<OffsetDateTime>,
    first_seen_after: Option<OffsetDateTime>,
    /// Whether each tag set matches. Empty when the filter has no condition on tags.
    tags: Vec<bool>,
    /// For each word of the search: whether it occurs in each tag set.
    tagged: Vec<Vec<bool>>,
}

impl<'a> RowQuery<'a> {
    fn new(table: &'a RowTable, filter: &Filter, now: OffsetDateTime) -> Self {
        let substrings = [
            (PUBLISHER, &filter.publisher),
            (OFFER, &filter.offer),
            (SKU, &filter.sku),
            (VERSION, &filter.version),
            (GALLERY, &filter.gallery),
            (DEFINITION, &filter.definition),
            (SUBSCRIPTION, &filter.subscription),
            (REGISTRY, &filter.registry),
            (REPOSITORY, &filter.repository),
        ];
        let exact = [
            (OS, &filter.os),
            (ARCHITECTURE, &filter.architecture),
            (GENERATION, &filter.generation),
        ];
        let fits = |wanted: &String| -> Vec<bool> {
            table.names.all.iter().map(|name| filter.fits(wanted, name)).collect()
        };
        let is = |wanted: &String| -> Vec<bool> {
            table.names.all.iter().map(|name| name.eq_ignore_ascii_case(wanted)).collect()
        };
        let columns =
            substrings.into_iter().filter_map(|(at, wanted)| Some((at, fits(wanted.as_ref()?))));
        let exact = exact.into_iter().filter_map(|(at, wanted)| Some((at, is(wanted.as_ref()?))));
        let has = |word: &String| -> Vec<bool> {
            table.names.all.iter().map(|name| folded(name).contains(word)).collect()
        };
        let tagged = |fits: &dyn Fn(&str) -> bool| -> Vec<bool> {
            table.tags.all.iter().map(|set| set.iter().any(|tag| fits(tag))).collect()
        };
        // The tags of a resource are not names, so the search does not look at them.
        let in_tags = |word: &String| {
            tagged(&|tag| !tag.contains('=') && folded(tag).contains(word.as_str()))
        };
        let short = |names: &[String]| -> Vec<String> {
            names.iter().map(|name| short_name(name)).collect()
        };
        let (locations, others) = (short(&filter.locations), short(&filter.not_locations));
        let fits_features = |set| filter.fits_features(set);
        Self {
            table,
            columns: columns.chain(exact).collect(),
            words: filter.words().iter().map(has).collect(),
            kinds: KINDS.map(|kind| filter.has_kind(kind)),
            statuses: Status::ALL.map(|status| filter.has_status(status)),
            latest: filter.latest,
            tags: match &filter.tag {
                Some(wanted) => tagged(&|tag| filter.fits_tag(wanted, tag)),
                None => Vec::new(),
            },
            tagged: filter.words().iter().map(in_tags).collect(),
            locations: table
                .locations
                .all
                .iter()
                .map(|set| {
                    locations.iter().all(|location| set.contains(location))
                        && !others.iter().any(|other| set.contains(other))
                })
                .collect(),
            features: if filter.wants_features() {
                table.features.all.iter().map(fits_features).collect()
            } else {
                Vec::new()
            },
            plan: filter.plan,
            now,
            ends_before: filter.ends_before,
            first_seen_after: filter.first_seen_after,
        }
    }

    /// Whether the filter accepts a row.
    fn accepts(&self, row: u32) -> bool {
        let Some(entry) = self.table.entries.get(row as usize) else { return false };
        let name = |column: usize| entry.names[column].map(|id| id as usize);
        self.kinds.get(usize::from(entry.kind)).is_some_and(|fits| *fits)
            && self.statuses[entry.status_at(self.now) as usize]
            && self.accepts_properties(entry)
            && self.locations[entry.locations as usize]
            && self.tags.get(entry.tags as usize).is_none_or(|fits| *fits)
            && self.columns.iter().all(|(column, fits)| name(*column).is_some_and(|id| fits[id]))
            && self.words.iter().zip(&self.tagged).all(|(has, tagged)| {
                // Operating system and architecture are not names, so the search does not look at
                // them.
                (PUBLISHER..=REPOSITORY).any(|column| name(column).is_some_and(|id| has[id]))
                    || tagged[entry.tags as usize]
            })
            && (!self.latest || self.table.is_latest(row, self.now))
    }

    /// Whether an entry's properties match. Container images never match a condition on purchase
    /// plans.
    fn accepts_properties(&self, entry: &Entry) -> bool {
        let has_ended = !entry.status_at(self.now).is_deployable();
        let ends = |before| entry.ends_at.map_or(has_ended, |end| end < before);
        let is_plan = |wanted| entry.has_plan == wanted && entry.kind() != registry::KIND;
        self.plan.is_none_or(is_plan)
            && self.features.get(entry.features as usize).is_none_or(|fits| *fits)
            && self.ends_before.is_none_or(ends)
            && self.first_seen_after.is_none_or(|after| entry.first_seen_at > after)
    }
}

impl RowTable {
    /// Returns the rows that `filter` accepts at `now`, at most `top`, starting at row `from`; and
    /// the row at which the next page starts.
    pub fn list(
        &self,
        filter: &Filter,
        from: u32,
        top: usize,
        now: OffsetDateTime,
    ) -> (Vec<u32>, Option<u32>) {
        let query = RowQuery::new(self, filter, now);
        let mut rows = Vec::new();
        for at in from..u32::try_from(self.len()).unwrap_or(u32::MAX) {
            if !query.accepts(at) {
                continue;
            }
            if rows.len() == top {
                return (rows, Some(at));
            }
            rows.push(at);
        }
        (rows, None)
    }

    /// The number of rows that `filter` accepts at `now`, whatever kinds it names, for each kind.
    pub(in crate::catalog) fn count_by_kind(
        &self,
        filter: &Filter,
        now: OffsetDateTime,
    ) -> [(&'static str, u32); KINDS.len()] {
        let filter = Filter { kinds: Vec::new(), ..filter.clone() };
        let query = RowQuery::new(self, &filter, now);
        let mut counts = KINDS.map(|kind| (kind, 0));
        for (at, entry) in (0..).zip(self.entries()) {
            if let Some((_, count)) = counts.get_mut(usize::from(entry.kind))
                && query.accepts(at)
            {
                *count += 1;
            }
        }
        counts
    }

    /// Whether `filter` accepts a row at `now`.
    pub fn accepts(&self, filter: &Filter, row: u32, now: OffsetDateTime) -> bool {
        self.wanted(filter, now)(row)
    }

    /// Returns a predicate that tells whether `filter` accepts a row at `now`. Prepares the filter
    /// once for many rows.
    pub(in crate::catalog) fn wanted(
        &self,
        filter: &Filter,
        now: OffsetDateTime,
    ) -> impl Fn(u32) -> bool + '_ {
        let query = RowQuery::new(self, filter, now);
        move |row| query.accepts(row)
    }
}
