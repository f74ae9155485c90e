//! Names that a search may mean, while it is typed.

use super::alias::ALIASES;
use super::distinct::locations;
use super::rows::{DEFINITION, GALLERY, REGISTRY, REPOSITORY, RowTable};
use super::{Catalog, Filter};
use crate::format::index::{Index, Level};
use crate::image::names::folded;
use memchr::memmem::Finder;
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What a suggested name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SuggestionKind {
    /// A publisher.
    Publisher,
    /// An offer.
    Offer,
    /// A SKU.
    Sku,
    /// A location.
    Location,
    /// An alias of a SKU.
    Alias,
    /// A gallery.
    Gallery,
    /// An image definition.
    Definition,
    /// A repository.
    Repository,
}

/// A name that a search may mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// What it is the name of.
    pub kind: SuggestionKind,
    /// The name.
    pub text: String,
    /// The publisher of the offer or SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The offer of the SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// The gallery of the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gallery: Option<String>,
    /// The login server of the registry of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The number of images; each version counts as one.
    pub images: u32,
}

/// How a word occurs in a name; zero if it does not.
const WITHIN: u8 = 1;
const WORD: u8 = 2;
const START: u8 = 3;
const WHOLE: u8 = 4;

/// A word of the search.
struct Word(Finder<'static>);

impl Word {
    /// How well the word fits a folded name.
    fn fit(&self, name: &[u8]) -> u8 {
        let length = self.0.needle().len();
        if name.starts_with(self.0.needle()) {
            return if name.len() == length { WHOLE } else { START };
        }
        let begins = |at: usize| at == 0 || !name[at - 1].is_ascii_alphanumeric();
        match self.0.find(name) {
            None => 0,
            Some(_) if self.0.find_iter(name).any(begins) => WORD,
            Some(_) => WITHIN,
        }
    }
}

/// How well each word fits a name.
type Fits = Vec<u8>;

/// How well a name fits: its best word. Every word must be in the name or in one of those above it,
/// and at least one in the name. Zero if it does not fit.
fn fit(own: &[u8], above: &[&[u8]]) -> u8 {
    let found = |word: usize| own[word] > 0 || above.iter().any(|fits| fits[word] > 0);
    if (0..own.len()).all(found) { own.iter().copied().max().unwrap_or_default() } else { 0 }
}

/// A name that fits: how well, and what it is. The best is the least.
type Candidate = (Reverse<u8>, Reverse<u32>, SuggestionKind, [u32; 3]);

/// How well each word fits each name of an index.
struct NameFits {
    /// For each level, the fits of all names, one after the other.
    levels: [Vec<u8>; 3],
    words: usize,
}

impl NameFits {
    fn new(index: &Index, words: &[Word]) -> Self {
        let mut levels = Level::ALL.map(|level| vec![0; index.names(level).len() * words.len()]);
        for (number, word) in words.iter().enumerate() {
            let mut add = |level: Level, name: u32| {
                let fit = word.fit(index.names(level).folded_bytes(name));
                levels[level as usize][name as usize * words.len() + number] = fit;
            };
            let text = std::str::from_utf8(word.0.needle()).unwrap_or_default();
            if index.pieces().find(text, |level, name, _| add(level, name)) {
                continue;
            }
            for level in Level::ALL {
                let count = u32::try_from(index.names(level).len()).unwrap_or(u32::MAX);
                (0..count).for_each(|name| add(level, name));
            }
        }
        Self { levels, words: words.len() }
    }

    fn of(&self, level: Level, name: u32) -> &[u8] {
        let start = name as usize * self.words;
        &self.levels[level as usize][start..start + self.words]
    }
}

/// Names that may be meant by `search` at `now`: at most `top`, best first. Names of galleries and
/// registries are found if their tables have been [read](Catalog::others).
pub fn suggestions(
    catalog: &Catalog,
    search: &str,
    top: usize,
    now: OffsetDateTime,
) -> Vec<Suggestion> {
    let filter = Filter { search: Some(search.to_owned()), ..Filter::default() };
    let words = filter.words();
    let words: Vec<Word> =
        words.iter().map(|word| Word(Finder::new(word.as_bytes()).into_owned())).collect();
    if words.is_empty() {
        return Vec::new();
    }
    let mut found = in_index(&catalog.index, &words, top);
    found.extend(aliases(&catalog.index, &words));
    let fit_of = |name: &str| {
        let name = folded(name);
        let fits: Fits = words.iter().map(|word| word.fit(name.as_bytes())).collect();
        fits
    };
    let table = catalog.others.get();
    let mut known = catalog.locations();
    known.extend(table.into_iter().flat_map(RowTable::locations).map(str::to_owned));
    if known.iter().any(|name| fit(&fit_of(name), &[]) > 0) {
        for row in locations(catalog, &filter, now) {
            let images = row.marketplace + row.gallery + row.registry;
            let best = fit(&fit_of(&row.location), &[]);
            found.push((best, named(SuggestionKind::Location, &row.location, images)));
        }
    }
    found.extend(table.into_iter().flat_map(|table| in_table(table, &words)));
    found.retain(|(fit, _)| *fit > 0);
    // The sort is stable: what is equally good keeps the order of its names.
    found.sort_by_key(|(fit, one)| (Reverse(*fit), Reverse(one.images), one.kind));
    found.into_iter().take(top).map(|(_, one)| one).collect()
}

fn named(kind: SuggestionKind, text: &str, images: u32) -> Suggestion {
    Suggestion {
        kind,
        text: text.to_owned(),
        publisher: None,
        offer: None,
        gallery: None,
        registry: None,
        images,
    }
}

/// The number of rows below a group of `level`.
fn rows_below(index: &Index, level: Level, group: u32) -> u32 {
    let skus = index.skus_below(level, group);
    let first = |sku: u32| index.members(Level::Sku, sku).start;
    first(skus.end) - first(skus.start)
}

/// The best publishers, offers and SKUs, at most `top`.
fn in_index(index: &Index, words: &[Word], top: usize) -> Vec<(u8, Suggestion)> {
    let fits = NameFits::new(index, words);
    let of = |level: Level, group: u32| fits.of(level, index.group_name(level, group));
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |fit: u8, level: Level, path: [u32; 3]| {
        if fit > 0 {
            let kind = [SuggestionKind::Publisher, SuggestionKind::Offer, SuggestionKind::Sku];
            let images = rows_below(index, level, path[level as usize]);
            found.push((Reverse(fit), Reverse(images), kind[level as usize], path));
        }
    };
    for p in 0..index.groups(Level::Publisher) {
        let publisher = of(Level::Publisher, p);
        add(fit(publisher, &[]), Level::Publisher, [p, 0, 0]);
        for o in index.members(Level::Publisher, p) {
            let offer = of(Level::Offer, o);
            add(fit(offer, &[publisher]), Level::Offer, [p, o, 0]);
            for s in index.members(Level::Offer, o) {
                add(fit(of(Level::Sku, s), &[publisher, offer]), Level::Sku, [p, o, s]);
            }
        }
    }
    found.sort_unstable();
    let name = |level: Level, group: u32| index.names(level).get(index.group_name(level, group));
    let suggestion = |(Reverse(fit), Reverse(images), kind, [p, o, s]): Candidate| {
        let (publisher, offer) = (name(Level::Publisher, p), name(Level::Offer, o));
        let one = match kind {
            SuggestionKind::Publisher => named(kind, publisher, images),
            SuggestionKind::Offer => {
                Suggestion { publisher: Some(publisher.to_owned()), ..named(kind, offer, images) }
            }
            _ => Suggestion {
                publisher: Some(publisher.to_owned()),
                offer: Some(offer.to_owned()),
                ..named(kind, name(Level::Sku, s), images)
            },
        };
        (fit, one)
    };
    found.into_iter().take(top).map(suggestion).collect()
}

/// The aliases of SKUs that the index has.
fn aliases(index: &Index, words: &[Word]) -> Vec<(u8, Suggestion)> {
    let mut found = Vec::new();
    for alias in ALIASES {
        let name = folded(alias.name);
        let fits: Fits = words.iter().map(|word| word.fit(name.as_bytes())).collect();
        let skus = index.skus(alias.sku);
        if fit(&fits, &[]) == 0 || skus.is_empty() {
            continue;
        }
        let images = skus.iter().map(|path| rows_below(index, Level::Sku, path[2])).sum();
        let one = Suggestion {
            publisher: Some(alias.sku[0].to_owned()),
            offer: Some(alias.sku[1].to_owned()),
            ..named(SuggestionKind::Alias, alias.name, images)
        };
        found.push((fit(&fits, &[]), one));
    }
    found
}

/// The galleries, definitions and repositories of a table.
fn in_table(table: &RowTable, words: &[Word]) -> Vec<(u8, Suggestion)> {
    /// What is above a name, the name, and what kind it is.
    type Named<'a> = (SuggestionKind, &'a str, &'a str);
    let mut counts: BTreeMap<Named<'_>, u32> = BTreeMap::new();
    for part in table.entries().chunk_by(|one, other| {
        [GALLERY, DEFINITION, REGISTRY, REPOSITORY]
            .iter()
            .all(|column| table.name(one, *column) == table.name(other, *column))
    }) {
        let name = |column: usize| table.name(&part[0], column);
        // A definition is not an image.
        let is_image = |kind: &str| kind != "gallery-definition";
        let images = part.iter().filter(|entry| is_image(entry.kind())).count();
        let images = u32::try_from(images).unwrap_or(u32::MAX);
        let gallery = name(GALLERY);
        let all = [
            gallery.map(|own| (SuggestionKind::Gallery, "", own)),
            gallery.zip(name(DEFINITION)).map(|(g, own)| (SuggestionKind::Definition, g, own)),
            name(REGISTRY)
                .zip(name(REPOSITORY))
                .map(|(r, own)| (SuggestionKind::Repository, r, own)),
        ];
        for one in all.into_iter().flatten() {
            *counts.entry(one).or_default() += images;
        }
    }
    let fits = |name: &str| -> Fits {
        let name = folded(name);
        words.iter().map(|word| word.fit(name.as_bytes())).collect()
    };
    let suggestion = |((kind, above, own), images): (Named<'_>, u32)| {
        let best = fit(&fits(own), &[&fits(above)]);
        let above = Some(above.to_owned());
        let one = named(kind, own, images);
        let one = match kind {
            SuggestionKind::Definition => Suggestion { gallery: above, ..one },
            SuggestionKind::Repository => Suggestion { registry: above, ..one },
            _ => one,
        };
        (best, one)
    };
    counts.into_iter().map(suggestion).collect()
}
