//! Lists: the rows of an index that a filter accepts, in table order, or ranked if the filter has a
//! search.

mod details;
mod parts;
mod search;
mod sku_set;
mod text;
mod unknown;

pub(super) use parts::{Candidate, part};
pub use unknown::unknown;

use super::filter::Filter;
use crate::format::index::{GroupPath, Index, Level, Pool};
use crate::image::name::short_name;
use crate::image::{Status, nanoseconds};
use details::{Details, Fit};
use search::Search;
use sku_set::SkuSet;
use std::ops::{ControlFlow, Range};
use text::TextScores;
use time::OffsetDateTime;

/// A row's number and its path.
pub type Found = (u32, GroupPath);

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Found>,
    /// Rows of the gallery and registry tables, which follow `rows`.
    pub others: Vec<u32>,
    /// Position of the next page, if there are more rows.
    pub next: Option<u32>,
}

/// A filter, prepared for one index.
pub(super) struct ListQuery<'a> {
    index: &'a Index,
    /// The SKUs of the publishers that match. `None` if all do, as in the next field.
    publishers: Option<SkuSet>,
    /// The SKUs that match and whose offers match, and that have all words of the search, though
    /// maybe not all in the same version.
    skus: Option<SkuSet>,
    versions: Option<TextScores>,
    details: Details<'a>,
    /// The time of the query, in nanoseconds since 1970.
    now: i64,
    statuses: [bool; Status::ALL.len()],
    locations: Vec<u32>,
    not_locations: Vec<u32>,
    latest: bool,
    search: Search,
}

impl<'a> ListQuery<'a> {
    /// Returns `None` when no row can match.
    pub(super) fn new(index: &'a Index, filter: &'a Filter, now: OffsetDateTime) -> Option<Self> {
        if !filter.wants_marketplace() {
            return None;
        }
        let texts = |pool: &Pool, wanted: &Option<String>| {
            let wanted = wanted.as_ref()?;
            Some(if filter.exact {
                TextScores::same(pool, wanted)
            } else {
                TextScores::find(pool, wanted)
            })
        };
        let named = |level: Level, wanted: &Option<String>| {
            Some(SkuSet::named(index, level, &texts(index.names(level), wanted)?))
        };
        let search = Search::new(index, filter);
        let below = [named(Level::Offer, &filter.offer), named(Level::Sku, &filter.sku)];
        let skus = SkuSet::in_all(below.iter().flatten().chain(search.skus()));
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let location =
            |name: &String| (0..count).find(|id| index.locations().get(*id) == short_name(name));
        let statuses = Status::ALL.map(|status| filter.has_status(status));
        Some(Self {
            index,
            publishers: named(Level::Publisher, &filter.publisher),
            skus,
            versions: texts(index.versions(), &filter.version),
            details: Details::new(index, filter),
            now: nanoseconds(now),
            statuses,
            locations: filter.locations.iter().map(location).collect::<Option<_>>()?,
            // An excluded location that the index does not contain excludes nothing.
            not_locations: filter.not_locations.iter().filter_map(location).collect(),
            latest: filter.latest,
            search,
        })
    }

    /// Whether a status is accepted. An unknown status matches only if every status is
    /// accepted.
    fn accepts_status(&self, status: Option<Status>) -> bool {
        let wanted = |status: Status| self.statuses[status as usize];
        status.map_or_else(|| self.statuses.iter().all(|wanted| *wanted), wanted)
    }

    fn accepts(&self, at: u32, group_path: GroupPath) -> bool {
        self.fit(at, group_path) == Fit::Yes
    }

    /// Tests a row, ignoring the words of the search.
    fn fit(&self, at: u32, group_path: GroupPath) -> Fit {
        let row = self.index.row(at);
        let is_in = |location: &u32| self.index.is_in(row.locations(), &[*location]);
        let status = self.index.status(row, self.now);
        let fits = self.accepts_status(status)
            && (!self.latest || self.is_latest(at, group_path))
            && self.versions.as_ref().is_none_or(|fits| fits.of(row.version()) > 0)
            && (self.locations.is_empty() || self.index.is_in(row.locations(), &self.locations))
            && !self.not_locations.iter().any(is_in);
        if fits { self.details.fit(row, status) } else { Fit::No }
    }

    /// Whether a row is the latest of its SKU at the time of the query.
    pub(super) fn is_latest(&self, at: u32, group_path: GroupPath) -> bool {
        self.index.is_latest(at, group_path[2], self.now)
    }

    /// Visits the SKUs that match, starting with the SKU of row `from`.
    fn walk(&self, from: u32, visit: impl FnMut(GroupPath) -> ControlFlow<()>) {
        let sets = self.publishers.iter().chain(&self.skus);
        self.walk_in(SkuSet::in_all(sets).as_ref(), from, visit);
    }

