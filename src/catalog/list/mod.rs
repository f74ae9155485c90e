//! Lists: the rows of an index that a filter accepts, in table order, or ranked if the filter has a
//! search.

mod details;
mod parts;
mod unknown;

pub(super) use parts::{Candidate, part};
pub use unknown::unknown;

use super::alias;
use super::filter::Filter;
use crate::format::index::{GroupPath, Index, Level, Pool};
use crate::image::name::short_name;
use crate::image::names::folded;
use crate::image::{Status, nanoseconds};
use details::{Details, Fit};
use memchr::memmem::Finder;
use std::ops::{ControlFlow, Range};
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

const LEVELS: [Level; 3] = [Level::Publisher, Level::Offer, Level::Sku];
/// How a word occurs in a name: inside it, at the start of a word, or as a whole word.
const WITHIN: u8 = 1;
const PREFIX: u8 = 2;
const WHOLE: u8 = 3;

/// Score of each text of a pool; zero if the text does not match. Empty when no text matches.
struct TextScores(Vec<u8>);

impl TextScores {
    fn of(&self, id: u32) -> u8 {
        self.0.get(id as usize).copied().unwrap_or_default()
    }

    /// Scores all texts that contain `part`, ignoring case.
    fn find(pool: &Pool, part: &str) -> Self {
        Self::places(pool, &folded(part), |at| {
            let name = pool.text().get(at..at + part.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(part.as_bytes()))
        })
    }

    /// Scores all texts that contain `word`, a folded word of a search: the kind of separator is
    /// ignored.
    fn word(pool: &Pool, word: &str) -> Self {
        Self::places(pool, word, |_| true)
    }

    /// Scores all texts that contain `needle`, which is folded, at an offset that `is_it` accepts.
    fn places(pool: &Pool, needle: &str, is_it: impl Fn(usize) -> bool) -> Self {
        if !pool.may_have(needle) {
            return Self(Vec::new());
        }
        let mut fits = vec![0; pool.len()];
        if needle.is_empty() {
            fits.fill(WITHIN);
            return Self(fits);
        }
        let text = pool.folded();
        let finder = Finder::new(needle.as_bytes());
        let mut from = 0;
        while let Some(at) = finder.find(text.get(from..).unwrap_or_default()) {
            let at = from + at;
            let (id, range) = pool.at(at);
            from = at + 1;
            let end = at + needle.len();
            if end > range.end || !is_it(at) {
                continue;
            }
            let inner = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
            let begins = at == range.start || !inner(at - 1);
            let ends = end == range.end || !inner(end);
            let fit = match (begins, ends) {
                (true, true) => WHOLE,
                (true, false) => PREFIX,
                (false, _) => WITHIN,
            };
            if let Some(best) = fits.get_mut(id as usize) {
                *best = fit.max(*best);
                if *best == WHOLE {
                    from = range.end;
                }
            }
        }
        Self(fits)
    }

    /// Scores the texts that equal `wanted`, ignoring case.
    fn same(pool: &Pool, wanted: &str) -> Self {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let same = |id| u8::from(pool.get(id).eq_ignore_ascii_case(wanted));
        Self((0..count).map(same).collect())
    }
}

/// A word of a search, with its scores for publishers, offers, SKUs and versions.
struct SearchWord {
    names: [TextScores; 3],
    /// The SKU groups that the word is an alias of.
    short: Vec<u32>,
    versions: TextScores,
    /// Whether the word occurs in any version. For most words it does not, and rows need not be
    /// scored individually.
    in_versions: bool,
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
    words: Vec<SearchWord>,
}

impl SearchWord {
    /// Prepares a folded word.
    fn new(index: &Index, word: &str) -> Self {
        let versions = TextScores::word(index.versions(), word);
        let short = alias::find(word).map(|alias| index.skus(alias.sku));
        Self {
            names: LEVELS.map(|level| TextScores::word(index.names(level), word)),
            short: short.into_iter().flatten().map(|[.., sku]| sku).collect(),
            in_versions: versions.0.iter().any(|fit| *fit > 0),
            versions,
        }
    }

