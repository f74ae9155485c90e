//! The function that restarts stalled runs and removes expired data.

use super::app::App;
use super::event::{Effects, Event};
use super::message::{again, close};
use super::traffic_report;
use crate::error::Result;
use crate::pipeline::retain::retain;
use crate::pipeline::sweep::sweep;
use std::time::Duration;
use time::OffsetDateTime;

/// `sweep`: sends lost items again, closes runs, and removes expired snapshots.
pub(super) async fn sweep_runs(app: &App, event: Event) -> Result<Effects> {
    let swept = sweep(app.store.as_ref(), event.now, false).await?;
    forget(app, event.now).await;
    traffic_report::log_snapshot_age(app, event.now).await;
    let mut messages = again(app, &swept.lost, event.now);
    for run in &swept.close {
        messages.push(close(*run, false, Duration::ZERO)?);
    }
    let logs = vec![format!(
        "{} items sent again, {} runs to close, {} blobs removed",
        swept.lost.len(),
        swept.close.len(),
        swept.removed
    )];
    Ok(Effects { messages, logs, reply: None })
}

/// Removes the snapshots that are not to be kept. If that fails, a later call removes them.
pub(super) async fn forget(app: &App, now: OffsetDateTime) {
    if let Err(error) = retain(app.store.as_ref(), app.settings.keep, now).await {
        tracing::warn!(%error, "old snapshots could not be removed");
    }
}
