//! The wire: sends one request and reads one complete response. Tests replace the network with
//! another [`Wire`]; everything above it is unchanged.

use super::{is_loopback, one_line, redact};
use crate::error::{Error, Result};
use crate::telemetry::awaited;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MATCH};
use reqwest::{Method, StatusCode};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// In bytes. The largest recorded listing has 0.7 MB; ten years of its growth stay below this.
const LARGEST_BODY: usize = 64 << 20;

/// A request.
#[derive(Debug, Clone)]
pub struct WireRequest {
    /// The method.
    pub method: Method,
    /// Request URL.
    pub url: Url,
    /// Its body.
    pub body: Option<Bytes>,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// `If-Match`: the `ETag` that the resource to change must have (RFC 9110 §13.1.1).
    pub if_match: Option<String>,
    /// `Accept` header.
    pub accept: &'static str,
    /// Largest accepted response body, in bytes; a longer one is an error.
    pub largest: usize,
}

impl WireRequest {
    /// Creates a request that sends and accepts JSON.
    pub fn new(method: Method, url: Url) -> Self {
        let json = "application/json";
        let (largest, body, if_match) = (LARGEST_BODY, None, None);
        Self { method, url, body, content_type: json, if_match, accept: json, largest }
    }

    /// Creates a GET of `url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// The request's name in errors: method and path, never the query.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }
}

/// A response, read completely.
#[derive(Debug, Clone)]
pub struct WireResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Transport for requests.
#[async_trait]
pub trait Wire: fmt::Debug + Send + Sync {
    /// Sends `request`, with `authorized` as its authorization if given. A failure below HTTP is an
    /// error; an unsuccessful status is a response.
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse>;
}

/// The wire that reaches real servers: TLS, pooled connections, no redirects.
#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    reached: Reachability,
}

impl Http {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { client: http_client()?, reached: Reachability::default() })
    }
}

/// Total time for which a server that has never been reached is tried: its URL may be wrong or a
/// proxy missing, and a user may be waiting for the error.
const FIRST_CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connect timeout. A lost first packet is resent after 1 s and 3 s.
const CONNECT_WITHIN: Duration = Duration::from_secs(7);

/// Which servers have been reached, and since when the others have not.
#[derive(Debug, Default)]
pub(crate) struct Reachability(Mutex<HashMap<String, Option<Instant>>>);

impl Reachability {
    fn servers(&self) -> MutexGuard<'_, HashMap<String, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the server of `url` was reached.
    pub(crate) fn record_reached(&self, url: &Url) {
        let server = url.origin().ascii_serialization();
        let mut servers = self.servers();
        if servers.get(&server).is_none_or(Option::is_some) {
            servers.insert(server, None);
        }
    }

    /// Records that an attempt begun at `began` did not reach the server of `url`; returns whether
    /// further attempts are pointless. The first failure is logged immediately, so that a waiting
    /// user knows the reason.
    pub(crate) fn failed(&self, url: &Url, began: Instant, why: &Error) -> bool {
        let server = url.origin().ascii_serialization();
        let (is_final, is_first) = match self.servers().entry(server) {
            Entry::Vacant(entry) => {
                entry.insert(Some(began));
                (began.elapsed() >= FIRST_CONNECT_LIMIT, true)
            }
            Entry::Occupied(entry) => {
                (entry.get().is_some_and(|since| since.elapsed() >= FIRST_CONNECT_LIMIT), false)
            }
        };
        if is_first && !is_final {
            tracing::warn!(error = %why, "cannot connect; retrying for a few seconds");
        }
        is_final
    }
}

/// The HTTP client used throughout azimg: TLS, pooled connections, no redirects.
pub(crate) fn http_client() -> Result<reqwest::Client> {
    build(builder().read_timeout(Duration::from_secs(30)))
}

/// The client for storage: response bodies are kept as sent, without decompression, and the read
/// timeout is longer, since an upload takes its time.
pub(crate) fn storage_client() -> Result<reqwest::Client> {
    build(builder().no_gzip().read_timeout(Duration::from_mins(1)))
}

