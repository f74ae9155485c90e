//! `azimg man`: the manual, with a page for each command.

use super::help::commands;
use super::output::Output;
use crate::error::{Error, Result};
use crate::files::{self, Access, MadeFile};
use clap::Command;
use clap_mangen::Man;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The file that lists the pages azimg wrote to the folder.
const RECORD: &str = ".azimg-man";

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg man ./man                                  then: man ./man/azimg-images-list.1
  azimg man ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Folder to write to; pages that azimg wrote there before are replaced
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(super) fn run(args: &ManArgs, output: &Output) -> Result<ExitCode> {
    let mut all = commands().disable_help_subcommand(true);
    all.build();
    let mut pages = Vec::new();
    add(&all, &mut pages)?;
    let made: Vec<MadeFile<'_>> = pages
        .iter()
        .map(|(name, bytes)| MadeFile { name, bytes, access: Access::Readable })
        .collect();
    files::put_made(&args.folder, RECORD, "DIR", &made)?;
    output.one(json!({
        "folder": args.folder.display().to_string(),
        "pages": pages.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the page of a command after the pages of its subcommands.
fn add(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below, pages)?;
    }
    let page = Man::new(command.clone());
    let page = page.source(concat!("azimg ", env!("CARGO_PKG_VERSION"))).manual("azimg");
    let mut text = Vec::new();
    page.render(&mut text).map_err(|e| Error::io("writing a page", e))?;
    pages.push((page.get_filename(), text));
    Ok(())
}
