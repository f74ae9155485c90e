//! Requests to a registry with a streamed body or a streamed answer.

use super::Registry;
use crate::client::{RequestLabels, send_failure, stream_client, traced};
use crate::error::{Error, ErrorKind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use std::sync::atomic::Ordering;
use std::time::Duration;
use url::Url;

/// The most bytes that are read of a refusal.
const LARGEST_REFUSAL: usize = 64 << 10;
/// The time limit for the head of an answer to a request without a body.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_mins(2);

/// The slowest upload that is waited for, in bytes per second.
const SLOWEST_LINE: u64 = 16 << 10;

/// The time limit for the answer to a request with these headers and the body they announce.
fn longest(headers: &HeaderMap) -> Duration {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: u64 = length.and_then(|text| text.parse().ok()).unwrap_or_default();
    ANSWERS_WITHIN + Duration::from_secs(length / SLOWEST_LINE)
}

/// A request with a streamed body or a streamed answer.
pub(crate) struct StreamRequest<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) scope: &'a str,
    pub(crate) headers: HeaderMap,
}

impl Registry {
    pub(crate) fn http(&self) -> Result<&reqwest::Client> {
        if self.streams.get().is_none() {
            let _ = self.streams.set(stream_client()?);
        }
        self.streams.get().ok_or_else(|| Error::bug("the HTTP client was not kept"))
    }

    /// Makes one attempt at a request. Credentials are sent only to the registry. A refused token
    /// is renewed once, and `body` is called again for that.
    pub(crate) async fn stream(
        &self,
        request: &StreamRequest<'_>,
        body: impl Fn() -> Option<reqwest::Body>,
    ) -> Result<Response> {
        if !self.is_own(request.url) {
            let text = format!("{}: the upload location is on another host", self.login_server());
            return Err(Error::new(ErrorKind::Denied, text));
        }
        let what = format!("{} {}{}", request.method, self.login_server(), request.url.path());
        let mut renewed = false;
        loop {
            self.pace.pass().await;
            let authorization = self.authorization(request.scope).await?;
            let mut sent = self
                .http()?
                .request(request.method.clone(), request.url.clone())
                .headers(request.headers.clone())
                .header(AUTHORIZATION, authorization);
            if let Some(body) = body() {
                sent = sent.body(body);
            }
            self.traffic.requests.fetch_add(1, Ordering::Relaxed);
            let about = RequestLabels {
                method: request.method.as_str(),
                path: request.url.path(),
                server: request.url.host_str().unwrap_or_default(),
            };
            let late = |_| Error::transient(format!("{what}: no response"));
            let sent = async {
                let sent = tokio::time::timeout(longest(&request.headers), sent.send()).await;
                sent.map_err(late)?.map_err(|e| send_failure(&what, &e))
            };
            let response = traced(about, sent, |response| response.status().as_u16()).await?;
            if response.status() == StatusCode::UNAUTHORIZED && !renewed && self.can_renew() {
                renewed = true;
                self.forget(request.scope).await;
                continue;
            }
            return Ok(response);
        }
    }

    /// Returns the error for an unsuccessful answer.
    pub(crate) async fn refusal_of(
        &self,
        method: &Method,
        url: &Url,
        scope: &str,
        answer: Response,
    ) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let what = format!("{method} {}{}", self.login_server(), url.path());
        let body = crate::client::read_bounded(answer, &what, LARGEST_REFUSAL).await;
        Self::refused_as(&what, scope, status, &headers, &body.unwrap_or_default())
    }
}