/// The client for large bodies: the read timeout of [`http_client`] starts with the request, and
/// would abort an upload that takes longer (reqwest 0.13, `PendingRequest`).
pub(crate) fn stream_client() -> Result<reqwest::Client> {
    build(builder())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("azimg/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .pool_max_idle_per_host(64)
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|e| {
        Error::invalid(
            "no trusted certificates were found: install ca-certificates, or set SSL_CERT_FILE to \
             a file of certificates",
        )
        .with_source(e)
    })
}

#[async_trait]
impl Wire for Http {
    async fn send(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<WireResponse> {
        let what = request.name();
        let sent = self.client.request(request.method.clone(), request.url.clone());
        let mut sent = sent.header(ACCEPT, request.accept);
        if let Some(authorized) = authorized {
            sent = sent.header(AUTHORIZATION, authorized);
        }
        if let Some(tag) = &request.if_match {
            sent = sent.header(IF_MATCH, tag);
        }
        if let Some(body) = &request.body {
            sent = sent.header(CONTENT_TYPE, request.content_type).body(body.clone());
        }
        let _wait = awaited::wait_for(request.url.host_str().unwrap_or_default().to_owned());
        let began = Instant::now();
        let response = match sent.send().await {
            Err(e) if e.is_connect() => {
                let error = send_failure(&what, &e);
                let is_final = self.reached.failed(&request.url, began, &error);
                return Err(if is_final { error.without_retry() } else { error });
            }
            sent => {
                self.reached.record_reached(&request.url);
                sent.map_err(|e| send_failure(&what, &e))?
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_bounded(response, &what, request.largest).await?;
        Ok(WireResponse { status, headers, body })
    }
}

/// Checks that `url` is https, or http to a loopback address.
pub(super) fn check_transport(url: &Url) -> Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} is not an https address; plain http is allowed only for loopback addresses",
            url.origin().ascii_serialization()
        ))),
    }
}

/// Host and port of the proxy for requests to `url`, from the variables that `reqwest` reads.
fn proxy(url: &Url) -> Option<String> {
    static PROXIES: LazyLock<Matcher> = LazyLock::new(Matcher::from_env);
    let through = PROXIES.intercept(&url.as_str().parse().ok()?)?;
    through.uri().authority().map(|authority| {
        let text = authority.as_str();
        text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned()
    })
}

/// Converts a failure below HTTP. The text is our own: reqwest's contains the URL with its query.
pub(crate) fn send_failure(what: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let cause = one_line(&redact(&cause.to_string()));
    let through = error.url().and_then(proxy).map_or_else(String::new, |proxy| {
        format!(" through the proxy {proxy}, set by HTTPS_PROXY or HTTP_PROXY")
    });
    let why = if error.is_connect() {
        let cause = if error.is_timeout() { "timed out" } else { cause.as_str() };
        // Typical of a proxy that intercepts TLS; `reqwest` trusts the system's certificates.
        let advice = if cause.contains("UnknownIssuer") {
            "; if a proxy intercepts TLS, set SSL_CERT_FILE to a file with its CA"
        } else if through.is_empty() && (error.is_timeout() || cause.contains("lookup address")) {
            "; check the network connection; if a proxy is required, set HTTPS_PROXY"
        } else {
            ""
        };
        let to = error.url().filter(|_| through.is_empty()).map_or_else(String::new, |url| {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            format!(" to {}{port}", url.host_str().unwrap_or_default())
        });
        format!("cannot connect{to}{through} ({cause}{advice})")
    } else if error.is_timeout() {
        format!("timed out{through}")
    } else {
        cause
    };
    Error::transient(format!("{what}: {why}"))
}

/// Reads a response body; an error if it is longer than `largest` bytes.
pub(crate) async fn read_bounded(
    mut response: reqwest::Response,
    what: &str,
    largest: usize,
) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| send_failure(what, &e))? {
        if body.len() + chunk.len() > largest {
            return Err(Error::bad_answer(format!(
                "{what}: the response is longer than {} MiB",
                largest >> 20
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
    fn plain_http_is_allowed_only_for_loopback() {
        for accepted in ["https://management.azure.com", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(check_transport(&accepted.parse().unwrap()).is_ok(), "{accepted}");
        }
        for bad in ["http://management.azure.com", "http://169.254.169.254", "ftp://localhost"] {
            assert!(check_transport(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
