//! `azimg schema`: the JSON Schemas of the records that azimg writes.

use super::output::Output;
use crate::error::{Error, Result};
use crate::pipeline::schema::{RECORDS, schema};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg schema marketplace
  azimg schema manifest > manifest.schema.json")]
pub(super) struct SchemaArgs {
    /// Record: marketplace, gallery, registry, changes, coverage, manifest, current or run-request
    name: String,
}

pub(super) fn run(args: &SchemaArgs, output: &Output) -> Result<ExitCode> {
    let Some(schema) = schema(&args.name) else {
        let known: Vec<_> = RECORDS.iter().map(|(name, _)| *name).collect();
        return Err(Error::invalid(format!(
            "there is no record '{}'; there are {}",
            args.name,
            known.join(", ")
        )));
    };
    output.document(&schema.to_value())?;
    Ok(ExitCode::SUCCESS)
}