    /// Returns the best score of the word for the names of a SKU.
    fn fit(&self, index: &Index, group_path: GroupPath) -> u8 {
        if self.short.contains(&group_path[2]) {
            return WHOLE;
        }
        let name = |i: usize| self.names[i].of(index.group_name(LEVELS[i], group_path[i]));
        name(0).max(name(1)).max(name(2))
    }
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
        let names = std::array::from_fn(|i| texts(index.names(LEVELS[i]), wanted[i]));
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let location =
            |name: &String| (0..count).find(|id| index.locations().get(*id) == short_name(name));
        let words = filter.words().into_iter().map(|word| SearchWord::new(index, &word));
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
            words: words.collect(),
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
        for p in publisher..index.groups(Level::Publisher) {
            let fits = self.has_group(Level::Publisher, p);
            if !fits && !every_publisher {
                continue;
            }
            for o in starting_at(index.members(Level::Publisher, p), offer) {
                if !self.has_group(Level::Offer, o) {
                    continue;
                }
                for s in starting_at(index.members(Level::Offer, o), sku) {
                    if self.has_group(Level::Sku, s) && visit([p, o, s], fits).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Visits the accepted rows in table order, each with its path and search score.
    pub(super) fn visit(&self, mut visit: impl FnMut(GroupPath, u32, usize)) {
        let in_versions = self.is_in_versions();
        let mut fits = Vec::new();
        self.walk(0, |group_path| {
            let Some(score) = self.fit_names(group_path, &mut fits) else {
                return ControlFlow::Continue(());
            };
            for row in self.index.members(Level::Sku, group_path[2]) {
                if !self.accepts(row, group_path) {
                    continue;
                }
                let score = if in_versions { self.score(row, &fits) } else { Some(score as usize) };
                if let Some(score) = score {
                    visit(group_path, row, score);
                }
            }
            ControlFlow::Continue(())
        });
    }

    /// Whether a word occurs in a version, so that rows of the same SKU may have different scores.
    fn is_in_versions(&self) -> bool {
        self.words.iter().any(|word| word.in_versions)
    }

    /// Scores each word against the names of a SKU into `fits`, and returns the sum. `None` when a
    /// word matches neither a name nor any version.
    fn fit_names(&self, group_path: GroupPath, fits: &mut Vec<u8>) -> Option<u32> {
        fits.clear();
        for word in &self.words {
            let best = word.fit(self.index, group_path);
            if best == 0 && !word.in_versions {
                return None;
            }
            fits.push(best);
        }
        Some(fits.iter().copied().map(u32::from).sum())
    }

    /// Returns the search score of a row: the sum over all words of the better of the score in
    /// `fits`, which is that of the SKU's names, and the score of the version. `None` when a word
    /// does not match.
    fn score(&self, row: u32, fits: &[u8]) -> Option<usize> {
        let version = self.index.row(row).version();
        let mut sum = 0;
        for (word, best) in self.words.iter().zip(fits) {
            let best = (*best).max(word.versions.of(version));
            if best == 0 {
                return None;
            }
            sum += usize::from(best);
        }
        Some(sum)
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
    if !query.words.is_empty() {
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
    let most = query.words.len() * usize::from(WHOLE);
    let mut ranks: Vec<Vec<Alike>> = vec![Vec::new(); most + 1];
    let in_versions = query.is_in_versions();
    let mut fits = Vec::new();
    query.walk(0, |group_path| {
        let Some(score) = query.fit_names(group_path, &mut fits) else {
            return ControlFlow::Continue(());
        };
        let rows = index.members(Level::Sku, group_path[2]);
        if !in_versions {
            ranks[score as usize].push((group_path, rows));
            return ControlFlow::Continue(());
        }
        for row in rows {
            if let Some(score) = query.score(row, &fits) {
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
