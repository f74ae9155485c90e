//! The change feed of a snapshot: what changed since the previous snapshot.
//!
//! [`Feeds`] caches the most recently read feeds, so that a client that pages through a feed has it
//! decoded once. Feeds larger than a limit in bytes are not cached.

use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::image::names::folded;
use crate::pipeline::changes::{Change, ChangeRow};
use crate::pipeline::snapshot::{self, Manifest, StoredRows};
use crate::pipeline::verify;
use crate::store::{SnapshotFile, Store};
use crate::work::RunId;
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// Cached feeds: the current one, and an older one that a client is still paging through.
const KEPT: usize = 2;
/// Maximum size of a cached feed, in bytes. A larger feed is decoded again for each page.
const LONGEST_KEPT: usize = 64 << 20;

/// A filter of changes.
#[derive(Debug, Clone, Default)]
pub struct ChangeFilter {
    /// Part of an image's id. Case and the kind of separator are ignored.
    pub search: Option<String>,
    /// Accepted kinds of change. Empty accepts all.
    pub changes: Vec<Change>,
}

impl ChangeFilter {
    /// Parses a kind of change by its name in the feed.
    pub fn change(text: &str) -> Result<Change> {
        let name = Change::SET.find(text)?;
        serde_json::from_value(name.into()).map_err(|e| Error::bug(format!("a change: {e}")))
    }

    /// Whether the filter accepts a change. `search` is already folded.
    fn accepts(&self, change: Change, id: &str, search: Option<&str>) -> bool {
        (self.changes.is_empty() || self.changes.contains(&change))
            && search.is_none_or(|text| folded(id).contains(text))
    }

    fn folded(&self) -> Option<String> {
        self.search.as_deref().map(folded)
    }
}

/// A page of a feed.
#[derive(Debug)]
pub struct Feed {
    /// Manifest of the snapshot that the feed belongs to.
    pub manifest: Manifest,
    /// The changes.
    pub rows: Vec<ChangeRow>,
    /// Position of the next page, if there are more changes.
    pub next: Option<u32>,
}

/// The rows of a page, and the position of the next page.
type Part = (Vec<ChangeRow>, Option<u32>);

/// Returns the changes of `run`, or of the current snapshot, that `wanted` accepts: at most `top`,
/// starting at position `from`, which is zero or the `next` of an earlier page.
pub async fn changes(
    store: &dyn Store,
    run: Option<RunId>,
    wanted: &ChangeFilter,
    from: u32,
    top: usize,
) -> Result<Feed> {
    let manifest = manifest(store, run).await?;
    let (rows, next) = decoded(store, manifest.run, wanted, from, top).await?;
    Ok(Feed { manifest, rows, next })
}

async fn manifest(store: &dyn Store, run: Option<RunId>) -> Result<Manifest> {
    match run {
        Some(run) => snapshot::manifest(store, run).await?.ok_or_else(|| {
            Error::not_found(format!(
                "{} has no snapshot of run {run}: the run was never published, or its snapshot is \
                 no longer kept",
                store.address()
            ))
        }),
        None => verify::current_or_newest(store).await?.ok_or_else(|| super::no_catalog(store)),
    }
}

/// Reads a page by decoding the feed from its beginning.
async fn decoded(
    store: &dyn Store,
    run: RunId,
    wanted: &ChangeFilter,
    from: u32,
    top: usize,
) -> Result<Part> {
    let rows = snapshot::open_rows::<ChangeRow>(store, run, SnapshotFile::Changes).await?;
    let Some(rows) = rows else { return Ok(Part::default()) };
    let wanted = wanted.clone();
    let read = move || {
        let (search, mut found) = (wanted.folded(), Vec::new());
        for (at, row) in rows.enumerate().skip(from as usize) {
            let row = row?;
            if !wanted.accepts(row.change, &row.id, search.as_deref()) {
                continue;
            }
            if found.len() == top {
                return Ok((found, u32::try_from(at).ok()));
            }
            found.push(row);
        }
        Ok((found, None))
    };
    blocking("reading a feed", read).await
}

