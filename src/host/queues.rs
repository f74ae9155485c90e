//! In-process replacement of storage queues, with visibility delays and delivery counts. Order is
//! not guaranteed.

use crate::error::Result;
use crate::handler::MessageSender;
use async_trait::async_trait;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A message as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueuedMessage {
    /// The message's text.
    pub text: String,
    /// Number of previous deliveries.
    pub delivered: u32,
}

#[derive(Debug, Default)]
struct Queue {
    visible: VecDeque<QueuedMessage>,
    hidden: BinaryHeap<Reverse<(Instant, QueuedMessage)>>,
}

/// All queues of a host.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: Mutex<HashMap<String, Queue>>,
    arrived: Notify,
}

impl Queues {
    fn queues(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into a queue, visible after `delay`.
    pub(super) fn push(&self, queue: &str, text: String, delay: Duration, delivered: u32) {
        let message = QueuedMessage { text, delivered };
        let mut queues = self.queues();
        let queue = queues.entry(queue.to_owned()).or_default();
        if delay.is_zero() {
            queue.visible.push_back(message);
        } else {
            queue.hidden.push(Reverse((Instant::now() + delay, message)));
        }
        drop(queues);
        self.arrived.notify_waiters();
    }

    /// Returns the next visible message, waiting for one if necessary.
    pub(super) async fn receive(&self, queue: &str) -> QueuedMessage {
        loop {
            let arrived = self.arrived.notified();
            let wait = match self.take(queue) {
                Ok(message) => return message,
                Err(wait) => wait,
            };
            let _ = tokio::time::timeout(wait, arrived).await;
        }
    }

    /// Returns a visible message, or the time until one may be visible, at most one second.
    fn take(&self, queue: &str) -> std::result::Result<QueuedMessage, Duration> {
        let now = Instant::now();
        let mut queues = self.queues();
        let queue = queues.entry(queue.to_owned()).or_default();
        while queue.hidden.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            queue.visible.extend(queue.hidden.pop().map(|Reverse((_, message))| message));
        }
        queue.visible.pop_front().ok_or_else(|| {
            let next = queue.hidden.peek().map(|Reverse((at, _))| at.duration_since(now));
            next.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1))
        })
    }
}

#[async_trait]
impl MessageSender for Queues {
    async fn send(&self, queue: &str, text: &str, delay: Duration) -> Result<()> {
        self.push(queue, text.to_owned(), delay, 0);
        Ok(())
    }
}
