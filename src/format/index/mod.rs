//! The index of a snapshot: its marketplace table in a form that is opened, not parsed.
//!
//! Rows are 32 bytes each, in the table's order, grouped by publisher, offer and SKU. Each name is
//! stored once, and so is each piece of JSON that rows share (their locations, their properties). A
//! row's JSON is therefore assembled from a few copies. Opening an index checks all of it, so
//! reading from it cannot fail.

mod layout;
mod moment;
mod pieces;
mod traits;
mod writer;

pub use layout::Pool;
pub use pieces::{NamePieces, Occurrence};
pub use traits::Traits;
pub use writer::IndexWriter;

use crate::error::Result;
use crate::image::{Status, nanoseconds, version};
use bytes::Bytes;
use layout::{DATE, GROUP, NONE, ROW, Section, Sections, TRAIT, damaged, first_from, long, number};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use time::OffsetDateTime;

/// The levels of names above a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Publishers.
    Publisher,
    /// Offers.
    Offer,
    /// SKUs.
    Sku,
}

impl Level {
    /// The levels, from the top.
    pub const ALL: [Self; 3] = [Self::Publisher, Self::Offer, Self::Sku];
}

/// An open index.
#[derive(Debug, Clone)]
pub struct Index {
    sections: Sections,
    names: [Pool; 3],
    versions: Pool,
    locations: Pool,
    json: Pool,
    pieces: OnceLock<Arc<NamePieces>>,
}

/// The JSON of the date from which a row is no longer deployable.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deprecation {
    #[serde(with = "time::serde::rfc3339")]
    scheduled_deprecation_at: OffsetDateTime,
}

/// A row's record.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    record: &'a [u8],
}

/// The path to a row: the numbers of its publisher's, offer's and SKU's group.
pub type GroupPath = [u32; 3];

impl Row<'_> {
    /// The number of its version's name in [`Index::versions`].
    pub fn version(self) -> u32 {
        number(self.record, 0)
    }

    /// The number of its set of locations.
    pub fn locations(self) -> u32 {
        number(self.record, 4)
    }

    /// The number of its traits.
    pub fn traits(self) -> u32 {
        number(self.record, 8)
    }

    /// Its status when its run began, if known.
    fn status(self) -> Option<Status> {
        Status::from_number(self.record.get(28).copied().unwrap_or_default())
    }

    /// Whether it was the latest of its SKU when its run began.
    fn is_latest(self) -> bool {
        self.record.get(29).is_some_and(|flags| flags & 1 != 0)
    }

    /// Whether one of its locations is carried over.
    pub fn is_stale(self) -> bool {
        self.record.get(29).is_some_and(|flags| flags & 2 != 0)
    }

    /// The number of its other properties. Rows with equal numbers have equal properties.
    pub fn extras(self) -> u32 {
        number(self.record, 12)
    }

    /// The number of the time it was first seen. Rows with equal numbers have equal times.
    pub fn first_seen(self) -> u32 {
        number(self.record, 24)
    }

    fn deprecation(self) -> u32 {
        number(self.record, 16)
    }
}

impl Index {
    /// Opens an index. Returns an error if the bytes are not an index, or not a complete one.
    pub fn open(bytes: Bytes) -> Result<Self> {
        let sections = Sections::open(bytes)?;
        let pool = |ends, text| Pool::open(&sections, ends, text);
        let this = Self {
            names: [
                pool(Section::PublisherEnds, Section::Publishers)?,
                pool(Section::OfferEnds, Section::Offers)?,
                pool(Section::SkuEnds, Section::Skus)?,
            ],
            versions: pool(Section::VersionEnds, Section::Versions)?,
            locations: pool(Section::LocationEnds, Section::Locations)?,
            json: pool(Section::JsonEnds, Section::Json)?,
            pieces: OnceLock::new(),
            sections,
        };
        this.check()?;
        Ok(this)
    }

