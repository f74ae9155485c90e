//! `azimg changes`: what changed between a snapshot and the one before.

use super::output::Output;
use crate::catalog::feed::{Wanted, changes};
use crate::config::{Config, Flags};
use crate::error::Result;
use crate::work::RunId;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg changes --change added --search canonical
  azimg changes --run 01KAJJ3V0000000000000000AA -o json --query '[?change==`status`].id'")]
pub(super) struct ChangesArgs {
    /// The run whose snapshot is compared with the one before [default: the current one]
    #[arg(long)]
    run: Option<RunId>,
    /// added, removed, status, locations, latest, tags, attributes or dates
    #[arg(long, value_name = "KIND")]
    change: Option<String>,
    /// Part of an image's name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

pub(super) async fn run(args: ChangesArgs, flags: Flags, output: &Output) -> Result<ExitCode> {
    let change = args.change.as_deref().map(Wanted::change).transpose()?;
    let wanted = Wanted { search: args.search, change };
    let config = Config::load(flags)?;
    let store = config.store()?;
    let feed = changes(store.as_ref(), args.run, &wanted, 0, usize::MAX).await?;
    if feed.rows.is_empty() && !output.quiet {
        eprintln!(
            "{}",
            match feed.manifest.previous_run {
                Some(previous) => format!("Nothing of that kind changed since run {previous}."),
                None => "This is the first snapshot: there is none to compare it with.".to_owned(),
            }
        );
    }
    let rows = feed.rows.iter().map(|row| json!(row)).collect();
    output.list(rows, &["change", "id", "before", "after"])?;
    Ok(ExitCode::SUCCESS)
}
