//! Lists: the rows of an index that a filter accepts, in the table's order, or ranked when words
//! are searched for.

mod details;
mod unknown;

pub use unknown::unknown;

use super::alias;
use super::filter::Filter;
use crate::format::index::{GroupPath, Index, Level, Pool, Row};
use crate::image::name::short_name;
use crate::image::names::folded;
use crate::image::{Status, nanoseconds};
use details::{Details, Fit};
use memchr::memmem::Finder;
use std::ops::{ControlFlow, Range};
use time::OffsetDateTime;

/// A row that was found, and where it stands.
pub type Found = (u32, GroupPath);

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Found>,
    /// Rows of the other tables, behind these.
    pub others: Vec<u32>,
    /// Where the next part begins, if there is more.
    pub next: Option<u32>,
}

const LEVELS: [Level; 3] = [Level::Publisher, Level::Offer, Level::Sku];
/// How a word occurs: within another, at its beginning, or as a whole.
const WITHIN: u8 = 1;
const PREFIX: u8 = 2;
const WHOLE: u8 = 3;

/// How well each text of a pool fits; zero where it does not. Empty when none does.
struct TextScores(Vec<u8>);

impl TextScores {
    fn of(&self, id: u32) -> u8 {
        self.0.get(id as usize).copied().unwrap_or_default()
    }

    /// Looks for a part of a name in all texts of a pool at once, without case.
    fn find(pool: &Pool, part: &str) -> Self {
        Self::places(pool, &folded(part), |at| {
            let name = pool.text().get(at..at + part.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(part.as_bytes()))
        })
    }

    /// The same of a word of a search, which is folded: separators are alike.
    fn word(pool: &Pool, word: &str) -> Self {
        Self::places(pool, word, |_| true)
    }

    /// Looks for `needle`, which is folded, in all texts of a pool, at the places where `is_it` says so.
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

    /// The texts that are `wanted`, without case.
    fn same(pool: &Pool, wanted: &str) -> Self {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let same = |id| u8::from(pool.get(id).eq_ignore_ascii_case(wanted));
        Self((0..count).map(same).collect())
    }
}

/// A word, and how well it fits publishers, offers, SKUs and versions.
struct SearchWord {
    names: [TextScores; 3],
    /// The groups of SKUs that it is the short name of.
    short: Vec<u32>,
    versions: TextScores,
    /// Whether any version has it: most words do not, and rows need not be looked at then.
    in_versions: bool,
}

/// A filter, made ready for one index.
pub(super) struct ListQuery<'a> {
    index: &'a Index,
    names: [Option<TextScores>; 3],
    versions: Option<TextScores>,
    details: Details<'a>,
    /// The moment of the question, in nanoseconds since 1970.
    now: i64,
    statuses: [bool; Status::ALL.len()],
    locations: Vec<u32>,
    not_locations: Vec<u32>,
    latest: bool,
    words: Vec<SearchWord>,
}

impl SearchWord {
    /// A word that is folded.
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

    /// How well it fits the names of a SKU.
    fn fit(&self, index: &Index, place: GroupPath) -> u8 {
        if self.short.contains(&place[2]) {
            return WHOLE;
        }
        let name = |i: usize| self.names[i].of(index.group_name(LEVELS[i], place[i]));
        name(0).max(name(1)).max(name(2))
    }
}

impl<'a> ListQuery<'a> {
    /// None when nothing can fit.
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
            // Nothing is where the catalog has nothing.
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

    /// Whether its status is wanted; one that is not known is no answer to a question for one.
    fn has_status(&self, row: Row<'_>) -> bool {
        let wanted = |status: Status| self.statuses[status as usize];
        let status = self.index.status(row, self.now);
        status.map_or_else(|| self.statuses.iter().all(|wanted| *wanted), wanted)
    }

    fn accepts(&self, at: u32, place: GroupPath) -> bool {
        self.fit(at, place) == Fit::Yes
    }

    /// Whether a row fits, where it is known.
    fn fit(&self, at: u32, place: GroupPath) -> Fit {
        let row = self.index.row(at);
        let is_in = |location: &u32| self.index.is_in(row.locations(), &[*location]);
        let fits = self.has_status(row)
            && (!self.latest || self.is_latest(at, place))
            && self.versions.as_ref().is_none_or(|fits| fits.of(row.version()) > 0)
            && (self.locations.is_empty() || self.index.is_in(row.locations(), &self.locations))
            && !self.not_locations.iter().any(is_in);
        if fits { self.details.fit(row, self.index.status(row, self.now)) } else { Fit::No }
    }

    /// Whether a row is the latest of its SKU at the moment of the question.
    pub(super) fn is_latest(&self, at: u32, place: GroupPath) -> bool {
        self.index.is_latest(at, place[2], self.now)
    }

