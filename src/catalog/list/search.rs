//! The words of a search: how each occurs in the names of each SKU, and in each version.

use super::sku_set::SkuSet;
use super::text::TextScores;
use crate::catalog::alias;
use crate::catalog::filter::Filter;
use crate::format::index::{Index, Level, Occurrence};

/// A word of a search, with its scores.
struct SearchWord {
    /// The best score of the word for the names of each SKU; zero if it is in none of them.
    names: Vec<u8>,
    /// The SKUs that have the word in a name or in a version.
    skus: SkuSet,
    versions: TextScores,
    /// Whether the word occurs in any version. For most words it does not, and rows need not be
    /// scored individually.
    in_versions: bool,
}

impl SearchWord {
    /// Prepares a folded word.
    fn new(index: &Index, word: &str) -> Self {
        let versions = TextScores::word(index.versions(), word);
        let mut this = Self {
            names: vec![0; index.groups(Level::Sku) as usize],
            skus: SkuSet::none(index),
            in_versions: versions.has_matches(),
            versions,
        };
        let pieces = index.pieces();
        let mut add_name = |level: Level, name: u32, score: u8| {
            for group in pieces.groups(level, name) {
                for sku in index.skus_below(level, *group) {
                    this.add(sku, score);
                }
            }
        };
        if !pieces.find(word, |level, name, occurrence| add_name(level, name, occurrence as u8)) {
            for level in Level::ALL {
                for (name, score) in TextScores::word(index.names(level), word).matches() {
                    add_name(level, name, score);
                }
            }
        }
        // A word that is the alias of a SKU.
        let skus = alias::find(word).map(|alias| index.skus(alias.sku));
        for [.., sku] in skus.into_iter().flatten() {
            this.add(sku, Occurrence::Whole as u8);
        }
        if this.in_versions {
            for sku in (0..index.groups(Level::Sku)).filter(|sku| this.names[*sku as usize] == 0) {
                let has_word = |row: u32| this.versions.of(index.row(row).version()) > 0;
                if index.members(Level::Sku, sku).any(has_word) {
                    this.skus.add(sku);
                }
            }
        }
        this
    }

    fn add(&mut self, sku: u32, score: u8) {
        if let Some(best) = self.names.get_mut(sku as usize) {
            *best = score.max(*best);
            self.skus.add(sku);
        }
    }
}

/// The words of a search, prepared for one index.
pub(super) struct Search {
    words: Vec<SearchWord>,
    /// Whether a word occurs in a version, so that rows of the same SKU may have different scores.
    pub(super) in_versions: bool,
}

impl Search {
    /// The highest score of a word.
    pub(super) const BEST: usize = Occurrence::Whole as usize;

    pub(super) fn new(index: &Index, filter: &Filter) -> Self {
        let words = filter.words().into_iter().map(|word| SearchWord::new(index, &word));
        let words: Vec<SearchWord> = words.collect();
        Self { in_versions: words.iter().any(|word| word.in_versions), words }
    }

    /// The number of words.
    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    /// For each word, the SKUs that have it in a name or in a version.
    pub(super) fn skus(&self) -> impl Iterator<Item = &SkuSet> {
        self.words.iter().map(|word| &word.skus)
    }

    /// Scores each word against the names of a SKU into `fits`, and returns the sum. `None` when a
    /// word matches neither a name nor any version.
    pub(super) fn fit_names(&self, sku: u32, fits: &mut Vec<u8>) -> Option<usize> {
        fits.clear();
        for word in &self.words {
            let best = word.names.get(sku as usize).copied().unwrap_or_default();
            if best == 0 && !word.in_versions {
                return None;
            }
            fits.push(best);
        }
        Some(fits.iter().copied().map(usize::from).sum())
    }

    /// Returns the score of a row with this version: the sum over all words of the better of the
    /// score in `fits`, which is that of the SKU's names, and the score of the version. `None` when
    /// a word does not match.
    pub(super) fn score(&self, version: u32, fits: &[u8]) -> Option<usize> {
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
