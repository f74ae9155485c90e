//! HTTP outward, once: authentication, retries, pauses, paging, bounds and redaction.
//!
//! Invariants: a bearer token goes to the Resource Manager's origin and nowhere else; redirects are
//! not followed; every body is bounded and every request has a deadline; no URL's query and no
//! token reaches a log or an error.

mod answer;
mod page;
mod quota;
mod retry;
mod waits;

pub use quota::Quota;
use quota::{Grant, Permit};
pub use retry::RetryPolicy;
pub use waits::Waits;

use crate::error::{Error, ErrorKind, Result};
use azure_core::credentials::TokenCredential;
use bytes::{Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use url::{Host, Url};

/// The largest listing recorded has 0.7 MB; ten years of its growth stay below this.
const LARGEST_BODY: usize = 64 << 20;
/// Everything but the characters that RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// One attempt may take this long from the first byte sent to the last byte read.
const ATTEMPT_DEADLINE: Duration = Duration::from_mins(1);

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

/// A client of one Resource Manager.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Url,
    scope: String,
    credential: Arc<dyn TokenCredential>,
    retry: RetryPolicy,
    quota: Arc<Quota>,
    traffic: Arc<Traffic>,
}

/// Whether `url` is an address of this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether `url` may be spoken to: https, or http to a loopback address.
pub fn check_transport(url: &Url) -> Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} is no https address; plain http is for this machine's own addresses only",
            url.origin().ascii_serialization()
        ))),
    }
}

/// Blots out what may be a secret in text that somebody else wrote: queries of URLs (SAS,
/// signatures), bearer tokens, JSON Web Tokens.
pub fn redact(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            if let Some((head, _)) = word.split_once('?').filter(|(head, _)| head.contains("://")) {
                format!("{head}?… ")
            } else if word.len() > 40 && word.contains("eyJ") {
                "… ".to_owned()
            } else {
                word.to_owned()
            }
        })
        .collect()
}

