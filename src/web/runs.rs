//! `runs`, `runs/{run}` and `health`.

use super::{Web, reply};
use crate::error::{Error, Result};
use crate::pipeline::coverage::Coverage;
use crate::pipeline::snapshot::{self, Manifest};
use crate::pipeline::survey::survey;
use crate::pipeline::{read_json, read_plan};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::RunId;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A catalog whose last run is older than this is not healthy.
const TOO_OLD: time::Duration = time::Duration::hours(48);

pub(super) async fn list(State(web): State<Arc<Web>>) -> Response {
    match runs(web.app.store.as_ref()).await {
        Ok(runs) => reply::json(StatusCode::OK, &json!({ "value": runs })),
        Err(error) => reply::error(&error),
    }
}

pub(super) async fn show(State(web): State<Arc<Web>>, Path(run): Path<String>) -> Response {
    let answer = async {
        let run: RunId = run.parse()?;
        let (run, coverage) = describe(web.app.store.as_ref(), run).await?;
        let mut run = run;
        if let Some(coverage) = coverage {
            run["scopes"] = json!(coverage.scopes);
        }
        Ok(reply::json(StatusCode::OK, &run))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn health(State(web): State<Arc<Web>>) -> Response {
    match snapshot::current(web.app.store.as_ref()).await {
        Ok(Some(manifest)) => {
            let age = OffsetDateTime::now_utc() - manifest.published_at;
            let healthy = age < TOO_OLD;
            let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = json!({
                "healthy": healthy, "run": manifest.run, "state": manifest.state,
                "ageSeconds": age.whole_seconds(),
            });
            reply::json(status, &body)
        }
        Ok(None) => {
            let body = json!({"healthy": false, "run": null, "reason": "no run is published yet"});
            reply::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
        Err(error) => reply::error(&error),
    }
}

/// All runs that the store knows, newest first.
pub(crate) async fn runs(store: &dyn Store) -> Result<Vec<Value>> {
    let mut names = BTreeSet::new();
    for prefix in ["runs/", "snapshots/"] {
        let level = store.list_level(prefix).await?;
        names.extend(level.iter().filter_map(|name| name.parse::<RunId>().ok()));
    }
    let current = snapshot::current(store).await?.map(|manifest| manifest.run);
    let mut runs = Vec::new();
    for run in names.into_iter().rev() {
        let mut value = match snapshot::manifest(store, run).await? {
            Some(manifest) => published(&manifest),
            None => match read_plan(store, run).await {
                Ok(plan) => json!({
                    "run": run, "state": "running",
                    "startedAt": plan.started_at.format(&Rfc3339).unwrap_or_default(),
                }),
                Err(_) => continue,
            },
        };
        value["current"] = (Some(run) == current).into();
        runs.push(value);
    }
    Ok(runs)
}

fn published(manifest: &Manifest) -> Value {
    let rows: u64 = manifest
        .files
        .iter()
        .filter(|file| file.name.ends_with(".parquet"))
        .map(|file| file.rows)
        .sum();
    json!({
        "run": manifest.run,
        "state": manifest.state,
        "startedAt": manifest.started_at.format(&Rfc3339).unwrap_or_default(),
        "publishedAt": manifest.published_at.format(&Rfc3339).unwrap_or_default(),
        "images": rows,
        "coverage": manifest.coverage,
        "previousRun": manifest.previous_run,
    })
}

/// One run: its progress while it is running, its coverage once it is published.
pub(crate) async fn describe(store: &dyn Store, run: RunId) -> Result<(Value, Option<Coverage>)> {
    if let Some(manifest) = snapshot::manifest(store, run).await? {
        let key = Key::Snapshot(run, SnapshotFile::Coverage);
        let coverage: Option<Coverage> = read_json(store, &key).await?;
        let mut value = published(&manifest);
        // How old the oldest listing of a publisher's offers is that the snapshot rests on.
        let ages = coverage.iter().flat_map(|coverage| &coverage.scopes);
        let oldest = ages.filter_map(|line| line.offers_listed_at).min();
        value["offersListedSince"] =
            oldest.and_then(|at| at.format(&Rfc3339).ok()).map_or(Value::Null, Value::String);
        return Ok((value, coverage));
    }
    let plan = read_plan(store, run).await?;
    let survey = survey(store, &plan).await?;
    let value = json!({
        "run": run,
        "state": "running",
        "startedAt": plan.started_at.format(&Rfc3339).unwrap_or_default(),
        "deadlineAt": plan.deadline_at.format(&Rfc3339).unwrap_or_default(),
        "items": {"known": survey.expected(), "ended": survey.ended.len()},
    });
    Ok((value, None))
}
