//! What functions tell of their work, for whoever looks after it.

use super::App;
use crate::client::TrafficCounts;
use crate::pipeline::coverage::Totals;
use crate::pipeline::snapshot::{Manifest, standing};
use crate::telemetry::count;
use crate::work::{Outcome, RunId, WorkItem};
use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::Span;

/// What an invocation is about, for each line that is logged in it.
pub(super) fn about(run: RunId, item: &str) {
    let span = Span::current();
    span.record("run", tracing::field::display(run));
    if !item.is_empty() {
        span.record("item", item);
    }
}

/// An item has ended.
pub(super) fn ended(item: &WorkItem, outcome: &Outcome) {
    let (source, state) = (item.source.as_str(), outcome.state.as_str());
    count!(monotonic_counter.azimg.shards = 1_u64, source, state);
    count!(monotonic_counter.azimg.rows = outcome.rows, source);
}

/// Says what this process has asked of Azure since it last said so. Each function that is not HTTP has processes
/// of its own on Flex Consumption: only those that crawl know what crawls ask. An alert sums these lines
/// (`infra/modules/alerts.bicep`).
pub(super) fn asked(app: &App) {
    if let Some(TrafficCounts { requests, throttled, retried, waited }) =
        app.traffic.untold(Instant::now())
    {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(requests, throttled, retried, waited_ms, "what was asked");
    }
}

/// Says how old the catalog is, every time that a sweep comes round: alerts read these lines
/// (`infra/modules/alerts.bicep`).
pub(super) async fn how_it_stands(app: &App, now: OffsetDateTime) {
    match standing(app.store.as_ref()).await {
        Ok(standing) => {
            let age = |at: Option<OffsetDateTime>| at.map(|at| (now - at).whole_seconds());
            let (age_s, complete_age_s) = (age(standing.published), age(standing.complete));
            if let Some(seconds) = age_s {
                count!(gauge.azimg.snapshot.age.seconds = seconds);
            }
            tracing::info!(age_s, complete_age_s, "how it stands");
        }
        Err(error) => tracing::warn!(%error, "the catalog's age cannot be told"),
    }
}

/// Says what a run published.
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
