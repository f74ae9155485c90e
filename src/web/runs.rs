//! `runs`, `runs/{run}` and `health`.

use super::parameters::RUNS;
use super::query::{InPath, Query, in_path};
use super::token::{Token, next_link, origin};
use super::{Lookups, reply};
use crate::error::Error;
use crate::pipeline::report::{self, RunReport};
use crate::pipeline::snapshot;
use crate::work::RunId;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use time::OffsetDateTime;

/// Age of the last run at which a catalog becomes unhealthy.
const TOO_OLD: time::Duration = time::Duration::hours(48);

/// Tolerated clock difference between two machines.
const CLOCKS_DIFFER: time::Duration = time::Duration::minutes(5);

/// A page of runs.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunList {
    /// The runs, newest first.
    value: Vec<RunReport>,
    /// The URL of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_link: Option<String>,
}

/// The health of the catalog.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HealthReport {
    /// Whether the catalog is fresh.
    healthy: bool,
    /// The run of the current snapshot.
    run: Option<RunId>,
    /// The run that lookups are served from while the current snapshot is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving: Option<RunId>,
    /// Whether the snapshot is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["complete", "partial", null]))]
    state: Option<&'static str>,
    /// How long ago the run was published, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<i64>,
    /// Why the catalog is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn list(
    State(lookups): State<Arc<Lookups>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        let query = Query::parse(&uri, RUNS)?;
        let token = query.skip.as_ref().map(|text| Token::read(text, &uri)).transpose()?;
        let before = token.map(|token| token.run);
        let page =
            report::runs(web.app.store.as_ref(), before, query.top, OffsetDateTime::now_utc())
                .await?;
        let link =
            |run| next_link(&uri, &origin(&headers), &Token { run, at: 0, moment: 0 }.write(&uri));
        let value = page.runs.into_iter().map(without_paths).collect();
        let list = RunList { value, next_link: page.next.map(link) };
        Ok(reply::json(StatusCode::OK, &list))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn show(State(lookups): State<Arc<Lookups>>, run: InPath, uri: Uri) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let run = in_path(run)?.parse().map_err(|error: Error| error.with_target("run"))?;
        let report =
            report::describe(web.app.store.as_ref(), run, OffsetDateTime::now_utc()).await?;
        Ok(reply::json(StatusCode::OK, &without_paths(report)))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

pub(super) async fn health(State(lookups): State<Arc<Lookups>>, uri: Uri) -> Response {
    let answer = async {
        let web = lookups.ready().await?;
        Query::parse(&uri, &[])?;
        let mut report = match snapshot::current(web.app.store.as_ref()).await {
            Ok(Some(manifest)) => {
                let age = OffsetDateTime::now_utc() - manifest.published_at;
                let reason = unfit(age);
                HealthReport {
                    healthy: reason.is_none(),
                    run: Some(manifest.run),
                    serving: None,
                    state: Some(manifest.state.as_str()),
                    age_seconds: Some(age.whole_seconds()),
                    reason: reason.map(str::to_owned),
                }
            }
            Ok(None) => unhealthy("no run has been published yet".to_owned()),
            Err(error) => unhealthy(reply::without_paths(&error.to_string())),
        };
        // The snapshot that `current.json` names may be damaged, which only the snapshot cache
        // knows.
        match web.served.instead().await {
            Ok(Some((serving, damaged))) => {
                report.healthy = false;
                report.run = report.run.or(damaged.run);
                report.serving = Some(serving);
                let why = reply::without_paths(&damaged.reason);
                let text = format!(
                    "the current snapshot is damaged, and run {serving} is served instead: {why}"
                );
                report.reason = Some(text);
            }
            Err(error) if report.healthy => {
                report.healthy = false;
                report.reason = Some(reply::without_paths(&error.to_string()));
            }
            Ok(None) | Err(_) => {}
        }
        let ok = report.healthy;
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok(reply::json(status, &report))
    };
    answer.await.unwrap_or_else(|error: Error| reply::error(&error))
}

/// Removes local file system paths from a report before it is sent over HTTP.
fn without_paths(mut report: RunReport) -> RunReport {
    report.reason = report.reason.map(|reason| reply::without_paths(&reason));
    report
}

/// Why a catalog of this age is unhealthy.
fn unfit(age: time::Duration) -> Option<&'static str> {
    if age >= TOO_OLD {
        return Some("the last run is too old");
    }
    let is_ahead = age < -CLOCKS_DIFFER;
    is_ahead.then_some(
        "the last run is in the future: a clock was ahead when it was published, or is behind now",
    )
}

fn unhealthy(reason: String) -> HealthReport {
    HealthReport {
        healthy: false,
        run: None,
        serving: None,
        state: None,
        age_seconds: None,
        reason: Some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_dated_in_the_future_is_unhealthy() {
        let reason = |minutes| unfit(time::Duration::minutes(minutes));
        assert_eq!((reason(0), reason(-4), reason(47 * 60)), (None, None, None));
        assert!(reason(48 * 60).is_some_and(|text| text.contains("too old")));
        assert!(reason(-6).is_some_and(|text| text.contains("in the future")));
        assert!(reason(-60 * 24 * 365).is_some_and(|text| text.contains("clock")));
    }
}
