//! The change feed of a snapshot: what changed since the one before.
//!
//! Who pages through a feed has it decoded once: those that were read last are kept, up to a limit in bytes.

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

/// Feeds that are kept: the current one, and one that somebody is behind with.
const KEPT: usize = 2;
/// A feed that is longer is decoded for each page, in bytes.
const LONGEST_KEPT: usize = 64 << 20;

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
pub struct ChangeFilter {
    /// Part of an image's id, without case; separators are alike.
    pub search: Option<String>,
    /// What happened: any of these; all if none is named.
    pub changes: Vec<Change>,
}

impl ChangeFilter {
    /// Reads what happened by the name that the feed gives it.
    pub fn change(text: &str) -> Result<Change> {
        let name = Change::SET.find(text)?;
        serde_json::from_value(name.into()).map_err(|e| Error::bug(format!("a change: {e}")))
    }

    /// Whether a change fits; `search` is folded already.
    fn accepts(&self, change: Change, id: &str, search: Option<&str>) -> bool {
        (self.changes.is_empty() || self.changes.contains(&change))
            && search.is_none_or(|text| folded(id).contains(text))
    }

    fn folded(&self) -> Option<String> {
        self.search.as_deref().map(folded)
    }
}

/// A part of a feed.
#[derive(Debug)]
pub struct Feed {
    /// The snapshot whose feed it is.
    pub manifest: Manifest,
    /// The changes.
    pub rows: Vec<ChangeRow>,
    /// Where the next part begins, if there is more.
    pub next: Option<u32>,
}

/// Rows of a part, and where the next one begins.
type Part = (Vec<ChangeRow>, Option<u32>);

/// The changes of `run` (the current one when none is named) that are wanted: at most `top`, from
/// the place on that an earlier part named.
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
                "{} has no snapshot of run {run}: it was never published, or is no longer kept",
                store.address()
            ))
        }),
        None => verify::current_or_newest(store).await?.ok_or_else(|| super::no_catalog(store)),
    }
}

/// A part of a feed that is decoded from its beginning.
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

/// A feed in memory: its text, and what is looked for in it.
#[derive(Debug, Default)]
struct FeedTable {
    text: Vec<u8>,
    /// Where each row ends in the text, what happened, and to which image.
    rows: Vec<(usize, Change, Box<str>)>,
}

/// What is looked for.
#[derive(Deserialize)]
struct FeedHead {
    change: Change,
    id: Box<str>,
}

impl FeedTable {
    /// Decodes a feed; none when it is too long to be kept.
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
    Error::corrupt(format!("a feed has a row that this azimg cannot read ({error})"))
}

/// A feed that is read when it is first needed; none when it is too long to be kept.
type Kept = Arc<OnceCell<Option<Arc<FeedTable>>>>;

/// Feeds that were asked for lately.
#[derive(Debug, Default)]
pub struct Feeds {
    /// By the digest of their bytes, the last asked for at the end.
    kept: Mutex<Vec<(String, Kept)>>,
}

impl Feeds {
    /// The same as [`changes`], of a feed that is decoded once.
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