    /// Goes through the SKUs that the filter accepts, from the one on that has the row `from`.
    fn walk(&self, from: u32, mut visit: impl FnMut(GroupPath) -> ControlFlow<()>) {
        let [publisher, offer, sku] = self.index.place(from);
        let index = self.index;
        for p in publisher..index.groups(Level::Publisher) {
            if !self.has_group(Level::Publisher, p) {
                continue;
            }
            for o in from_on(index.members(Level::Publisher, p), offer) {
                if !self.has_group(Level::Offer, o) {
                    continue;
                }
                for s in from_on(index.members(Level::Offer, o), sku) {
                    if self.has_group(Level::Sku, s) && visit([p, o, s]).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Visits the rows that the filter accepts, in the table's order, each with its place and how well the words fit.
    pub(super) fn visit(&self, mut visit: impl FnMut(GroupPath, u32, usize)) {
        let in_versions = self.is_in_versions();
        let mut fits = Vec::new();
        self.walk(0, |place| {
            let Some(score) = self.fit_names(place, &mut fits) else {
                return ControlFlow::Continue(());
            };
            for row in self.index.members(Level::Sku, place[2]) {
                if !self.accepts(row, place) {
                    continue;
                }
                let score = if in_versions { self.score(row, &fits) } else { Some(score as usize) };
                if let Some(score) = score {
                    visit(place, row, score);
                }
            }
            ControlFlow::Continue(())
        });
    }

    /// Whether a word may be found in versions, so that each row of a SKU fits differently.
    fn is_in_versions(&self) -> bool {
        self.words.iter().any(|word| word.in_versions)
    }

    /// How well each word fits the names of a SKU; none when a word fits neither these nor any
    /// version.
    fn fit_names(&self, place: GroupPath, fits: &mut Vec<u8>) -> Option<u32> {
        fits.clear();
        for word in &self.words {
            let best = word.fit(self.index, place);
            if best == 0 && !word.in_versions {
                return None;
            }
            fits.push(best);
        }
        Some(fits.iter().copied().map(u32::from).sum())
    }

    /// How well the words fit a row of a SKU whose names they fit so: the sum of how well each does;
    /// none when one does not.
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

/// What is left of a range from `from` on.
fn from_on(range: Range<u32>, from: u32) -> Range<u32> {
    range.start.max(from)..range.end
}

/// The rows that `filter` accepts at `now`, at most `top` of them, from the place on that an earlier page
/// named as its next (or zero).
pub fn list(index: &Index, filter: &Filter, from: u32, top: usize, now: OffsetDateTime) -> Page {
    let mut page = Page::default();
    let Some(query) = ListQuery::new(index, filter, now) else { return page };
    if !query.words.is_empty() {
        return ranked(&query, from as usize, top);
    }
    query.walk(from, |place| {
        for row in from_on(index.members(Level::Sku, place[2]), from) {
            if !query.accepts(row, place) {
                continue;
            }
            if page.rows.len() == top {
                page.next = Some(row);
                return ControlFlow::Break(());
            }
            page.rows.push((row, place));
        }
        ControlFlow::Continue(())
    });
    page
}

/// Rows of one SKU that the words fit alike.
type Alike = (GroupPath, Range<u32>);

/// Rows that fit better come first; of those that fit alike, the latest of their SKU; the table's
/// order decides the rest. A page's next is a place in this order.
fn ranked(query: &ListQuery<'_>, from: usize, top: usize) -> Page {
    let index = query.index;
    let most = query.words.len() * usize::from(WHOLE);
    let mut ranks: Vec<Vec<Alike>> = vec![Vec::new(); most + 1];
    let in_versions = query.is_in_versions();
    let mut fits = Vec::new();
    query.walk(0, |place| {
        let Some(score) = query.fit_names(place, &mut fits) else {
            return ControlFlow::Continue(());
        };
        let rows = index.members(Level::Sku, place[2]);
        if !in_versions {
            ranks[score as usize].push((place, rows));
            return ControlFlow::Continue(());
        }
        for row in rows {
            if let Some(score) = query.score(row, &fits) {
                ranks[score].push((place, row..row + 1));
            }
        }
        ControlFlow::Continue(())
    });
    let mut page = Page::default();
    let mut skipped = 0;
    for (rank, latest) in ranks.iter().rev().flat_map(|rank| [(rank, true), (rank, false)]) {
        for (place, rows) in rank {
            for at in rows.clone() {
                if query.is_latest(at, *place) != latest || !query.accepts(at, *place) {
                    continue;
                }
                if skipped < from {
                    skipped += 1;
                } else if page.rows.len() < top {
                    page.rows.push((at, *place));
                } else {
                    page.next = u32::try_from(from + top).ok();
                    return page;
                }
            }
        }
    }
    page
}
