//! The HTTP transport of the SDK's credentials to token endpoints. It uses azimg's own client, so
//! that a missing proxy, an unknown CA and an HTML page in place of a token are reported as for all
//! other requests.

use crate::client::{http_client, read_bounded, send_failure};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::awaited;
use async_trait::async_trait;
use azure_core::error::ErrorKind as Core;
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use reqwest::Method;
use std::collections::HashMap;
use std::time::Duration;

/// Timeout of one attempt; a longer one is retried.
const EACH: Duration = Duration::from_secs(8);
/// Largest accepted response, in bytes; no token is larger.
const LARGEST: usize = 1 << 20;

/// The client.
#[derive(Debug)]
pub(super) struct TokenHttp(reqwest::Client);

impl TokenHttp {
    pub(super) fn new() -> Result<Self> {
        http_client().map(Self)
    }

    async fn send(&self, request: &Request) -> Result<AsyncRawResponse> {
        let url = request.url();
        let host = url.host_str().unwrap_or_default();
        let what = format!("token request to {host}");
        let _wait = awaited::wait_for(format!("a token from {host}"));
        let method = Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|e| Error::bug(e.to_string()))?;
        let mut sent = self.0.request(method, url.clone()).timeout(EACH);
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            sent = sent.body(bytes.clone());
        }
        let answer = sent.send().await.map_err(|e| send_failure(&what, &e))?;
        let (status, headers) = (answer.status().as_u16(), headers(answer.headers()));
        let body = read_bounded(answer, &what, LARGEST).await?;
        if !is_json(&body) {
            let kind = if status >= 500 { ErrorKind::Transient } else { ErrorKind::SignedOut };
            let text = format!(
                "{what}: {status}, and the body is not the answer of a token endpoint; a proxy or a firewall \
                 may have sent it"
            );
            return Err(Error::new(kind, text));
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), headers, body))
    }
}

/// Whether a body begins as every token response does.
fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_some_and(|first| *first == b'{')
}

fn headers(of: &reqwest::header::HeaderMap) -> Headers {
    let pairs = of.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?.to_owned();
        Some((HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value)))
    });
    Headers::from(pairs.collect::<HashMap<_, _>>())
}

#[async_trait]
impl HttpClient for TokenHttp {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.send(request).await.map_err(|error| {
            let text = error.to_string();
            azure_core::Error::with_error(Core::Other, error, text)
        })
    }
}
