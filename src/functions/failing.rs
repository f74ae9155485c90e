//! Runs that cannot be published: who waits for one is told why, and so is who looks at it later.

use super::app::App;
use super::event::{Effects, Event, Trigger};
use super::message::PublishMessage;
use super::traffic_report;
use crate::error::{Error, Result};
use crate::pipeline::{failed, snapshot};
use crate::work::RunId;
use std::time::Duration;
use time::OffsetDateTime;

/// Why a run failed is written down within this, or not at all.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// `fail`: a message of `publish` was delivered in vain. Its run has failed, if it is not published since.
pub(super) async fn fail(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, .. } = event.trigger else {
        return Err(Error::bug("fail is a queue function"));
    };
    let Ok(PublishMessage { run, .. }) = serde_json::from_str(&text) else {
        return Ok(Effects::dropped(&Error::invalid("a message that names no run")));
    };
    traffic_report::about(run, "");
    let store = app.store.as_ref();
    if snapshot::manifest(store, run).await?.is_some() {
        return Ok(Effects::default());
    }
    let reason = if let Some(known) = failed::of(store, run).await? {
        known.reason
    } else {
        // Whoever worked on it died, or its storage was away.
        let tries = app.settings.most_deliveries;
        let reason =
            format!("publishing was given up after {tries} deliveries, none of which ended");
        failed::record(store, run, &reason, event.now).await?;
        reason
    };
    app.progress.fail(run, &Error::transient(reason.as_str()));
    Ok(Effects { logs: vec![format!("run {run} failed: {reason}")], ..Effects::default() })
}

/// A run's publishing is given up for now. It is written down before whoever waits for it in this process is told,
/// since that ends the process; a store that does not answer keeps nobody waiting for long.
pub(super) async fn give_up(app: &App, run: RunId, error: &Error, now: OffsetDateTime) {
    tracing::error!(%error, "the run cannot be published");
    let reason = error.to_string();
    let record = failed::record(app.store.as_ref(), run, &reason, now);
    match tokio::time::timeout(WRITTEN_WITHIN, record).await {
        Ok(Ok(())) => {}
        Ok(Err(unwritten)) => {
            tracing::warn!(error = %unwritten, "why the run failed cannot be written down");
        }
        Err(_) => tracing::warn!("why the run failed cannot be written down: the store is silent"),
    }
    app.progress.fail(run, error);
}
