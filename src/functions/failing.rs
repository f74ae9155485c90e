//! Runs that cannot be published. The reason is recorded in the store, and reported to whatever
//! waits for the run in this process.

use super::app::App;
use super::event::{Effects, Event, Trigger};
use super::message::PublishMessage;
use super::traffic_report;
use crate::error::{Error, Result};
use crate::pipeline::{failed, snapshot};
use crate::work::RunId;
use std::time::Duration;
use time::OffsetDateTime;

/// Timeout for recording why a run failed.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// `fail`: handles a message of `publish` whose deliveries all failed. Its run has failed, unless
/// it has been published since.
pub(super) async fn fail(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, .. } = event.trigger else {
        return Err(Error::bug("fail is a queue function"));
    };
    let Ok(PublishMessage { run, .. }) = serde_json::from_str(&text) else {
        return Ok(Effects::dropped(&Error::invalid("the message names no run")));
    };
    traffic_report::about(run, "");
    let store = app.store.as_ref();
    if snapshot::manifest(store, run).await?.is_some() {
        return Ok(Effects::default());
    }
    let reason = if let Some(known) = failed::of(store, run).await? {
        known.reason
    } else {
        // No reason is recorded: the worker died, or its storage was unavailable.
        let tries = app.settings.most_deliveries;
        let reason =
            format!("publishing was given up after {tries} deliveries, none of which completed");
        failed::record(store, run, &reason, event.now).await?;
        reason
    };
    app.progress.fail(run, &Error::transient(reason.as_str()));
    Ok(Effects { logs: vec![format!("run {run} failed: {reason}")], ..Effects::default() })
}

/// Gives up publishing a run for now. The reason is recorded before it is reported in this process,
/// because the report may end the process. An unresponsive store delays the report by at most
/// [`WRITTEN_WITHIN`].
pub(super) async fn give_up_publishing(app: &App, run: RunId, error: &Error, now: OffsetDateTime) {
    tracing::error!(%error, "the run cannot be published");
    let reason = error.to_string();
    let record = failed::record(app.store.as_ref(), run, &reason, now);
    match tokio::time::timeout(WRITTEN_WITHIN, record).await {
        Ok(Ok(())) => {}
        Ok(Err(unwritten)) => {
            tracing::warn!(error = %unwritten, "the reason of the failed run cannot be stored");
        }
        Err(_) => tracing::warn!(
            "the reason of the failed run cannot be stored: the store does not respond"
        ),
    }
    app.progress.fail(run, error);
}