impl Client {
    /// A client for the Resource Manager at `endpoint`, with tokens of `credential` for `scope`.
    pub fn new(endpoint: Url, scope: String, credential: Arc<dyn TokenCredential>) -> Result<Self> {
        check_transport(&endpoint)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("azimg/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(64)
            .build()
            .map_err(|e| {
                Error::invalid(
                    "no certificates to trust were found: install ca-certificates, or name a \
                     file of them in SSL_CERT_FILE",
                )
                .with_source(e)
            })?;
        // Nobody knows the limits of a stand-in on this machine until it names them.
        let quota = Arc::new(Quota::new(!is_loopback(&endpoint)));
        Ok(Self {
            http,
            endpoint,
            scope,
            credential,
            retry: RetryPolicy::default(),
            quota,
            traffic: Arc::default(),
        })
    }

    /// The same client with another policy of repeating requests.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// What has been asked so far.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// GETs `segments` (each percent-encoded here) with `query`, as JSON.
    pub async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        let url = self.url(segments, query)?;
        self.get_url(&url).await
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        // A URL drops such a segment in silence, and would ask for something else.
        if let Some(name) = segments.iter().find(|name| matches!(**name, "" | "." | "..")) {
            return Err(Error::invalid(format!(
                "'{name}' cannot be asked for: no URL can hold it"
            )));
        }
        // Encoded here: `Url`'s own way with segments strips line ends and tabs from names.
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

    /// GETs `url` as JSON; the URL must be of the Resource Manager's origin.
    async fn get_url<T: DeserializeOwned>(&self, url: &Url) -> Result<T> {
        let body = self.send(url).await?;
        serde_json::from_slice(&body).map_err(|e| {
            // A cut or foreign body (a front door's page) with status 200: worth another try.
            Error::transient(format!("GET {}: not the JSON that was expected ({e})", url.path()))
        })
    }

    /// Sends until an answer counts: the body of a success, or the error that remains.
    async fn send(&self, url: &Url) -> Result<Bytes> {
        if url.origin() != self.endpoint.origin() {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "refused to send the token to {}, which is not the Resource Manager",
                    url.origin().ascii_serialization()
                ),
            ));
        }
        let mut delays = self.retry.delays();
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            let permit = self.permit(url).await?;
            attempts += 1;
            let answer = self.attempt(url, &permit).await;
            self.quota.done(&permit);
            let error = match answer {
                Ok(body) => return Ok(body),
                Err(error) => error.with_attempts(attempts),
            };
            let asked = error.retry_after();
            // The Resource Manager's own refusals close the whole bucket.
            let whole = error.to_string().contains("SubscriptionRequestsThrottled");
            if let Some(asked) = asked.filter(|asked| !quota::is_short(*asked)) {
                self.quota.pause(&permit, whole, asked, Instant::now());
                return Err(error.with_kind(ErrorKind::Throttled));
            }
            let Some(wait) = self.retry.wait(&error, &mut delays, started.elapsed()) else {
                return Err(error);
            };
            tracing::debug!(%error, wait_ms = wait.as_millis(), attempts, "trying again");
            self.traffic.retried.fetch_add(1, Ordering::Relaxed);
            if asked.is_some() {
                // Everyone who draws on it waits, this request with them.
                self.quota.pause(&permit, whole, wait, Instant::now());
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Waits until a request may be sent; an error when that is not worth waiting for.
    async fn permit(&self, url: &Url) -> Result<Permit> {
        loop {
            let now = Instant::now();
            let grant = self.quota.ask(url.path(), now);
            let (Grant::Go(_, wait) | Grant::Later(wait)) = &grant;
            self.traffic.waits.add(now, *wait);
            match grant {
                Grant::Go(permit, wait) => {
                    tokio::time::sleep(wait).await;
                    return Ok(permit);
                }
                Grant::Later(wait) if quota::is_short(wait) => tokio::time::sleep(wait).await,
                Grant::Later(wait) => return Err(throttled(url, wait)),
            }
        }
    }

    async fn attempt(&self, url: &Url, permit: &Permit) -> Result<Bytes> {
        let what = || format!("GET {}", url.path());
        let token = self.credential.get_token(&[&self.scope], None).await.map_err(|e| {
            Error::new(
                ErrorKind::Unauthenticated,
                format!("no token for Azure: {}", redact(&one_line(&e.to_string()))),
            )
        })?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.token.secret()))
            .map_err(|_| Error::new(ErrorKind::Unauthenticated, "the token is not plain text"))?;
        bearer.set_sensitive(true);
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let request = self
            .http
            .get(url.clone())
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json");
        let exchange = async {
            let response = request.send().await.map_err(|e| transport_error(&what(), &e))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = read_bounded(response, &what()).await?;
            Ok((status, headers, body))
        };
        let (status, headers, body) = tokio::time::timeout(ATTEMPT_DEADLINE, exchange)
            .await
            .map_err(|_| Error::transient(format!("{}: no answer in a minute", what())))??;
        self.quota.answered(permit, &headers, Instant::now());
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refusal(&what(), status, &headers, &body))
    }

    fn refusal(&self, what: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.traffic.throttled.fetch_add(1, Ordering::Relaxed);
        }
        answer::refusal(what, status, headers, body)
    }
}

/// A quota that is spent for longer than a worker should wait.
fn throttled(url: &Url, wait: Duration) -> Error {
    let text = format!("GET {}: its quota is spent for {} s", url.path(), wait.as_secs());
    Error::new(ErrorKind::Throttled, text).with_retry_after(Some(wait))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

/// A failure below HTTP, in words of ours: reqwest's own text holds the URL with its query.
fn transport_error(what: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let why = if error.is_timeout() {
        "timed out".to_owned()
    } else if error.is_connect() {
        format!("cannot connect ({})", one_line(&cause.to_string()))
    } else {
        one_line(&redact(&cause.to_string()))
    };
    Error::transient(format!("{what}: {why}"))
}

async fn read_bounded(mut response: reqwest::Response, what: &str) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport_error(what, &e))? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(Error::invalid(format!(
                "{what}: the answer is longer than {} MiB",
                LARGEST_BODY >> 20
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blotted_out() {
        let text = "GET https://a.blob.core.windows.net/c?sv=1&sig=SECRET failed";
        assert_eq!(redact(text), "GET https://a.blob.core.windows.net/c?… failed");
        let jwt = format!("token eyJ{} refused", "x".repeat(60));
        assert_eq!(redact(&jwt), "token … refused");
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in ["https://management.azure.com", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(check_transport(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["http://management.azure.com", "http://169.254.169.254", "ftp://localhost"] {
            assert!(check_transport(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
