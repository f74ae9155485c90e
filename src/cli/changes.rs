//! `azimg changes`: what changed between a snapshot and the one before.

use super::choice::OneOf;
use super::output::Output;
use super::shape::ShapeArgs;
use crate::catalog::feed::{ChangeFilter, changes};
use crate::config::{Config, Flags};
use crate::error::Result;
use crate::pipeline::changes::Change;
use crate::sink::say;
use crate::work::RunId;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg changes --change added --search canonical
  azimg changes --run 01KAJJ3V0000000000000000AA -o json --query \"[?change=='status'].id\"")]
pub(super) struct ChangesArgs {
    /// Run whose snapshot is compared with the previous one [default: the current run]
    #[arg(long)]
    run: Option<RunId>,
    /// Kinds of change, comma-separated: added, removed, status, locations, latest, tags,
    /// attributes or dates
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = OneOf(Change::SET), hide_possible_values = true)]
    change: Vec<String>,
    /// Part of an image's name; '-', '_' and '.' are equivalent
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub(super) async fn run(args: ChangesArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let happened =
        args.change.iter().map(|name| ChangeFilter::change(name)).collect::<Result<_>>()?;
    let wanted = ChangeFilter { search: args.search, changes: happened };
    let config = Config::load(flags)?;
    let store = config.store()?;
    let feed = changes(store.as_ref(), args.run, &wanted, 0, args.shape.most()).await?;
    if feed.rows.is_empty() && !output.quiet {
        say!(
            "{}",
            match feed.manifest.previous_run {
                Some(previous) => format!("No matching change since run {previous}."),
                None => "This is the first snapshot: there is no earlier one to compare it with."
                    .to_owned(),
            }
        );
    }
    let rows = feed.rows.iter().map(|row| json!(row)).collect();
    output.list(args.shape.shape(rows)?, &["change", "id", "before", "after"])?;
    Ok(ExitCode::SUCCESS)
}
