//! The messages that functions send to each other.

use super::app::App;
use super::event::Message;
use crate::error::{Error, Result};
use crate::pipeline::crawl;
use crate::work::{LARGEST_MESSAGE, RunId, WorkItem, is_zero};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use time::OffsetDateTime;

/// The queue of work items.
pub const WORK: &str = "azimg-work";
/// The queue of runs to close.
pub const PUBLISH: &str = "azimg-publish";
/// Interval at which a run that is not closed yet is checked again.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(30);

/// A message on [`PUBLISH`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PublishMessage {
    pub(super) v: u32,
    pub(super) run: RunId,
    /// Whether to check again later. Each run has one such message, which is sent again and again.
    #[serde(default)]
    pub(super) watch: bool,
    /// Number of the first planned item that has not been sent. Zero means that all have been sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) from: u32,
}

/// Serializes a message. All messages are made here, so that none exceeds the size that a queue
/// accepts.
pub(super) fn message(
    queue: &'static str,
    value: &impl Serialize,
    delay: Duration,
) -> Result<Message> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::bug("writing a message").with_source(e))?;
    if text.len() > LARGEST_MESSAGE {
        let (bytes, most) = (text.len(), LARGEST_MESSAGE >> 10);
        return Err(Error::bug(format!(
            "the message has {bytes} bytes, and the limit of the queue is {most} KiB"
        )));
    }
    Ok(Message { queue, text, delay })
}

/// Returns the messages of items, each delayed to respect the known limits.
pub(super) fn work(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Result<Vec<Message>> {
    items.iter().map(|item| message(WORK, item, app.turn(item, now))).collect()
}

/// Returns messages of items that were planned earlier, and may have ended or be under way, which
/// the receiver checks first. An item whose message is too long for a queue is skipped, so that it
/// does not block the others, and is given up at its run's deadline.
pub(super) fn again(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Vec<Message> {
    let sent = items.iter().filter_map(|item| {
        let item = &WorkItem { put_off: item.put_off.max(crawl::PUT_OFF_UNSEEN), ..item.clone() };
        message(WORK, item, app.turn(item, now))
            .inspect_err(|error| {
                tracing::error!(
                    %error, run = %item.run, item = %item.item,
                    "the message of the item cannot be sent"
                );
            })
            .ok()
    });
    sent.collect()
}

/// Returns a message to close a run. If `watch` is set, the run is checked again later.
pub(super) fn close(run: RunId, watch: bool, delay: Duration) -> Result<Message> {
    message(PUBLISH, &PublishMessage { v: 1, run, watch, from: 0 }, delay)
}
