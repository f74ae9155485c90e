//! The gallery table of a snapshot, read once when a lookup first needs it.
//!
//! Rows are kept as the text they have in the table, with the names that filters look at beside them,
//! each kept once: a list compares names once and rows by number.

use super::Filter;
use crate::error::{Error, Result};
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::{Status, version};
use crate::pipeline::snapshot::{self, Manifest};
use crate::source::locations::short_name;
use crate::store::{SnapshotFile, Store};
use crate::work::SourceName;
use serde::Deserialize;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use time::OffsetDateTime;

/// The columns that filters look at, in this order in [`Entry::names`].
const COLUMNS: usize = 9;
const PUBLISHER: usize = 0;
const OFFER: usize = 1;
const SKU: usize = 2;
const VERSION: usize = 3;
const GALLERY: usize = 4;
const DEFINITION: usize = 5;
const SUBSCRIPTION: usize = 6;
const OS: usize = 7;
const ARCHITECTURE: usize = 8;

#[derive(Debug)]
struct Entry {
    /// Where its text ends.
    end: usize,
    kind: Kind,
    status: Status,
    names: [Option<u32>; COLUMNS],
    locations: u32,
}

/// Names that are kept once.
#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Box<str>, u32>,
    all: Vec<Box<str>>,
}

impl Names {
    fn id(&mut self, name: &str) -> Result<u32> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = u32::try_from(self.all.len()).map_err(|_| Error::invalid("too many names"))?;
        self.ids.insert(name.into(), id);
        self.all.push(name.into());
        Ok(id)
    }
}

/// The table.
#[derive(Debug, Default)]
pub struct GalleryTable {
    text: Vec<u8>,
    entries: Vec<Entry>,
    names: Names,
    sets: Vec<Vec<String>>,
    /// Rows by the digest of their id in lower case.
    by_id: HashMap<u64, u32>,
}

/// What is read of a row at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Light {
    kind: Kind,
    id: String,
    status: Status,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    version: Option<String>,
    gallery: Option<String>,
    definition: String,
    subscription_id: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    locations: Vec<String>,
}

fn digest(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.to_ascii_lowercase().hash(&mut hasher);
    hasher.finish()
}

impl GalleryTable {
    /// Whether a snapshot has one.
    pub fn is_in(manifest: &Manifest) -> bool {
        manifest.file(SnapshotFile::Ndjson(SourceName::Gallery)).is_some()
    }

    /// Reads the table of a snapshot, once its bytes are those that the manifest names; an empty one
    /// when it has none.
    pub async fn open(store: &dyn Store, manifest: &Manifest) -> Result<Self> {
        let file = SnapshotFile::Ndjson(SourceName::Gallery);
        let rows = snapshot::open_rows::<Light>(store, manifest.run, file).await?;
        let read = move || {
            let mut table = Self::default();
            let mut sets: HashMap<Vec<String>, u32> = HashMap::new();
            if let Some(mut rows) = rows {
                while let Some(line) = rows.next_line()? {
                    table.add(line, &mut sets)?;
                }
            }
            let mut sets: Vec<(Vec<String>, u32)> = sets.into_iter().collect();
            sets.sort_unstable_by_key(|(_, id)| *id);
            table.sets = sets.into_iter().map(|(set, _)| set).collect();
            table.text.shrink_to_fit();
            Ok(table)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Error::bug("reading the gallery table panicked").with_source(e))?
    }

