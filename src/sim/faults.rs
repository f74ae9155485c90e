//! Faults between a client and the simulated Azure, by a seed: refusals with every format of a
//! wait, server errors, and responses that are late, slow, cut, reset or malformed.
//!
//! Whether request n on a path fails follows from seed, path and n alone, in any order of requests.
//! After a number of faults a path has no more of them, so that a client that retries gets
//! everything.

use super::response::{SimResponse, error_response, json_response};
use crate::error::{Error, Result};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures::stream;
use serde_json::json;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Delay of a response that is longer than any client waits.
const NEVER: Duration = Duration::from_secs(75);
/// Pieces of a slow body, and the time before each.
const PIECES: usize = 8;
const BETWEEN_PIECES: Duration = Duration::from_millis(250);

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Throttled,
    Broken,
    Timeout,
    Slow,
    Cut,
    Reset,
    Shape,
}

/// Kinds of faults by their names in a specification.
const KINDS: &[(&str, FaultKind)] = &[
    ("429", FaultKind::Throttled),
    ("5xx", FaultKind::Broken),
    ("timeout", FaultKind::Timeout),
    ("slow", FaultKind::Slow),
    ("cut", FaultKind::Cut),
    ("reset", FaultKind::Reset),
    ("shape", FaultKind::Shape),
];

/// The specification of faults: parts such as `429=0.05` (a share of requests, 0 to 1; also `5xx`,
/// `timeout`, `slow`, `cut`, `reset`, `shape`, or `all` for each of them), `times=3` (most faults
/// of one path), `seed=7`.
#[derive(Debug, Clone)]
pub struct FaultsSpec {
    shares: Vec<(FaultKind, f64)>,
    times: u32,
    seed: u64,
}

impl Default for FaultsSpec {
    fn default() -> Self {
        Self { shares: Vec::new(), times: 3, seed: 1 }
    }
}

impl FaultsSpec {
    /// Changes the specification by a part; `None` when it is malformed.
    fn change(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=')?;
        match name {
            "times" => self.times = value.parse().ok()?,
            "seed" => self.seed = value.parse().ok()?,
            _ => {
                let share: f64 = value.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
                let kinds = KINDS.iter().filter(|(known, _)| *known == name || name == "all");
                let before = self.shares.len();
                self.shares.extend(kinds.map(|(_, kind)| (*kind, share)));
                (self.shares.len() > before).then_some(())?;
            }
        }
        Some(())
    }
}

impl std::str::FromStr for FaultsSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut spec = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            spec.change(part).ok_or_else(|| {
                Error::invalid(format!(
                    "'{part}' is no fault: give parts such as 429=0.05 (also 5xx, timeout, slow, \
                     cut, reset, shape, all), times=3, seed=7"
                ))
            })?;
        }
        Ok(spec)
    }
}

/// The faults, and how many each path has had.
#[derive(Debug)]
pub struct Faults {
    spec: FaultsSpec,
    /// Requests and faults of each path.
    met: Mutex<HashMap<String, (u32, u32)>>,
}

impl Faults {
    /// Faults by a specification; no path has had one.
    pub(super) fn new(spec: FaultsSpec) -> Self {
        Self { spec, met: Mutex::default() }
    }

    /// The fault of the next request on `path`, if any, and a number that selects its form.
    fn next(&self, path: &str) -> Option<(FaultKind, u64)> {
        if self.spec.shares.is_empty() {
            return None;
        }
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, faults) = met.entry(path.to_owned()).or_default();
        *requests += 1;
        if *faults >= self.spec.times {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (self.spec.seed, path, *requests).hash(&mut hasher);
        let number = hasher.finish();
        let mut at = (number >> 11) as f64 / (1_u64 << 53) as f64;
        for (kind, share) in &self.spec.shares {
            if at < *share {
                *faults += 1;
                return Some((*kind, number));
            }
            at -= share;
        }
        None
    }

