//! Logs and metrics of the functions, for operators.

use super::App;
use crate::client::TrafficCounts;
use crate::pipeline::coverage::Totals;
use crate::pipeline::snapshot::{Manifest, catalog_age};
use crate::telemetry::count;
use crate::work::{Outcome, RunId, WorkItem};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::Span;

/// Adds the run and the item to the span of the invocation, and so to each of its log lines.
pub(super) fn about(run: RunId, item: &str) {
    let span = Span::current();
    span.record("run", tracing::field::display(run));
    if !item.is_empty() {
        span.record("item", item);
    }
}

/// Counts the end of an item.
pub(super) fn count_outcome(item: &WorkItem, outcome: &Outcome) {
    let (source, state) = (item.source.as_str(), outcome.state.as_str());
    count!(monotonic_counter.azimg.shards = 1_u64, source, state);
    count!(monotonic_counter.azimg.rows = outcome.rows, source);
}

/// Logs the requests that this process sent to Azure since the last report. On Flex Consumption
/// each function that is not HTTP has its own processes, so only those of `crawl` know the requests
/// of crawls. An alert sums these lines (`infra/modules/alerts.bicep`).
pub(super) fn log_traffic(app: &App) {
    if let Some(TrafficCounts { requests, throttled, retried, waited }) =
        app.traffic.unreported(Instant::now())
    {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(requests, throttled, retried, waited_ms, "request traffic");
    }
}

/// Logs the age of the catalog on every sweep. Alerts read these lines
/// (`infra/modules/alerts.bicep`).
pub(super) async fn log_snapshot_age(app: &App, now: OffsetDateTime) {
    match catalog_age(app.store.as_ref()).await {
        Ok(catalog_age) => {
            let age = |at: Option<OffsetDateTime>| at.map(|at| (now - at).whole_seconds());
            let (age_s, complete_age_s) = (age(catalog_age.published), age(catalog_age.complete));
            if let Some(seconds) = age_s {
                count!(gauge.azimg.snapshot.age.seconds = seconds);
            }
            tracing::info!(age_s, complete_age_s, "snapshot age");
        }
        Err(error) => tracing::warn!(%error, "the age of the snapshot cannot be determined"),
    }
}

/// Logs the coverage of a published run.
pub(super) fn published(manifest: &Manifest) {
    let Totals { done, empty, gone, denied, failed, carried } = manifest.coverage;
    for (state, scopes) in [
        ("done", done),
        ("empty", empty),
        ("gone", gone),
        ("denied", denied),
        ("failed", failed),
        ("carried", carried),
    ] {
        count!(gauge.azimg.coverage = scopes, state);
    }
    let state = manifest.state.as_str();
    tracing::info!(state, done, empty, gone, denied, failed, carried, "published");
}
