//! The current snapshot, opened for reading: filters and the latest-image question.
//!
//! Invariant: rows are served only from a file whose SHA-256 is the one in the manifest.

pub mod live;

use crate::error::{Error, Result};
use crate::format::{hex, ndjson};
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::snapshot::{self, Manifest};
use crate::source::locations::short_name;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::SourceName;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// Which images are wanted. Texts are compared without case, as parts of names unless `exact`.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the publisher's name.
    pub publisher: Option<String>,
    /// Part of the offer's name.
    pub offer: Option<String>,
    /// Part of the SKU's name.
    pub sku: Option<String>,
    /// Part of the version.
    pub version: Option<String>,
    /// Locations that must all have it, as whole names.
    pub locations: Vec<String>,
    /// Architecture.
    pub architecture: Option<String>,
    /// Operating system.
    pub os: Option<String>,
    /// Status.
    pub status: Option<String>,
    /// Kind of image.
    pub kind: Option<String>,
    /// Words that must all occur somewhere in the names.
    pub search: Option<String>,
    /// Compare whole names.
    pub exact: bool,
}

impl Filter {
    /// Whether a row is wanted.
    pub fn accepts(&self, row: &MarketplaceImage) -> bool {
        let names = [
            (&self.publisher, Some(row.publisher.as_str())),
            (&self.offer, Some(row.offer.as_str())),
            (&self.sku, Some(row.sku.as_str())),
            (&self.version, Some(row.version.as_str())),
            (&self.architecture, row.architecture.as_deref()),
            (&self.os, row.os.as_deref()),
            (&self.status, Some(row.status.as_str())),
            (&self.kind, Some(row.kind.as_str())),
        ];
        names.into_iter().all(|(wanted, name)| {
            wanted.as_ref().is_none_or(|wanted| name.is_some_and(|name| self.fits(wanted, name)))
        }) && self.locations.iter().all(|wanted| row.locations.contains(&short_name(wanted)))
            && self.search.as_ref().is_none_or(|search| {
                let id = row.id.to_ascii_lowercase();
                search.split_whitespace().all(|word| id.contains(&word.to_ascii_lowercase()))
            })
    }

    /// Whether `name` is what `wanted` asks for.
    pub fn fits(&self, wanted: &str, name: &str) -> bool {
        if self.exact {
            name.eq_ignore_ascii_case(wanted)
        } else {
            contains_caseless(name.as_bytes(), wanted.to_ascii_lowercase().as_bytes())
        }
    }

