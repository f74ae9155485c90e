//! The documents that turn a set of files into a snapshot, and the pointer to the current one.

use super::coverage::Totals;
use super::{closing, parse_json, read_json, to_json};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{hex, ndjson};
use crate::scratch::Scratch;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{RunId, SourceName};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The schema version of everything under `snapshots/`.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether a snapshot is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Completeness {
    /// Every scope was listed.
    Complete,
    /// Some scopes were not listed; the coverage names them.
    Partial,
}

impl Completeness {
    /// The name, as used in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
        }
    }
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// The name of the file within the snapshot.
    pub name: String,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The number of rows; zero for documents.
    pub rows: u64,
    /// The kind of record in the file: the name for `azimg schema`, and the prefix of the schema
    /// file in the snapshot (`marketplace.schema.json`).
    pub schema: String,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: RunId,
    /// When the run started.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub started_at: OffsetDateTime,
    /// When the snapshot was written.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub published_at: OffsetDateTime,
    /// Whether the snapshot is complete.
    pub state: Completeness,
    /// The number of scopes by outcome.
    pub coverage: Totals,
    /// The run that rows are carried over from and changes are compared with.
    pub previous_run: Option<RunId>,
    /// The files of the snapshot.
    pub files: Vec<File>,
}

impl Manifest {
    /// The entry of a file, if the manifest has it.
    pub fn file(&self, file: SnapshotFile) -> Option<&File> {
        let name = file.to_string();
        self.files.iter().find(|file| file.name == name)
    }

    /// Returns a file that the manifest should name but does not. The manifest's own bytes have no
    /// checksum: without this check, damage to a name would silently omit a table.
    fn lacks(&self) -> Option<SnapshotFile> {
        let has = |file: &SnapshotFile| self.file(*file).is_some();
        let tables = SourceName::ALL.iter().copied();
        let forms = tables.map(|table| [SnapshotFile::Parquet(table), SnapshotFile::Ndjson(table)]);
        let halves = forms.filter(|forms| forms.iter().any(has)).flatten();
        let documents = [SnapshotFile::Changes, SnapshotFile::Coverage];
        let documents = documents.into_iter().filter(|_| !self.files.is_empty());
        halves.chain(documents).find(|file| !has(file))
    }
}

/// `current.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// The run.
    pub run: RunId,
    /// The name of the manifest.
    pub manifest: String,
    /// When the run was published.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub published_at: OffsetDateTime,
}

/// Parses `current.json`. It is damaged if its two names disagree.
fn read_current(store: &dyn Store, bytes: &[u8]) -> Result<Current> {
    let current: Current = parse_json(store, &Key::Current, bytes)?;
    if current.manifest != Key::Snapshot(current.run, SnapshotFile::Manifest).to_string() {
        let text = format!("names run {} but the manifest {}", current.run, current.manifest);
        return Err(unsound(store, &Key::Current, &text));
    }
    Ok(current)
}

/// Reads `current.json`, if it exists.
async fn stored_current(store: &dyn Store) -> Result<Option<Current>> {
    let Some(object) = store.get(&Key::Current).await? else { return Ok(None) };
    read_current(store, &object.bytes).map(Some)
}

/// The manifest of the current snapshot, if there is one.
pub async fn current(store: &dyn Store) -> Result<Option<Manifest>> {
    let Some(current) = stored_current(store).await? else {
        return Ok(None);
    };
    manifest(store, current.run).await?.map(Some).ok_or_else(|| {
        Error::corrupt(format!(
            "{}: current.json names run {}, whose manifest is missing; publish another run with \
             'azimg runs publish RUN'",
            store.address(),
            current.run
        ))
    })
}

/// The age of a catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CatalogAge {
    /// When the current snapshot was written.
    pub published: Option<OffsetDateTime>,
    /// When the newest complete snapshot was written, among those that are kept.
    pub complete: Option<OffsetDateTime>,
}

/// Determines the age of the catalog. Follows the chain back from the current snapshot.
pub async fn catalog_age(store: &dyn Store) -> Result<CatalogAge> {
    /// Maximum number of snapshots to read. A longer series of partial runs was reported before.
    const LOOKS_BACK: usize = 20;
    let mut looked = current(store).await?;
    let published = looked.as_ref().map(|manifest| manifest.published_at);
    for _ in 0..LOOKS_BACK {
        let Some(manifest) = looked else { break };
        if manifest.state == Completeness::Complete {
            return Ok(CatalogAge { published, complete: Some(manifest.published_at) });
        }
        looked = match manifest.previous_run {
            Some(run) => self::manifest(store, run).await?,
            None => None,
        };
    }
    Ok(CatalogAge { published, complete: None })
}

/// The runs that have a snapshot, complete or not, oldest first.
pub async fn runs(store: &dyn Store) -> Result<Vec<RunId>> {
    let names = store.list_level("snapshots/").await?;
    let mut runs: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// The manifest of a run's snapshot, if it is published.
pub async fn manifest(store: &dyn Store, run: RunId) -> Result<Option<Manifest>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        schema_version: u32,
    }
    let key = Key::Snapshot(run, SnapshotFile::Manifest);
    let Some(object) = store.get(&key).await? else { return Ok(None) };
    let Version { schema_version } = parse_json(store, &key, &object.bytes)?;
    if schema_version != SCHEMA_VERSION {
        // Written by another version of azimg, unless the coverage next to it has our version. In
        // that case the manifest is damaged.
        let coverage = Key::Snapshot(run, SnapshotFile::Coverage);
        let coverage_version = read_json::<Version>(store, &coverage).await;
        if coverage_version.is_ok_and(|coverage_version| {
            coverage_version.is_some_and(|b| b.schema_version == SCHEMA_VERSION)
        }) {
            let text = format!("has schema {schema_version}, but its coverage.json has another");
            return Err(unsound(store, &key, &text));
        }
        return Err(Error::invalid(format!(
            "{} contains snapshots of schema {schema_version}; this azimg supports schema \
             {SCHEMA_VERSION}: use the version of azimg that wrote them, or another --store",
            store.address()
        )));
    }
    let manifest: Manifest = parse_json(store, &key, &object.bytes)?;
    if manifest.run != run {
        return Err(unsound(store, &key, &format!("is the manifest of run {}", manifest.run)));
    }
    match manifest.lacks() {
        Some(file) => Err(unsound(store, &key, &format!("does not name {file}"))),
        None => Ok(Some(manifest)),
    }
}

