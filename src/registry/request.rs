//! Requests to a registry: authorized for the least scope, repeated where that is safe, paused for
//! everyone when the registry says so.

use super::Registry;
use super::login::LARGEST_TOKEN;
use crate::client::{RetryPolicy, read_bounded, refusal, send_failure};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// A listing's page, a manifest's attributes: never larger than this.
const LARGEST_LIST: usize = 16 << 20;
/// More pages than any real list has: 150,000 manifests are 150.
const MOST_PAGES: usize = 20_000;
/// Rows of a page: no maximum is documented, and a server that gives fewer says so in `Link`.
const PAGE: &str = "1000";
/// One attempt may take this long.
const ATTEMPT: Duration = Duration::from_mins(1);

/// Everything but the characters that a path's segment carries as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Closed for everyone while the registry wants to be left alone.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Option<Instant>>);

impl Gate {
    async fn pass(&self) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    fn close(&self, wait: Duration) {
        // The newest answer is the right one: a wait counts down (azure-quotas §4).
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
    }
}

/// A request to be sent.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) scope: &'a str,
    pub(super) accept: &'a str,
    pub(super) body: Option<Value>,
    pub(super) largest: usize,
}

impl<'a> Ask<'a> {
    /// A GET of JSON.
    pub(super) fn get(url: Url, scope: &'a str) -> Self {
        let (method, accept) = (Method::GET, "application/json");
        Self { method, url, scope, accept, body: None, largest: LARGEST_LIST }
    }
}

