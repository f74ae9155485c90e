//! What a process has asked, and how each request is told of.

use super::{Answer, Outgoing, Waits, Wire};
use crate::error::{Error, Result};
use crate::telemetry::{COUNTS, count, operation};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// One attempt may take this long from the first byte sent to the last byte read.
const ATTEMPT: Duration = Duration::from_mins(1);

/// What a process has asked and waited for so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests sent, repetitions included.
    pub requests: AtomicU64,
    /// Answers with status 429.
    pub throttled: AtomicU64,
    /// Requests that repeated an earlier one.
    pub retried: AtomicU64,
    /// The time in which something waited for quota.
    pub waits: Waits,
}

impl Traffic {
    /// A request on `path` waits so long from `now` on: for its operation's window, or its bucket.
    pub(crate) fn wait(&self, path: &str, now: Instant, wait: Duration) {
        self.waits.add(now, wait);
        if tracing::enabled!(target: COUNTS, tracing::Level::TRACE) {
            let operation = operation(path);
            count!(monotonic_counter.azimg.wait.seconds = wait.as_secs_f64(), operation);
        }
    }

    /// Sends a request once, within its deadline, in a span of its own.
    pub(crate) async fn send(
        &self,
        wire: &dyn Wire,
        request: &Outgoing,
        authorized: Option<HeaderValue>,
    ) -> Result<Answer> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let late = |_| Error::transient(format!("{}: no answer in a minute", request.name()));
        let sent = async {
            let sent = tokio::time::timeout(ATTEMPT, wire.send(request, authorized));
            sent.await.map_err(late).and_then(|answer| answer)
        };
        let server = request.url.host_str().unwrap_or_default();
        let about = About { method: request.method.as_str(), path: request.url.path(), server };
        let answer = told(about, sent, |answer: &Answer| answer.status.as_u16()).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// What is told of a request.
pub(crate) struct About<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) server: &'a str,
}

/// Sends a request in a span (OpenTelemetry's conventions for HTTP clients), and counts it.
pub(crate) async fn told<T, E>(
    about: About<'_>,
    sent: impl Future<Output = Result<T, E>>,
    status: impl Fn(&T) -> u16,
) -> Result<T, E> {
    if !tracing::span_enabled!(tracing::Level::DEBUG) {
        return sent.await;
    }
    let About { method, path, server } = about;
    let operation = operation(path);
    let span = tracing::debug_span!(
        "request",
        otel.name = format!("{method} {operation}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        url.template = operation,
        server.address = server,
    );
    let began = Instant::now();
    let answer = sent.instrument(span.clone()).await;
    let status = answer.as_ref().map_or(0, status);
    say(&span, status);
    let seconds = began.elapsed().as_secs_f64();
    count!(monotonic_counter.azimg.requests = 1_u64, server, method, operation, status);
    count!(histogram.azimg.request.seconds = seconds, server, method, operation);
    answer
}

/// A request that was never answered has the status 0, which HTTP does not know.
fn say(span: &Span, status: u16) {
    if status > 0 {
        span.record("http.response.status_code", status);
    }
    if status == 0 || status >= 400 {
        span.record("otel.status_code", "ERROR");
    }
}
