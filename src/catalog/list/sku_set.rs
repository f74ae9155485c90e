//! Sets of the SKUs of an index.

use super::text::TextScores;
use crate::format::index::{Index, Level};

/// A set of SKUs: one bit for each.
#[derive(Clone)]
pub(super) struct SkuSet(Vec<u64>);

impl SkuSet {
    /// No SKU of an index.
    pub(super) fn none(index: &Index) -> Self {
        Self(vec![0; (index.groups(Level::Sku) as usize).div_ceil(64)])
    }

    /// The SKUs that have one of the names of `level` that match.
    pub(super) fn named(index: &Index, level: Level, names: &TextScores) -> Self {
        let mut this = Self::none(index);
        for (name, _) in names.matches() {
            for group in index.pieces().groups(level, name) {
                index.skus_below(level, *group).for_each(|sku| this.add(sku));
            }
        }
        this
    }

    pub(super) fn add(&mut self, sku: u32) {
        if let Some(word) = self.0.get_mut(sku as usize / 64) {
            *word |= 1 << (sku % 64);
        }
    }

    pub(super) fn contains(&self, sku: u32) -> bool {
        self.0.get(sku as usize / 64).is_some_and(|word| word & (1 << (sku % 64)) != 0)
    }

    /// Removes the SKUs that are not in `other`.
    fn intersect(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// The SKUs that are in all sets. `None` if there are no sets.
    pub(super) fn in_all<'a>(mut sets: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut all = sets.next()?.clone();
        sets.for_each(|set| all.intersect(set));
        Some(all)
    }

    /// The first SKU of the set from `sku` on; [`u32::MAX`] if there is none.
    pub(super) fn next(&self, sku: u32) -> u32 {
        let (mut at, mut mask) = (sku as usize / 64, !0 << (sku % 64));
        while let Some(word) = self.0.get(at) {
            let rest = word & mask;
            if rest != 0 {
                let number = at * 64 + rest.trailing_zeros() as usize;
                return u32::try_from(number).unwrap_or(u32::MAX);
            }
            (at, mask) = (at + 1, !0);
        }
        u32::MAX
    }
}
