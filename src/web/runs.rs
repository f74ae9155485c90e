//! `runs`, `runs/{run}` and `health`.

use super::parameters::Query;
use super::{Lookups, reply};
use crate::error::{Error, Result};
use crate::pipeline::coverage::{Coverage, Line, Totals};
use crate::pipeline::read_plan;
use crate::pipeline::snapshot::{self, Manifest};
use crate::pipeline::survey::survey;
use crate::store::{SnapshotFile, Store};
use crate::work::RunId;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A catalog whose last run is older than this is not healthy.
const TOO_OLD: time::Duration = time::Duration::hours(48);

/// Runs.
#[derive(Serialize, JsonSchema)]
pub(super) struct RunList {
    /// Newest first.
    value: Vec<RunReport>,
}

/// A run: how far it is, or what it published.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunReport {
    /// Its name.
    pub(crate) run: RunId,
    /// `running`, `complete` or `partial`.
    pub(crate) state: &'static str,
    /// When it started.
    pub(crate) started_at: String,
    /// When its snapshot was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    /// When what is missing will be given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_at: Option<String>,
    /// Work items, while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Items>,
    /// Rows of its tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<u64>,
    /// How many scopes ended how.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Totals>,
    /// The run that its changes are told against.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_run: Option<RunId>,
    /// How old the oldest listing of a publisher's offers is that it rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    offers_listed_since: Option<String>,
    /// Whether it is the current snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<bool>,
    /// How every scope ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scopes: Option<Vec<Line>>,
}

/// How many work items a run has.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct Items {
    /// That are known of.
    known: usize,
    /// That have ended.
    ended: usize,
}

/// Whether the catalog is fresh.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthReport {
    /// Whether it is.
    healthy: bool,
    /// The current snapshot's run.
    run: Option<RunId>,
    /// `complete` or `partial`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// How long ago it was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<i64>,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn list(State(lookups): State<Arc<Lookups>>, uri: Uri) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let value = runs(web.app.store.as_ref()).await?;
        Ok(reply::json(StatusCode::OK, &RunList { value }))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn show(
    State(lookups): State<Arc<Lookups>>,
    Path(run): Path<String>,
    uri: Uri,
) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let run: RunId = run.parse()?;
        Ok(reply::json(StatusCode::OK, &describe(web.app.store.as_ref(), run).await?))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn health(State(lookups): State<Arc<Lookups>>, uri: Uri) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let report = match snapshot::current(web.app.store.as_ref()).await {
            Ok(Some(manifest)) => {
                let age = OffsetDateTime::now_utc() - manifest.published_at;
                HealthReport {
                    healthy: age < TOO_OLD,
                    run: Some(manifest.run),
                    state: Some(manifest.state.as_str()),
                    age_seconds: Some(age.whole_seconds()),
                    reason: (age >= TOO_OLD).then(|| "the last run is too old".to_owned()),
                }
            }
            Ok(None) => unhealthy("no run is published yet".to_owned()),
            Err(error) => unhealthy(reply::without_paths(&error.to_string())),
        };
        let ok = report.healthy;
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok(reply::json(status, &report))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

fn unhealthy(reason: String) -> HealthReport {
    HealthReport { healthy: false, run: None, state: None, age_seconds: None, reason: Some(reason) }
}

/// All runs that the store knows, newest first.
pub(crate) async fn runs(store: &dyn Store) -> Result<Vec<RunReport>> {
    let mut names = BTreeSet::new();
    for prefix in ["runs/", "snapshots/"] {
        let level = store.list_level(prefix).await?;
        names.extend(level.iter().filter_map(|name| name.parse::<RunId>().ok()));
    }
    let current = snapshot::current(store).await?.map(|manifest| manifest.run);
    let mut runs = Vec::new();
    for run in names.into_iter().rev() {
        let mut report = match snapshot::manifest(store, run).await? {
            Some(manifest) => published(&manifest),
            None => match read_plan(store, run).await {
                Ok(plan) => running(run, plan.started_at),
                Err(_) => continue,
            },
        };
        report.current = Some(Some(run) == current);
        runs.push(report);
    }
    Ok(runs)
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

fn running(run: RunId, started_at: OffsetDateTime) -> RunReport {
    RunReport {
        run,
        state: "running",
        started_at: text(started_at),
        published_at: None,
        deadline_at: None,
        items: None,
        images: None,
        coverage: None,
        previous_run: None,
        offers_listed_since: None,
        current: None,
        scopes: None,
    }
}

fn published(manifest: &Manifest) -> RunReport {
    let tables = manifest.files.iter().filter(|file| file.name.ends_with(".parquet"));
    RunReport {
        state: manifest.state.as_str(),
        published_at: Some(text(manifest.published_at)),
        images: Some(tables.map(|file| file.rows).sum()),
        coverage: Some(manifest.coverage),
        previous_run: manifest.previous_run,
        ..running(manifest.run, manifest.started_at)
    }
}

/// One run: its progress while it is running, its coverage once it is published.
pub(crate) async fn describe(store: &dyn Store, run: RunId) -> Result<RunReport> {
    if let Some(manifest) = snapshot::manifest(store, run).await? {
        let coverage = snapshot::verified(store, &manifest, SnapshotFile::Coverage).await?;
        let coverage = coverage.map(|bytes| serde_json::from_slice::<Coverage>(&bytes));
        let coverage = coverage.transpose().map_err(|e| {
            Error::corrupt(format!("coverage.json of run {run}: cannot be read ({e})"))
        })?;
        // How old the oldest listing of a publisher's offers is that the snapshot rests on.
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
        ..running(run, plan.started_at)
    })
}
