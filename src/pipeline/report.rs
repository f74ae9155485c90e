//! Reports on runs: their progress, or what they published.

use super::coverage::{Coverage, CoverageLine, Totals};
use super::snapshot::{self, Manifest};
use super::survey::survey;
use super::{failed, read_plan, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{SnapshotFile, Store};
use crate::work::{Plan, RunId};
use futures::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A run is closed at most this long after its deadline, provided that sweeps take place.
const CLOSED_WITHIN: time::Duration = time::Duration::hours(1);

/// Number of manifests that are read concurrently.
const READ_CONCURRENCY: usize = 16;

/// The states of a run.
pub(crate) const STATES: [&str; 6] =
    ["running", "overdue", "complete", "partial", "failed", "damaged"];

/// A run: its progress, or its published result.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunReport {
    /// The name of the run.
    pub(crate) run: RunId,
    /// The state of the run.
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: &'static str,
    /// Why the run could not be published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When the run started.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) started_at: String,
    /// When the snapshot was written.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    /// The deadline, after which open work items are given up.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_at: Option<String>,
    /// The work items, while the run is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Items>,
    /// The number of rows of its tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<u64>,
    /// The number of rows of each of its tables, by source.
    #[serde(skip_serializing_if = "Option::is_none")]
    images_by_source: Option<BTreeMap<String, u64>>,
    /// How long the run took until the snapshot was written, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<i64>,
    /// The number of scopes by outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Totals>,
    /// The run that the changes are compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_run: Option<RunId>,
    /// When the oldest listing of a publisher's offers that the snapshot uses was made.
    #[schemars(extend("format" = "date-time"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    offers_listed_since: Option<String>,
    /// Whether this is the current snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<bool>,
    /// The outcome of each scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<CoverageLine>>,
}

impl RunReport {
    /// Marks an unfinished run as interrupted. For callers that know that no process is working on
    /// it.
    pub(crate) fn is_done_by_nobody(&mut self) {
        if matches!(self.state, "running" | "overdue") {
            self.state = "interrupted";
            self.reason = Some(format!("resume it with azimg crawl --resume {}", self.run));
        }
    }
}

/// The number of work items of a run.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct Items {
    /// Work items known so far.
    known: usize,
    /// Work items that have ended.
    ended: usize,
}

/// A page of the list of runs.
pub(crate) struct Runs {
    /// The runs, newest first.
    pub(crate) runs: Vec<RunReport>,
    /// The last run of the page, if there are older ones.
    pub(crate) next: Option<RunId>,
}

/// Lists the runs in the store, newest first: at most `top` of those before `before`. Only these
/// are read.
pub(crate) async fn runs(
    store: &dyn Store,
    before: Option<RunId>,
    top: usize,
    now: OffsetDateTime,
) -> Result<Runs> {
    let mut names = BTreeSet::new();
    for prefix in ["runs/", "snapshots/"] {
        let level = store.list_level(prefix).await?;
        names.extend(level.iter().filter_map(|name| name.parse::<RunId>().ok()));
    }
    let current = verify::named(store).await?.run;
    let older = |run: &RunId| before.is_none_or(|before| *run < before);
    let mut names = names.into_iter().rev().filter(older).peekable();
    let mut runs: Vec<RunReport> = Vec::new();
    while runs.len() < top && names.peek().is_some() {
        let part: Vec<RunId> = names.by_ref().take(top - runs.len()).collect();
        let read = stream::iter(part).map(|run| report(store, run, current, now));
        let read: Vec<Option<RunReport>> = read.buffered(READ_CONCURRENCY).try_collect().await?;
        runs.extend(read.into_iter().flatten());
    }
    let next = names.peek().and(runs.last()).map(|report| report.run);
    Ok(Runs { runs, next })
}

