//! The current snapshot, opened for reading: lists, searches, and lookups of the latest image.
//!
//! Invariant: only bytes whose SHA-256 equals the one in the snapshot's manifest are served. A
//! snapshot that fails this check is refused, and the newest one that passes is served instead.

mod alias;
pub mod aliases;
mod date;
mod definitions;
pub mod distinct;
pub mod feed;
mod filter;
mod gallery;
mod latest;
mod list;
mod listing;
pub mod live;
mod places;
mod reference;
mod regions;
mod rows;
mod storage;
mod suggest;
mod unknown;
pub mod usage;
mod wrong_name;

pub use crate::image::name::short_name;
pub(crate) use date::date;
pub use filter::{Filter, LONGEST_SEARCH};
pub use latest::LatestQuestion;
pub use list::{Found, Page, list, unknown};
pub use listing::Listing;
pub use places::ListedPlaces;
pub use reference::is_of_others;
pub use regions::region;
pub use rows::RowTable;
pub use storage::RepositoryStorage;
pub use suggest::{Suggestion, suggestions};

use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{GroupPath, Index, IndexWriter};
use crate::image::Urn;
use crate::image::marketplace::MarketplaceImage;
use crate::image::nanoseconds;
use crate::pipeline::snapshot::{self, Manifest};
use crate::pipeline::verify;
use crate::store::{SnapshotFile, Store};
use crate::work::{RunId, SourceName};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

/// Maximum number of other snapshots to try when one is damaged.
const TRIED: usize = 4;

/// Why the current snapshot is not the one being served.
#[derive(Debug, Clone)]
pub struct PassedOver {
    /// Run of the current snapshot, as far as `current.json` names it.
    pub run: Option<RunId>,
    /// What is wrong with the snapshot.
    pub reason: String,
}

/// An opened snapshot.
#[derive(Debug)]
pub struct Catalog {
    /// Manifest of the snapshot.
    pub manifest: Manifest,
    /// The marketplace table.
    pub index: Index,
    /// The current snapshot, when an older one is served instead of it.
    pub passed_over: Option<PassedOver>,
    /// The gallery and registry tables, read when a lookup first needs them.
    others: Box<OnceCell<RowTable>>,
    /// How each location was listed, read when a lookup first needs it.
    listed: OnceCell<ListedPlaces>,
    /// The storage of repositories, computed when a lookup first needs it.
    storage: OnceLock<Vec<RepositoryStorage>>,
    /// Times at which an image of the marketplace table, and of the other tables, reaches its end.
    /// Ascending, in nanoseconds since 1970.
    ends: [OnceLock<Vec<i64>>; 2],
}

/// Set in a list's position when it refers to a row of the gallery and registry tables.
const IN_OTHERS: u32 = 1 << 31;