    /// Checks that every stored number refers to an existing entry.
    fn check(&self) -> Result<()> {
        let below = |number: u32, end: usize| (number as usize) < end;
        let sizes = [
            (Section::PublisherGroups, GROUP),
            (Section::OfferGroups, GROUP),
            (Section::SkuGroups, GROUP),
            (Section::Rows, ROW),
            (Section::LocationSets, self.set_bytes()),
            (Section::Traits, TRAIT),
            (Section::Dates, DATE),
        ];
        for (section, size) in sizes {
            if !self.sections.of(section).len().is_multiple_of(size) {
                return Err(damaged("has a truncated record"));
            }
        }
        let counts = [self.groups(Level::Offer), self.groups(Level::Sku), self.len()];
        for (level, children) in Level::ALL.into_iter().zip(counts) {
            self.check_groups(level, children)?;
        }
        let records = |section: Section, size: usize| self.sections.of(section).chunks_exact(size);
        let json = self.json.len();
        let sets = records(Section::LocationSets, self.set_bytes());
        let traits = records(Section::Traits, TRAIT);
        let dates = records(Section::Dates, DATE);
        let (set_count, trait_count, date_count) = (sets.len(), traits.len(), dates.len());
        let sound = sets.map(|set| number(set, 0)).all(|text| below(text, json))
            && traits
                .flat_map(|record| record.chunks_exact(4))
                .map(|name| number(name, 0))
                .enumerate()
                .all(|(at, name)| below(name, json) || (at % 4 > 0 && name == NONE))
            && dates.map(|date| number(date, 8)).all(|text| below(text, json))
            && records(Section::Rows, ROW).all(|row| {
                below(number(row, 0), self.versions.len())
                    && below(number(row, 4), set_count)
                    && below(number(row, 8), trait_count)
                    && below(number(row, 12), json)
                    && (below(number(row, 16), date_count) || number(row, 16) == NONE)
                    && below(number(row, 20), json)
                    && below(number(row, 24), json)
            });
        if sound { Ok(()) } else { Err(damaged("has a reference out of range")) }
    }

    fn check_groups(&self, level: Level, children: u32) -> Result<()> {
        let (mut last, names) = (0, self.names(level).len());
        let bytes = self.sections.of(section(level));
        let mut records = bytes.chunks_exact(GROUP).peekable();
        if records.len() == 0 {
            return Err(damaged("has no groups"));
        }
        while let Some(record) = records.next() {
            let (name, first) = (number(record, 0), number(record, 4));
            let is_end = records.peek().is_none();
            let sound = if is_end { name == NONE } else { (name as usize) < names };
            if !sound || first < last || first > children || (is_end && first != children) {
                return Err(damaged("has a group out of range"));
            }
            last = first;
        }
        Ok(())
    }

    /// The run whose table this is.
    pub fn run(&self) -> &str {
        std::str::from_utf8(self.sections.of(Section::Run)).unwrap_or_default()
    }

    /// The number of rows.
    pub fn len(&self) -> u32 {
        u32::try_from(self.sections.of(Section::Rows).len() / ROW).unwrap_or(u32::MAX)
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size in bytes.
    pub fn bytes(&self) -> usize {
        self.sections.bytes()
    }

    /// The row at `at`, counted from zero.
    pub fn row(&self, at: u32) -> Row<'_> {
        let start = at as usize * ROW;
        Row { record: self.sections.of(Section::Rows).get(start..start + ROW).unwrap_or_default() }
    }

    /// The distinct names of a level.
    pub fn names(&self, level: Level) -> &Pool {
        &self.names[level as usize]
    }

    /// The distinct versions.
    pub fn versions(&self) -> &Pool {
        &self.versions
    }

    /// The locations.
    pub fn locations(&self) -> &Pool {
        &self.locations
    }

    /// The number of groups of a level.
    pub fn groups(&self, level: Level) -> u32 {
        let records = self.sections.of(section(level)).len() / GROUP;
        u32::try_from(records).unwrap_or(u32::MAX).saturating_sub(1)
    }

    /// The number of a group's name in [`Index::names`].
    pub fn group_name(&self, level: Level, group: u32) -> u32 {
        number(self.sections.of(section(level)), group as usize * GROUP)
    }

