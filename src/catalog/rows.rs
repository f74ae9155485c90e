//! The gallery and registry tables of a snapshot, read once when a lookup first needs them.
//!
//! Rows are kept as the text they have in the table, with the names that filters look at beside them,
//! each kept once: a list compares names once and rows by number.

use super::Filter;
use crate::error::{Error, Result};
use crate::image::{Status, registry};
use crate::pipeline::snapshot::{self, Manifest};
use crate::source::locations::short_name;
use crate::store::{SnapshotFile, Store};
use crate::work::SourceName;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The tables, in the order of lists.
const TABLES: [SourceName; 2] = [SourceName::Gallery, SourceName::Registry];

/// The kinds of rows, by their number in [`Entry::kind`].
pub(super) const KINDS: [&str; 4] =
    ["gallery-definition", "gallery-version", "managed-image", registry::KIND];

/// The columns that filters look at, in this order in [`Entry::names`].
const COLUMNS: usize = 11;
const PUBLISHER: usize = 0;
const OFFER: usize = 1;
const SKU: usize = 2;
const VERSION: usize = 3;
pub(super) const GALLERY: usize = 4;
pub(super) const DEFINITION: usize = 5;
const SUBSCRIPTION: usize = 6;
const REGISTRY: usize = 7;
const REPOSITORY: usize = 8;
const OS: usize = 9;
const ARCHITECTURE: usize = 10;

#[derive(Debug)]
pub(super) struct Entry {
    /// Where its text ends.
    end: usize,
    kind: u8,
    status: Status,
    names: [Option<u32>; COLUMNS],
    locations: u32,
    tags: u32,
}

impl Entry {
    /// Its kind.
    pub(super) fn kind(&self) -> &'static str {
        KINDS.get(usize::from(self.kind)).copied().unwrap_or_default()
    }
}

/// Lists of names, each kept once.
#[derive(Debug, Default)]
struct Sets {
    ids: HashMap<Vec<String>, u32>,
    all: Vec<Vec<String>>,
}

impl Sets {
    fn id(&mut self, set: Vec<String>) -> u32 {
        if let Some(id) = self.ids.get(&set) {
            return *id;
        }
        let id = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.ids.insert(set.clone(), id);
        self.all.push(set);
        id
    }
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

/// The tables' rows, those of galleries first.
#[derive(Debug, Default)]
pub struct RowTable {
    text: Vec<u8>,
    entries: Vec<Entry>,
    names: Names,
    locations: Sets,
    tags: Sets,
    /// Rows by the digest of their id in lower case.
    by_id: HashMap<u64, u32>,
}

/// What is read of a row at once.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Light {
    kind: String,
    id: String,
    status: Status,
    publisher: Option<String>,
    offer: Option<String>,
    sku: Option<String>,
    version: Option<String>,
    gallery: Option<String>,
    definition: Option<String>,
    subscription_id: Option<String>,
    login_server: Option<String>,
    repository: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    #[serde(default)]
    locations: Vec<String>,
    location: Option<String>,
    #[serde(default)]
    tags: Tags,
}

/// Tags of a manifest are names; those of a resource are not looked at.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    Names(Vec<String>),
    Others(IgnoredAny),
}

impl Default for Tags {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

fn digest(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.to_ascii_lowercase().hash(&mut hasher);
    hasher.finish()
}

impl RowTable {
    /// Whether a snapshot has any of them.
    pub fn is_in(manifest: &Manifest) -> bool {
        TABLES.iter().any(|table| manifest.file(SnapshotFile::Ndjson(*table)).is_some())
    }

    /// Reads the tables of a snapshot, once their bytes are those that the manifest names; an empty one
    /// when it has none.
    pub async fn open(store: &dyn Store, manifest: &Manifest) -> Result<Self> {
        let mut tables = Vec::new();
        for table in TABLES {
            let file = SnapshotFile::Ndjson(table);
            tables.extend(snapshot::open_rows::<Light>(store, manifest.run, file).await?);
        }
        let read = move || {
            let mut table = Self::default();
            for mut rows in tables {
                while let Some(line) = rows.next_line()? {
                    table.add(line)?;
                }
            }
            table.locations.ids = HashMap::new();
            table.tags.ids = HashMap::new();
            table.text.shrink_to_fit();
            Ok(table)
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Error::bug("reading a table panicked").with_source(e))?
    }