    fn add(&mut self, line: &[u8], sets: &mut HashMap<Vec<String>, u32>) -> Result<()> {
        let row: Light = serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
        let at = u32::try_from(self.entries.len()).map_err(|_| Error::invalid("too many rows"))?;
        let definition = Some(row.definition);
        let columns = [
            row.publisher,
            row.offer,
            row.sku,
            row.version,
            row.gallery,
            definition,
            row.subscription_id,
            row.os,
            row.architecture,
        ];
        let mut names = [None; COLUMNS];
        for (id, name) in names.iter_mut().zip(&columns) {
            *id = name.as_ref().map(|name| self.names.id(name)).transpose()?;
        }
        let next = u32::try_from(sets.len()).unwrap_or(u32::MAX);
        let locations = *sets.entry(row.locations).or_insert(next);
        self.text.extend_from_slice(line);
        self.by_id.insert(digest(&row.id), at);
        let (kind, status, end) = (row.kind, row.status, self.text.len());
        self.entries.push(Entry { end, kind, status, names, locations });
        Ok(())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A row's JSON, as the table has it.
    pub fn json(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let Some(entry) = self.entries.get(row) else { return &[] };
        let start = row.checked_sub(1).map_or(0, |before| self.entries[before].end);
        self.text.get(start..entry.end).unwrap_or_default()
    }

    /// A row.
    pub fn row(&self, row: u32) -> Result<GalleryImage> {
        serde_json::from_slice(self.json(row)).map_err(|e| unreadable(&e))
    }

    /// The row of that id, without case.
    pub fn find(&self, id: &str) -> Option<u32> {
        let row = *self.by_id.get(&digest(id))?;
        let found = self.row(row).ok()?;
        found.id.eq_ignore_ascii_case(id).then_some(row)
    }

    fn name(&self, entry: &Entry, column: usize) -> Option<&str> {
        entry.names[column].map(|id| &*self.names.all[id as usize])
    }

    /// The rows that `filter` accepts, at most `top`, from the `from`-th row of the table on; and the
    /// row with which the next part begins.
    pub fn list(&self, filter: &Filter, from: u32, top: usize) -> (Vec<u32>, Option<u32>) {
        let query = Query::new(self, filter);
        let mut rows = Vec::new();
        for (at, entry) in self.entries.iter().enumerate().skip(from as usize) {
            if !query.accepts(entry) {
                continue;
            }
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            if rows.len() == top {
                return (rows, Some(at));
            }
            rows.push(at);
        }
        (rows, None)
    }

    /// Whether `filter` accepts a row.
    pub fn accepts(&self, filter: &Filter, row: u32) -> bool {
        let query = Query::new(self, filter);
        self.entries.get(row as usize).is_some_and(|entry| query.accepts(entry))
    }

    /// The versions of an image definition: by `gallery/definition`, or by the definition's id. An
    /// error when it is not there, or when several galleries have that name.
    fn versions(&self, name: &str) -> Result<Vec<GalleryImage>> {
        let by_name = name.split_once('/').filter(|(gallery, _)| !gallery.is_empty());
        let is_wanted = |entry: &Entry| match by_name {
            Some((gallery, definition)) => {
                let same = |column, wanted: &str| {
                    self.name(entry, column).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                };
                entry.kind != Kind::ManagedImage
                    && same(GALLERY, gallery)
                    && same(DEFINITION, definition)
            }
            None => false,
        };
        let found: Vec<GalleryImage> = if by_name.is_some() {
            let numbered = self.entries.iter().enumerate();
            let wanted = numbered.filter(|(_, entry)| is_wanted(entry));
            wanted
                .map(|(at, _)| self.row(u32::try_from(at).unwrap_or(u32::MAX)))
                .collect::<Result<_>>()?
        } else {
            self.below(name)?
        };
        let ids: Vec<&str> = found
            .iter()
            .filter(|row| row.kind == Kind::GalleryDefinition)
            .map(|row| row.id.as_str())
            .collect();
        match ids[..] {
            [] => Err(Error::not_found(format!(
                "no image definition {name} is in the catalog: give GALLERY/DEFINITION, or its id"
            ))),
            [_] => Ok(found),
            _ => Err(Error::invalid(format!(
                "'{name}' is the name of {} image definitions: give the id of one of {}",
                ids.len(),
                ids.join(", ")
            ))),
        }
    }

    /// A definition and its versions, by the definition's id.
    fn below(&self, id: &str) -> Result<Vec<GalleryImage>> {
        let Some(first) = self.find(id) else { return Ok(Vec::new()) };
        let mut rows = vec![self.row(first)?];
        for at in first + 1.. {
            if at as usize >= self.entries.len() {
                break;
            }
            let row = self.row(at)?;
            let head = row.id.get(..id.len());
            if row.kind != Kind::GalleryVersion || !head.is_some_and(|h| h.eq_ignore_ascii_case(id))
            {
                break;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The version that Azure takes for the latest of a definition, in all of `locations`, of those
    /// whose life does not end before `until`.
    pub fn latest(
        &self,
        name: &str,
        locations: &[String],
        until: Option<OffsetDateTime>,
    ) -> Result<GalleryImage> {
        let rows = self.versions(name)?;
        let locations: Vec<String> = locations.iter().map(|name| short_name(name)).collect();
        let lives = |row: &GalleryImage| {
            until.is_none_or(|until| row.end_of_life_at.is_none_or(|end| end >= until))
        };
        let fits = |row: &&GalleryImage| {
            row.may_be_latest()
                && lives(row)
                && locations.iter().all(|location| row.may_be_latest_in(location))
        };
        let number = |row: &&GalleryImage| row.version.clone().unwrap_or_default();
        let newest = rows
            .iter()
            .filter(fits)
            .max_by(|a, b| version::compare(&number(a), &number(b)))
            .cloned();
        newest.ok_or_else(|| {
            let versions = rows.iter().filter(|row| row.version.is_some()).count();
            let place = if locations.is_empty() {
                "anywhere".to_owned()
            } else {
                format!("in {}", locations.join(" and "))
            };
            Error::not_found(format!(
                "none of the {versions} versions of {name} may be the latest {place}: they are \
                 excluded from latest, past their end of life, not provisioned, or not there"
            ))
        })
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::corrupt(format!("the gallery table has a row that this azimg cannot read ({error})"))
}

/// A filter, made ready for one table.
struct Query {
    /// For each column that is asked for: which names fit.
    columns: Vec<(usize, Vec<bool>)>,
    /// For each word: which names it occurs in.
    words: Vec<Vec<bool>>,
    kinds: [bool; Kind::ALL.len()],
    statuses: [bool; Status::ALL.len()],
    sets: Vec<bool>,
}

impl Query {
    fn new(table: &GalleryTable, filter: &Filter) -> Self {
        let asked = [
            (PUBLISHER, &filter.publisher),
            (OFFER, &filter.offer),
            (SKU, &filter.sku),
            (VERSION, &filter.version),
            (GALLERY, &filter.gallery),
            (DEFINITION, &filter.definition),
            (SUBSCRIPTION, &filter.subscription),
            (OS, &filter.os),
            (ARCHITECTURE, &filter.architecture),
        ];
        let fits = |wanted: &String| -> Vec<bool> {
            table.names.all.iter().map(|name| filter.fits(wanted, name)).collect()
        };
        let columns =
            asked.into_iter().filter_map(|(at, wanted)| Some((at, fits(wanted.as_ref()?))));
        let has = |word: &String| -> Vec<bool> {
            let lower = |name: &str| name.to_ascii_lowercase().contains(word);
            table.names.all.iter().map(|name| lower(name)).collect()
        };
        let of = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| filter.fits(wanted, name))
        };
        let locations: Vec<String> = filter.locations.iter().map(|name| short_name(name)).collect();
        Self {
            columns: columns.collect(),
            words: filter.words().iter().map(has).collect(),
            kinds: Kind::ALL.map(|kind| of(&filter.kind, kind.as_str())),
            statuses: Status::ALL.map(|status| of(&filter.status, status.as_str())),
            sets: table
                .sets
                .iter()
                .map(|set| locations.iter().all(|location| set.contains(location)))
                .collect(),
        }
    }

    fn accepts(&self, entry: &Entry) -> bool {
        let name = |column: usize| entry.names[column].map(|id| id as usize);
        self.kinds[entry.kind as usize]
            && self.statuses[entry.status as usize]
            && self.sets[entry.locations as usize]
            && self.columns.iter().all(|(column, fits)| name(*column).is_some_and(|id| fits[id]))
            && self.words.iter().all(|has| {
                // Not in the operating system and the architecture: these are no names.
                (PUBLISHER..=SUBSCRIPTION).any(|column| name(column).is_some_and(|id| has[id]))
            })
    }
}
