//! The rows of the gallery and registry tables, with the names that filters use.

use super::entry::{COLUMNS, Entry, KINDS, VERSION_KIND};
use crate::blocking::blocking;
use crate::catalog::definitions::Definitions;
use crate::error::{Error, Result};
use crate::image::Status;
use crate::image::gallery::{GalleryImage, Kind, is_failed, may_be_latest_as, split};
use crate::pipeline::snapshot::{self, Manifest, StoredRows};
use crate::store::{SnapshotFile, Store};
use crate::work::SourceName;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use time::OffsetDateTime;

/// The tables, in list order.
const TABLES: [SourceName; 2] = [SourceName::Gallery, SourceName::Registry];

/// Interned lists of names.
#[derive(Debug, Default)]
pub(super) struct Sets {
    ids: HashMap<Vec<String>, u32>,
    pub(super) all: Vec<Vec<String>>,
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

/// Interned feature sets.
#[derive(Debug, Default)]
pub(super) struct Maps {
    ids: HashMap<BTreeMap<String, String>, u32>,
    pub(super) all: Vec<BTreeMap<String, String>>,
}

impl Maps {
    fn id(&mut self, map: BTreeMap<String, String>) -> u32 {
        if let Some(id) = self.ids.get(&map) {
            return *id;
        }
        let id = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.ids.insert(map.clone(), id);
        self.all.push(map);
        id
    }
}

/// Interned names.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Box<str>, u32>,
    pub(super) all: Vec<Box<str>>,
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

/// The rows of both tables, those of the gallery table first.
#[derive(Debug, Default)]
pub struct RowTable {
    text: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) names: Names,
    pub(super) locations: Sets,
    pub(super) tags: Sets,
    pub(super) features: Maps,
    /// Id of the most recently added definition, and its number.
    definition: (String, u32),
    /// Row number by the hash of its id in lower case.
    by_id: HashMap<u64, u32>,
    /// Definitions by identity. Built when an id is first looked up in another form than the
    /// table's.
    definitions: OnceLock<Definitions>,
}

/// The columns that are read when a row is added.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowHead {
    kind: String,
    id: String,
    status: Status,
    is_latest: bool,
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
    replication: BTreeMap<String, String>,
    #[serde(default)]
    tags: Tags,
    #[serde(rename = "hyperVGeneration")]
    generation: Option<String>,
    #[serde(default)]
    features: BTreeMap<String, String>,
    plan_publisher: Option<String>,
    plan_product: Option<String>,
    plan_name: Option<String>,
    #[serde(default)]
    exclude_from_latest: bool,
    provisioning_state: Option<String>,
    #[serde(with = "time::serde::rfc3339::option", default)]
    end_of_life_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    first_seen_at: OffsetDateTime,
}

impl RowHead {
    /// Whether the row may be the latest of its definition until its end of life.
    fn is_eligible(&self) -> bool {
        self.kind == VERSION_KIND
            && self.status != Status::Gone
            && may_be_latest_as(
                self.exclude_from_latest,
                self.provisioning_state.as_deref(),
                &self.locations,
            )
    }

    fn has_plan(&self) -> bool {
        let plan = [&self.plan_publisher, &self.plan_product, &self.plan_name];
        plan.into_iter().any(Option::is_some)
    }
}

/// Tags: a manifest's are names, a resource's have values.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    Names(Vec<String>),
    Values(BTreeMap<String, Option<String>>),
    Others(IgnoredAny),
}

