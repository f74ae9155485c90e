//! The current snapshot, opened for reading: lists, searches, and the latest-image question.
//!
//! Invariant: nothing is served but what has the SHA-256 that the snapshot's manifest names. A
//! snapshot that has not is refused, and the one before it answers instead.

pub mod aliases;
pub mod feed;
mod filter;
mod gallery;
mod latest;
mod list;
pub mod live;
mod rows;
pub mod usage;

pub use crate::source::locations::short_name;
pub use filter::Filter;
pub use latest::LatestQuestion;
pub use list::{Found, Page, list};
pub use rows::RowTable;

use crate::error::{Error, ErrorKind, Result};
use crate::format::index::{Index, IndexWriter, Place};
use crate::image::Urn;
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::snapshot::{self, Manifest};
use crate::store::{SnapshotFile, Store};
use crate::work::{RunId, SourceName};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

/// How many snapshots before a damaged one are tried.
const TRIED: usize = 4;

/// A snapshot, opened.
#[derive(Debug)]
pub struct Catalog {
    /// What the snapshot consists of.
    pub manifest: Manifest,
    /// Its marketplace table.
    pub index: Index,
    /// Its other tables, once a lookup needed them.
    others: OnceCell<RowTable>,
}

/// Places in the other tables have this bit in the token of a list.
const IN_OTHERS: u32 = 1 << 31;

impl Catalog {
    /// Opens the current snapshot, or the newest one before it that is what its manifest names.
    pub async fn open(store: &dyn Store) -> Result<Self> {
        let refused = match snapshot::current(store).await {
            Ok(None) => return Err(no_catalog(store)),
            Ok(Some(manifest)) => {
                let run = manifest.run;
                Self::of(store, manifest).await.map_err(|error| (Some(run), error))
            }
            Err(error) => Err((None, error)),
        };
        let (run, error) = match refused {
            Ok(catalog) => return Ok(catalog),
            Err((run, error)) if error.kind() == ErrorKind::Corrupt => (run, error),
            Err((_, error)) => return Err(error),
        };
        let mut runs = snapshot::runs(store).await?;
        runs.retain(|other| run.is_none_or(|run| *other < run));
        for other in runs.into_iter().rev().take(TRIED) {
            match Self::open_run(store, other).await {
                Ok(Some(catalog)) => {
                    tracing::error!(%error, serving = %other, "the current snapshot is refused");
                    return Ok(catalog);
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, run = %other, "refused as well"),
            }
        }
        Err(error)
    }

    /// Opens the snapshot of `run`, if it is (still) there.
    pub async fn open_run(store: &dyn Store, run: RunId) -> Result<Option<Self>> {
        match snapshot::manifest(store, run).await? {
            Some(manifest) => Self::of(store, manifest).await.map(Some),
            None => Ok(None),
        }
    }

    async fn of(store: &dyn Store, manifest: Manifest) -> Result<Self> {
        let index = match snapshot::verified(store, &manifest, SnapshotFile::Index).await? {
            Some(bytes) => {
                let open = move || Index::open(bytes);
                tokio::task::spawn_blocking(open)
                    .await
                    .map_err(|e| Error::bug("opening an index panicked").with_source(e))??
            }
            None => from_table(store, &manifest).await?,
        };
        Ok(Self { manifest, index, others: OnceCell::new() })
    }

    /// Its gallery and registry tables, which are read when they are first needed; empty when it has
    /// none.
    pub async fn others(&self, store: &dyn Store) -> Result<&RowTable> {
        self.others.get_or_try_init(|| RowTable::open(store, &self.manifest)).await
    }

    /// Reads what a list by `filter` needs beside the index.
    pub async fn prepare(&self, store: &dyn Store, filter: &Filter) -> Result<()> {
        if filter.wants_others() && RowTable::is_in(&self.manifest) {
            self.others(store).await?;
        }
        Ok(())
    }

