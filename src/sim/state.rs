//! What the simulated Azure's parts share: the world, the statistics, the shape of answers.

use super::faults::Faults;
use super::organisation::Organisation;
use super::quota::Meter;
use super::registries::SimRegistry;
use super::world::World;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A simulated Azure.
pub struct Sim {
    /// What it has.
    pub world: World,
    /// What its organisation keeps.
    pub(super) organisation: Mutex<Organisation>,
    /// Its container registries.
    pub(super) registries: Mutex<Vec<SimRegistry>>,
    /// `http` or `https`, once it listens.
    pub(super) scheme: OnceLock<&'static str>,
    /// Every answer takes at least this long.
    pub latency: Duration,
    /// What the identity sees.
    pub subscriptions: Vec<String>,
    /// What the identity endpoint wants in its header.
    pub secret: String,
    /// What was asked.
    pub stats: Stats,
    /// What may be asked.
    pub quota: Meter,
    /// What goes wrong.
    pub faults: Faults,
    /// How many bytes its registries keep of what is pushed, in all.
    pub most_pushed: u64,
}

impl Sim {
    /// Its container registries; may be changed while it runs.
    pub fn registries(&self) -> MutexGuard<'_, Vec<SimRegistry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its organisation keeps; may be changed while it runs.
    pub fn organisation(&self) -> MutexGuard<'_, Organisation> {
        self.organisation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was asked of a simulated Azure.
#[derive(Debug, Default)]
pub struct Stats {
    operations: Mutex<BTreeMap<&'static str, BTreeMap<u16, u64>>>,
    /// The first and the last answer of each operation.
    spans: Mutex<BTreeMap<&'static str, (Instant, Instant)>>,
    /// Requests by subscription and principal.
    askers: Mutex<BTreeMap<String, u64>>,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    without_token: AtomicU64,
}

impl Stats {
    /// A request began.
    pub(super) fn begin(&self) {
        let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_at_once.fetch_max(now, Ordering::Relaxed);
    }

    /// A request ended.
    pub(super) fn end(&self, operation: &'static str, status: StatusCode) {
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        *operations.entry(operation).or_default().entry(status.as_u16()).or_default() += 1;
        drop(operations);
        if status != StatusCode::TOO_MANY_REQUESTS {
            let now = Instant::now();
            let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
            spans.entry(operation).or_insert((now, now)).1 = now;
        }
    }

    /// A principal asked through a subscription.
    pub(super) fn asked(&self, subscription: &str, principal: &str) {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        *askers.entry(format!("{subscription} {principal}")).or_default() += 1;
    }

    /// A request had no token.
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
            "askers": *self.askers.lock().unwrap_or_else(PoisonError::into_inner),
            "mostAtOnce": self.most_at_once.load(Ordering::Relaxed),
            "withoutToken": self.without_token.load(Ordering::Relaxed),
        })
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An error in the Resource Manager's shape.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut response = json(status, &json!({"error": {"code": code, "message": message}}));
    let cause = HeaderValue::from_static("gateway");
    response.headers_mut().insert("x-ms-failure-cause", cause);
    response
}