fn unsound(store: &dyn Store, key: &Key, what: &str) -> Error {
    Error::corrupt(format!("{}/{key} {what}: it is damaged", store.address()))
}

/// The rows of a stored table, downloaded to a temporary file.
pub(crate) struct StoredRows<T> {
    rows: ndjson::Reader<std::fs::File, T>,
    file: PathBuf,
    _scratch: Scratch,
}

impl<T: DeserializeOwned> StoredRows<T> {
    /// Returns the bytes of the next row.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>> {
        self.rows.next_line()
    }

    /// Restarts at the first row.
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.rows = ndjson::open(&self.file)?;
        Ok(())
    }
}

impl<T: DeserializeOwned> Iterator for StoredRows<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Opens a table of a run's snapshot, after checking its hash against the manifest. `None` if there
/// is no such snapshot or table.
pub(crate) async fn open_rows<T: DeserializeOwned>(
    store: &dyn Store,
    run: RunId,
    table: SnapshotFile,
) -> Result<Option<StoredRows<T>>> {
    let manifest = manifest(store, run).await?;
    let Some(expected) = manifest.as_ref().and_then(|manifest| manifest.file(table)) else {
        return Ok(None);
    };
    let scratch = Scratch::new()?;
    let file = scratch.path().join("rows");
    let key = Key::Snapshot(run, table);
    if !store.download(&key, &file).await.map_err(|error| scratch.explain(error))? {
        return Err(gone(store, &key));
    }
    let stored = file.clone();
    let (_, sha256) = blocking("reading a table", move || measure(&stored)).await?;
    if sha256 != expected.sha256 {
        return Err(altered(store, &key));
    }
    let rows = ndjson::open(&file)?;
    Ok(Some(StoredRows { rows, file, _scratch: scratch }))
}

/// The bytes of a snapshot's file, after checking their hash against the manifest. `None` if the
/// manifest does not name the file.
pub(crate) async fn verified(
    store: &dyn Store,
    manifest: &Manifest,
    file: SnapshotFile,
) -> Result<Option<bytes::Bytes>> {
    let Some(expected) = manifest.file(file) else { return Ok(None) };
    let key = Key::Snapshot(manifest.run, file);
    let Some(object) = store.get(&key).await? else { return Err(gone(store, &key)) };
    let bytes = object.bytes.clone();
    let hash = blocking("hashing", move || Ok(hex(&Sha256::digest(&bytes)))).await?;
    if hash != expected.sha256 {
        return Err(altered(store, &key));
    }
    Ok(Some(object.bytes))
}

fn gone(store: &dyn Store, key: &Key) -> Error {
    Error::corrupt(format!(
        "{}/{key} is missing: its snapshot was removed (AZIMG_KEEP_SNAPSHOTS) or damaged",
        store.address()
    ))
}

fn altered(store: &dyn Store, key: &Key) -> Error {
    Error::corrupt(format!("{}/{key} does not match its manifest", store.address()))
}

/// The size of a file and the SHA-256 of its bytes.
pub(crate) fn measure(path: &Path) -> Result<(u64, String)> {
    let io = |e| Error::io(format!("reading {}", path.display()), e);
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// The run whose snapshot is current according to `current.json`. The snapshot may be damaged.
/// `None` if nothing is published, or `current.json` is damaged.
pub async fn head(store: &dyn Store) -> Result<Option<RunId>> {
    match stored_current(store).await {
        Ok(current) => Ok(current.map(|current| current.run)),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(%error, "current.json is damaged; the current snapshot is unknown");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes the snapshot of a published run the current one, provided that the snapshot that was
/// current when its turn began still is. Otherwise it has been current before, and nothing changes.
pub async fn make_current(
    store: &dyn Store,
    manifest: &Manifest,
    now: OffsetDateTime,
) -> Result<()> {
    let run = manifest.run;
    let next = Current {
        run,
        manifest: Key::Snapshot(run, SnapshotFile::Manifest).to_string(),
        published_at: now,
    };
    let bytes = to_json(&next)?;
    for _ in 0..16 {
        let turn = closing::turn(store).await?.turn;
        let object = store.get(&Key::Current).await?;
        let current = object.as_ref().map(|object| read_current(store, &object.bytes));
        let head = match current {
            Some(Ok(current)) => Some(current.run),
            // A damaged `current.json` is replaced by the next publisher.
            Some(Err(_)) | None => None,
        };
        let is_next = match &turn {
            Some(turn) if turn.run == run => head.is_none() || head == turn.head,
            Some(_) => false,
            // Published by a version of azimg without publish turns.
            None => head.is_none() || head == manifest.previous_run,
        };
        if head == Some(run) || !is_next {
            return Ok(());
        }
        let tag = object.as_ref().map(|object| object.tag.as_str());
        if store.swap(&Key::Current, bytes.clone().into(), tag).await? {
            return Ok(());
        }
    }
    Err(Error::transient("current.json: other processes keep changing it"))
}
