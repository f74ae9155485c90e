//! What makes a function run, and what it wants done: plain values.

use crate::error::Error;
use std::time::Duration;
use time::OffsetDateTime;

/// What makes a function run.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub now: OffsetDateTime,
    /// The host's name for this invocation.
    pub invocation: String,
    /// What happened.
    pub trigger: Trigger,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A schedule came due.
    Timer,
    /// A message arrived.
    Queue {
        /// Its text.
        text: String,
        /// Which delivery of it this is, from 1.
        delivery: u32,
    },
    /// A request with a body that may be empty.
    Http {
        /// The body.
        body: String,
    },
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue.
    pub queue: &'static str,
    /// The text: a JSON object.
    pub text: String,
    /// Not before this has passed.
    pub delay: Duration,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: String,
}

/// What a function wants done.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to be sent.
    pub messages: Vec<Message>,
    /// The answer to an HTTP request.
    pub reply: Option<Reply>,
    /// Lines for the invocation's log.
    pub logs: Vec<String>,
}

impl Effects {
    /// A message is thrown away for that.
    pub(super) fn dropped(error: &Error) -> Self {
        tracing::error!(%error, "a message was thrown away");
        Self { logs: vec![format!("a message was thrown away: {error}")], ..Self::default() }
    }
}
