//! Scores of the texts of a pool: how a word or a part of a name occurs in each.

use crate::format::index::{Occurrence, Pool};
use crate::image::names::folded;
use memchr::memmem::Finder;

/// Score of each text of a pool: an [`Occurrence`], or zero if the text does not match. Empty when
/// no text matches.
pub(super) struct TextScores(Vec<u8>);

impl TextScores {
    /// The score of a text.
    pub(super) fn of(&self, id: u32) -> u8 {
        self.0.get(id as usize).copied().unwrap_or_default()
    }

    /// Scores all texts that contain `part`, ignoring case.
    pub(super) fn find(pool: &Pool, part: &str) -> Self {
        Self::places(pool, &folded(part), |at| {
            let name = pool.text().get(at..at + part.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(part.as_bytes()))
        })
    }

    /// Scores all texts that contain `word`, a folded word of a search: the kind of separator is
    /// ignored.
    pub(super) fn word(pool: &Pool, word: &str) -> Self {
        Self::places(pool, word, |_| true)
    }

    /// Scores all texts that contain `needle`, which is folded, at an offset that `is_it` accepts.
    fn places(pool: &Pool, needle: &str, is_it: impl Fn(usize) -> bool) -> Self {
        if !pool.may_have(needle) {
            return Self(Vec::new());
        }
        let mut fits = vec![0; pool.len()];
        if needle.is_empty() {
            fits.fill(Occurrence::Within as u8);
            return Self(fits);
        }
        let text = pool.folded();
        let finder = Finder::new(needle.as_bytes());
        let (mut from, mut last) = (0, 0);
        while let Some(at) = finder.find(text.get(from..).unwrap_or_default()) {
            let at = from + at;
            let (id, range) = pool.at(last, at);
            (from, last) = (at + 1, id);
            let end = at + needle.len();
            if end > range.end || !is_it(at) {
                continue;
            }
            let inner = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
            let begins = at == range.start || !inner(at - 1);
            let ends = end == range.end || !inner(end);
            let fit = Occurrence::new(begins, ends);
            if let Some(best) = fits.get_mut(id as usize) {
                *best = (*best).max(fit as u8);
                if fit == Occurrence::Whole {
                    from = range.end;
                }
            }
        }
        Self(fits)
    }

    /// The texts that match, with their scores.
    pub(super) fn matches(&self) -> impl Iterator<Item = (u32, u8)> {
        (0..).zip(self.0.iter().copied()).filter(|(_, score)| *score > 0)
    }

    /// Whether any text matches.
    pub(super) fn has_matches(&self) -> bool {
        self.matches().next().is_some()
    }

    /// Scores the texts that equal `wanted`, ignoring case.
    pub(super) fn same(pool: &Pool, wanted: &str) -> Self {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let same = |id| u8::from(pool.get(id).eq_ignore_ascii_case(wanted));
        Self((0..count).map(same).collect())
    }
}