/// A resource's tag as filters compare it. It contains `=`, which a manifest's tag cannot, so the
/// two are never confused.
fn written(name: &str, value: Option<&str>) -> String {
    format!("{name}={}", value.unwrap_or_default())
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
    /// Whether a snapshot has any of these tables.
    pub fn is_in(manifest: &Manifest) -> bool {
        TABLES.iter().any(|table| manifest.file(SnapshotFile::Ndjson(*table)).is_some())
    }

    /// Reads the tables of a snapshot after checking their bytes against the manifest. Empty when
    /// it has none.
    pub async fn open(store: &dyn Store, manifest: &Manifest) -> Result<Self> {
        let tables = Self::stored(store, manifest).await?;
        let read = move || {
            let mut table = Self::default();
            for mut rows in tables {
                while let Some(line) = rows.next_line()? {
                    table.add(line)?;
                }
            }
            table.locations.ids = HashMap::new();
            table.tags.ids = HashMap::new();
            table.features.ids = HashMap::new();
            table.text.shrink_to_fit();
            Ok(table)
        };
        blocking("reading a table", read).await
    }

    /// Opens the tables of a snapshot for reading row by row, after checking their bytes against
    /// the manifest.
    pub(in crate::catalog) async fn stored(
        store: &dyn Store,
        manifest: &Manifest,
    ) -> Result<Vec<StoredRows<IgnoredAny>>> {
        let mut tables = Vec::new();
        for table in TABLES {
            let file = SnapshotFile::Ndjson(table);
            tables.extend(snapshot::open_rows(store, manifest.run, file).await?);
        }
        Ok(tables)
    }

    pub(in crate::catalog) fn add(&mut self, line: &[u8]) -> Result<()> {
        let row: RowHead = serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
        let at = u32::try_from(self.entries.len()).map_err(|_| Error::invalid("too many rows"))?;
        let (is_eligible, has_plan) = (row.is_eligible(), row.has_plan());
        let definition = self.definition_of(&row.id);
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
            row.generation,
        ];
        let mut names = [None; COLUMNS];
        for (id, name) in names.iter_mut().zip(&columns) {
            *id = name.as_ref().map(|name| self.names.id(name)).transpose()?;
        }
        // A version is not available where its replica failed.
        let is_there =
            |name: &String| !row.replication.get(name).is_some_and(|state| is_failed(state));
        let locations = row.locations.into_iter().filter(is_there).chain(row.location);
        let locations = self.locations.id(locations.collect());
        let tags = match row.tags {
            Tags::Names(names) => names,
            Tags::Values(all) => {
                all.iter().map(|(name, value)| written(name, value.as_deref())).collect()
            }
            Tags::Others(_) => Vec::new(),
        };
        let tags = self.tags.id(tags);
        let kind = KINDS.iter().position(|kind| *kind == row.kind);
        let kind = kind.and_then(|kind| u8::try_from(kind).ok()).unwrap_or(u8::MAX);
        self.text.extend_from_slice(line);
        self.by_id.insert(digest(&row.id), at);
        self.entries.push(Entry {
            end: self.text.len(),
            kind,
            status: row.status,
            is_eligible,
            definition,
            has_plan,
            ends_at: row.end_of_life_at,
            first_seen_at: row.first_seen_at,
            is_latest: row.is_latest,
            names,
            locations,
            tags,
            features: self.features.id(row.features),
        });
        Ok(())
    }

    /// The number of the definition that the row with this id is or belongs to.
    fn definition_of(&mut self, id: &str) -> u32 {
        let (definition, _) = split(id);
        if !self.definition.0.eq_ignore_ascii_case(definition) {
            self.definition = (definition.to_owned(), self.definition.1 + 1);
        }
        self.definition.1
    }

    /// The image definitions by identity.
    pub(in crate::catalog) fn definitions(&self) -> Result<&Definitions> {
        if let Some(known) = self.definitions.get() {
            return Ok(known);
        }
        let mut all: Vec<GalleryImage> = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.kind() == Kind::GalleryDefinition.as_str() {
                all.push(self.row(u32::try_from(at).unwrap_or(u32::MAX))?);
            }
        }
        Ok(self.definitions.get_or_init(|| Definitions::of(all)))
    }

    pub(in crate::catalog) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A row's JSON, as in the table.
    pub(super) fn json(&self, row: u32) -> &[u8] {
        let row = row as usize;
        let Some(entry) = self.entries.get(row) else { return &[] };
        let start = row.checked_sub(1).map_or(0, |before| self.entries[before].end);
        self.text.get(start..entry.end).unwrap_or_default()
    }

    /// Parses a row, as in the table.
    pub fn row<R: DeserializeOwned>(&self, row: u32) -> Result<R> {
        serde_json::from_slice(self.json(row)).map_err(|e| unreadable(&e))
    }

    /// Returns the row with this id, ignoring case.
    pub fn find(&self, id: &str) -> Option<u32> {
        let row = *self.by_id.get(&digest(id))?;
        let found: RowHead = self.row(row).ok()?;
        found.id.eq_ignore_ascii_case(id).then_some(row)
    }

    pub(in crate::catalog) fn name(&self, entry: &Entry, column: usize) -> Option<&str> {
        entry.names[column].map(|id| &*self.names.all[id as usize])
    }

    /// The distinct names in a column.
    pub(in crate::catalog) fn names_in(&self, column: usize) -> Vec<&str> {
        let ids: BTreeSet<u32> =
            self.entries.iter().filter_map(|entry| entry.names[column]).collect();
        ids.into_iter().map(|id| &*self.names.all[id as usize]).collect()
    }

    /// Short names of the locations of all rows. A location in several sets occurs several times.
    pub(in crate::catalog) fn locations(&self) -> impl Iterator<Item = &str> {
        self.locations.all.iter().flatten().map(String::as_str)
    }

    /// The kind and the locations of a row.
    pub(in crate::catalog) fn kind_and_locations(&self, row: u32) -> (&'static str, &[String]) {
        self.entries.get(row as usize).map_or(("", &[]), |entry| {
            (entry.kind(), self.locations.all[entry.locations as usize].as_slice())
        })
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::corrupt(format!("a table has a row that this version of azimg cannot read ({error})"))
}
