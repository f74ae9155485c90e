//! Counts the requests of a process, and records a span for each.

use super::{QuotaWait, Wire, WireRequest, WireResponse};
use crate::error::{Error, Result};
use crate::telemetry::{COUNTS, count, operation};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Timeout of one attempt, from the first byte sent to the last byte read.
const ATTEMPT: Duration = Duration::from_mins(1);
/// Traffic is reported after this time or this number of requests, whichever comes first: a log
/// line for each work item would make up most of the log.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
const REPORT_AFTER: u64 = 250;

/// Requests and waits of a process so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests sent, retries included.
    pub requests: AtomicU64,
    /// Responses with status 429.
    pub throttled: AtomicU64,
    /// Requests that were retries.
    pub retried: AtomicU64,
    /// Time in which a request waited for quota.
    pub waits: QuotaWait,
    last_report: Mutex<LastReport>,
}

/// Requests and waits of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrafficCounts {
    /// Requests sent, retries included.
    pub requests: u64,
    /// Responses with status 429.
    pub throttled: u64,
    /// Requests that were retries.
    pub retried: u64,
    /// Time in which a request waited for quota.
    pub waited: Duration,
}

/// Counts at the time of the last report.
#[derive(Debug, Default)]
struct LastReport {
    at: Option<Instant>,
    total: TrafficCounts,
}

impl Traffic {
    /// Traffic since the last report, once there is enough for a log line. The sum of everything
    /// returned here is the traffic of the process, whichever caller takes it.
    pub fn unreported(&self, now: Instant) -> Option<TrafficCounts> {
        let mut last_report = self.last_report.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let total = TrafficCounts {
            requests: load(&self.requests),
            throttled: load(&self.throttled),
            retried: load(&self.retried),
            waited: self.waits.until(now),
        };
        let before = last_report.total;
        let more = TrafficCounts {
            requests: total.requests.saturating_sub(before.requests),
            throttled: total.throttled.saturating_sub(before.throttled),
            retried: total.retried.saturating_sub(before.retried),
            waited: total.waited.saturating_sub(before.waited),
        };
        let is_time =
            last_report.at.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
        if more.requests == 0 || !(is_time || more.requests >= REPORT_AFTER) {
            return None;
        }
        *last_report = LastReport { at: Some(now), total };
        Some(more)
    }

    /// Records that a request on `path` waits for `wait` from `now` on, for its operation's window
    /// or its bucket.
    pub(crate) fn wait(&self, path: &str, now: Instant, wait: Duration) {
        self.waits.add(now, wait);
        if tracing::enabled!(target: COUNTS, tracing::Level::TRACE) {
            let operation = operation(path);
            count!(monotonic_counter.azimg.wait.seconds = wait.as_secs_f64(), operation);
        }
    }

    /// Sends a request once, within its deadline, in its own span.
    pub(crate) async fn send(
        &self,
        wire: &dyn Wire,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let late = |_| Error::transient(format!("{}: no response within a minute", request.name()));
        let sent = async {
            let sent = tokio::time::timeout(ATTEMPT, wire.send(request, authorized));
            sent.await.map_err(late).and_then(|answer| answer)
        };
        let server = request.url.host_str().unwrap_or_default();
        let about =
            RequestLabels { method: request.method.as_str(), path: request.url.path(), server };
        let answer = traced(about, sent, |answer: &WireResponse| answer.status.as_u16()).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// Attributes of a request's span.
pub(crate) struct RequestLabels<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) server: &'a str,
}

/// Sends a request in a span (OpenTelemetry's conventions for HTTP clients), and counts it.
pub(crate) async fn traced<T, E>(
    about: RequestLabels<'_>,
    sent: impl Future<Output = Result<T, E>>,
    status: impl Fn(&T) -> u16,
) -> Result<T, E> {
    if !tracing::span_enabled!(tracing::Level::DEBUG) {
        return sent.await;
    }
    let RequestLabels { method, path, server } = about;
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

/// Records the status on the span. A request without a response has status 0, which is no HTTP
/// status.
fn say(span: &Span, status: u16) {
    if status > 0 {
        span.record("http.response.status_code", status);
    }
    if status == 0 || status >= 400 {
        span.record("otel.status_code", "ERROR");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_reported_once_and_at_intervals() {
        let traffic = Traffic::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let ask = |requests: u64, throttled: u64| {
            traffic.requests.fetch_add(requests, Ordering::Relaxed);
            traffic.throttled.fetch_add(throttled, Ordering::Relaxed);
        };
        let report = |seconds: u64| {
            traffic.unreported(at(seconds)).map(|total| (total.requests, total.throttled))
        };
        assert_eq!(report(0), None, "nothing was asked");
        ask(2, 0);
        assert_eq!(report(1), Some((2, 0)), "the first is reported immediately");
        ask(REPORT_AFTER - 1, 3);
        assert_eq!(report(2), None);
        ask(1, 0);
        assert_eq!(report(3), Some((REPORT_AFTER, 3)));
        ask(1, 1);
        assert_eq!(report(62), None);
        assert_eq!(report(63), Some((1, 1)));
        assert_eq!(report(200), None, "nothing was asked since");
    }
}