    /// Like [`walk`](Self::walk), but visits the SKUs of every publisher. Also tells whether the
    /// publisher matches.
    fn walk_all_publishers(&self, mut visit: impl FnMut(GroupPath, bool) -> ControlFlow<()>) {
        self.walk_in(self.skus.as_ref(), 0, |group_path| {
            let is_in = |skus: &SkuSet| skus.contains(group_path[2]);
            visit(group_path, self.publishers.as_ref().is_none_or(is_in))
        });
    }

    /// Visits the SKUs of a set; `None` is all.
    fn walk_in(
        &self,
        skus: Option<&SkuSet>,
        from: u32,
        mut visit: impl FnMut(GroupPath) -> ControlFlow<()>,
    ) {
        let index = self.index;
        let next = |sku: u32| skus.map_or(sku, |skus| skus.next(sku));
        let [mut publisher, mut offer, sku] = index.path_of(from);
        let (mut sku, count) = (next(sku), index.groups(Level::Sku));
        while sku < count {
            offer = index.parent(Level::Offer, offer, sku);
            publisher = index.parent(Level::Publisher, publisher, offer);
            let end = index.members(Level::Offer, offer).end;
            while sku < end {
                if visit([publisher, offer, sku]).is_break() {
                    return;
                }
                sku = next(sku + 1);
            }
        }
    }

    /// The search score of a row, given the scores of its SKU's names: their sum `score`, and that
    /// of each word in `fits`. `None` when a word does not match.
    fn score(&self, row: u32, score: usize, fits: &[u8]) -> Option<usize> {
        if self.search.in_versions {
            self.search.score(self.index.row(row).version(), fits)
        } else {
            Some(score)
        }
    }

    /// Visits the accepted rows in table order, each with its path and search score.
    pub(super) fn visit(&self, mut visit: impl FnMut(GroupPath, u32, usize)) {
        let mut fits = Vec::new();
        self.walk(0, |group_path| {
            let Some(score) = self.search.fit_names(group_path[2], &mut fits) else {
                return ControlFlow::Continue(());
            };
            for row in self.index.members(Level::Sku, group_path[2]) {
                if !self.accepts(row, group_path) {
                    continue;
                }
                if let Some(score) = self.score(row, score, &fits) {
                    visit(group_path, row, score);
                }
            }
            ControlFlow::Continue(())
        });
    }
}

/// The part of `range` that starts at `from`.
fn starting_at(range: Range<u32>, from: u32) -> Range<u32> {
    range.start.max(from)..range.end
}

/// Returns the rows that `filter` accepts at `now`: at most `top`, starting at position `from`,
/// which is zero or the `next` of an earlier page.
pub fn list(index: &Index, filter: &Filter, from: u32, top: usize, now: OffsetDateTime) -> Page {
    let mut page = Page::default();
    let Some(query) = ListQuery::new(index, filter, now) else { return page };
    if query.search.words() > 0 {
        return ranked(&query, from as usize, top);
    }
    query.walk(from, |group_path| {
        for row in starting_at(index.members(Level::Sku, group_path[2]), from) {
            if !query.accepts(row, group_path) {
                continue;
            }
            if page.rows.len() == top {
                page.next = Some(row);
                return ControlFlow::Break(());
            }
            page.rows.push((row, group_path));
        }
        ControlFlow::Continue(())
    });
    page
}

/// Rows of one SKU that have the same score.
type Alike = (GroupPath, Range<u32>);

/// Lists rows by descending score, then the latest of their SKU first, then in table order. The
/// `next` of the page is a position in this order.
fn ranked(query: &ListQuery<'_>, from: usize, top: usize) -> Page {
    let index = query.index;
    let most = query.search.words() * Search::BEST;
    let mut ranks: Vec<Vec<Alike>> = vec![Vec::new(); most + 1];
    let mut fits = Vec::new();
    query.walk(0, |group_path| {
        let Some(score) = query.search.fit_names(group_path[2], &mut fits) else {
            return ControlFlow::Continue(());
        };
        let rows = index.members(Level::Sku, group_path[2]);
        if !query.search.in_versions {
            ranks[score].push((group_path, rows));
            return ControlFlow::Continue(());
        }
        for row in rows {
            if let Some(score) = query.score(row, score, &fits) {
                ranks[score].push((group_path, row..row + 1));
            }
        }
        ControlFlow::Continue(())
    });
    let mut page = Page::default();
    let mut skipped = 0;
    for (rank, latest) in ranks.iter().rev().flat_map(|rank| [(rank, true), (rank, false)]) {
        for (group_path, rows) in rank {
            for at in rows.clone() {
                if query.is_latest(at, *group_path) != latest || !query.accepts(at, *group_path) {
                    continue;
                }
                if skipped < from {
                    skipped += 1;
                } else if page.rows.len() < top {
                    page.rows.push((at, *group_path));
                } else {
                    page.next = u32::try_from(from + top).ok();
                    return page;
                }
            }
        }
    }
    page
}
