//! Requests to a registry: authorized for the least scope, retried where that is safe, and paused
//! for all callers when the registry throttles.

use super::Registry;
use super::login::LARGEST_TOKEN;
use super::rows::{ListRow, Listed, MOST_IN_PAGE, Page};
use crate::client::{WireRequest, WireResponse, refusal};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;
use url::Url;

/// In bytes. The limit for a page of a listing or the attributes of a manifest.
const LARGEST_LIST: usize = 16 << 20;
/// The most pages of one list. A real one has fewer: 150,000 manifests are 150 pages.
pub(super) const MOST_PAGES: usize = 20_000;
/// The most rows, and bytes of answers, of one list. A larger list is refused.
pub(super) const MOST_ROWS: usize = 300_000;
pub(super) const MOST_BYTES: usize = 192 << 20;
/// Rows per page. No maximum is documented, and a server that returns fewer says so in `Link`.
const PAGE: &str = "1000";

/// The characters to encode in a path segment: all but the unreserved ones.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request to the registry.
pub(super) struct RegistryRequest<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) scope: &'a str,
    pub(super) accept: &'static str,
    pub(super) body: Option<Value>,
    pub(super) largest: usize,
}

impl<'a> RegistryRequest<'a> {
    /// A GET of JSON.
    pub(super) fn get(url: Url, scope: &'a str) -> Self {
        let (method, accept) = (Method::GET, "application/json");
        Self { method, url, scope, accept, body: None, largest: LARGEST_LIST }
    }
}

/// An answer that was not refused.
pub(super) struct RegistryResponse {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The part of a list that was read so far.
#[derive(Debug, Default)]
pub(super) struct ListSize {
    rows: usize,
    bytes: usize,
}

impl ListSize {
    /// Adds a page. An error if the list exceeds [`MOST_ROWS`] or [`MOST_BYTES`].
    pub(super) fn add(&mut self, what: &str, rows: usize, bytes: usize) -> Result<()> {
        self.rows += rows;
        self.bytes += bytes;
        if self.rows <= MOST_ROWS && self.bytes <= MOST_BYTES {
            return Ok(());
        }
        let most = MOST_BYTES >> 20;
        let text = format!(
            "{what}: the list has more than {MOST_ROWS} rows or {most} MiB; reading stopped"
        );
        Err(Error::invalid(text))
    }
}

impl Registry {
    /// The URL with the path `segments`, each encoded as one segment.
    pub(crate) fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
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

    /// Sends a request until it is answered or a failure is final. A refused token is renewed once.
    /// Throttled requests wait together with all others. A DELETE that is repeated after a lost
    /// answer may find nothing, which counts as success.
    pub(super) async fn ask<T>(
        &self,
        ask: &RegistryRequest<'_>,
        read: impl Fn(RegistryResponse) -> Result<T>,
    ) -> Result<T> {
        let read = |status: StatusCode, response: RegistryResponse| {
            if status.is_success() {
                read(response)
            } else {
                Err(self.refused(ask, status, &response))
            }
        };
        self.send_with_retries(ask, read).await
    }

    /// Like [`Self::ask`], but a redirect is an answer. It is not followed.
    pub(super) async fn ask_any(
        &self,
        ask: &RegistryRequest<'_>,
    ) -> Result<(StatusCode, RegistryResponse)> {
        let read = |status: StatusCode, response: RegistryResponse| {
            if status.is_success() || status.is_redirection() {
                return Ok((status, response));
            }
            Err(self.refused(ask, status, &response))
        };
        self.send_with_retries(ask, read).await
    }