    fn add(&mut self, line: &[u8]) -> Result<()> {
        let row: Light = serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
        let at = u32::try_from(self.entries.len()).map_err(|_| Error::invalid("too many rows"))?;
        let columns = [
            row.publisher,
            row.offer,
            row.sku,
            row.version,
            row.gallery,
            row.definition,
            row.subscription_id,
            row.login_server,
            row.repository,
            row.os,
            row.architecture,
        ];
        let mut names = [None; COLUMNS];
        for (id, name) in names.iter_mut().zip(&columns) {
            *id = name.as_ref().map(|name| self.names.id(name)).transpose()?;
        }
        let locations = self.locations.id(row.locations.into_iter().chain(row.location).collect());
        let tags = match row.tags {
            Tags::Names(names) => names,
            Tags::Others(_) => Vec::new(),
        };
        let tags = self.tags.id(tags);
        let kind = KINDS.iter().position(|kind| *kind == row.kind);
        let kind = kind.and_then(|kind| u8::try_from(kind).ok()).unwrap_or(u8::MAX);
        self.text.extend_from_slice(line);
        self.by_id.insert(digest(&row.id), at);
        let (status, end) = (row.status, self.text.len());
        self.entries.push(Entry { end, kind, status, names, locations, tags });
        Ok(())
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
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
    pub fn row<R: DeserializeOwned>(&self, row: u32) -> Result<R> {
        serde_json::from_slice(self.json(row)).map_err(|e| unreadable(&e))
    }

    /// The row of that id, without case.
    pub fn find(&self, id: &str) -> Option<u32> {
        let row = *self.by_id.get(&digest(id))?;
        let found: Light = self.row(row).ok()?;
        found.id.eq_ignore_ascii_case(id).then_some(row)
    }

    pub(super) fn name(&self, entry: &Entry, column: usize) -> Option<&str> {
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
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::corrupt(format!("a table has a row that this azimg cannot read ({error})"))
}

/// A filter, made ready for one table.
struct Query {
    /// For each column that is asked for: which names fit.
    columns: Vec<(usize, Vec<bool>)>,
    /// For each word: which names it occurs in.
    words: Vec<Vec<bool>>,
    kinds: [bool; KINDS.len()],
    statuses: [bool; Status::ALL.len()],
    locations: Vec<bool>,
    /// Which sets of tags fit; empty when none is asked for.
    tags: Vec<bool>,
    /// For each word: which sets of tags it occurs in.
    tagged: Vec<Vec<bool>>,
}

impl Query {
    fn new(table: &RowTable, filter: &Filter) -> Self {
        let asked = [
            (PUBLISHER, &filter.publisher),
            (OFFER, &filter.offer),
            (SKU, &filter.sku),
            (VERSION, &filter.version),
            (GALLERY, &filter.gallery),
            (DEFINITION, &filter.definition),
            (SUBSCRIPTION, &filter.subscription),
            (REGISTRY, &filter.registry),
            (REPOSITORY, &filter.repository),
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
        let tagged = |fits: &dyn Fn(&str) -> bool| -> Vec<bool> {
            table.tags.all.iter().map(|set| set.iter().any(|tag| fits(tag))).collect()
        };
        let in_tags =
            |word: &String| tagged(&|tag| tag.to_ascii_lowercase().contains(word.as_str()));
        let of = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| filter.fits(wanted, name))
        };
        let locations: Vec<String> = filter.locations.iter().map(|name| short_name(name)).collect();
        Self {
            columns: columns.collect(),
            words: filter.words().iter().map(has).collect(),
            kinds: KINDS.map(|kind| of(&filter.kind, kind)),
            statuses: Status::ALL.map(|status| of(&filter.status, status.as_str())),
            tags: match &filter.tag {
                Some(wanted) => tagged(&|tag| filter.fits(wanted, tag)),
                None => Vec::new(),
            },
            tagged: filter.words().iter().map(in_tags).collect(),
            locations: table
                .locations
                .all
                .iter()
                .map(|set| locations.iter().all(|location| set.contains(location)))
                .collect(),
        }
    }

    fn accepts(&self, entry: &Entry) -> bool {
        let name = |column: usize| entry.names[column].map(|id| id as usize);
        self.kinds.get(usize::from(entry.kind)).is_some_and(|fits| *fits)
            && self.statuses[entry.status as usize]
            && self.locations[entry.locations as usize]
            && self.tags.get(entry.tags as usize).is_none_or(|fits| *fits)
            && self.columns.iter().all(|(column, fits)| name(*column).is_some_and(|id| fits[id]))
            && self.words.iter().zip(&self.tagged).all(|(has, tagged)| {
                // Not in the operating system and the architecture: these are no names.
                (PUBLISHER..=REPOSITORY).any(|column| name(column).is_some_and(|id| has[id]))
                    || tagged[entry.tags as usize]
            })
    }
}