    /// Whether a row's JSON may be wanted: saves parsing most rows that are not.
    fn may_accept(&self, line: &[u8]) -> bool {
        let words = self.search.iter().flat_map(|search| search.split_whitespace());
        [&self.publisher, &self.offer, &self.sku, &self.version]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .chain(words)
            .filter(|text| text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'))
            .all(|text| contains_caseless(line, text.to_ascii_lowercase().as_bytes()))
    }
}

/// Whether `needle`, in lower case, occurs in `text` in any case.
fn contains_caseless(text: &[u8], needle: &[u8]) -> bool {
    needle.is_empty()
        || text.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

/// A snapshot and the rows of it that were asked for.
#[derive(Debug)]
pub struct Catalog {
    /// What the snapshot consists of.
    pub manifest: Manifest,
    /// Rows, in the table's order.
    pub rows: Vec<MarketplaceImage>,
}

impl Catalog {
    /// Opens the current snapshot and reads the rows that `filter` accepts.
    pub async fn open(store: &dyn Store, filter: &Filter) -> Result<Self> {
        let manifest = snapshot::current(store).await?.ok_or_else(|| {
            Error::not_found(format!(
                "{} holds no catalog yet: make one with 'azimg crawl' (or 'azimg crawl --demo')",
                store.address()
            ))
        })?;
        let table = SnapshotFile::Ndjson(SourceName::Marketplace);
        let Some(file) = manifest.file(table).cloned() else {
            return Ok(Self { manifest, rows: Vec::new() });
        };
        let key = Key::Snapshot(manifest.run, table);
        let object = store
            .get(&key)
            .await?
            .ok_or_else(|| Error::corrupt(format!("{}/{key} is gone", store.address())))?;
        if hex(&Sha256::digest(&object.bytes)) != file.sha256 {
            return Err(Error::corrupt(format!(
                "{}/{key} is not what its manifest names; publish the run again or crawl anew",
                store.address()
            )));
        }
        let filter = filter.clone();
        let rows = tokio::task::spawn_blocking(move || read(&object.bytes, &key, &filter))
            .await
            .map_err(|e| Error::bug("reading the catalog panicked").with_source(e))??;
        Ok(Self { manifest, rows })
    }
}

fn read(bytes: &[u8], key: &Key, filter: &Filter) -> Result<Vec<MarketplaceImage>> {
    let mut reader = ndjson::Reader::<_, MarketplaceImage>::new(bytes, key.to_string())?;
    let mut rows = Vec::new();
    while let Some(line) = reader.next_line()? {
        if !filter.may_accept(line) {
            continue;
        }
        let row: MarketplaceImage = serde_json::from_slice(line).map_err(|e| {
            Error::corrupt(format!("{key}: a row that this azimg cannot read ({e})"))
        })?;
        if filter.accepts(&row) {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// A question for the newest image: `publisher:offer:sku`, with or without `:latest`.
#[derive(Debug, Clone)]
pub struct LatestQuestion {
    /// Publisher.
    pub publisher: String,
    /// Offer.
    pub offer: String,
    /// SKU.
    pub sku: String,
    /// Locations that must all have it.
    pub locations: Vec<String>,
    /// It must still be deployable at this moment.
    pub not_deprecated_before: Option<OffsetDateTime>,
}

impl LatestQuestion {
    /// Reads `publisher:offer:sku[:latest]`.
    pub fn parse(
        urn: &str,
        locations: &[String],
        not_deprecated_before: Option<OffsetDateTime>,
    ) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{urn}' does not name a SKU: give publisher:offer:sku, such as \
                 Canonical:ubuntu-24_04-lts:server"
            ))
        };
        let parts: Vec<&str> = urn.split(':').map(str::trim).collect();
        match parts[..] {
            [publisher, offer, sku] | [publisher, offer, sku, "latest"]
                if ![publisher, offer, sku].contains(&"") =>
            {
                Ok(Self {
                    publisher: publisher.to_owned(),
                    offer: offer.to_owned(),
                    sku: sku.to_owned(),
                    locations: locations.iter().map(|name| short_name(name)).collect(),
                    not_deprecated_before,
                })
            }
            _ => Err(bad()),
        }
    }

    /// The filter that leaves the SKU's versions.
    pub fn filter(&self) -> Filter {
        Filter {
            publisher: Some(self.publisher.clone()),
            offer: Some(self.offer.clone()),
            sku: Some(self.sku.clone()),
            exact: true,
            ..Filter::default()
        }
    }

    /// The newest of `rows` (in the table's order) that fits, or why there is none.
    pub fn answer<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a MarketplaceImage>,
    ) -> Result<&'a MarketplaceImage> {
        let name = format!("{}:{}:{}", self.publisher, self.offer, self.sku);
        let rows: Vec<_> = rows
            .into_iter()
            .filter(|row| {
                row.publisher.eq_ignore_ascii_case(&self.publisher)
                    && row.offer.eq_ignore_ascii_case(&self.offer)
                    && row.sku.eq_ignore_ascii_case(&self.sku)
            })
            .collect();
        if rows.is_empty() {
            return Err(Error::not_found(format!("no image of {name} is in the catalog")));
        }
        let fits = |row: &&&MarketplaceImage| {
            row.status.is_deployable()
                && self.locations.iter().all(|location| row.locations.contains(location))
                && self.not_deprecated_before.is_none_or(|date| {
                    row.scheduled_deprecation_at.is_none_or(|deprecated| deprecated >= date)
                })
        };
        if let Some(row) = rows.iter().rev().find(fits) {
            return Ok(row);
        }
        let known: BTreeSet<&str> =
            rows.iter().flat_map(|row| &row.locations).map(String::as_str).collect();
        let lacking: Vec<_> =
            self.locations.iter().filter(|l| !known.contains(l.as_str())).cloned().collect();
        Err(Error::not_found(if lacking.is_empty() {
            format!("no version of {name} is deployable in all that was asked for")
        } else {
            format!("no version of {name} is in {}", lacking.join(", "))
        }))
    }
}
