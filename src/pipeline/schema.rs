//! The JSON Schemas of the records that azimg writes and reads.

use super::changes::ChangeRow;
use super::coverage::Coverage;
use super::snapshot::{Current, Manifest};
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::registry::RegistryImage;
use crate::work::Request;
use schemars::{Schema, schema_for};

/// The name of a record, and its schema.
pub type Record = (&'static str, fn() -> Schema);

/// All records, by the name that manifests use.
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

/// The records whose schemas are stored in a snapshot, after those of the tables.
pub const STORED: [&str; 3] = ["changes", "coverage", "manifest"];

/// The schema of the record called `name`.
pub fn schema(name: &str) -> Option<Schema> {
    RECORDS.iter().find(|(known, _)| *known == name).map(|(_, schema)| schema())
}
