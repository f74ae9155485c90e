//! Lists: the rows of an index that a filter accepts, in the table's order, or ranked when words
//! are searched for.

use super::filter::Filter;
use crate::format::index::{Index, Level, Place, Pool, Row};
use crate::image::Status;
use crate::source::locations::short_name;
use memchr::memmem::Finder;
use std::ops::{ControlFlow, Range};

/// A row that was found, and where it stands.
pub type Found = (u32, Place);

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
struct Fits(Vec<u8>);

impl Fits {
    fn of(&self, id: u32) -> u8 {
        self.0.get(id as usize).copied().unwrap_or_default()
    }

    /// Looks for `needle`, in lower case, in all texts of a pool at once.
    fn find(pool: &Pool, needle: &str) -> Self {
        if !pool.may_have(needle) {
            return Self(Vec::new());
        }
        let mut fits = vec![0; pool.len()];
        if needle.is_empty() {
            fits.fill(WITHIN);
            return Self(fits);
        }
        let text = pool.lower();
        let finder = Finder::new(needle.as_bytes());
        let mut from = 0;
        while let Some(at) = finder.find(text.get(from..).unwrap_or_default()) {
            let at = from + at;
            let (id, range) = pool.at(at);
            from = at + 1;
            let end = at + needle.len();
            if end > range.end {
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
struct Word {
    names: [Fits; 3],
    versions: Fits,
    /// Whether any version has it: most words do not, and rows need not be looked at then.
    in_versions: bool,
}

/// A filter, made ready for one index.
struct Query<'a> {
    index: &'a Index,
    names: [Option<Fits>; 3],
    versions: Option<Fits>,
    traits: Option<Vec<bool>>,
    statuses: [bool; Status::ALL.len()],
    locations: Vec<u32>,
    words: Vec<Word>,
}

impl<'a> Query<'a> {
    /// None when nothing can fit.
    fn new(index: &'a Index, filter: &Filter) -> Option<Self> {
        if !filter.wants_marketplace() {
            return None;
        }
        let texts = |pool: &Pool, wanted: &Option<String>| {
            let wanted = wanted.as_ref()?;
            Some(if filter.exact {
                Fits::same(pool, wanted)
            } else {
                Fits::find(pool, &wanted.to_ascii_lowercase())
            })
        };
        let wanted = [&filter.publisher, &filter.offer, &filter.sku];
        let names = std::array::from_fn(|i| texts(index.names(LEVELS[i]), wanted[i]));
        let count = u32::try_from(index.locations().len()).unwrap_or(u32::MAX);
        let location =
            |name: &String| (0..count).find(|id| index.locations().get(*id) == short_name(name));
        let words = filter.words().into_iter().map(|word| {
            let versions = Fits::find(index.versions(), &word);
            Word {
                names: LEVELS.map(|level| Fits::find(index.names(level), &word)),
                in_versions: versions.0.iter().any(|fit| *fit > 0),
                versions,
            }
        });
        let statuses = Status::ALL.map(|status| {
            filter.status.as_ref().is_none_or(|wanted| filter.fits(wanted, status.as_str()))
        });
        Some(Self {
            index,
            names,
            versions: texts(index.versions(), &filter.version),
            traits: traits(index, filter),
            statuses,
            locations: filter.locations.iter().map(location).collect::<Option<_>>()?,
            words: words.collect(),
        })
    }

    fn has_group(&self, level: Level, group: u32) -> bool {
        self.names[level as usize]
            .as_ref()
            .is_none_or(|fits| fits.of(self.index.group_name(level, group)) > 0)
    }

    fn accepts(&self, row: Row<'_>) -> bool {
        self.statuses[row.status() as usize]
            && self.versions.as_ref().is_none_or(|fits| fits.of(row.version()) > 0)
            && self.traits.as_ref().is_none_or(|fits| fits[row.traits() as usize])
            && (self.locations.is_empty() || self.index.is_in(row.locations(), &self.locations))
    }

    /// Goes through the SKUs that the filter accepts, from the one on that has the row `from`.
    fn walk(&self, from: u32, mut visit: impl FnMut(Place) -> ControlFlow<()>) {
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

    /// How well each word fits the names of a SKU; none when a word fits neither these nor any
    /// version.
    fn fit(&self, place: Place, fits: &mut Vec<u8>) -> Option<u32> {
        fits.clear();
        for word in &self.words {
            let name = |i: usize| word.names[i].of(self.index.group_name(LEVELS[i], place[i]));
            let best = name(0).max(name(1)).max(name(2));
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

/// Which traits fit a filter; none when it does not ask for any.
fn traits(index: &Index, filter: &Filter) -> Option<Vec<bool>> {
    if filter.os.is_none() && filter.architecture.is_none() {
        return None;
    }
    let fits = |wanted: &Option<String>, name: Option<&str>| {
        wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| filter.fits(wanted, name)))
    };
    let fits = |traits| {
        let (os, architecture) = index.traits_of(traits);
        fits(&filter.os, os) && fits(&filter.architecture, architecture)
    };
    Some((0..index.traits()).map(fits).collect())
}

/// The rows that `filter` accepts, at most `top` of them, from the place on that an earlier page
/// named as its next (or zero).
pub fn list(index: &Index, filter: &Filter, from: u32, top: usize) -> Page {
    let mut page = Page::default();
    let Some(query) = Query::new(index, filter) else { return page };
    if !query.words.is_empty() {
        return ranked(&query, from as usize, top);
    }
    query.walk(from, |place| {
        for row in from_on(index.members(Level::Sku, place[2]), from) {
            if !query.accepts(index.row(row)) {
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
type Alike = (Place, Range<u32>);

/// Rows that fit better come first; of those that fit alike, the latest of their SKU; the table's
/// order decides the rest. A page's next is a place in this order.
fn ranked(query: &Query<'_>, from: usize, top: usize) -> Page {
    let index = query.index;
    let most = query.words.len() * usize::from(WHOLE);
    let mut ranks: Vec<Vec<Alike>> = vec![Vec::new(); most + 1];
    let in_versions = query.words.iter().any(|word| word.in_versions);
    let mut fits = Vec::new();
    query.walk(0, |place| {
        let Some(score) = query.fit(place, &mut fits) else { return ControlFlow::Continue(()) };
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
                let row = index.row(at);
                if row.is_latest() != latest || !query.accepts(row) {
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
