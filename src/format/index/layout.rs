//! Where things lie in an index: sections of little-endian numbers, and pools of text.

use crate::error::{Error, Result};
use crate::image::names::folded_byte;
use bytes::Bytes;
use std::ops::Range;
use std::sync::OnceLock;

/// The first bytes of every index of this layout.
pub(super) const MAGIC: &[u8; 8] = b"AZIMGIX1";
/// A name, date or set that a row does not have.
pub(super) const NONE: u32 = u32::MAX;

/// The sections, in the order in which they lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The run's name, as text.
    Run,
    /// Ends of the texts in the pool that follows, four bytes each; then that pool.
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
    /// Name, and the first of its children, of each group; a last record ends the last group.
    PublisherGroups,
    OfferGroups,
    SkuGroups,
    /// The rows, [`ROW`] bytes each.
    Rows,
    /// JSON, and a bit for each location.
    LocationSets,
    /// JSON, operating system, architecture and generation.
    Traits,
    /// Nanoseconds since 1970, and JSON.
    Dates,
}

/// How many sections there are.
pub(super) const SECTIONS: usize = Section::Dates as usize + 1;
/// Bytes of a group's record.
pub(super) const GROUP: usize = 8;
/// Bytes of a row's record: version, locations, traits, extras, deprecation, observed, first seen;
/// status, flags, and two that are zero.
pub(super) const ROW: usize = 32;
/// Bytes of a record of traits.
pub(super) const TRAIT: usize = 16;
/// Bytes of a date's record.
pub(super) const DATE: usize = 12;

/// A file's sections.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    bytes: Bytes,
    ranges: [Range<usize>; SECTIONS],
}

pub(super) fn damaged(why: &str) -> Error {
    Error::corrupt(format!("index.bin: {why}"))
}

impl Sections {
    /// Finds the sections of a file: each begins where the one before ends, the last at the end.
    pub(super) fn open(bytes: Bytes) -> Result<Self> {
        if !bytes.starts_with(MAGIC) {
            return Err(damaged("is no index that this azimg can read"));
        }
        let head = MAGIC.len() + SECTIONS * 8;
        let mut at = head;
        let mut ranges = [const { 0..0 }; SECTIONS];
        for (number, range) in ranges.iter_mut().enumerate() {
            let place = MAGIC.len() + number * 8;
            let length = bytes
                .get(place..place + 8)
                .and_then(|length| length.try_into().ok())
                .map(u64::from_le_bytes)
                .and_then(|length| usize::try_from(length).ok())
                .ok_or_else(|| damaged("ends within its head"))?;
            let end = at.checked_add(length).filter(|end| *end <= bytes.len());
            *range = at..end.ok_or_else(|| damaged("is cut"))?;
            at = range.end;
        }
        if at != bytes.len() {
            return Err(damaged("has bytes behind its end"));
        }
        Ok(Self { bytes, ranges })
    }

    pub(super) fn of(&self, section: Section) -> &[u8] {
        &self.bytes[self.ranges[section as usize].clone()]
    }

    /// The section's own bytes, shared.
    pub(super) fn shared(&self, section: Section) -> Bytes {
        self.bytes.slice(self.ranges[section as usize].clone())
    }

    /// The bytes of the whole file.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// The number at `at`; [`NONE`] behind the end, where nothing is.
pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(NONE, u32::from_le_bytes)
}

/// The long number at `at`; zero behind the end.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Texts that lie one behind the other.
#[derive(Debug, Clone)]
pub struct Pool {
    ends: Bytes,
    text: Bytes,
    folded: OnceLock<Vec<u8>>,
    /// Which bytes occur in that.
    occurring: OnceLock<[bool; 256]>,
}

impl Pool {
    /// A pool whose ends grow, stay within its text, and part it at whole letters.
    pub(super) fn open(sections: &Sections, ends: Section, text: Section) -> Result<Self> {
        let (ends, text) = (sections.shared(ends), sections.shared(text));
        let pool = Self { ends, text, folded: OnceLock::new(), occurring: OnceLock::new() };
        let text = std::str::from_utf8(&pool.text).map_err(|_| damaged("has text that is none"))?;
        let mut last = 0;
        for end in pool.ends.chunks_exact(4).map(|four| number(four, 0)) {
            if end < last || !text.is_char_boundary(end as usize) {
                return Err(damaged("has texts that overlap"));
            }
            last = end;
        }
        let whole = pool.ends.len().is_multiple_of(4) && last as usize == text.len();
        if whole { Ok(pool) } else { Err(damaged("has text that belongs to nothing")) }
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A text; empty when there is none of this number.
    pub fn get(&self, id: u32) -> &str {
        std::str::from_utf8(self.bytes(id)).unwrap_or_default()
    }

    /// A text's bytes.
    pub fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        if id >= self.len() {
            return &[];
        }
        let start = if id == 0 { 0 } else { number(&self.ends, (id - 1) * 4) };
        let end = number(&self.ends, id * 4);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// All texts, one behind the other, as they are written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The same as searches compare them ([`folded_byte`]), byte by byte: made when first asked for.
    pub fn folded(&self) -> &[u8] {
        self.folded.get_or_init(|| self.text.iter().copied().map(folded_byte).collect())
    }

    /// Whether `needle`, folded, may occur: no, if one of its bytes never does. Most words have letters,
    /// and versions have none.
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

    /// Which text the byte at `at` belongs to, and where that text lies.
    pub fn at(&self, at: usize) -> (u32, Range<usize>) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if number(&self.ends, middle * 4) as usize <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let start = if low == 0 { 0 } else { number(&self.ends, (low - 1) * 4) };
        let id = u32::try_from(low).unwrap_or(NONE);
        (id, start as usize..number(&self.ends, low * 4) as usize)
    }
}
