//! The pieces of names, for searches.
//!
//! A piece is a run of ASCII letters and digits in a folded name. Names share most of their pieces,
//! so that these are far fewer and shorter than the names. A word that is itself such a run can
//! only occur within a piece. From a piece, lists lead to the names that have it, and from a name to
//! its groups.

use super::{Index, Level};
use memchr::memmem::Finder;
use std::collections::HashMap;
use std::ops::Range;

/// How a word occurs in a name; the best is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occurrence {
    /// Within a piece.
    Within = 1,
    /// At the start of a piece.
    Start = 2,
    /// As a whole piece.
    Whole = 3,
}

impl Occurrence {
    /// The occurrence in a text, given whether it begins where a piece begins, and ends where a
    /// piece ends.
    pub fn new(begins: bool, ends: bool) -> Self {
        match (begins, ends) {
            (true, true) => Self::Whole,
            (true, false) => Self::Start,
            (false, _) => Self::Within,
        }
    }
}

/// For each number from zero, a list of numbers.
#[derive(Debug, Default)]
struct Lists {
    /// The start of each list in `members`, and the end of the last one.
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl Lists {
    /// Makes `count` lists of pairs of a list and its member. Members keep their order.
    fn new(count: usize, pairs: &[(u32, u32)]) -> Self {
        let mut starts = vec![0; count + 1];
        for (list, _) in pairs {
            starts[*list as usize + 1] += 1;
        }
        for list in 0..count {
            starts[list + 1] += starts[list];
        }
        let (mut next, mut members) = (starts.clone(), vec![0; pairs.len()]);
        for (list, member) in pairs {
            let at = &mut next[*list as usize];
            members[*at as usize] = *member;
            *at += 1;
        }
        Self { starts, members }
    }

    fn of(&self, list: u32) -> &[u32] {
        let list = list as usize;
        match self.starts.get(list..list + 2) {
            Some([start, end]) => &self.members[*start as usize..*end as usize],
            _ => &[],
        }
    }
}

/// The pieces of the names of an index.
#[derive(Debug)]
pub struct NamePieces {
    /// The distinct pieces, each followed by a byte that is in none.
    text: Vec<u8>,
    /// The end of each piece in `text`.
    ends: Vec<u32>,
    /// For each level, the names that have each piece.
    names: [Lists; 3],
    /// For each level, the groups that have each name.
    groups: [Lists; 3],
}

/// Whether a folded word is a run of letters and digits.
fn is_piece(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl NamePieces {
    pub(super) fn new(index: &Index) -> Self {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        let mut known: HashMap<&[u8], u32> = HashMap::new();
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let pairs = Level::ALL.map(|level| {
            let pool = index.names(level);
            let mut pairs = Vec::new();
            for name in 0..number(pool.len()) {
                let pieces = pool.folded_bytes(name).split(|byte| !byte.is_ascii_alphanumeric());
                for piece in pieces.filter(|piece| !piece.is_empty()) {
                    let piece = *known.entry(piece).or_insert_with(|| {
                        text.extend_from_slice(piece);
                        ends.push(number(text.len()));
                        text.push(b'-');
                        number(ends.len() - 1)
                    });
                    pairs.push((piece, name));
                }
            }
            pairs
        });
        let names = pairs.map(|pairs| Lists::new(ends.len(), &pairs));
        let groups = Level::ALL.map(|level| {
            let groups = 0..index.groups(level);
            let pairs: Vec<_> =
                groups.map(|group| (index.group_name(level, group), group)).collect();
            Lists::new(index.names(level).len(), &pairs)
        });
        Self { text, ends, names, groups }
    }

    /// Calls `found` with each name that contains `word`, and how. A name may come more than once.
    /// Returns whether that could be done: not if the word is not a run of letters and digits.
    pub fn find(&self, word: &str, mut found: impl FnMut(Level, u32, Occurrence)) -> bool {
        if !is_piece(word) {
            return false;
        }
        let finder = Finder::new(word.as_bytes());
        let (mut piece, mut from) = (0, 0);
        while let Some(at) = finder.find(self.text.get(from..).unwrap_or_default()) {
            let at = from + at;
            piece += self.ends[piece..].partition_point(|end| *end as usize <= at);
            let start = if piece == 0 { 0 } else { self.ends[piece - 1] as usize + 1 };
            let end = self.ends[piece] as usize;
            let occurrence = Occurrence::new(at == start, at + word.len() == end);
            let number = u32::try_from(piece).unwrap_or(u32::MAX);
            for level in Level::ALL {
                for name in self.names[level as usize].of(number) {
                    found(level, *name, occurrence);
                }
            }
            // Later occurrences in the piece are not better: only the first can be at its start.
            from = end + 1;
        }
        true
    }

    /// The groups of `level` with this name.
    pub fn groups(&self, level: Level, name: u32) -> &[u32] {
        self.groups[level as usize].of(name)
    }
}

impl Index {
    /// The pieces of its names. They are collected on first use.
    pub fn pieces(&self) -> &NamePieces {
        self.pieces.get_or_init(|| NamePieces::new(self).into())
    }

    /// The SKUs below a group of `level`; of a SKU, itself.
    pub fn skus_below(&self, level: Level, group: u32) -> Range<u32> {
        match level {
            Level::Sku => group..group + 1,
            Level::Offer => self.members(Level::Offer, group),
            Level::Publisher => {
                let offers = self.members(Level::Publisher, group);
                let first = |offer: u32| self.members(Level::Offer, offer).start;
                first(offers.start)..first(offers.end)
            }
        }
    }
}
