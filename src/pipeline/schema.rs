//! The JSON Schemas of the records that azimg writes and reads.

use super::changes::ChangeRow;
use super::coverage::Coverage;
use super::snapshot::{Current, Manifest};
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::registry::RegistryImage;
use crate::work::Request;
use schemars::{Schema, schema_for};

/// A record's name, and its schema.
pub type Record = (&'static str, fn() -> Schema);

/// Every record, by the name that manifests give.
pub const RECORDS: &[Record] = &[
    ("marketplace", || schema_for!(MarketplaceImage)),
    ("gallery", || schema_for!(GalleryImage)),
    ("registry", || schema_for!(RegistryImage)),
    ("changes", || schema_for!(ChangeRow)),
    ("coverage", || schema_for!(Coverage)),
    ("manifest", || schema_for!(Manifest)),
    ("current", || schema_for!(Current)),
    ("run-request", || schema_for!(Request)),
];

/// The records whose schemas are stored beside the data, after those of the tables.
pub const STORED: [&str; 3] = ["changes", "coverage", "manifest"];

/// A record's schema, by its name.
pub fn schema(name: &str) -> Option<Schema> {
    RECORDS.iter().find(|(known, _)| *known == name).map(|(_, schema)| schema())
}