    /// The members of a group: groups of the next level, or rows.
    pub fn members(&self, level: Level, group: u32) -> Range<u32> {
        let first = |group: usize| number(self.sections.of(section(level)), group * GROUP + 4);
        first(group as usize)..first(group as usize + 1)
    }

    /// The group of `level` that contains `member`, a group of the next level or a row. It is not
    /// before the group `from`, and is found fast if it is near.
    pub fn parent(&self, level: Level, from: u32, member: u32) -> u32 {
        let groups = self.groups(level);
        let ends_before = |group: usize| {
            u32::try_from(group).is_ok_and(|group| self.members(level, group).end <= member)
        };
        let group = first_from(from as usize, groups as usize, ends_before);
        u32::try_from(group).unwrap_or(groups)
    }

    /// The path to a row.
    pub fn path_of(&self, row: u32) -> GroupPath {
        let sku = self.parent(Level::Sku, 0, row);
        let offer = self.parent(Level::Offer, 0, sku);
        [self.parent(Level::Publisher, 0, offer), offer, sku]
    }

    /// The groups in `range` called `name`, ignoring case. The table's order makes them adjacent.
    pub fn find(&self, level: Level, range: Range<u32>, name: &str) -> Range<u32> {
        let order = |group: u32| {
            let other = self.names(level).bytes(self.group_name(level, group));
            let lower = |text: &u8| text.to_ascii_lowercase();
            other.iter().map(lower).cmp(name.as_bytes().iter().map(lower))
        };
        let bound = |after: Ordering| {
            let (mut low, mut high) = (range.start, range.end);
            while low < high {
                let middle = u32::midpoint(low, high);
                if order(middle) <= after {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        bound(Ordering::Less)..bound(Ordering::Equal)
    }

    /// The paths of the SKUs with these names, ignoring case.
    pub fn skus(&self, [publisher, offer, sku]: [&str; 3]) -> Vec<GroupPath> {
        let mut places = Vec::new();
        for p in self.find(Level::Publisher, 0..self.groups(Level::Publisher), publisher) {
            for o in self.find(Level::Offer, self.members(Level::Publisher, p), offer) {
                for s in self.find(Level::Sku, self.members(Level::Offer, o), sku) {
                    places.push([p, o, s]);
                }
            }
        }
        places
    }

    /// The row of a version within a SKU's group, ignoring case.
    pub fn version(&self, sku: u32, version: &str) -> Option<u32> {
        let name = |row: u32| self.versions.get(self.row(row).version());
        let Range { start: mut low, end: mut high } = self.members(Level::Sku, sku);
        while low < high {
            let middle = u32::midpoint(low, high);
            if version::compare(name(middle), version) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // Names that differ only in case are neighbors.
        let rows = self.members(Level::Sku, sku);
        let near = low.saturating_sub(2).max(rows.start)..low.saturating_add(3).min(rows.end);
        near.into_iter().find(|row| name(*row).eq_ignore_ascii_case(version))
    }

    /// Whether the set of locations `set` contains all of `wanted`, given as numbers in
    /// [`Index::locations`].
    pub fn is_in(&self, set: u32, wanted: &[u32]) -> bool {
        let bytes = self.sections.of(Section::LocationSets);
        let start = set as usize * self.set_bytes() + 8;
        wanted.iter().all(|location| {
            let word = long(bytes, start + (*location as usize / 64) * 8);
            word & (1 << (location % 64)) != 0
        })
    }

    /// The number of distinct sets of locations.
    pub fn location_sets(&self) -> usize {
        self.sections.of(Section::LocationSets).len() / self.set_bytes()
    }

    /// The bits of a set of locations, 64 per number. The position of a bit is its location's
    /// number in [`Index::locations`].
    pub fn location_bits(&self, set: u32) -> impl Iterator<Item = u64> {
        let size = self.set_bytes();
        let bytes = self.sections.of(Section::LocationSets);
        let set = bytes.get(set as usize * size + 8..(set as usize + 1) * size);
        set.unwrap_or_default().chunks_exact(8).map(|eight| long(eight, 0))
    }

    /// When a row stops being deployable.
    pub fn deprecated_at(&self, row: Row<'_>) -> Option<OffsetDateTime> {
        let date = row.deprecation();
        if date == NONE {
            return None;
        }
        let (dates, at) = (self.sections.of(Section::Dates), date as usize * DATE);
        let nanos = long(dates, at).cast_signed();
        let exact = (nanos > i64::MIN && nanos < i64::MAX).then_some(nanos);
        let exact = exact.map(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos.into()));
        exact.and_then(Result::ok).or_else(|| {
            // The date is out of the range of nanoseconds. Its JSON has the exact value.
            let text = self.json.get(number(dates, at + 8));
            let Deprecation { scheduled_deprecation_at: at } =
                serde_json::from_str(&format!("{{{text}}}")).ok()?;
            Some(at)
        })
    }

    /// Appends a row as JSON. The text equals the table's own row, except that status and latest
    /// are those at `now`.
    pub fn write_json(
        &self,
        at: u32,
        group_path: GroupPath,
        now: OffsetDateTime,
        out: &mut Vec<u8>,
    ) {
        let (row, now) = (self.row(at), nanoseconds(now));
        let [publisher, offer, sku] = Level::ALL.map(|level| {
            let name = self.group_name(level, group_path[level as usize]);
            self.names(level).bytes(name)
        });
        let version = self.versions.bytes(row.version());
        let json = |at: usize| self.json.bytes(number(row.record, at));
        out.extend_from_slice(b"{\"kind\":\"marketplace\",\"id\":\"");
        for (number, name) in [publisher, offer, sku, version].into_iter().enumerate() {
            if number > 0 {
                out.push(b':');
            }
            quoted(name, out);
        }
        out.extend_from_slice(b"\",\"status\":");
        if let Some(status) = self.status(row, now) {
            out.push(b'"');
            out.extend_from_slice(status.as_str().as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(if self.is_latest(at, group_path[2], now) {
            b",\"isLatest\":true,"
        } else {
            b",\"isLatest\":false,".as_slice()
        });
        out.extend_from_slice(json(20));
        out.extend_from_slice(if row.is_stale() {
            b",\"stale\":true,\"publisher\":\""
        } else {
            b",\"stale\":false,\"publisher\":\"".as_slice()
        });
        for (name, next) in [
            (publisher, "\",\"offer\":\""),
            (offer, "\",\"sku\":\""),
            (sku, "\",\"version\":\""),
            (version, "\",\"locations\":"),
        ] {
            quoted(name, out);
            out.extend_from_slice(next.as_bytes());
        }
        let set = row.locations() as usize * self.set_bytes();
        let set = number(self.sections.of(Section::LocationSets), set);
        out.extend_from_slice(self.json.bytes(set));
        out.push(b',');
        let traits = number(self.sections.of(Section::Traits), row.traits() as usize * TRAIT);
        out.extend_from_slice(self.json.bytes(traits));
        match row.deprecation() {
            NONE => out.extend_from_slice(b",\"scheduledDeprecationAt\":null,"),
            date => {
                let text = number(self.sections.of(Section::Dates), date as usize * DATE + 8);
                out.push(b',');
                out.extend_from_slice(self.json.bytes(text));
                out.push(b',');
            }
        }
        out.extend_from_slice(json(12));
        out.push(b',');
        out.extend_from_slice(json(24));
        out.push(b'}');
    }

    fn set_bytes(&self) -> usize {
        8 + self.locations.len().div_ceil(64) * 8
    }
}

fn section(level: Level) -> Section {
    match level {
        Level::Publisher => Section::PublisherGroups,
        Level::Offer => Section::OfferGroups,
        Level::Sku => Section::SkuGroups,
    }
}

/// Appends text as it appears within a JSON string.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().all(|b| *b >= b' ' && *b != b'"' && *b != b'\\') {
        out.extend_from_slice(text);
    } else if let Ok(quoted) = serde_json::to_string(&String::from_utf8_lossy(text)) {
        out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
    }
}
