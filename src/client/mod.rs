//! The HTTP client for the Resource Manager: authentication, retries, rate limits, paging, size
//! bounds and redaction in one place.
//!
//! Invariants: a bearer token is sent to the Resource Manager's origin and nowhere else; redirects
//! are not followed; every body is bounded and every request has a deadline; no URL query and no
//! token reaches a log or an error.

mod answer;
mod change;
mod deadline;
mod foreign;
mod graph;
pub(crate) mod lenient;
mod page;
mod quota;
mod quota_wait;
mod rate_limit;
mod retry;
mod token;
mod traffic;
pub mod version;
mod wire;

pub(crate) use answer::refusal;
pub use change::{Accepted, Change, OperationStatus};
pub(crate) use deadline::{until, within};
pub use foreign::redact;
pub(crate) use foreign::{causes, one_line};
pub use graph::quoted;
pub use quota::Quota;
use quota::{Grant, Permit};
pub use quota_wait::QuotaWait;
use rate_limit::RateLimit;
pub use retry::RetryPolicy;
pub use token::Tokens;
pub(crate) use traffic::{RequestLabels, traced};
pub use traffic::{Traffic, TrafficCounts};
pub(crate) use wire::{
    Http, Reachability, http_client, read_bounded, send_failure, storage_client, stream_client,
};
pub use wire::{Wire, WireRequest, WireResponse};

use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::{awaited, operation};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use url::{Host, Url};

/// All characters except those that RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The request at the head of the queue asks for a permit again after this time, since the pace may
/// have changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The longest wait for another request to complete before a permit is asked for again.
const FREED_WITHIN: Duration = Duration::from_millis(500);

/// A client of one Resource Manager.
#[derive(Debug, Clone)]
pub struct Client {
    wire: Arc<dyn Wire>,
    endpoint: Url,
    scope: String,
    /// One per principal that requests may be sent as.
    identities: Vec<Tokens>,
    retry: RetryPolicy,
    quota: Arc<Quota>,
    traffic: Arc<Traffic>,
    /// API versions sent in place of those that were refused.
    versions: Arc<version::Substitutes>,
    /// Rate limit that applies in addition to the quota.
    share: Option<RateLimit>,
}

/// Whether `url` is a loopback address.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Returns the wire that reaches real servers. An error when this machine has no trusted
/// certificates.
pub fn http_wire() -> Result<Arc<dyn Wire>> {
    Ok(Arc::new(Http::new()?))
}

impl Client {
    /// Creates a client for the Resource Manager at `endpoint`, with tokens of `identities` for
    /// `scope`. Each identity is a principal with its own quota; requests are spread over them.
    pub fn new(endpoint: Url, scope: String, identities: Vec<Tokens>) -> Result<Self> {
        Self::over(http_wire()?, endpoint, scope, identities)
    }

    /// Like [`Client::new`], over another wire.
    pub fn over(
        wire: Arc<dyn Wire>,
        endpoint: Url,
        scope: String,
        identities: Vec<Tokens>,
    ) -> Result<Self> {
        wire::check_transport(&endpoint)?;
        if identities.is_empty() {
            return Err(Error::new(ErrorKind::SignedOut, "no credential for Azure"));
        }
        // The limits of a simulator on this machine are unknown until it reports them.
        let quota = Arc::new(Quota::new(!is_loopback(&endpoint), identities.len()));
        Ok(Self {
            wire,
            endpoint,
            scope,
            identities,
            retry: RetryPolicy::default(),
            quota,
            traffic: Arc::default(),
            versions: Arc::default(),
            share: None,
        })
    }

    /// Returns the client with another retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Returns a client of the same quota that, together with its clones, uses only a small part of
    /// it.
    #[must_use]
    pub fn with_small_share(mut self) -> Self {
        self.share = Some(RateLimit::new(!is_loopback(&self.endpoint)));
        self
    }