/// A feed in memory: its text, and the columns that filters use.
#[derive(Debug, Default)]
struct FeedTable {
    text: Vec<u8>,
    /// For each row: the end of its text, the kind of change, and the image's id.
    rows: Vec<(usize, Change, Box<str>)>,
}

/// The columns of a row that filters use.
#[derive(Deserialize)]
struct FeedHead {
    change: Change,
    id: Box<str>,
}

impl FeedTable {
    /// Decodes a feed. Returns `None` when it exceeds [`LONGEST_KEPT`].
    fn read(mut rows: StoredRows<FeedHead>) -> Result<Option<Self>> {
        let mut table = Self::default();
        while let Some(line) = rows.next_line()? {
            if table.text.len() + line.len() > LONGEST_KEPT {
                return Ok(None);
            }
            let FeedHead { change, id } =
                serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
            table.text.extend_from_slice(line);
            table.rows.push((table.text.len(), change, id));
        }
        table.text.shrink_to_fit();
        Ok(Some(table))
    }

    fn part(&self, wanted: &ChangeFilter, from: u32, top: usize) -> Result<Part> {
        let (search, mut found) = (wanted.folded(), Vec::new());
        for (at, (end, change, id)) in self.rows.iter().enumerate().skip(from as usize) {
            if !wanted.accepts(*change, id, search.as_deref()) {
                continue;
            }
            if found.len() == top {
                return Ok((found, u32::try_from(at).ok()));
            }
            let start = at.checked_sub(1).map_or(0, |before| self.rows[before].0);
            let row = serde_json::from_slice(&self.text[start..*end]);
            found.push(row.map_err(|e| unreadable(&e))?);
        }
        Ok((found, None))
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::corrupt(format!(
        "a change feed has a row that this version of azimg cannot read ({error})"
    ))
}

/// A cached feed, decoded on first use. Contains `None` when the feed exceeds [`LONGEST_KEPT`].
type Kept = Arc<OnceCell<Option<Arc<FeedTable>>>>;

/// Cache of the most recently requested feeds.
#[derive(Debug, Default)]
pub struct Feeds {
    /// By the SHA-256 of the feed's file, the most recently requested last.
    kept: Mutex<Vec<(String, Kept)>>,
}

impl Feeds {
    /// Like [`changes`], with the decoded feed cached.
    pub async fn changes(
        &self,
        store: &dyn Store,
        run: Option<RunId>,
        wanted: &ChangeFilter,
        from: u32,
        top: usize,
    ) -> Result<Feed> {
        let manifest = manifest(store, run).await?;
        let Some(file) = manifest.file(SnapshotFile::Changes) else {
            return Ok(Feed { manifest, rows: Vec::new(), next: None });
        };
        let (run, kept) = (manifest.run, self.of(&file.sha256));
        let read = async || {
            let rows = snapshot::open_rows(store, run, SnapshotFile::Changes).await?;
            let Some(rows) = rows else { return Ok(Some(Arc::default())) };
            let table = blocking("reading a feed", move || FeedTable::read(rows)).await?;
            Ok::<_, Error>(table.map(Arc::new))
        };
        let table: &Option<Arc<FeedTable>> = kept.get_or_try_init(read).await?;
        let (rows, next) = match table.as_ref().map(Arc::clone) {
            Some(table) => {
                let wanted = wanted.clone();
                let find = move || table.part(&wanted, from, top);
                blocking("searching a feed", find).await?
            }
            None => decoded(store, run, wanted, from, top).await?,
        };
        Ok(Feed { manifest, rows, next })
    }

    fn of(&self, digest: &str) -> Kept {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == digest);
        let feed = at.map_or_else(|| (digest.to_owned(), Kept::default()), |at| kept.remove(at));
        let cell = Arc::clone(&feed.1);
        kept.push(feed);
        if kept.len() > KEPT {
            kept.remove(0);
        }
        cell
    }
}
