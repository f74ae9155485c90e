//! Shell completion: the script for a shell, and the candidates that the script requests from this
//! program while a command line is typed.
//!
//! Names come from the current snapshot, and only of a store that is a folder: a key press must not
//! wait for the network or require a sign-in. Names are untrusted text that a shell inserts into
//! its command line, so names with characters that a shell interprets are left out.

use super::output;
use crate::catalog::Catalog;
use crate::config::{Config, Flags, HiddenValue};
use crate::error::{Error, Result};
use crate::format::index::Level;
use crate::pipeline::schema::RECORDS;
use crate::store::Store;
use crate::work::RunId;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

/// The environment variable by which the script marks a completion request.
const ASKS: &str = "COMPLETE";
/// The longest time that a key press waits for names.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The largest number of candidates returned.
const MOST: usize = 500;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  azimg completions bash > ~/.local/share/bash-completion/completions/azimg
  azimg completions zsh > ~/.zfunc/_azimg")]
pub(super) struct CompletionsArgs {
    /// Shell that the script is for
    shell: clap_complete::Shell,
}

/// Prints the script. It runs the `azimg` found on the `PATH`.
pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell = shells.completer(&name);
    let shell = shell
        .ok_or_else(|| Error::bug(format!("no completion script can be generated for {name}")))?;
    let mut script = Vec::new();
    shell
        .write_registration(ASKS, "azimg", "azimg", "azimg", &mut script)
        .map_err(|e| Error::io("writing the script", e))?;
    output::text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a completion request from a script. `None` if this process was not started by one.
pub(super) fn asked_for(commands: fn() -> Command) -> Option<ExitCode> {
    let folder = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(commands).var(ASKS);
    match asked.try_complete(std::env::args_os(), folder.as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        // An unknown shell or an invalid line: no candidates.
        Err(_) => Some(ExitCode::from(super::FAILED)),
    }
}

/// Adds completers to the arguments that take names and have no closed set of values.
pub(super) fn completed(command: Command) -> Command {
    let of = command.get_name().to_owned();
    command.mut_args(|argument| with_names(&of, argument)).mut_subcommands(completed)
}

fn with_names(command: &str, argument: Arg) -> Arg {
    if !argument.get_possible_values().is_empty() {
        return argument;
    }
    let names = match (command, argument.get_id().as_str()) {
        (_, "location" | "in" | "not_in") => Names::Locations,
        (_, "publisher") => Names::Publishers,
        (_, "offer") => Names::Offers,
        (_, "sku") => Names::Skus,
        (_, "run" | "resume") => Names::Runs,
        ("schema", "name") => Names::Records,
        _ => return argument,
    };
    argument.add(ArgValueCompleter::new(move |begun: &OsStr| names.beginning(begun)))
}

/// The kinds of names that are completed.
#[derive(Debug, Clone, Copy)]
enum Names {
    Records,
    Locations,
    Publishers,
    Offers,
    Skus,
    Runs,
}

impl Names {
    /// The names that begin with `begun`, ignoring case.
    fn beginning(self, begun: &OsStr) -> Vec<CompletionCandidate> {
        let Some(begun) = begun.to_str() else { return Vec::new() };
        // The text after a comma is the next name of a list.
        let at = begun.rfind(',').map_or(0, |comma| comma + 1);
        let (before, begun) = begun.split_at(at);
        let begun = begun.to_lowercase();
        let fits = |name: &String| is_harmless(name) && name.to_lowercase().starts_with(&begun);
        let names = self.all().into_iter().filter(fits).take(MOST);
        names.map(|name| CompletionCandidate::new(format!("{before}{name}"))).collect()
    }

    /// All names, in order.
    fn all(self) -> Vec<String> {
        match self {
            Self::Records => RECORDS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            _ => self.kept().unwrap_or_default(),
        }
    }

    /// The names in the store. `None` unless the store is a folder that contains a catalog.
    fn kept(self) -> Option<Vec<String>> {
        let config = Config::load(Flags { store: store_of_line(), ..Flags::default() }).ok()?;
        config.store_folder()?;
        let store = config.store().ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let names = runtime.block_on(async {
            let asked = self.in_store(store.as_ref());
            tokio::time::timeout(LONGEST_WAIT, asked).await.ok()?.ok()
        });
        runtime.shutdown_background();
        names
    }

    async fn in_store(self, store: &dyn Store) -> Result<Vec<String>> {
        if matches!(self, Self::Runs) {
            let mut runs = BTreeSet::new();
            for prefix in ["runs/", "snapshots/"] {
                let level = store.list_level(prefix).await?;
                runs.extend(level.iter().filter_map(|name| name.parse::<RunId>().ok()));
            }
            return Ok(runs.iter().rev().map(RunId::to_string).collect());
        }
        let catalog = Catalog::open(store).await?;
        if matches!(self, Self::Locations) {
            return Ok(catalog.locations());
        }
        let pool = match self {
            Self::Publishers => catalog.index.names(Level::Publisher),
            Self::Offers => catalog.index.names(Level::Offer),
            _ => catalog.index.names(Level::Sku),
        };
        let ids = 0..u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let mut names: Vec<String> = ids.map(|id| pool.get(id).to_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// Whether a shell takes the name as a plain word.
fn is_harmless(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+:/".contains(c);
    !name.is_empty() && !name.starts_with('-') && name.chars().all(is_plain)
}

/// The value of `--store` in the command line being completed.
fn store_of_line() -> Option<HiddenValue> {
    let line: Vec<String> =
        std::env::args_os().filter_map(|word| word.into_string().ok()).collect();
    let named = line.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--store") {
        Some("") => line.get(at + 1).cloned(),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    named.map(HiddenValue::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_acts_on_is_not_proposed() {
        for harmless in ["Canonical", "ubuntu-24_04-lts", "24.04.1", "team/app:1"] {
            assert!(is_harmless(harmless), "{harmless}");
        }
        for acts in
            ["$(id)", "a b", "`id`", "a;b", "a&b", "-rf", "", "a\nb", "a\u{1b}[2J", "a'b", "~x"]
        {
            assert!(!is_harmless(acts), "{acts}");
        }
    }
}