impl Catalog {
    /// Opens the current snapshot, or the newest one that matches its manifest.
    pub async fn open(store: &dyn Store) -> Result<Self> {
        let (run, error) = match snapshot::current(store).await {
            Ok(Some(manifest)) => {
                let run = manifest.run;
                match Self::of(store, manifest).await {
                    Ok(catalog) => return Ok(catalog),
                    Err(error) => (Some(run), error),
                }
            }
            Ok(None) => (None, no_catalog(store)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                (verify::named(store).await?.run, error)
            }
            Err(error) => return Err(error),
        };
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) {
            return Err(error);
        }
        Self::instead(store, run, error, false).await
    }

    /// Opens the current snapshot with its gallery and registry tables, or the newest one whose
    /// tables match its manifest.
    pub async fn open_with_others(store: &dyn Store) -> Result<Self> {
        Self::open(store).await?.or_newest_intact(store).await
    }

    /// Returns `self` after reading its gallery and registry tables. When they do not match its
    /// manifest, returns the newest snapshot whose tables do.
    async fn or_newest_intact(self, store: &dyn Store) -> Result<Self> {
        match self.others(store).await {
            Ok(_) => Ok(self),
            Err(error) => self.without(store, error).await,
        }
    }

    /// Opens the newest snapshot whose tables all match its manifest, because reading those of this
    /// one failed with `error`. Returns `error` if it does not mean damage.
    pub(crate) async fn without(&self, store: &dyn Store, error: Error) -> Result<Self> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let mut other = Self::instead(store, Some(self.manifest.run), error, true).await?;
        // If this snapshot already replaces the current one, that one remains the one passed over.
        other.passed_over = self.passed_over.clone().or(other.passed_over);
        Ok(other)
    }

    /// Opens the newest usable snapshot other than that of `run`, in which `error` was found.
    async fn instead(
        store: &dyn Store,
        run: Option<RunId>,
        error: Error,
        with_others: bool,
    ) -> Result<Self> {
        let kept = verify::kept(store).await?.manifests;
        for manifest in kept.into_iter().filter(|other| Some(other.run) != run).take(TRIED) {
            let other = manifest.run;
            let opened = async {
                let catalog = Self::of(store, manifest).await?;
                if with_others {
                    catalog.others(store).await?;
                }
                Ok::<_, Error>(catalog)
            };
            match opened.await {
                Ok(catalog) => {
                    tracing::error!(%error, serving = %other, "cannot open the current snapshot");
                    let reason = if error.kind() == ErrorKind::NotFound {
                        "current.json is missing".to_owned()
                    } else {
                        error.to_string()
                    };
                    let passed_over = Some(PassedOver { run, reason });
                    return Ok(Self { passed_over, ..catalog });
                }
                Err(error) => {
                    tracing::debug!(%error, run = %other, "cannot open this snapshot either");
                }
            }
        }
        Err(error)
    }

    /// Opens the snapshot of `run`, if it still exists.
    pub async fn open_run(store: &dyn Store, run: RunId) -> Result<Option<Self>> {
        match snapshot::manifest(store, run).await? {
            Some(manifest) => Self::of(store, manifest).await.map(Some),
            None => Ok(None),
        }
    }

    async fn of(store: &dyn Store, manifest: Manifest) -> Result<Self> {
        tracing::debug!(run = %manifest.run, store = store.address(), "opening a snapshot");
        let index = match snapshot::verified(store, &manifest, SnapshotFile::Index).await? {
            Some(bytes) => blocking("opening an index", move || Index::open(bytes)).await?,
            None => from_table(store, &manifest).await?,
        };
        Ok(Self {
            manifest,
            index,
            passed_over: None,
            others: Box::default(),
            listed: OnceCell::new(),
            storage: OnceLock::new(),
            ends: [const { OnceLock::new() }; 2],
        })
    }

    /// Returns the gallery and registry tables, reading them on first use. Empty when the snapshot
    /// has none.
    pub async fn others(&self, store: &dyn Store) -> Result<&RowTable> {
        self.others.get_or_try_init(|| RowTable::open(store, &self.manifest)).await
    }

    /// Returns how each location of the marketplace was listed, reading it on first use.
    pub async fn listed(&self, store: &dyn Store) -> Result<&ListedPlaces> {
        self.listed.get_or_try_init(|| places::read(store, &self.manifest)).await
    }

    /// The repositories of all registries, most bytes first. Empty if the registry table has not
    /// been [read](Self::others).
    pub fn storage(&self) -> Result<&[RepositoryStorage]> {
        let Some(table) = self.others.get() else { return Ok(&[]) };
        if let Some(known) = self.storage.get() {
            return Ok(known);
        }
        let all = storage::of(table)?;
        Ok(self.storage.get_or_init(|| all))
    }

    /// Whether a list by `filter` needs the gallery and registry tables.
    pub fn needs_row_tables(&self, filter: &Filter) -> bool {
        filter.accepts_other_kinds() && RowTable::is_in(&self.manifest)
    }

    /// Opens the current snapshot with the tables that a list by `filter` needs, or the newest one
    /// in which they are intact.
    pub async fn open_for(store: &dyn Store, filter: &Filter) -> Result<Self> {
        let catalog = Self::open(store).await?;
        if catalog.needs_row_tables(filter) {
            catalog.or_newest_intact(store).await
        } else {
            Ok(catalog)
        }
    }

    /// Returns the last time, up to `now`, at which an image reached its end, or else the start of
    /// the run. Every query at `now` has the same answer as at that time. The other tables are
    /// considered if they have been [read](Self::others).
    pub fn moment(&self, now: OffsetDateTime) -> OffsetDateTime {
        let begun = self.manifest.started_at;
        let [marketplace, others] = &self.ends;
        let ends = marketplace.get_or_init(|| self.index.ends().into_iter().collect());
        let others = self.others.get().map(|table| {
            let ends = || table.ends().map(nanoseconds).collect::<BTreeSet<i64>>();
            others.get_or_init(|| ends().into_iter().collect())
        });
        let now = nanoseconds(now);
        let last = [Some(ends), others].into_iter().flatten().filter_map(|ends| {
            let until = ends.partition_point(|end| *end <= now);
            ends.get(until.checked_sub(1)?).copied()
        });
        let last = last.max().filter(|end| *end > nanoseconds(begun));
        let last = last.map(|end| OffsetDateTime::from_unix_timestamp_nanos(end.into()));
        last.and_then(Result::ok).unwrap_or(begun)
    }

    /// Number of marketplace images for which it is unknown whether `filter` accepts them at `now`,
    /// because details were requested neither for them nor for their SKU.
    pub fn unknown(&self, filter: &Filter, now: OffsetDateTime) -> u64 {
        list::unknown(&self.index, filter, now)
    }

    /// Returns the rows that `filter` accepts at `now`: at most `top`, starting at position `from`,
    /// which is zero or the `next` of an earlier page. Marketplace images come first, then the rows
    /// of the other tables if they have been [read](Self::others).
    pub fn list(&self, filter: &Filter, from: u32, top: usize, now: OffsetDateTime) -> Page {
        let mut page = match from & IN_OTHERS {
            0 => list(&self.index, filter, from, top, now),
            _ => Page::default(),
        };
        if let (None, Some(table)) = (page.next, self.others.get()) {
            let from = if from & IN_OTHERS == 0 { 0 } else { from & !IN_OTHERS };
            let (rows, next) = table.list(filter, from, top - page.rows.len(), now);
            page.others = rows;
            page.next = next.map(|at| at | IN_OTHERS);
        }
        page
    }

    /// Appends the rows of a page as JSON, as of `now`, separated by commas.
    pub fn write_page(&self, page: &Page, now: OffsetDateTime, out: &mut Vec<u8>) {
        let separate = |out: &mut Vec<u8>, number: usize| {
            if number > 0 {
                out.push(b',');
            }
        };
        for (number, found) in page.rows.iter().enumerate() {
            separate(out, number);
            self.write_json(*found, now, out);
        }
        for (number, row) in page.others.iter().enumerate() {
            separate(out, page.rows.len() + number);
            if let Some(table) = self.others.get() {
                table.write_json(*row, now, out);
            }
        }
    }

    /// The rows of a page as JSON values, as of `now`.
    pub fn values(&self, page: &Page, now: OffsetDateTime) -> Result<Vec<Value>> {
        let mut text = vec![b'['];
        self.write_page(page, now, &mut text);
        text.push(b']');
        serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(format!("a row of the snapshot cannot be read ({e})")))
    }

    /// Short names of the locations of marketplace images, sorted.
    pub fn locations(&self) -> Vec<String> {
        let pool = self.index.locations();
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let mut names: Vec<String> = (0..count).map(|id| pool.get(id).to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the image with this URN, ignoring case.
    pub fn find(&self, urn: &Urn) -> Option<Found> {
        let places = self.index.skus([&urn.publisher, &urn.offer, &urn.sku]);
        let row = |group_path: GroupPath| {
            Some((self.index.version(group_path[2], &urn.version)?, group_path))
        };
        places.into_iter().find_map(row)
    }

    /// Returns an image of any table by its URN, or by its id with or without the leading slash.
    /// Rows of the other tables are found only after the tables have been read.
    pub fn find_id(&self, id: &str) -> Option<Page> {
        if let Ok(urn) = id.parse::<Urn>() {
            return self.find(&urn).map(|row| Page { rows: vec![row], ..Page::default() });
        }
        let table = self.others.get()?;
        let row = table.find(id).or_else(|| table.find(&format!("/{id}")));
        let row = row.or_else(|| table.find_named(id))?;
        Some(Page { others: vec![row], ..Page::default() })
    }

    /// Whether `filter` accepts a row of the other tables at `now`.
    pub fn accepts_other(&self, filter: &Filter, row: u32, now: OffsetDateTime) -> bool {
        self.others.get().is_some_and(|table| table.accepts(filter, row, now))
    }

    /// Appends a row as JSON, as of `now`.
    pub fn write_json(&self, (row, group_path): Found, now: OffsetDateTime, out: &mut Vec<u8>) {
        self.index.write_json(row, group_path, now, out);
    }

    /// Reads a row, as JSON or as an image, as of `now`.
    pub fn read<T: DeserializeOwned>(&self, found: Found, now: OffsetDateTime) -> Result<T> {
        let mut text = Vec::new();
        self.write_json(found, now, &mut text);
        serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(format!("index.bin: a row cannot be read ({e})")))
    }

    /// Returns a row by its number.
    pub fn at(&self, row: u32) -> Found {
        (row, self.index.path_of(row))
    }
}

fn no_catalog(store: &dyn Store) -> Error {
    Error::not_found(format!(
        "{} contains no catalog yet: create one with 'azimg crawl' (or 'azimg crawl --demo')",
        store.address()
    ))
}

/// Builds the index of a snapshot that was published without one.
async fn from_table(store: &dyn Store, manifest: &Manifest) -> Result<Index> {
    let table = SnapshotFile::Ndjson(SourceName::Marketplace);
    let rows = snapshot::open_rows::<MarketplaceImage>(store, manifest.run, table).await?;
    let run = manifest.run.to_string();
    let build = move || {
        let mut index = IndexWriter::default();
        for row in rows.into_iter().flatten() {
            index.write(&row?)?;
        }
        Index::open(index.finish(&run)?.into())
    };
    blocking("building an index", build).await
}
