//! `azimg runs`: past runs, their coverage, and publishing by hand.

mod wanting;

use super::PARTIAL;
use super::output::Output;
use super::progress::Bytes;
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::pipeline::publish::{CloseAttempt, publish};
use crate::pipeline::report::{self, RunReport};
use crate::pipeline::snapshot::Completeness;
use crate::pipeline::verify::{
    self, CheckProgress, MovedCurrent, RepairResult, VerifiedSnapshot, VerifyReport,
};
use crate::sink::say;
use crate::store::Store;
use crate::work::RunId;
use serde_json::{Value, json};
use std::process::ExitCode;
use time::OffsetDateTime;

#[derive(clap::Subcommand)]
pub(super) enum RunsCommand {
    /// List runs, newest first
    #[command(after_help = "Examples:
  azimg runs list
  azimg runs list -o tsv --query '[].run'")]
    List,
    /// Show the outcome of a run and of its scopes
    #[command(after_help = "Examples:
  azimg runs show
  azimg runs show 01KAJJ3V0000000000000000AA -o json --query \"scopes[?state=='failed']\"")]
    Show {
        /// Run to show [default: the current one]
        run: Option<RunId>,
    },
    /// Publish a run as it is; missing scopes are given up, and their rows carried over
    #[command(after_help = "Examples:
  azimg runs publish 01KAJJ3V0000000000000000AA
  azimg runs publish 01KAJJ3V0000000000000000AA --store azurite")]
    Publish {
        /// Run to publish
        run: RunId,
    },
    /// Check every kept snapshot: the size, SHA-256 and contents of each file
    ///
    /// Exits with 0 if all snapshots are whole, and with 3 if something is damaged.
    #[command(after_help = "Examples:
  azimg runs verify
  azimg runs verify --repair
  azimg runs verify -o tsv --query \"[?state!='whole'].run\"")]
    Verify {
        /// If the snapshot named by current.json is damaged, make it name the newest whole one;
        /// nothing is removed
        #[arg(long)]
        repair: bool,
    },
}

pub(super) async fn run(command: RunsCommand, flags: Flags, output: &Output) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    let store = config.store()?;
    match command {
        RunsCommand::List => {
            let columns = ["run", "state", "startedAt", "publishedAt", "images", "current"];
            let mut runs =
                report::runs(store.as_ref(), None, usize::MAX, OffsetDateTime::now_utc())
                    .await?
                    .runs;
            if is_at_rest(&config, store.as_ref()).await? {
                runs.iter_mut().for_each(RunReport::is_done_by_nobody);
            }
            let rows: Vec<Value> = runs.iter().map(|run| json!(run)).collect();
            output.unless_empty(&rows, || {
                format!("{}: azimg crawl publishes one", no_catalog(store.as_ref()))
            });
            output.list(rows, &columns)?;
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Show { run } => {
            let run = match run {
                Some(run) => run,
                None => verify::current_or_newest(store.as_ref())
                    .await?
                    .map(|manifest| manifest.run)
                    .ok_or_else(|| no_catalog(store.as_ref()))?,
            };
            let mut report =
                report::describe(store.as_ref(), run, OffsetDateTime::now_utc()).await?;
            if is_at_rest(&config, store.as_ref()).await? {
                report.is_done_by_nobody();
            }
            if !output.is_table() {
                output.one(json!(report))?;
                return Ok(ExitCode::SUCCESS);
            }
            let scopes = report.scopes.take().unwrap_or_default();
            output.one(json!(report))?;
            wanting::print(&scopes, output)?;
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Publish { run } => {
            match publish(&store, run, OffsetDateTime::now_utc(), true).await? {
                CloseAttempt::Published(manifest) => {
                    output.one(json!(manifest))?;
                    Ok(match manifest.state {
                        Completeness::Complete => ExitCode::SUCCESS,
                        Completeness::Partial => ExitCode::from(PARTIAL),
                    })
                }
                CloseAttempt::Busy { other } => Err(Error::transient(format!(
                    "run {other} is being published; try again in a minute"
                ))),
                other => Err(Error::bug(format!("a forced publish ended as {other:?}"))),
            }
        }
        RunsCommand::Verify { repair } => verify_all(store.as_ref(), repair, output).await,
    }
}

/// Whether no process works on any run of the store, as far as can be determined: the store is a
/// folder that no crawl and no host has claimed, and there are no queues from which a function app
/// would take work items.
async fn is_at_rest(config: &Config, store: &dyn Store) -> Result<bool> {
    Ok(!config.has_queues() && store.is_claimed().await? == Some(false))
}

fn no_catalog(store: &dyn Store) -> Error {
    Error::not_found(format!("{} holds no catalog yet", store.address()))
}

/// Verifies the kept snapshots. With `repair`, makes `current.json` name a whole one.
async fn verify_all(store: &dyn Store, repair: bool, output: &Output) -> Result<ExitCode> {
    let checked = CheckProgress::default();
    let shown = {
        let checked = checked.clone();
        Bytes::follow(move || checked.bytes(), output.quiet)
    };
    let verified = verify::verify(store, &checked).await;
    drop(shown);
    let mut report = verified?;
    if report.snapshots.is_empty() && report.current.wrong.is_none() {
        return Err(no_catalog(store));
    }
    let repaired = if repair { Some(verify::repair(store, &mut report).await) } else { None };
    let rows = report.snapshots.iter().map(|snapshot| json!(snapshot)).collect();
    output.list(rows, &["run", "state", "publishedAt", "images", "changes", "bytes", "current"])?;
    if output.is_table() {
        let wrong = |one: &VerifiedSnapshot| {
            let run = one.run;
            let wrong = one.wrong.iter();
            wrong.map(|w| json!({"run": run, "file": w.file, "wrong": w.what})).collect::<Vec<_>>()
        };
        let wrong: Vec<Value> = report.snapshots.iter().flat_map(wrong).collect();
        if !wrong.is_empty() {
            super::output::text("\n")?;
            output.list(wrong, &["run", "file", "wrong"])?;
        }
    }
    if let Some(wrong) = &report.current.wrong {
        say!("current.json {wrong}");
    }
    say(repaired.transpose()?.as_ref(), &report, output);
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(PARTIAL) })
}

/// Reports what was repaired, what was lost, and what can be done.
fn say(repaired: Option<&RepairResult>, report: &VerifyReport, output: &Output) {
    if output.quiet {
        return;
    }
    for run in repaired.iter().flat_map(|repair| &repair.marked) {
        say!("Run {run}: _SUCCESS was written again; every file is as published.");
    }
    if let Some(MovedCurrent { reason, to, passed_over }) =
        repaired.and_then(|repair| repair.moved.as_ref())
    {
        say!("{reason}.");
        say!("It now names run {}, the newest whole snapshot. Nothing was removed.", to.run);
        for one in passed_over {
            let what = match one.published_at {
                Some(_) => format!("{} images, {} changes", one.images, one.changes),
                None => "of unknown size".to_owned(),
            };
            say!("The next crawl finds again what only run {} had ({what}).", one.run);
        }
    } else if repaired.is_some() {
        say!("The current snapshot is whole: nothing was moved.");
    } else if !report.is_whole() {
        let leads = report.snapshots.iter().any(|one| one.current && one.is_usable());
        if !leads || report.current.wrong.is_some() {
            say!("Lookups and the next crawl skip damaged snapshots. To make current.json name");
            say!("the newest whole snapshot, run: azimg runs verify --repair");
        }
    }
}
