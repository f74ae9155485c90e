//! `azimg config`: each setting and the source of its value.

use super::output::Output;
use crate::config::{Config, Flags};
use crate::error::Result;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Show each setting with its value and the source of the value
    ///
    /// In order of precedence: a flag, an environment variable, azimg.toml in the working
    /// directory, your own azimg.toml (in $`XDG_CONFIG_HOME`/azimg, else ~/.config/azimg; on
    /// Windows in %APPDATA%\azimg), the default. The file in the working directory can set only
    /// output, sources, locations and publishers, because someone else may have written it. Values
    /// that may contain a secret are not shown.
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
