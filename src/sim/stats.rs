//! Statistics of the requests that a simulated Azure has answered.

use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Counts of the requests to a simulated Azure.
#[derive(Debug, Default)]
pub struct Stats {
    /// Responses by operation and status.
    operations: Mutex<BTreeMap<&'static str, BTreeMap<u16, u64>>>,
    /// The first and the last response of each operation that was not throttled.
    spans: Mutex<BTreeMap<&'static str, (Instant, Instant)>>,
    /// Requests by subscription and principal, as `SUBSCRIPTION PRINCIPAL`.
    callers: Mutex<BTreeMap<String, u64>>,
    /// Requests in progress, and the most there were.
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
    without_token: AtomicU64,
}

impl Stats {
    /// Counts a request that begins.
    pub(super) fn begin(&self) {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(now, Ordering::Relaxed);
    }

    /// Counts a request that ends.
    pub(super) fn end(&self, operation: &'static str, status: StatusCode) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        *operations.entry(operation).or_default().entry(status.as_u16()).or_default() += 1;
        drop(operations);
        if status != StatusCode::TOO_MANY_REQUESTS {
            let now = Instant::now();
            let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            spans.entry(operation).or_insert((now, now)).1 = now;
        }
    }

    /// Counts a request of a principal in a subscription.
    pub(super) fn count_caller(&self, subscription: &str, principal: &str) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        *callers.entry(format!("{subscription} {principal}")).or_default() += 1;
    }

    /// Counts a request without a valid token.
    pub(super) fn no_token(&self) {
        self.without_token.fetch_add(1, Ordering::Relaxed);
    }

    /// The statistics as JSON.
    pub fn to_json(&self) -> Value {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |status: Option<u16>| -> u64 {
            operations
                .values()
                .flatten()
                .filter(|(answered, _)| status.is_none_or(|status| **answered == status))
                .map(|(_, count)| *count)
                .sum()
        };
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds: BTreeMap<_, _> =
            spans.iter().map(|(name, (from, to))| (name, (*to - *from).as_secs_f64())).collect();
        json!({
            "requests": count(None),
            "seconds": seconds,
            "throttled": count(Some(429)),
            "operations": *operations,
            "askers": *self.callers.lock().unwrap_or_else(PoisonError::into_inner),
            "mostAtOnce": self.most_in_flight.load(Ordering::Relaxed),
            "withoutToken": self.without_token.load(Ordering::Relaxed),
        })
    }
}
