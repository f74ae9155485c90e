//! `azimg schema`: the JSON Schemas of the records that azimg writes.

use super::output::Output;
use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::changes::ChangeRow;
use crate::pipeline::coverage::Coverage;
use crate::pipeline::snapshot::{Current, Manifest};
use crate::work::Request;
use schemars::{Schema, schema_for};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg schema marketplace
  azimg schema manifest > manifest.schema.json")]
pub(super) struct SchemaArgs {
    /// marketplace, changes, coverage, manifest, current or run-request
    name: String,
}

/// A record's name, and its schema.
type Record = (&'static str, fn() -> Schema);

/// Every record, by the name that manifests give.
const SCHEMAS: &[Record] = &[
    ("marketplace", || schema_for!(MarketplaceImage)),
    ("changes", || schema_for!(ChangeRow)),
    ("coverage", || schema_for!(Coverage)),
    ("manifest", || schema_for!(Manifest)),
    ("current", || schema_for!(Current)),
    ("run-request", || schema_for!(Request)),
];

pub(super) fn run(args: &SchemaArgs, output: &Output) -> Result<ExitCode> {
    let Some((_, schema)) = SCHEMAS.iter().find(|(name, _)| *name == args.name) else {
        let known: Vec<_> = SCHEMAS.iter().map(|(name, _)| *name).collect();
        return Err(Error::invalid(format!(
            "there is no record '{}'; there are {}",
            args.name,
            known.join(", ")
        )));
    };
    output.document(&schema().to_value())?;
    Ok(ExitCode::SUCCESS)
}
