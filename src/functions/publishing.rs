//! The function that closes and publishes a run, and that sends the rest of a large plan's items.

use super::app::App;
use super::beginning::planned;
use super::event::{Effects, Event, Trigger};
use super::message::{PublishMessage, WATCH_EVERY, again, close, work};
use super::sweeping::forget;
use super::{failing, traffic_report};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::publish::{CloseAttempt, publish};
use crate::pipeline::read_plan;
use crate::work::{MOST_MESSAGES, RunId};
use std::time::Duration;
use time::OffsetDateTime;

/// Delay before a run is tried again while another one is being published.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Delay before an item whose shard was discarded is done again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// `publish`: closes and publishes a run. When the last delivery fails, records the reason before
/// the message becomes poison.
pub(super) async fn publish_run(app: &App, event: Event) -> Result<Effects> {
    let (now, trigger) = (event.now, event.trigger.clone());
    let result = attempt(app, event).await;
    let Trigger::Queue { text, delivery } = trigger else { return result };
    if let (Err(error), true) = (&result, delivery >= app.settings.most_deliveries)
        && let Ok(PublishMessage { run, .. }) = serde_json::from_str(&text)
    {
        failing::give_up_publishing(app, run, error, now).await;
    }
    result
}

async fn attempt(app: &App, event: Event) -> Result<Effects> {
    let Trigger::Queue { text, delivery } = event.trigger else {
        return Err(Error::bug("publish is a queue function"));
    };
    let Ok(PublishMessage { run, watch, from, .. }) = serde_json::from_str(&text) else {
        return Ok(Effects::dropped(&Error::invalid("the message names no run")));
    };
    traffic_report::about(run, "");
    if from > 0 {
        return send_rest(app, run, from, event.now).await;
    }
    let closing = match publish(&app.store, run, event.now, false).await {
        Ok(closing) => closing,
        Err(error) if error.is_transient() || error.kind() == ErrorKind::Bug => return Err(error),
        Err(error) => {
            failing::give_up_publishing(app, run, &error, event.now).await;
            return Ok(Effects { logs: vec![error.to_string()], ..Effects::default() });
        }
    };
    let mut messages = Vec::new();
    match closing {
        CloseAttempt::Published(manifest) => {
            forget(app, event.now).await;
            // Report before updating the progress: a process that waits for the run ends when it is
            // published.
            traffic_report::published(&manifest);
            app.progress.publish(run);
            let logs = vec![format!("run {run} is published: {:?}", manifest.state)];
            return Ok(Effects { logs, ..Effects::default() });
        }
        CloseAttempt::Details(items) => {
            app.progress.begin(run, &items);
            messages = work(app, &items, event.now)?;
        }
        CloseAttempt::Busy { other } => {
            tracing::debug!(%other, "another run is being published; trying again later");
            messages.push(close(run, watch, BUSY_FOR)?);
            return Ok(Effects { messages, ..Effects::default() });
        }
        CloseAttempt::Open { mut missing, expected } => {
            // Items are still under way, or a shard was discarded and its item must be done again.
            tracing::debug!(missing = missing.len(), expected, "the run has open items");
            let ours = app.progress.reopen(run, &missing);
            if !ours {
                // A worker that died may have planned details without sending them. All other items
                // were sent.
                missing.retain(|item| delivery > 1 && item.scope.adds_details());
            }
            if !missing.is_empty() {
                missing.truncate(MOST_MESSAGES);
                messages = again(app, &missing, event.now);
                // Repeated damage must not cause a busy loop.
                for message in &mut messages {
                    message.delay = message.delay.max(REOPEN_AFTER);
                }
            }
        }
    }
    if watch {
        messages.push(close(run, true, WATCH_EVERY)?);
    }
    Ok(Effects { messages, ..Effects::default() })
}

/// Sends the planned items of a run, starting at item number `from`.
async fn send_rest(app: &App, run: RunId, from: u32, now: OffsetDateTime) -> Result<Effects> {
    let plan = match read_plan(app.store.as_ref(), run).await {
        Ok(plan) => plan,
        // The run is over, or was planned by another version: there is nothing to send.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Invalid) => {
            return Ok(Effects::dropped(&error));
        }
        Err(error) => return Err(error),
    };
    Ok(Effects { messages: planned(app, &plan, from, now)?, ..Effects::default() })
}
