//! The inputs and effects of functions, as plain values.

use crate::error::Error;
use std::time::Duration;
use time::OffsetDateTime;

/// The input of an invocation.
#[derive(Debug, Clone)]
pub struct Event {
    /// The time of the invocation.
    pub now: OffsetDateTime,
    /// The host's id of this invocation.
    pub invocation: String,
    /// What triggered the invocation.
    pub trigger: Trigger,
}

/// What triggered an invocation.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A schedule is due.
    Timer,
    /// A queue message.
    Queue {
        /// The message's text.
        text: String,
        /// The number of this delivery, starting at 1.
        delivery: u32,
    },
    /// An HTTP request.
    Http {
        /// The body, which may be empty.
        body: String,
    },
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The queue's name.
    pub queue: &'static str,
    /// The text: a JSON object.
    pub text: String,
    /// Time until the message becomes visible.
    pub delay: Duration,
}

/// An HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Additional headers.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: String,
}

/// The effects of an invocation.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to send.
    pub messages: Vec<Message>,
    /// The response to an HTTP request.
    pub reply: Option<Reply>,
    /// Lines for the invocation's log.
    pub logs: Vec<String>,
}

impl Effects {
    /// The effects of dropping a message because of `error`.
    pub(super) fn dropped(error: &Error) -> Self {
        tracing::error!(%error, "message dropped");
        Self { logs: vec![format!("message dropped: {error}")], ..Self::default() }
    }
}