    async fn send_with_retries<T>(
        &self,
        ask: &RegistryRequest<'_>,
        read: impl Fn(StatusCode, RegistryResponse) -> Result<T>,
    ) -> Result<T> {
        let mut tries = self.tries(&ask.url);
        let (mut renewed, mut lost) = (false, false);
        loop {
            tries.pass().await?;
            let error = match self.once(ask).await {
                Ok((StatusCode::NOT_FOUND, response)) if lost && ask.method == Method::DELETE => {
                    return read(
                        StatusCode::OK,
                        RegistryResponse { body: Bytes::new(), ..response },
                    );
                }
                Ok((StatusCode::UNAUTHORIZED, _)) if !renewed && self.can_renew() => {
                    renewed = true;
                    self.forget(ask.scope).await;
                    continue;
                }
                Ok((status, response)) => match read(status, response) {
                    Ok(value) => {
                        self.pace.record_success();
                        return Ok(value);
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            lost |= error.is_transient() && error.retry_after().is_none();
            tries.after(error).await?;
        }
    }

    fn refused(
        &self,
        ask: &RegistryRequest<'_>,
        status: StatusCode,
        response: &RegistryResponse,
    ) -> Error {
        let what = format!("{} {}{}", ask.method, self.login_server(), ask.url.path());
        Self::refused_as(&what, ask.scope, status, &response.headers, &response.body)
    }

    /// Returns the error for a refusal.
    pub(super) fn refused_as(
        what: &str,
        scope: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Error {
        let error = refusal(what, status, headers, body);
        let text = error.to_string();
        match status {
            // The token was just granted, and does not suffice.
            StatusCode::UNAUTHORIZED => {
                error.with_kind(ErrorKind::Denied).context(format!("no permission for {scope}"))
            }
            StatusCode::FORBIDDEN if text.contains("is not allowed access") => {
                error.context("the registry's firewall does not allow this machine")
            }
            StatusCode::METHOD_NOT_ALLOWED => error.with_kind(ErrorKind::Conflict).context(
                "locked by its attributes (unlock with azimg registry set … --delete-enabled true \
                 --write-enabled true), or not supported by the registry",
            ),
            _ => error,
        }
    }

    async fn once(&self, ask: &RegistryRequest<'_>) -> Result<(StatusCode, RegistryResponse)> {
        let authorization = self.authorization(ask.scope).await?;
        let request = WireRequest {
            body: ask.body.as_ref().map(|body| Bytes::from(body.to_string())),
            accept: ask.accept,
            largest: ask.largest,
            ..WireRequest::new(ask.method.clone(), ask.url.clone())
        };
        self.sent(&request, Some(authorization)).await
    }

    /// Makes one attempt at a request. No redirect is followed: callers that allow one get it as
    /// the answer.
    pub(super) async fn sent(
        &self,
        request: &WireRequest,
        authorized: Option<HeaderValue>,
    ) -> Result<(StatusCode, RegistryResponse)> {
        let at = request.url.host_str().unwrap_or_default();
        let answer = self.traffic.send(self.wire.as_ref(), request, authorized).await;
        let WireResponse { status, headers, body } = answer.map_err(|error| error.context(at))?;
        Ok((status, RegistryResponse { headers, body }))
    }

    /// Requests a token from `/oauth2/…`. The form and the answer are secrets, and appear in no
    /// error.
    pub(super) async fn token_request<T: DeserializeOwned>(
        &self,
        which: &str,
        form: &[(&str, &str)],
    ) -> Result<T> {
        let url = self.url(&["oauth2", which], &[]);
        let what = format!("POST {}{}", self.login_server(), url.path());
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = WireRequest {
            body: Some(body.into()),
            content_type: "application/x-www-form-urlencoded",
            largest: LARGEST_TOKEN,
            ..WireRequest::new(Method::POST, url)
        };
        let mut tries = self.tries(&request.url);
        loop {
            tries.pass().await?;
            let error = match self.sent(&request, None).await {
                Ok((status, response)) if status.is_success() => {
                    match serde_json::from_slice(&response.body) {
                        Ok(token) => return Ok(token),
                        Err(_) => {
                            Error::transient(format!("{what}: the response contains no token"))
                        }
                    }
                }
                Ok((status, response)) => {
                    let error = refusal(&what, status, &response.headers, &response.body);
                    match status {
                        StatusCode::BAD_REQUEST => error.with_kind(ErrorKind::Unauthenticated),
                        _ => error,
                    }
                }
                Err(error) => error,
            };
            tries.after(error).await?;
        }
    }

    /// Sends a request whose answer is JSON. An answer that is not JSON is a transient error.
    pub(super) async fn ask_json<T: DeserializeOwned>(
        &self,
        ask: &RegistryRequest<'_>,
    ) -> Result<(HeaderMap, T)> {
        let (headers, _, value) = self.ask_sized(ask).await?;
        Ok((headers, value))
    }

    /// Like [`Self::ask_json`], with the size of the answer in bytes.
    pub(super) async fn ask_sized<T: DeserializeOwned>(
        &self,
        ask: &RegistryRequest<'_>,
    ) -> Result<(HeaderMap, usize, T)> {
        let what = format!("{} {}{}", ask.method, self.login_server(), ask.url.path());
        let read = |response: RegistryResponse| match serde_json::from_slice(&response.body) {
            Ok(value) => Ok((response.headers, response.body.len(), value)),
            Err(e) => Err(Error::transient(format!("{what}: unexpected JSON ({e})"))),
        };
        self.ask(ask, read).await
    }

    /// Reads all pages of a list.
    pub(super) async fn pages<T: ListRow>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        scope: &str,
    ) -> Result<Listed<T>> {
        let mut next = Some(self.first_page(segments, query));
        let mut all = Listed::default();
        let mut seen = HashSet::new();
        let mut sum = ListSize::default();
        while let Some(url) = next.take() {
            let what = format!("GET {}{}", self.login_server(), url.path());
            if seen.len() >= MOST_PAGES {
                return Err(Error::bad_answer(format!(
                    "{what}: the list exceeds {MOST_PAGES} pages"
                )));
            }
            if !seen.insert(url.clone()) {
                return Err(Error::bad_answer(format!("{what}: a page repeats")));
            }
            let (page, following) = self.page(url, scope, &mut sum).await?;
            all.extend(page);
            next = following;
        }
        Ok(all)
    }

    /// The address of the first page of a list.
    pub(super) fn first_page(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut query = query.to_vec();
        query.push(("n", PAGE));
        self.url(segments, &query)
    }

    /// Reads one page of a list, and returns it with the address of the next one. `sum` is what was
    /// read of the list before.
    pub(super) async fn page<T: ListRow>(
        &self,
        url: Url,
        scope: &str,
        sum: &mut ListSize,
    ) -> Result<(Listed<T>, Option<Url>)> {
        let ask = RegistryRequest::get(url, scope);
        let (headers, bytes, page) = self.ask_sized::<Page<T>>(&ask).await?;
        let what = format!("GET {}{}", self.login_server(), ask.url.path());
        if page.is_cut {
            return Err(Error::bad_answer(format!(
                "{what}: a page of more than {MOST_IN_PAGE} rows"
            )));
        }
        sum.add(&what, page.listed.rows.len(), bytes)?;
        page.log_malformed(&decoded(&ask.url));
        Ok((page.listed, self.next_page(&ask, &headers)?))
    }

    /// The address of the next page, from the `Link` header. A link is followed only within the
    /// same list of the same registry.
    pub(super) fn next_page(
        &self,
        ask: &RegistryRequest<'_>,
        headers: &HeaderMap,
    ) -> Result<Option<Url>> {
        let Some(next) = next_link(headers) else { return Ok(None) };
        let what = format!("GET {}{}", self.login_server(), ask.url.path());
        let bad = |_| Error::bad_answer(format!("{what}: invalid Link header"));
        let next = ask.url.join(&next).map_err(bad)?;
        if next.origin() != self.origin.origin() || decoded(&next) != decoded(&ask.url) {
            let text =
                format!("{what}: the Link header points to another resource and is not followed");
            return Err(Error::new(ErrorKind::Denied, text));
        }
        Ok(Some(next))
    }
}

fn decoded(url: &Url) -> String {
    percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned()
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
