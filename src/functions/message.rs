//! The messages that functions send each other.

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
/// The queue of runs that may be closed.
pub const PUBLISH: &str = "azimg-publish";
/// How often a run that is not closed yet is looked at again.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(30);

/// A message on [`PUBLISH`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PublishMessage {
    pub(super) v: u32,
    pub(super) run: RunId,
    /// Whether to look again later; one message of a run goes round like this.
    #[serde(default)]
    pub(super) watch: bool,
    /// The planned items from the one with this number on are not sent yet; zero means that they are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) from: u32,
}

/// The one place where messages are written: none is longer than a queue takes.
pub(super) fn message(
    queue: &'static str,
    value: &impl Serialize,
    delay: Duration,
) -> Result<Message> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::bug("writing a message").with_source(e))?;
    if text.len() > LARGEST_MESSAGE {
        let (bytes, most) = (text.len(), LARGEST_MESSAGE >> 10);
        return Err(Error::bug(format!("a message of {bytes} bytes; a queue takes {most} KiB")));
    }
    Ok(Message { queue, text, delay })
}

/// Messages of items, each to be seen when its turn comes.
pub(super) fn work(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Result<Vec<Message>> {
    items.iter().map(|item| message(WORK, item, app.turn(item, now))).collect()
}

/// Messages of items that were planned earlier, and that may have ended or be under way: whoever gets one looks
/// first. One that no queue takes does not keep the others waiting,
/// and is given up at its run's deadline.
pub(super) fn again(app: &App, items: &[WorkItem], now: OffsetDateTime) -> Vec<Message> {
    let sent = items.iter().filter_map(|item| {
        let item = &WorkItem { put_off: item.put_off.max(crawl::PUT_OFF_UNSEEN), ..item.clone() };
        message(WORK, item, app.turn(item, now))
            .inspect_err(|error| {
                tracing::error!(%error, run = %item.run, item = %item.item, "it cannot be sent");
            })
            .ok()
    });
    sent.collect()
}

/// A message that a run may be closed, which is looked at again later where that is said.
pub(super) fn close(run: RunId, watch: bool, delay: Duration) -> Result<Message> {
    message(PUBLISH, &PublishMessage { v: 1, run, watch, from: 0 }, delay)
}
