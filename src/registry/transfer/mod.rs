//! Images on their way up and down: layers side by side, resumed where they broke off, every byte
//! verified against its digest before anything refers to it.
//!
//! Invariants: credentials go to the registry's own origin; a blob has its final name only when its
//! bytes are what its digest names; what is pulled is made in a staging folder and moved into place; configurations
//! and manifests go up behind what they point at.

mod archive;
mod choice;
mod compare;
mod compression;
mod copy;
mod download;
mod files;
mod index;
mod landing;
mod layout;
mod origin;
mod package;
mod pull;
mod push;
mod saved;
mod tag;
mod titled;
mod upload;
mod whole;
mod writer;

pub use choice::Wanted;
pub use copy::{Copied, CopyFrom};
pub use files::{Artifact, safe_path};
pub use package::{Blob, Package, Packed, ReadAs};
pub use pull::{PullTo, Pulled, Target};
pub use push::Pushed;
pub use tag::Tagged;

use super::Registry;
use crate::client::{About, send_failure, stream_client, told};
use crate::error::{Error, ErrorKind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use url::Url;

/// Blobs that are under way at once.
const AT_ONCE: usize = 4;
/// What a refusal says is read up to this many bytes.
const LARGEST_REFUSAL: usize = 64 << 10;
/// The head of an answer comes within this.
const HEAD: Duration = Duration::from_mins(2);

/// The slowest line that an upload is waited for on, in bytes a second.
const SLOWEST_LINE: u64 = 16 << 10;

/// How long a request with these headers, and the body that they announce, may take to be answered.
fn longest(headers: &HeaderMap) -> Duration {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: u64 = length.and_then(|text| text.parse().ok()).unwrap_or_default();
    HEAD + Duration::from_secs(length / SLOWEST_LINE)
}

/// How far a transfer has come; shown while it runs.
#[derive(Debug, Clone, Default)]
pub struct Moved(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    of: AtomicU64,
    resumed: AtomicU64,
    restarted: AtomicU64,
}

impl Moved {
    fn expect(&self, bytes: u64) {
        self.0.of.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take_back(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are where they belong, and bytes in all.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.bytes.load(Ordering::Relaxed), self.0.of.load(Ordering::Relaxed))
    }

    /// How often a blob was gone on with, and how often it was begun again.
    pub fn mended(&self) -> (u64, u64) {
        (self.0.resumed.load(Ordering::Relaxed), self.0.restarted.load(Ordering::Relaxed))
    }
}

/// A request whose body, or whose answer, is a stream.
struct Streamed<'a> {
    method: Method,
    url: &'a Url,
    scope: &'a str,
    headers: HeaderMap,
}

impl Registry {
    fn http(&self) -> Result<&reqwest::Client> {
        if self.streams.get().is_none() {
            let _ = self.streams.set(stream_client()?);
        }
        self.streams.get().ok_or_else(|| Error::bug("a client that was just made"))
    }

    /// One attempt at a request with credentials, which go nowhere but to the registry. A refused token
    /// is renewed once; `body` is made anew then.
    async fn stream(
        &self,
        request: &Streamed<'_>,
        body: impl Fn() -> Option<reqwest::Body>,
    ) -> Result<Response> {
        if request.url.origin() != self.origin.origin() {
            let text = format!("{}: an upload that leads elsewhere", self.login_server());
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
            let about = About {
                method: request.method.as_str(),
                path: request.url.path(),
                server: request.url.host_str().unwrap_or_default(),
            };
            let late = |_| Error::transient(format!("{what}: no answer"));
            let sent = async {
                let sent = tokio::time::timeout(longest(&request.headers), sent.send()).await;
                sent.map_err(late)?.map_err(|e| send_failure(&what, &e))
            };
            let response = told(about, sent, |response| response.status().as_u16()).await?;
            if response.status() == StatusCode::UNAUTHORIZED && !renewed && self.can_renew() {
                renewed = true;
                self.forget(request.scope).await;
                continue;
            }
            return Ok(response);
        }
    }

    /// The error that an unsuccessful answer means.
    async fn refusal_of(&self, method: &Method, url: &Url, scope: &str, answer: Response) -> Error {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let what = format!("{method} {}{}", self.login_server(), url.path());
        let body = crate::client::read_bounded(answer, &what, LARGEST_REFUSAL).await;
        Self::refused_as(&what, scope, status, &headers, &body.unwrap_or_default())
    }
}