    /// The response to a request on `path`, with the fault that it has, if any.
    pub(super) async fn pass(&self, path: &str, response: SimResponse) -> SimResponse {
        let Some((kind, number)) = self.next(path) else { return response };
        match kind {
            FaultKind::Throttled => throttled(number),
            FaultKind::Broken => broken(number),
            FaultKind::Timeout => {
                tokio::time::sleep(NEVER).await;
                response
            }
            FaultKind::Slow => in_pieces(response, PIECES, BETWEEN_PIECES).await,
            FaultKind::Cut => in_pieces(response, PIECES / 2, Duration::ZERO).await,
            FaultKind::Reset => in_pieces(response, 0, Duration::ZERO).await,
            FaultKind::Shape => shape(number),
        }
    }
}

/// A refusal with one of the formats of a wait.
fn throttled(number: u64) -> SimResponse {
    let seconds = 1 + number % 40;
    let code = ["SubscriptionRequestsThrottled", "OperationNotAllowed", "TooManyRequests"];
    let text = format!("Please try again after '{seconds}' seconds.");
    let (message, wait) = match number / 40 % 5 {
        0 => ("Too many requests.".to_owned(), Some(seconds.to_string())),
        1 => ("Too many requests.".to_owned(), Some(date(seconds))),
        2 => (text, None),
        3 => ("Please try again after sometime.".to_owned(), None),
        _ => (text, Some("0".to_owned())),
    };
    let code = code[usize::try_from(number / 200 % 3).unwrap_or(0)];
    let body = match code {
        // The compute provider's own refusals have no `error` member.
        "OperationNotAllowed" => json!({"code": code, "message": message}),
        _ => json!({"error": {"code": code, "message": message}}),
    };
    let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, &body);
    if let Some(wait) = wait.and_then(|wait| HeaderValue::try_from(wait).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, wait);
    }
    response
}

/// The time after some seconds, as in a `Retry-After` header.
fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

/// A server error.
fn broken(number: u64) -> SimResponse {
    match number % 4 {
        0 => error_response(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "Encountered an error.",
        ),
        1 => error_response(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            "The gateway did not respond.",
        ),
        2 => page(StatusCode::BAD_GATEWAY),
        _ => {
            // A response of Front Door: no body.
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    }
}

/// A page of HTML.
fn page(status: StatusCode) -> SimResponse {
    let mut response = Response::new(Body::from("<html><body>Our services …</body></html>"));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A malformed response with the status of a success.
fn shape(number: u64) -> SimResponse {
    match number % 4 {
        0 => page(StatusCode::OK),
        1 => Response::new(Body::empty()),
        2 => json_response(StatusCode::OK, &json!({"value": 7})),
        _ => json_response(StatusCode::OK, &json!([{"nome": 1}])),
    }
}

/// A response whose body comes in eight pieces. After `sent` pieces the connection breaks, unless
/// that is all of them.
async fn in_pieces(response: SimResponse, sent: usize, between: Duration) -> SimResponse {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let size = bytes.len().div_ceil(PIECES).max(1);
    let mut pieces: Vec<io::Result<Bytes>> =
        bytes.chunks(size).take(sent).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    if sent < PIECES {
        pieces.push(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    }
    let slowly = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        tokio::time::sleep(between).await;
        pieces.next().map(|piece| (piece, pieces))
    });
    Response::from_parts(parts, Body::from_stream(slowly))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_deterministic_per_seed_and_finite() {
        let met = |seed: u64| {
            let faults = Faults::new(format!("all=0.1,times=2,seed={seed}").parse().unwrap());
            let paths = (0..200).map(|path| {
                let kinds: Vec<_> = (0..9).map(|_| faults.next(&path.to_string())).collect();
                assert!(kinds.iter().flatten().count() <= 2);
                kinds
            });
            paths.collect::<Vec<_>>()
        };
        assert_eq!(met(1), met(1));
        assert_ne!(met(1), met(2));
        let kinds: Vec<FaultKind> =
            met(1).concat().into_iter().flatten().map(|(kind, _)| kind).collect();
        assert!(KINDS.iter().all(|(_, kind)| kinds.contains(kind)), "{kinds:?}");
        assert!("".parse::<FaultsSpec>().unwrap().shares.is_empty());
        for wrong in ["429", "429=2", "fire=0.1", "times=x"] {
            assert!(wrong.parse::<FaultsSpec>().is_err(), "{wrong}");
        }
    }
}