/// One entry of the list. `None` if there is no run: its plan is not written yet, or was removed.
async fn report(
    store: &dyn Store,
    run: RunId,
    current: Option<RunId>,
    now: OffsetDateTime,
) -> Result<Option<RunReport>> {
    let mut report = match snapshot::manifest(store, run).await {
        Ok(Some(manifest)) => published(&manifest),
        Err(error) if error.kind() == ErrorKind::Corrupt => damaged(run),
        Err(error) => return Err(error),
        Ok(None) => match read_plan(store, run).await {
            Ok(plan) => unpublished(store, run, &plan, now).await?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    report.current = Some(Some(run) == current);
    Ok(Some(report))
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

fn running(run: RunId, started_at: OffsetDateTime) -> RunReport {
    RunReport {
        run,
        state: "running",
        reason: None,
        started_at: text(started_at),
        published_at: None,
        deadline_at: None,
        items: None,
        images: None,
        images_by_source: None,
        seconds: None,
        coverage: None,
        previous_run: None,
        offers_listed_since: None,
        current: None,
        scopes: None,
    }
}

/// The report of a run whose manifest cannot be read.
fn damaged(run: RunId) -> RunReport {
    RunReport { state: "damaged", ..running(run, run.planned_at()) }
}

/// The report of a run without a snapshot: it is running, publishing it was given up, or it is
/// overdue.
pub(super) async fn unpublished(
    store: &dyn Store,
    run: RunId,
    plan: &Plan,
    now: OffsetDateTime,
) -> Result<RunReport> {
    let report = running(run, plan.started_at);
    if let Some(failed) = failed::of(store, run).await? {
        return Ok(RunReport { state: "failed", reason: Some(failed.reason), ..report });
    }
    if now < plan.deadline_at + CLOSED_WITHIN {
        return Ok(report);
    }
    let reason =
        "its deadline has passed and no process has closed it: check that a host is running"
            .to_owned();
    Ok(RunReport { state: "overdue", reason: Some(reason), ..report })
}

fn published(manifest: &Manifest) -> RunReport {
    let tables = manifest.files.iter().filter(|file| file.name.ends_with(".parquet"));
    let by_source = tables.map(|file| (file.schema.clone(), file.rows));
    let by_source: BTreeMap<String, u64> = by_source.collect();
    RunReport {
        state: manifest.state.as_str(),
        published_at: Some(text(manifest.published_at)),
        images: Some(by_source.values().sum()),
        images_by_source: Some(by_source),
        seconds: Some((manifest.published_at - manifest.started_at).whole_seconds()),
        coverage: Some(manifest.coverage),
        previous_run: manifest.previous_run,
        ..running(manifest.run, manifest.started_at)
    }
}

/// Describes one run: its progress while it is running, its coverage once it is published.
pub(crate) async fn describe(
    store: &dyn Store,
    run: RunId,
    now: OffsetDateTime,
) -> Result<RunReport> {
    if let Some(manifest) = snapshot::manifest(store, run).await? {
        let coverage = snapshot::verified(store, &manifest, SnapshotFile::Coverage).await?;
        let coverage = coverage.map(|bytes| serde_json::from_slice::<Coverage>(&bytes));
        let coverage = coverage.transpose().map_err(|e| {
            Error::corrupt(format!("coverage.json of run {run} cannot be read ({e})"))
        })?;
        // The time of the oldest list of a publisher's offers that the snapshot relies on.
        let ages = coverage.iter().flat_map(|coverage| &coverage.scopes);
        let oldest = ages.filter_map(|line| line.offers_listed_at).min();
        return Ok(RunReport {
            offers_listed_since: oldest.map(text),
            scopes: Some(coverage.map(|coverage| coverage.scopes).unwrap_or_default()),
            ..published(&manifest)
        });
    }
    let plan = read_plan(store, run).await?;
    let survey = survey(store, &plan).await?;
    Ok(RunReport {
        deadline_at: Some(text(plan.deadline_at)),
        items: Some(Items { known: survey.expected(), ended: survey.ended.len() }),
        ..unpublished(store, run, &plan, now).await?
    })
}
