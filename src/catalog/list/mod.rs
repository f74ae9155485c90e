//! Lists: the rows of an index that a filter accepts, in table order, or ranked if the filter has a
//! search.

mod details;
mod parts;
mod search;
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
    names: [Option<TextScores>; 3],
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
        let wanted = [&filter.publisher, &filter.offer, &filter.sku];
        let names = std::array::from_fn(|i| texts(index.names(Level::ALL[i]), wanted[i]));
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let location =
            |name: &String| (0..count).find(|id| index.locations().get(*id) == short_name(name));
        let statuses = Status::ALL.map(|status| filter.has_status(status));
        Some(Self {
            index,
            names,
            versions: texts(index.versions(), &filter.version),
            details: Details::new(index, filter),
            now: nanoseconds(now),
            statuses,
            locations: filter.locations.iter().map(location).collect::<Option<_>>()?,
            // An excluded location that the index does not contain excludes nothing.
            not_locations: filter.not_locations.iter().filter_map(location).collect(),
            latest: filter.latest,
            search: Search::new(index, filter),
        })
    }

    fn has_group(&self, level: Level, group: u32) -> bool {
        self.names[level as usize]
            .as_ref()
            .is_none_or(|fits| fits.of(self.index.group_name(level, group)) > 0)
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

    /// Visits the SKUs whose names match, starting with the SKU of row `from`.
    fn walk(&self, from: u32, mut visit: impl FnMut(GroupPath) -> ControlFlow<()>) {
        self.walk_in(from, false, |group_path, _| visit(group_path));
    }

    /// Like [`walk`](Self::walk), but visits the SKUs of every publisher if `every_publisher` is
    /// set. Also tells whether the name of the publisher matches.
    fn walk_in(
        &self,
        from: u32,
        every_publisher: bool,
        mut visit: impl FnMut(GroupPath, bool) -> ControlFlow<()>,
    ) {
        let [publisher, offer, sku] = self.index.path_of(from);
        let index = self.index;
        // The next SKU that may match the search. Most groups have none.
        let mut next = self.search.next(sku);
        for p in publisher..index.groups(Level::Publisher) {
            let fits = self.has_group(Level::Publisher, p);
            if next >= index.skus_below(Level::Publisher, p).end || (!fits && !every_publisher) {
                continue;
            }
            for o in starting_at(index.members(Level::Publisher, p), offer) {
                let skus = index.members(Level::Offer, o);
                next = self.search.next(next.max(skus.start));
                if next >= skus.end || !self.has_group(Level::Offer, o) {
                    continue;
                }
                while next < skus.end {
                    if self.has_group(Level::Sku, next) && visit([p, o, next], fits).is_break() {
                        return;
                    }
                    next = self.search.next(next + 1);
                }
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