    /// The rows that `filter` accepts, at most `top`, from a place on that an earlier page named:
    /// marketplace images, then those of the other tables, if these were [prepared](Self::prepare).
    pub fn list(&self, filter: &Filter, from: u32, top: usize) -> Page {
        let mut page = match from & IN_OTHERS {
            0 => list(&self.index, filter, from, top),
            _ => Page::default(),
        };
        if let (None, Some(table)) = (page.next, self.others.get()) {
            let from = if from & IN_OTHERS == 0 { 0 } else { from & !IN_OTHERS };
            let (rows, next) = table.list(filter, from, top - page.rows.len());
            page.others = rows;
            page.next = next.map(|at| at | IN_OTHERS);
        }
        page
    }

    /// Appends the JSON of a page's rows, separated by commas.
    pub fn write_page(&self, page: &Page, out: &mut Vec<u8>) {
        let separate = |out: &mut Vec<u8>, number: usize| {
            if number > 0 {
                out.push(b',');
            }
        };
        for (number, found) in page.rows.iter().enumerate() {
            separate(out, number);
            self.write_json(*found, out);
        }
        for (number, row) in page.others.iter().enumerate() {
            separate(out, page.rows.len() + number);
            out.extend_from_slice(self.others.get().map_or(b"null", |table| table.json(*row)));
        }
    }

    /// The rows of a page.
    pub fn values(&self, page: &Page) -> Result<Vec<Value>> {
        let mut text = vec![b'['];
        self.write_page(page, &mut text);
        text.push(b']');
        serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(format!("a row of the snapshot cannot be read ({e})")))
    }

    /// The locations that have images, by short name, sorted.
    pub fn locations(&self) -> Vec<String> {
        let pool = self.index.locations();
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let mut names: Vec<String> = (0..count).map(|id| pool.get(id).to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// One image by its name, without case.
    pub fn find(&self, urn: &Urn) -> Option<Found> {
        let places = self.index.skus([&urn.publisher, &urn.offer, &urn.sku]);
        let row = |place: Place| Some((self.index.version(place[2], &urn.version)?, place));
        places.into_iter().find_map(row)
    }

    /// One image of any table by its name: a URN, or an id with or without its first slash. Images of
    /// the other tables are found once these were read.
    pub fn find_id(&self, id: &str) -> Option<Page> {
        if let Ok(urn) = id.parse::<Urn>() {
            return self.find(&urn).map(|row| Page { rows: vec![row], ..Page::default() });
        }
        let table = self.others.get()?;
        let row = table.find(id).or_else(|| table.find(&format!("/{id}")))?;
        Some(Page { others: vec![row], ..Page::default() })
    }

    /// Whether a filter accepts a row of the other tables.
    pub fn accepts_other(&self, filter: &Filter, row: u32) -> bool {
        self.others.get().is_some_and(|table| table.accepts(filter, row))
    }

    /// Appends a row's JSON.
    pub fn write_json(&self, (row, place): Found, out: &mut Vec<u8>) {
        self.index.write_json(row, place, out);
    }

    /// A row that was found, as JSON or as an image.
    pub fn read<T: DeserializeOwned>(&self, found: Found) -> Result<T> {
        let mut text = Vec::new();
        self.write_json(found, &mut text);
        serde_json::from_slice(&text)
            .map_err(|e| Error::corrupt(format!("index.bin: a row cannot be read ({e})")))
    }

    /// A row by its number.
    pub fn at(&self, row: u32) -> Found {
        (row, self.index.place(row))
    }
}

fn no_catalog(store: &dyn Store) -> Error {
    Error::not_found(format!(
        "{} holds no catalog yet: make one with 'azimg crawl' (or 'azimg crawl --demo')",
        store.address()
    ))
}

/// The index of a snapshot that was published without one.
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
    tokio::task::spawn_blocking(build)
        .await
        .map_err(|e| Error::bug("building an index panicked").with_source(e))?
}
