//! The wire: one request out, one whole answer in. Everything above it is the same over a network
//! that a test drives.

use super::{is_loopback, one_line, redact};
use crate::error::{Error, Result};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use std::fmt;
use std::time::Duration;
use url::Url;

/// The largest listing recorded has 0.7 MB; ten years of its growth stay below this.
const LARGEST_BODY: usize = 64 << 20;

/// A request.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Its body.
    pub body: Option<Bytes>,
    /// What the body is.
    pub content_type: &'static str,
    /// What the answer may be.
    pub accept: &'static str,
    /// A longer answer is an error, in bytes.
    pub largest: usize,
}

impl Outgoing {
    /// A request for JSON.
    pub fn new(method: Method, url: Url) -> Self {
        let json = "application/json";
        Self { method, url, body: None, content_type: json, accept: json, largest: LARGEST_BODY }
    }

    /// A GET of `url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// What errors call it: the method and the path, never the query.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Carries requests.
#[async_trait]
pub trait Wire: fmt::Debug + Send + Sync {
    /// Sends `request`, with that authorization if there is one. A failure below HTTP is an error; a
    /// refusal is an answer.
    async fn send(&self, request: &Outgoing, authorized: Option<HeaderValue>) -> Result<Answer>;
}

/// The wire that reaches real servers: TLS, pooled connections, no redirects.
#[derive(Debug)]
pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new() -> Result<Self> {
        http_client().map(Self)
    }
}

/// A client of HTTP as all of azimg uses it: TLS, pooled connections, no redirects.
pub(crate) fn http_client() -> Result<reqwest::Client> {
    build(builder().read_timeout(Duration::from_secs(30)))
}

/// The same for bodies that take their time: the timeout of the other one begins with a request, and
/// would end an upload that takes longer than it (reqwest 0.13, `PendingRequest`).
pub(crate) fn stream_client() -> Result<reqwest::Client> {
    build(builder())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("azimg/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(15))
        .pool_max_idle_per_host(64)
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder.build().map_err(|e| {
        Error::invalid(
            "no certificates to trust were found: install ca-certificates, or name a \
                     file of them in SSL_CERT_FILE",
        )
        .with_source(e)
    })
}

#[async_trait]
impl Wire for Http {
    async fn send(&self, request: &Outgoing, authorized: Option<HeaderValue>) -> Result<Answer> {
        let what = request.name();
        let sent = self.0.request(request.method.clone(), request.url.clone());
        let mut sent = sent.header(ACCEPT, request.accept);
        if let Some(authorized) = authorized {
            sent = sent.header(AUTHORIZATION, authorized);
        }
        if let Some(body) = &request.body {
            sent = sent.header(CONTENT_TYPE, request.content_type).body(body.clone());
        }
        let response = sent.send().await.map_err(|e| send_failure(&what, &e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_bounded(response, &what, request.largest).await?;
        Ok(Answer { status, headers, body })
    }
}

/// Whether `url` may be spoken to: https, or http to a loopback address.
pub(super) fn check_transport(url: &Url) -> Result<()> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        _ => Err(Error::invalid(format!(
            "{} is no https address; plain http is for this machine's own addresses only",
            url.origin().ascii_serialization()
        ))),
    }
}

/// A failure below HTTP, in words of ours: reqwest's own text holds the URL with its query.
pub(crate) fn send_failure(what: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let why = if error.is_timeout() {
        "timed out".to_owned()
    } else if error.is_connect() {
        let cause = one_line(&cause.to_string());
        // What a proxy that looks into TLS shows; `reqwest` trusts what the system does.
        let advice = if cause.contains("UnknownIssuer") {
            "; of a proxy? Name a file with its CA in SSL_CERT_FILE"
        } else {
            ""
        };
        format!("cannot connect ({cause}{advice})")
    } else {
        one_line(&redact(&cause.to_string()))
    };
    Error::transient(format!("{what}: {why}"))
}

/// An answer's body, unless it is longer than `largest` bytes.
pub(crate) async fn read_bounded(
    mut response: reqwest::Response,
    what: &str,
    largest: usize,
) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| send_failure(what, &e))? {
        if body.len() + chunk.len() > largest {
            return Err(Error::invalid(format!(
                "{what}: the answer is longer than {} MiB",
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
    fn plain_http_is_for_this_machine_only() {
        for good in ["https://management.azure.com", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(check_transport(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["http://management.azure.com", "http://169.254.169.254", "ftp://localhost"] {
            assert!(check_transport(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
