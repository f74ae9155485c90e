//! The names of adjacent rows of an index, and sets of locations.

use crate::format::index::{GroupPath, Index, Level};

/// The name of a group of `level` in a path.
pub(super) fn name(index: &Index, level: Level, group_path: GroupPath) -> &str {
    index.names(level).get(index.group_name(level, group_path[level as usize]))
}

/// Whether two adjacent paths of the table differ in a name down to `level`. Azure treats names
/// that differ only in case as the same, and the table sorts such names next to each other.
pub(super) fn differ(index: &Index, level: Level, one: GroupPath, other: GroupPath) -> bool {
    Level::ALL.iter().take(level as usize + 1).any(|level| {
        let at = *level as usize;
        let names = || [one, other].map(|group_path| name(index, *level, group_path));
        one[at] != other[at] && !matches!(names(), [a, b] if a.eq_ignore_ascii_case(b))
    })
}

/// Sets in `bits` every bit that is set in `more`.
pub(super) fn unite(bits: &mut Vec<u64>, more: impl Iterator<Item = u64>) {
    for (at, more) in more.enumerate() {
        match bits.get_mut(at) {
            Some(bits) => *bits |= more,
            None => bits.push(more),
        }
    }
}

/// The number of set bits.
pub(super) fn count(bits: &[u64]) -> u32 {
    bits.iter().map(|word| word.count_ones()).sum()
}

/// Yields the positions of the set bits.
pub(super) fn ones(bits: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    bits.enumerate().flat_map(|(at, word)| {
        let rest = |rest: &u64| Some(rest & rest.wrapping_sub(1));
        let words = std::iter::successors(Some(word), rest).take_while(|rest| *rest != 0);
        words.map(move |rest| at * 64 + rest.trailing_zeros() as usize)
    })
}
