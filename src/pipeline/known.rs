//! What the last snapshot tells a crawl, gathered from its coverage and its table.

use super::coverage::Coverage;
use super::{read_json, snapshot};
use crate::error::Result;
use crate::image::gallery::GalleryImage;
use crate::source::Known;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{RunId, SourceName, State};
use serde::Deserialize;

/// What is needed of a row.
#[derive(Deserialize)]
struct Row {
    publisher: String,
    offer: String,
    sku: String,
    version: String,
    locations: Vec<String>,
    os: Option<String>,
}

/// What is needed of a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    id: String,
    is_content_known: bool,
}

/// What the snapshot of `run` tells; nothing when it is not there any more.
pub async fn known(store: &dyn Store, run: RunId) -> Result<Known> {
    let mut known = Known::default();
    let coverage: Option<Coverage> =
        read_json(store, &Key::Snapshot(run, SnapshotFile::Coverage)).await?;
    let Some(coverage) = coverage else { return Ok(known) };
    for line in &coverage.scopes {
        let (Some(publisher), Some(at)) = (&line.publisher, line.offers_listed_at) else {
            continue;
        };
        if line.state.is_complete() {
            known.listed(&line.location, publisher, at);
        }
    }
    // Offers without versions have no rows; those that are gone are to be forgotten.
    for line in coverage.scopes.iter().filter(|line| line.state != State::Gone) {
        if let (Some(publisher), Some(offer)) = (&line.publisher, &line.offer) {
            known.has_offer(&line.location, publisher, offer);
        }
    }
    let table = SnapshotFile::Ndjson(SourceName::Gallery);
    if let Some(rows) = snapshot::open_rows::<GalleryImage>(store, run, table).await? {
        for row in rows {
            let row = row?;
            if row.is_replicated() {
                known.replicated(&row);
            }
        }
    }
    let table = SnapshotFile::Ndjson(SourceName::Registry);
    if let Some(rows) = snapshot::open_rows::<Read>(store, run, table).await? {
        for row in rows {
            let row = row?;
            if row.is_content_known {
                known.read(&row.id);
            }
        }
    }
    let table = SnapshotFile::Ndjson(SourceName::Marketplace);
    let Some(rows) = snapshot::open_rows::<Row>(store, run, table).await? else { return Ok(known) };
    for row in rows {
        let row = row?;
        for location in &row.locations {
            known.has_offer(location, &row.publisher, &row.offer);
        }
        if row.os.is_some() {
            known.detailed([&row.publisher, &row.offer, &row.sku, &row.version]);
        }
    }
    Ok(known)
}
