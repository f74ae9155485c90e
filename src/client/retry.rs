//! When a request is retried, and when it is given up.

use crate::error::Error;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use url::Url;

/// How many times, and for how long, one request is retried.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Retries after failures that name no delay.
    pub most_retries: usize,
    /// The first delay; each further one doubles, with jitter.
    pub first_delay: Duration,
    /// Total of all waits between the attempts of one request.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            most_retries: 4,
            first_delay: Duration::from_millis(250),
            budget: Duration::from_mins(3),
        }
    }
}

impl RetryPolicy {
    /// The delays after failures of one request; their jitter is derived from its URL path.
    pub(crate) fn delays(&self, url: &Url) -> ExponentialBackoff {
        let mut hasher = DefaultHasher::new();
        url.path().hash(&mut hasher);
        ExponentialBuilder::default()
            .with_min_delay(self.first_delay)
            .with_max_delay(Duration::from_secs(20))
            .with_max_times(self.most_retries)
            .with_jitter_seed(hasher.finish())
            .build()
    }

    /// How long to wait before the next attempt; `None` gives up. A delay requested by the server
    /// is honoured and does not count as a retry: throttling is an instruction, not a fault. A
    /// requested delay of zero is ignored: honoured literally, it would be a hot loop.
    pub(crate) fn wait(
        &self,
        error: &Error,
        delays: &mut ExponentialBackoff,
        waited: Duration,
    ) -> Option<Duration> {
        if !error.is_worth_repeating() {
            return None;
        }
        let wait = match error.retry_after() {
            Some(requested) if !requested.is_zero() => requested,
            _ => delays.next()?,
        };
        (waited + wait <= self.budget).then_some(wait)
    }
}