    /// API versions that this cloud does not offer: the type of resource, the version, and the one
    /// that is sent instead.
    pub fn other_versions(&self) -> Vec<[String; 3]> {
        self.versions.all()
    }

    /// Counts of the requests sent so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// GETs `segments` (each percent-encoded here) with `query`, and reads the response as JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        let url = self.url(segments, query)?;
        self.get_url(&url).await
    }

    /// GETs `segments` once and returns the response headers: the remaining quota, the server's
    /// clock. An unsuccessful response is an error.
    pub async fn look(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<HeaderMap> {
        let request = WireRequest::get(self.url(segments, query)?);
        let WireResponse { status, headers, body } = self.once(&request, 0).await?;
        if status.is_success() {
            return Ok(headers);
        }
        Err(answer::refusal(&request.name(), status, &headers, &body))
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        // `Url` silently drops such a segment, which would request another resource.
        if let Some(name) = segments.iter().find(|name| matches!(**name, "" | "." | "..")) {
            return Err(Error::invalid(format!(
                "'{name}' cannot be requested: a URL cannot contain it"
            )));
        }
        // Encoded here: `Url`'s path-segment API strips line ends and tabs from names.
        let mut url = self.endpoint.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.set_path(&path);
        url.query_pairs_mut().extend_pairs(query);
        Ok(url)
    }

    /// GETs `url` as JSON with retries: the value, or the last error.
    async fn get_url<T: DeserializeOwned>(&self, url: &Url) -> Result<T> {
        self.ask(&WireRequest::get(url.clone())).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: &WireRequest) -> Result<T> {
        let (value, _) = self.ask_sized(request).await?;
        Ok(value)
    }

    /// Refuses to send a token anywhere except to the Resource Manager's origin.
    fn check_origin(&self, url: &Url) -> Result<()> {
        if url.origin() == self.endpoint.origin() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "refused to send the token to {}, which is not Azure Resource Manager",
                url.origin().ascii_serialization()
            ),
        ))
    }

    /// Sends a read-only request with retries: the value and the size of the body in bytes, or the
    /// last error. The URL must be of the Resource Manager's origin.
    async fn ask_sized<T: DeserializeOwned>(&self, request: &WireRequest) -> Result<(T, usize)> {
        let url = &request.url;
        self.check_origin(url)?;
        let mut delays = self.retry.delays(url);
        let mut waited = Duration::ZERO;
        let mut attempts = 0;
        loop {
            let permit = self.permit(url).await?;
            attempts += 1;
            let answer = self.attempt(request, &permit).await;
            let value = answer.and_then(|body| Ok((read(request, &body)?, body.len())));
            let error = match value {
                Ok(value) => return Ok(value),
                Err(error) => error.with_attempts(attempts),
            };
            let retry_after = error.retry_after();
            // The Resource Manager's own throttling closes the whole bucket.
            let whole_bucket = error.has_code("SubscriptionRequestsThrottled");
            if let Some(retry_after) = retry_after.filter(|retry_after| !retry_after.is_zero())
                && !self.quota.pause(&permit, whole_bucket, retry_after, Instant::now())
            {
                return Err(error.with_kind(ErrorKind::Throttled));
            }
            let Some(wait) = self.retry.wait(&error, &mut delays, waited) else {
                return Err(error);
            };
            drop(permit);
            waited += wait;
            tracing::debug!(%error, wait_ms = wait.as_millis(), attempts, "retrying");
            self.traffic.retried.fetch_add(1, Ordering::Relaxed);
            // A pause applies to all requests that draw on the same quota, including this one.
            if retry_after.is_none_or(|retry_after| retry_after.is_zero()) {
                let _wait = awaited::wait_for("a retry");
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Waits for a permit, within the deadline of the current work item. An error when the wait is
    /// too long to be worth it.
    async fn permit(&self, url: &Url) -> Result<Permit> {
        let what = url.path();
        let _wait = awaited::wait_for("a permit within Azure's rate limits");
        deadline::within(what, self.wait_for_permit(url)).await?
    }

    async fn wait_for_permit(&self, url: &Url) -> Result<Permit> {
        if let Some(share) = &self.share {
            share.turn().await;
        }
        let mut place = self.quota.queue(url.path()).await;
        loop {
            let now = Instant::now();
            match self.quota.ask(url.path(), now) {
                Grant::Go(permit) => return Ok(permit),
                Grant::Soon(wait) => {
                    // Responses that arrive in the meantime may shorten or lengthen the wait.
                    let wait = wait.min(LOOK_AGAIN);
                    self.traffic.wait(url.path(), now, wait);
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Grant::Full(freed) => {
                    drop(place.take());
                    // The notification may have gone to a task that no longer waits.
                    let _ = tokio::time::timeout(FREED_WITHIN, freed.notified()).await;
                }
                Grant::Wait(wait) => {
                    drop(place.take());
                    self.traffic.wait(url.path(), now, wait);
                    tokio::time::sleep(wait).await;
                }
                Grant::Later(wait) => {
                    self.traffic.wait(url.path(), now, wait);
                    return Err(throttled(url, wait));
                }
            }
            place = self.quota.queue(url.path()).await;
        }
    }

    /// The earliest time at which a listing of offers with `before` others ahead of it can be sent,
    /// counted from the first one; zero where no limits are known.
    pub fn turn(&self, subscription: &str, location: &str, before: u32) -> Duration {
        self.quota.turn(subscription, location, before)
    }

    /// How long to delay `requests` requests that follow a listing of offers, so that they do not
    /// hold up further such listings; `None` when no delay is needed.
    pub fn deferral(&self, subscription: &str, location: &str, requests: f64) -> Option<Duration> {
        self.quota.deferral(subscription, location, requests, Instant::now())
    }

    /// Sends a request once, within its deadline, and a second time when its API version is refused
    /// and another one is offered. Azure rejects an unsupported version before it does anything
    /// else, so a change was not begun.
    async fn once(&self, request: &WireRequest, principal: usize) -> Result<WireResponse> {
        let mut request = self.versions.applied(request);
        let mut answer = self.send(&request, principal).await?;
        if self.versions.learn(&request, &answer) {
            request = self.versions.applied(&request);
            answer = self.send(&request, principal).await?;
        }
        if let Some(error) = version::not_offered(&request, &answer) {
            return Err(error);
        }
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(answer::signed_out(&request.name(), &answer, &self.scope));
        }
        Ok(answer)
    }

    /// Sends a request, and a second time with another token when the first is refused and another
    /// exists. A request whose token is refused is not processed further, so a change was not
    /// begun.
    async fn send(&self, request: &WireRequest, principal: usize) -> Result<WireResponse> {
        let tokens = &self.identities[principal.min(self.identities.len() - 1)];
        let mut bearer = self.bearer(tokens).await?;
        loop {
            let sent = self.traffic.send(self.wire.as_ref(), request, Some(bearer.clone()));
            let answer = sent.await?;
            let is_refused = answer.status == StatusCode::UNAUTHORIZED;
            if !is_refused || !tokens.refused(&self.scope, &bearer) {
                return Ok(answer);
            }
            tracing::debug!(request = %request.name(), "token refused; requesting another");
            let other = self.bearer(tokens).await?;
            if other == bearer {
                return Ok(answer);
            }
            bearer = other;
        }
    }

    async fn bearer(&self, tokens: &Tokens) -> Result<HeaderValue> {
        let bearer = tokens.bearer(&self.scope).await;
        bearer.map_err(|error| error.context("no token for Azure"))
    }

    /// Checks that every identity can obtain a token. The error names the identity by its position
    /// among the client ids if there are several.
    pub async fn each_signed_in(&self) -> Result<()> {
        let count = self.identities.len();
        for (number, tokens) in (1..).zip(&self.identities) {
            let signed_in = self.bearer(tokens).await.map(drop);
            signed_in.map_err(|error| match count {
                1 => error,
                _ => error.context(format!("client id {number} of {count}")),
            })?;
        }
        Ok(())
    }

    /// Checks that a token can be obtained: no change is begun without one.
    pub async fn signed_in(&self) -> Result<()> {
        self.bearer(&self.identities[0]).await.map(|_| ())
    }

    async fn attempt(&self, request: &WireRequest, permit: &Permit) -> Result<Bytes> {
        let WireResponse { status, headers, body } = self.once(request, permit.principal).await?;
        self.quota.answered(permit, &headers, Instant::now());
        if let Some(share) = &self.share {
            share.answered(&headers);
        }
        if status.is_success() {
            return Ok(body);
        }
        let refused = answer::refusal(&request.name(), status, &headers, &body);
        if status == StatusCode::FORBIDDEN {
            let others = (0..self.identities.len()).filter(|other| *other != permit.principal);
            return self.asked_by(others, request, refused).await;
        }
        Err(refused)
    }

    /// Repeats a request that one principal may not make as the others; `refused` if none may.
    async fn asked_by(
        &self,
        principals: impl Iterator<Item = usize> + Send,
        request: &WireRequest,
        refused: Error,
    ) -> Result<Bytes> {
        for principal in principals {
            // A principal without a token has no better answer.
            let Ok(WireResponse { status, body, .. }) = self.once(request, principal).await else {
                continue;
            };
            if status.is_success() {
                return Ok(body);
            }
        }
        Err(refused)
    }
}

/// Parses a response body, tolerating malformed single members. A truncated or foreign body with
/// status 200 (a front door's page, say) is a transient error: the next response may be a good one.
fn read<T: DeserializeOwned>(request: &WireRequest, body: &[u8]) -> Result<T> {
    let (read, malformed) = lenient::read(body).map_err(|e| {
        let text = format!("{}: unexpected JSON ({e})", request.name());
        Error::transient(text).with_source(e)
    })?;
    lenient::log_malformed(&operation(request.url.path()), &malformed);
    Ok(read)
}

/// The error for a quota that is exhausted for longer than a worker should wait.
fn throttled(url: &Url, wait: Duration) -> Error {
    let text = format!("{}: the quota is exhausted; retry in {} s", url.path(), wait.as_secs());
    Error::new(ErrorKind::Throttled, text).with_retry_after(Some(wait))
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
    use time::OffsetDateTime;

    /// Gives tokens, or refuses with an answer of Entra.
    #[derive(Debug)]
    struct Principal {
        is_known: bool,
    }

    #[async_trait::async_trait]
    impl TokenCredential for Principal {
        async fn get_token(
            &self,
            _: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            if self.is_known {
                let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
                return Ok(AccessToken::new("token", expires));
            }
            let text = "AADSTS700016: the application was not found in the directory";
            Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, text))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_several_identities_must_get_a_token() {
        let client = |known: &[bool]| {
            let tokens = known.iter().map(|is_known| {
                let principal: Arc<dyn TokenCredential> =
                    Arc::new(Principal { is_known: *is_known });
                Tokens::from(principal)
            });
            let endpoint: Url = "http://127.0.0.1:1".parse().unwrap();
            let wire = Arc::new(Http::new().unwrap());
            Client::over(wire, endpoint, "scope".to_owned(), tokens.collect()).unwrap()
        };
        client(&[true, true]).each_signed_in().await.unwrap();
        let refused = client(&[true, false]);
        // The first alone says nothing of the second.
        refused.signed_in().await.unwrap();
        let error = refused.each_signed_in().await.unwrap_err().to_string();
        assert!(error.starts_with("client id 2 of 2"), "{error}");
        let alone = client(&[false]).each_signed_in().await.unwrap_err().to_string();
        assert!(!alone.contains("client id"), "{alone}");
    }
}
