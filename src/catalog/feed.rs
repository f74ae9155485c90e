//! The change feed of a snapshot: what changed since the one before.

use crate::error::{Error, Result};
use crate::pipeline::changes::{Change, ChangeRow};
use crate::pipeline::snapshot::{self, Manifest};
use crate::store::{SnapshotFile, Store};
use crate::work::RunId;

/// Which changes are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Part of an image's id, without case.
    pub search: Option<String>,
    /// What happened.
    pub change: Option<Change>,
}

impl Wanted {
    /// Reads what happened by the name that the feed gives it.
    pub fn change(text: &str) -> Result<Change> {
        serde_json::from_value(text.to_ascii_lowercase().into()).map_err(|_| {
            Error::invalid(format!(
                "'{text}' is no change: give one of {}",
                Change::NAMES.join(", ")
            ))
        })
    }

    fn accepts(&self, row: &ChangeRow) -> bool {
        self.change.is_none_or(|change| row.change == change)
            && self
                .search
                .as_ref()
                .is_none_or(|text| row.id.to_ascii_lowercase().contains(&text.to_ascii_lowercase()))
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

/// The changes of `run` (the current one when none is named) that are wanted: at most `top`, from
/// the place on that an earlier part named.
pub async fn changes(
    store: &dyn Store,
    run: Option<RunId>,
    wanted: &Wanted,
    from: u32,
    top: usize,
) -> Result<Feed> {
    let manifest = match run {
        Some(run) => snapshot::manifest(store, run).await?.ok_or_else(|| {
            Error::not_found(format!(
                "{} has no snapshot of run {run}: it was never published, or is no longer kept",
                store.address()
            ))
        })?,
        None => snapshot::current(store).await?.ok_or_else(|| super::no_catalog(store))?,
    };
    let rows = snapshot::open_rows::<ChangeRow>(store, manifest.run, SnapshotFile::Changes).await?;
    let mut feed = Feed { manifest, rows: Vec::new(), next: None };
    let Some(rows) = rows else { return Ok(feed) };
    for (at, row) in rows.enumerate().skip(from as usize) {
        let row = row?;
        if !wanted.accepts(&row) {
            continue;
        }
        if feed.rows.len() == top {
            feed.next = u32::try_from(at).ok();
            break;
        }
        feed.rows.push(row);
    }
    Ok(feed)
}
