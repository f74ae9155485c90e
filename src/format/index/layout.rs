//! The layout of an index: sections of little-endian numbers, and pools of text.

use crate::error::{Error, Result};
use crate::image::names::folded_byte;
use bytes::Bytes;
use std::ops::Range;
use std::sync::OnceLock;

/// The first bytes of every index with this layout.
pub(super) const MAGIC: &[u8; 8] = b"AZIMGIX1";
/// Marks an absent name, date or set.
pub(super) const NONE: u32 = u32::MAX;

/// The sections, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The run's name, as text.
    Run,
    /// A pool of texts: the section of their end offsets, four bytes each, followed by the section
    /// of the text. The same applies to the pairs below.
    PublisherEnds,
    Publishers,
    OfferEnds,
    Offers,
    SkuEnds,
    Skus,
    VersionEnds,
    Versions,
    LocationEnds,
    Locations,
    JsonEnds,
    Json,
    /// For each group, its name and its first child. A final record ends the last group.
    PublisherGroups,
    OfferGroups,
    SkuGroups,
    /// The rows, [`ROW`] bytes each.
    Rows,
    /// For each set, its JSON and one bit per location.
    LocationSets,
    /// For each record, its JSON, operating system, architecture and generation.
    Traits,
    /// For each date, nanoseconds since 1970 and its JSON.
    Dates,
}

/// The number of sections.
pub(super) const SECTIONS: usize = Section::Dates as usize + 1;
/// Size of a group's record in bytes.
pub(super) const GROUP: usize = 8;
/// Size of a row's record in bytes: version, locations, traits, extras, deprecation, observed and
/// first seen (four bytes each); status, flags and two zero bytes.
pub(super) const ROW: usize = 32;
/// Size of a traits record in bytes.
pub(super) const TRAIT: usize = 16;
/// Size of a date's record in bytes.
pub(super) const DATE: usize = 12;

/// The sections of an index file.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    bytes: Bytes,
    ranges: [Range<usize>; SECTIONS],
}

pub(super) fn damaged(why: &str) -> Error {
    Error::corrupt(format!("index.bin: {why}"))
}

impl Sections {
    /// Locates the sections of a file. Each begins where the previous one ends, and the last one
    /// ends with the file.
    pub(super) fn open(bytes: Bytes) -> Result<Self> {
        if !bytes.starts_with(MAGIC) {
            return Err(damaged("not an index that this version of azimg can read"));
        }
        let head = MAGIC.len() + SECTIONS * 8;
        let mut at = head;
        let mut ranges = [const { 0..0 }; SECTIONS];
        for (number, range) in ranges.iter_mut().enumerate() {
            let offset = MAGIC.len() + number * 8;
            let length = bytes
                .get(offset..offset + 8)
                .and_then(|length| length.try_into().ok())
                .map(u64::from_le_bytes)
                .and_then(|length| usize::try_from(length).ok())
                .ok_or_else(|| damaged("truncated in its header"))?;
            let end = at.checked_add(length).filter(|end| *end <= bytes.len());
            *range = at..end.ok_or_else(|| damaged("truncated"))?;
            at = range.end;
        }
        if at != bytes.len() {
            return Err(damaged("has bytes after its end"));
        }
        Ok(Self { bytes, ranges })
    }

    pub(super) fn of(&self, section: Section) -> &[u8] {
        &self.bytes[self.ranges[section as usize].clone()]
    }

    /// The bytes of a section, sharing the file's buffer.
    pub(super) fn shared(&self, section: Section) -> Bytes {
        self.bytes.slice(self.ranges[section as usize].clone())
    }

    /// The size of the whole file in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads the `u32` at `at`. Returns [`NONE`] beyond the end.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(NONE, u32::from_le_bytes)
}

/// Reads the `u64` at `at`. Returns zero beyond the end.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Texts stored one after the other.
#[derive(Debug, Clone)]
pub struct Pool {
    ends: Bytes,
    text: Bytes,
    folded: OnceLock<Vec<u8>>,
    /// Which byte values occur in `folded`.
    occurring: OnceLock<[bool; 256]>,
}

impl Pool {
    /// Opens a pool. Checks that the end offsets increase, stay within the text, and lie on
    /// character boundaries.
    pub(super) fn open(sections: &Sections, ends: Section, text: Section) -> Result<Self> {
        let (ends, text) = (sections.shared(ends), sections.shared(text));
        let pool = Self { ends, text, folded: OnceLock::new(), occurring: OnceLock::new() };
        let text =
            std::str::from_utf8(&pool.text).map_err(|_| damaged("has text that is not UTF-8"))?;
        let mut last = 0;
        for end in pool.ends.chunks_exact(4).map(|four| number(four, 0)) {
            if end < last || !text.is_char_boundary(end as usize) {
                return Err(damaged("has overlapping texts"));
            }
            last = end;
        }
        let is_complete = pool.ends.len().is_multiple_of(4) && last as usize == text.len();
        if is_complete { Ok(pool) } else { Err(damaged("has text that no entry covers")) }
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether the pool has no texts.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text with this number. Empty if there is none.
    pub fn get(&self, id: u32) -> &str {
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }

    /// The bytes of the text with this number. Empty if there is none.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.text.get(self.range(id)).unwrap_or_default()
    }

    /// As [`bytes`](Self::bytes), [folded](Self::folded).
    pub fn folded_bytes(&self, id: u32) -> &[u8] {
        self.folded().get(self.range(id)).unwrap_or_default()
    }

    fn range(&self, id: u32) -> Range<usize> {
        let id = id as usize;
        if id >= self.len() {
            return 0..0;
        }
        let start = if id == 0 { 0 } else { number(&self.ends, (id - 1) * 4) };
        start as usize..number(&self.ends, id * 4) as usize
    }

    /// The concatenation of all texts, as stored.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The concatenated texts, folded byte by byte for searches ([`folded_byte`]). Computed on
    /// first use.
    pub fn folded(&self) -> &[u8] {
        self.folded.get_or_init(|| self.text.iter().copied().map(folded_byte).collect())
    }

    /// Whether the folded text `needle` may occur. It cannot if one of its bytes never occurs. This
    /// rules out most search words for versions, since words have letters and versions do not.
    pub fn may_have(&self, needle: &str) -> bool {
        let occurring = self.occurring.get_or_init(|| {
            let mut occurring = [false; 256];
            for byte in self.folded() {
                occurring[usize::from(*byte)] = true;
            }
            occurring
        });
        needle.bytes().all(|byte| occurring[usize::from(byte)])
    }

    /// Returns the number and the range of the text that contains the byte at `at`, which is not
    /// before the text `from`. It is fast if that text is near.
    pub fn at(&self, from: u32, at: usize) -> (u32, Range<usize>) {
        let is_before = |id: usize| number(&self.ends, id * 4) as usize <= at;
        let id = u32::try_from(first_from(from as usize, self.len(), is_before)).unwrap_or(NONE);
        (id, self.range(id))
    }
}

/// The first number from `from` that is not before what is looked for; `end` if there is none.
/// Searches in growing steps, so that it is fast if that number is near.
pub(super) fn first_from(from: usize, end: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high, mut step) = (from, from, 1);
    while high < end && is_before(high) {
        low = high + 1;
        high += step;
        step *= 2;
    }
    high = high.min(end);
    while low < high {
        let middle = usize::midpoint(low, high);
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
