//! What a crawl needs from the previous snapshot, collected from its coverage and tables.

use super::coverage::Coverage;
use super::snapshot::StoredRows;
use super::{parse_json, snapshot};
use crate::blocking::blocking;
use crate::error::Result;
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::{DetailsFrom, has_own_details};
use crate::source::PreviousFindings;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{RunId, SourceName, State};
use serde::Deserialize;

/// The required members of a marketplace row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreviousRow {
    publisher: String,
    offer: String,
    sku: String,
    version: String,
    locations: Vec<String>,
    #[serde(default)]
    details_from: Option<DetailsFrom>,
    os: Option<String>,
}

/// The required members of a registry row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreviousManifest {
    id: String,
    is_content_known: bool,
}

/// The findings of the snapshot of `run`. Empty if the snapshot no longer exists.
pub async fn findings(store: &dyn Store, run: RunId) -> Result<PreviousFindings> {
    let Some(manifest) = snapshot::manifest(store, run).await? else {
        return Ok(PreviousFindings::default());
    };
    let coverage = snapshot::verified(store, &manifest, SnapshotFile::Coverage).await?;
    let Some(coverage) = coverage else { return Ok(PreviousFindings::default()) };
    let key = Key::Snapshot(run, SnapshotFile::Coverage);
    let coverage: Coverage = parse_json(store, &key, &coverage)?;
    let table = SnapshotFile::Ndjson;
    let tables = PreviousTables {
        gallery: snapshot::open_rows(store, run, table(SourceName::Gallery)).await?,
        registry: snapshot::open_rows(store, run, table(SourceName::Registry)).await?,
        marketplace: snapshot::open_rows(store, run, table(SourceName::Marketplace)).await?,
    };
    blocking("reading what is known", move || tables.known(&coverage)).await
}

/// The tables of a snapshot. `None` for those it does not have.
struct PreviousTables {
    gallery: Option<StoredRows<GalleryImage>>,
    registry: Option<StoredRows<PreviousManifest>>,
    marketplace: Option<StoredRows<PreviousRow>>,
}

impl PreviousTables {
    fn known(self, coverage: &Coverage) -> Result<PreviousFindings> {
        let mut known = PreviousFindings::default();
        for line in &coverage.scopes {
            let (Some(publisher), Some(at)) = (&line.publisher, line.offers_listed_at) else {
                continue;
            };
            if line.state.is_complete() {
                known.listed(&line.location, publisher, at);
            }
        }
        // Offers without versions have no rows, so they are read from the coverage. Offers that are
        // gone are skipped.
        for line in coverage.scopes.iter().filter(|line| line.state != State::Gone) {
            if let (Some(publisher), Some(offer)) = (&line.publisher, &line.offer) {
                known.has_offer(&line.location, publisher, offer);
            }
        }
        for row in self.gallery.into_iter().flatten() {
            let row = row?;
            if row.is_replicated() {
                known.replicated(&row);
            }
        }
        for row in self.registry.into_iter().flatten() {
            let row = row?;
            if row.is_content_known {
                known.read(&row.id);
            }
        }
        for row in self.marketplace.into_iter().flatten() {
            let row = row?;
            for location in &row.locations {
                known.has_offer(location, &row.publisher, &row.offer);
            }
            if has_own_details(row.details_from, row.os.as_ref()) {
                known.detailed([&row.publisher, &row.offer, &row.sku, &row.version]);
            }
        }
        Ok(known)
    }
}