/// An answer that was not refused.
pub(super) struct Told {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Registry {
    /// The address of `segments`, each encoded as one.
    pub(super) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.origin.clone();
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        url.set_path(&path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request until an answer counts. A refused token is renewed once; what is throttled
    /// waits with everyone; a DELETE that was not answered and is repeated may find nothing, which is
    /// what it wanted.
    pub(super) async fn ask<T>(
        &self,
        ask: &Ask<'_>,
        read: impl Fn(Told) -> Result<T>,
    ) -> Result<T> {
        let read = |status: StatusCode, told: Told| {
            if status.is_success() { read(told) } else { Err(self.refused(ask, status, &told)) }
        };
        self.until_told(ask, read).await
    }

    /// The same; a redirect is an answer, and is not followed.
    pub(super) async fn ask_any(&self, ask: &Ask<'_>) -> Result<(StatusCode, Told)> {
        let read = |status: StatusCode, told: Told| {
            if status.is_success() || status.is_redirection() {
                return Ok((status, told));
            }
            Err(self.refused(ask, status, &told))
        };
        self.until_told(ask, read).await
    }

    async fn until_told<T>(
        &self,
        ask: &Ask<'_>,
        read: impl Fn(StatusCode, Told) -> Result<T>,
    ) -> Result<T> {
        let policy = RetryPolicy::default();
        let mut delays = policy.delays(&ask.url);
        let (mut waited, mut renewed, mut lost) = (Duration::ZERO, false, false);
        loop {
            self.gate.pass().await;
            let error = match self.once(ask).await {
                Ok((StatusCode::NOT_FOUND, told)) if lost && ask.method == Method::DELETE => {
                    return read(StatusCode::OK, Told { body: Bytes::new(), ..told });
                }
                Ok((StatusCode::UNAUTHORIZED, _)) if !renewed && self.can_renew() => {
                    renewed = true;
                    self.forget(ask.scope).await;
                    continue;
                }
                Ok((status, told)) => match read(status, told) {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if error.is_transient() && error.retry_after().is_none() {
                lost = true;
            }
            let Some(wait) = policy.wait(&error, &mut delays, waited) else {
                return Err(error);
            };
            waited += wait;
            if error.retry_after().is_some() {
                self.gate.close(wait);
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn refused(&self, ask: &Ask<'_>, status: StatusCode, told: &Told) -> Error {
        let what = format!("{} {}{}", ask.method, self.login_server(), ask.url.path());
        let error = refusal(&what, status, &told.headers, &told.body);
        let text = error.to_string();
        match status {
            // A token that was just granted, and is not enough.
            StatusCode::UNAUTHORIZED => error
                .with_kind(ErrorKind::Denied)
                .context(format!("no permission for {}", ask.scope)),
            StatusCode::FORBIDDEN if text.contains("is not allowed access") => {
                error.context("the registry's firewall keeps this machine out")
            }
            StatusCode::METHOD_NOT_ALLOWED => error.with_kind(ErrorKind::Conflict).context(
                "locked: its attributes forbid it (azimg registry set … --delete-enabled true \
                 --write-enabled true), or the registry does not do this",
            ),
            _ => error,
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<(StatusCode, Told)> {
        let what = format!("{} {}{}", ask.method, self.login_server(), ask.url.path());
        let authorization = self.authorization(ask.scope).await?;
        let mut request = self
            .http
            .request(ask.method.clone(), ask.url.clone())
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, ask.accept);
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = async {
            let response = request.send().await.map_err(|e| send_failure(&what, &e))?;
            let (status, headers) = (response.status(), response.headers().clone());
            // No redirect is followed here: whatever asks for one gets it as an error.
            let body = read_bounded(response, &what, ask.largest).await?;
            Ok((status, Told { headers, body }))
        };
        tokio::time::timeout(ATTEMPT, answer)
            .await
            .map_err(|_| Error::transient(format!("{what}: no answer in a minute")))?
    }

    /// Asks `/oauth2/…` for a token. Its form and its answer are secrets, and reach no error.
    pub(super) async fn token_request<T: DeserializeOwned>(
        &self,
        which: &str,
        form: &[(&str, &str)],
    ) -> Result<T> {
        let url = self.url(&["oauth2", which], &[]);
        let what = format!("POST {}{}", self.login_server(), url.path());
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let policy = RetryPolicy::default();
        let mut delays = policy.delays(&url);
        let mut waited = Duration::ZERO;
        loop {
            self.gate.pass().await;
            let request = self
                .http
                .post(url.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(ACCEPT, "application/json")
                .body(body.clone());
            let answer = async {
                let response = request.send().await.map_err(|e| send_failure(&what, &e))?;
                let (status, headers) = (response.status(), response.headers().clone());
                let body = read_bounded(response, &what, LARGEST_TOKEN).await?;
                if status.is_success() {
                    return serde_json::from_slice(&body)
                        .map_err(|_| Error::transient(format!("{what}: not the JSON of a token")));
                }
                let error = refusal(&what, status, &headers, &body);
                Err(match status {
                    StatusCode::BAD_REQUEST => error.with_kind(ErrorKind::Unauthenticated),
                    _ => error,
                })
            };
            let late = |_| Error::transient(format!("{what}: no answer in a minute"));
            let error = match tokio::time::timeout(ATTEMPT, answer).await.map_err(late) {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(error)) | Err(error) => error,
            };
            let Some(wait) = policy.wait(&error, &mut delays, waited) else { return Err(error) };
            waited += wait;
            if error.retry_after().is_some() {
                self.gate.close(wait);
            } else {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// Sends a request whose answer is JSON; an answer that is none may be another next time.
    pub(super) async fn ask_json<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
    ) -> Result<(HeaderMap, T)> {
        let what = format!("{} {}{}", ask.method, self.login_server(), ask.url.path());
        let read = |told: Told| match serde_json::from_slice(&told.body) {
            Ok(value) => Ok((told.headers, value)),
            Err(e) => {
                Err(Error::transient(format!("{what}: not the JSON that was expected ({e})")))
            }
        };
        self.ask(ask, read).await
    }

    /// All pages of a list; `take` says what a page has in it, and none when it is no such page.
    pub(super) async fn pages<T, P: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        scope: &str,
        take: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>> {
        let mut query = query.to_vec();
        query.push(("n", PAGE));
        let mut url = self.url(segments, &query);
        let what = format!("GET {}{}", self.login_server(), url.path());
        let path = url.path().to_owned();
        let mut all = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..MOST_PAGES {
            let (headers, page) = self.ask_json::<P>(&Ask::get(url.clone(), scope)).await?;
            all.extend(take(page));
            let Some(next) = next_link(&headers) else { return Ok(all) };
            let next =
                url.join(&next).map_err(|_| Error::invalid(format!("{what}: a bad Link")))?;
            // A link is followed within this list of this registry, and nowhere else.
            let decoded = |path: &str| {
                percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
            };
            if next.origin() != self.origin.origin() || decoded(next.path()) != decoded(&path) {
                let text = format!("{what}: its Link leads elsewhere, and is not followed");
                return Err(Error::new(ErrorKind::Denied, text));
            }
            if !seen.insert(next.clone()) {
                return Err(Error::invalid(format!("{what}: its pages go round")));
            }
            url = next;
        }
        Err(Error::invalid(format!("{what}: more than {MOST_PAGES} pages")))
    }
}

/// The target of `Link: <…>; rel="next"`.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let mut parts = links.flat_map(|value| value.split(','));
    parts.find_map(|part| {
        let (target, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let next = rest.to_ascii_lowercase().replace(' ', "");
        (next.contains("rel=\"next\"") || next.contains("rel=next")).then(|| target.to_owned())
    })
}
