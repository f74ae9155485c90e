//! `azimg config`: each setting and the source of its value.

use super::output::Output;
use crate::config::{Config, Flags};
use crate::error::Result;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Show each setting, with where its value comes from
    ///
    /// A flag comes before a variable of the environment, that before azimg.toml in the folder that azimg is started
    /// in, that before your own azimg.toml (in $`XDG_CONFIG_HOME`/azimg, else ~/.config/azimg; on Windows in
    /// %APPDATA%\azimg), and that before the default. The file in the folder sets output, sources, locations and
    /// publishers alone, since it may be anybody's. What may hold a secret is not shown.
    #[command(after_help = "Examples:
  azimg config show -o table
  azimg config show --query \"[?from!='default'].{setting:setting, from:from}\"")]
    Show,
}

pub(super) fn run(command: &ConfigCommand, flags: Flags, output: &Output) -> Result<ExitCode> {
    let ConfigCommand::Show = command;
    let shown = Config::load(flags)?.shown();
    let rows = shown.iter().map(|shown| json!(shown)).collect();
    output.list(rows, &["setting", "value", "from", "variable"])?;
    Ok(ExitCode::SUCCESS)
}
