//! `azimg runs`: what was crawled, how complete it is, and publishing by hand.

use super::PARTIAL;
use super::output::{Format, Output};
use crate::config::{Config, Flags};
use crate::error::{Error, Result};
use crate::pipeline::coverage::Line;
use crate::pipeline::publish::{Closing, publish};
use crate::pipeline::snapshot::{self, Completeness};
use crate::web::{describe_run, list_runs};
use crate::work::{RunId, SourceName, State};
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
    /// Show how a run ended, scope by scope
    #[command(after_help = "Examples:
  azimg runs show
  azimg runs show 01KAJJ3V0000000000000000AA -o json --query 'scopes[?state==`failed`]'")]
    Show {
        /// The run [default: the current one]
        run: Option<RunId>,
    },
    /// Publish a run as it is: what is missing is given up and carried over
    #[command(after_help = "Examples:
  azimg runs publish 01KAJJ3V0000000000000000AA
  azimg runs publish 01KAJJ3V0000000000000000AA --store azurite")]
    Publish {
        /// The run
        run: RunId,
    },
}

pub(super) async fn run(command: RunsCommand, flags: Flags, output: &Output) -> Result<ExitCode> {
    let config = Config::load(flags)?;
    let store = config.store()?;
    match command {
        RunsCommand::List => {
            let columns = ["run", "state", "startedAt", "publishedAt", "images", "current"];
            let runs = list_runs(store.as_ref(), None, usize::MAX).await?.runs;
            output.list(runs.iter().map(|run| json!(run)).collect(), &columns)?;
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Show { run } => {
            let run = match run {
                Some(run) => run,
                None => snapshot::current(store.as_ref())
                    .await?
                    .map(|manifest| manifest.run)
                    .ok_or_else(|| {
                        Error::not_found(format!("{} holds no catalog yet", store.address()))
                    })?,
            };
            let mut report = describe_run(store.as_ref(), run).await?;
            if output.format != Format::Table {
                output.one(json!(report))?;
                return Ok(ExitCode::SUCCESS);
            }
            let scopes = report.scopes.take().unwrap_or_default();
            output.one(json!(report))?;
            wanting(&scopes, output)?;
            Ok(ExitCode::SUCCESS)
        }
        RunsCommand::Publish { run } => {
            match publish(&store, run, OffsetDateTime::now_utc(), true).await? {
                Closing::Published(manifest) => {
                    output.one(json!(manifest))?;
                    Ok(match manifest.state {
                        Completeness::Complete => ExitCode::SUCCESS,
                        Completeness::Partial => ExitCode::from(PARTIAL),
                    })
                }
                other => Err(Error::bug(format!("a forced publish ended as {other:?}"))),
            }
        }
    }
}

/// The scopes that did not end well, by source, and what in answers was of another form.
fn wanting(scopes: &[Line], output: &Output) -> Result<()> {
    let ended_otherwise = |line: &&Line| !matches!(line.state, State::Done | State::Empty);
    let of = |source: SourceName| {
        let lines = scopes.iter().filter(|line| line.source == source);
        lines.filter(ended_otherwise).map(|line| json!(line)).collect::<Vec<Value>>()
    };
    let odd = scopes.iter().flat_map(|line| {
        let about = line.registry.as_ref().or(line.gallery.as_ref()).or(line.publisher.as_ref());
        let about = about.or(line.subscription.as_ref()).unwrap_or(&line.location);
        let malformed = line.malformed.kinds();
        malformed.map(move |(what, times)| {
            json!({"source": line.source, "about": about, "malformed": what, "times": times})
        })
    });
    let tables: [(Vec<Value>, &[&str]); 4] = [
        (
            of(SourceName::Marketplace),
            &["state", "location", "publisher", "offer", "sku", "version", "reason"],
        ),
        (
            of(SourceName::Gallery),
            &["state", "location", "subscription", "gallery", "definition", "reason"],
        ),
        (
            of(SourceName::Registry),
            &["state", "subscription", "registry", "repository", "digest", "reason"],
        ),
        (odd.collect(), &["source", "about", "malformed", "times"]),
    ];
    for (rows, columns) in tables {
        if !rows.is_empty() {
            super::output::text("\n")?;
            output.list(rows, columns)?;
        }
    }
    Ok(())
}
