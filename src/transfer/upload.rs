//! Upload of one blob, in chunks within an upload session. It is resumed at the offset that the
//! registry reports, and restarted if the session is lost.

use super::TransferProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Registry, StreamRequest};
use crate::transfer::package::Blob;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// In bytes. Registries behind a gateway refuse bodies of more than about 20 MB.
const CHUNK: u64 = 16 << 20;
/// The most sessions for one blob. After that the upload fails.
const BEGINNINGS: u32 = 4;

/// Why a session cannot be continued.
enum SessionError {
    /// The session is lost; the upload starts again.
    Gone(Error),
    /// The upload fails.
    Failed(Error),
}

/// An open session: the URL of the next request, and the number of bytes that the registry has.
struct Session {
    url: Url,
    at: u64,
}

impl Registry {
    /// Uploads a blob that the repository does not have: mounts it from one of the repositories
    /// `from`, or sends it in chunks. Returns whether its bytes were sent.
    pub(super) async fn upload(
        &self,
        repository: &str,
        blob: &Blob,
        from: &[String],
        moved: &TransferProgress,
    ) -> Result<bool> {
        let scope = push_scope(repository);
        let mut session = None;
        for other in from.iter().filter(|other| *other != repository) {
            match self.mount(repository, other, &blob.digest).await? {
                None => {
                    moved.add(blob.size);
                    return Ok(false);
                }
                Some(url) => session = Some(Session { url, at: 0 }),
            }
        }
        let mut beginnings = 0;
        loop {
            beginnings += 1;
            let begun = match session.take() {
                Some(session) => session,
                None => Session { url: self.begin(repository, &scope, &[]).await?, at: 0 },
            };
            match self.fill(&scope, begun, blob, moved).await {
                Ok(()) => return Ok(true),
                Err(SessionError::Gone(error)) if beginnings < BEGINNINGS => {
                    tracing::debug!(%error, digest = blob.digest, "an upload is restarted");
                    moved.0.restarted.fetch_add(1, Ordering::Relaxed);
                }
                Err(SessionError::Gone(error) | SessionError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Whether a repository has a blob.
    pub(super) async fn has_blob(&self, repository: &str, digest: &str) -> Result<bool> {
        let (url, scope) = (self.blob_url(repository, digest), push_scope(repository));
        let request = StreamRequest {
            method: Method::HEAD,
            url: &url,
            scope: &scope,
            headers: HeaderMap::new(),
        };
        let mut tries = self.tries(&url);
        loop {
            let error = match self.stream(&request, || None).await {
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return Ok(false),
                // The redirect points at the location of the blob.
                Ok(answer) if answer.status().is_success() || answer.status().is_redirection() => {
                    return Ok(true);
                }
                Ok(answer) => self.refusal_of(&request.method, &url, &scope, answer).await,
                Err(error) => error,
            };
            tries.after(error).await?;
        }
    }

    /// Mounts a blob from another repository of the registry. Returns the URL of an upload session
    /// if that is not possible.
    async fn mount(&self, repository: &str, from: &str, digest: &str) -> Result<Option<Url>> {
        let scope = format!("{} repository:{from}:pull", push_scope(repository));
        let query = [("mount", digest), ("from", from)];
        match self.begin_or_mount(repository, &scope, &query).await {
            Ok(session) => Ok(session),
            // Without permission to read the other repository, the blob is uploaded.
            Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound) => {
                self.begin(repository, &push_scope(repository), &[]).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, repository: &str, scope: &str, query: &[(&str, &str)]) -> Result<Url> {
        let session = self.begin_or_mount(repository, scope, query).await?;
        session.ok_or_else(|| Error::corrupt("the registry created a blob without its content"))
    }

    async fn begin_or_mount(
        &self,
        repository: &str,
        scope: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<Url>> {
        let mut url = self.url(&["v2", repository, "blobs", "uploads"], query);
        url.set_path(&format!("{}/", url.path()));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let request = StreamRequest { method: Method::POST, url: &url, scope, headers };
        let mut tries = self.tries(&url);
        loop {
            let error = match self.stream(&request, || None).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(None),
                Ok(answer) if answer.status() == StatusCode::ACCEPTED => {
                    return self.location(&url, &answer).map(Some);
                }
                Ok(answer) => self.refusal_of(&request.method, &url, scope, answer).await,
                Err(error) => error,
            };
            tries.after(error).await?;
        }
    }

    /// The URL of the next request of an upload, which must be in the same registry.
    fn location(&self, url: &Url, answer: &Response) -> Result<Url> {
        let at = self.login_server();
        let text = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let text = text.ok_or_else(|| {
            Error::bad_answer(format!("{at}: the upload response has no Location header"))
        })?;
        let next = url.join(text).map_err(|_| {
            Error::bad_answer(format!("{at}: the upload location is not a valid URL"))
        })?;
        if self.is_own(&next) {
            return Ok(next);
        }
        let host = next.host_str().unwrap_or_default();
        let text = format!(
            "{at}: the upload was redirected to {host}, another host; the redirect is not followed"
        );
        Err(Error::new(ErrorKind::Denied, text))
    }

    /// Sends the missing bytes of a blob, then closes the session with its digest.
    async fn fill(
        &self,
        scope: &str,
        mut session: Session,
        blob: &Blob,
        moved: &TransferProgress,
    ) -> Result<(), SessionError> {
        let mut tries = self.tries(&session.url);
        let counted = Arc::new(AtomicU64::new(0));
        let result = async {
            while session.at < blob.size {
                let error = match self.chunk(scope, &session, blob, moved, &counted).await {
                    Ok(next) => {
                        session = next;
                        continue;
                    }
                    Err(error) => error,
                };
                if let Some(cause) = blob.failure() {
                    return Err(SessionError::Failed(cause));
                }
                if is_gone(&error) {
                    return Err(SessionError::Gone(error));
                }
                tries.after(error).await.map_err(SessionError::Failed)?;
                session = self.status(scope, session).await?;
                moved.0.resumed.fetch_add(1, Ordering::Relaxed);
            }
            self.close(scope, &session, blob).await
        };
        let result = result.await;
        if result.is_err() {
            moved.subtract(counted.load(Ordering::Relaxed));
        } else {
            // Chunks that were sent twice were counted twice.
            let sent = counted.load(Ordering::Relaxed);
            moved.subtract(sent);
            moved.add(blob.size);
        }
        result
    }

    /// Sends one chunk.
    async fn chunk(
        &self,
        scope: &str,
        session: &Session,
        blob: &Blob,
        moved: &TransferProgress,
        counted: &Arc<AtomicU64>,
    ) -> Result<Session> {
        let size = CHUNK.min(blob.size - session.at);
        let end = session.at + size;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        let range = format!("{}-{}", session.at, end - 1);
        let range = HeaderValue::try_from(range).map_err(|e| Error::bug(e.to_string()))?;
        headers.insert(CONTENT_RANGE, range);
        let request = StreamRequest { method: Method::PATCH, url: &session.url, scope, headers };
        let body = || Some(blob.body(session.at, size, moved, counted));
        let answer = self.stream(&request, body).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.refusal_of(&request.method, &session.url, scope, answer).await);
        }
        let at = received(&answer, end).unwrap_or(end);
        if at > end || at <= session.at {
            return Err(Error::transient(format!(
                "{}: the upload lost bytes",
                self.login_server()
            )));
        }
        Ok(Session { url: self.location(&session.url, &answer)?, at })
    }

    /// Asks how many bytes of an upload the registry has.
    async fn status(&self, scope: &str, session: Session) -> Result<Session, SessionError> {
        let request = StreamRequest {
            method: Method::GET,
            url: &session.url,
            scope,
            headers: HeaderMap::new(),
        };
        let mut tries = self.tries(&session.url);
        loop {
            let error = match self.stream(&request, || None).await {
                Ok(answer) if answer.status() == StatusCode::NO_CONTENT => {
                    let at = received(&answer, 0).unwrap_or_default();
                    let url = self.location(&session.url, &answer);
                    return Ok(Session { url: url.unwrap_or(session.url), at });
                }
                Ok(answer) => self.refusal_of(&request.method, &session.url, scope, answer).await,
                Err(error) => error,
            };
            if is_gone(&error) {
                return Err(SessionError::Gone(error));
            }
            tries.after(error).await.map_err(SessionError::Failed)?;
        }
    }

    async fn close(&self, scope: &str, session: &Session, blob: &Blob) -> Result<(), SessionError> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &blob.digest);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let request = StreamRequest { method: Method::PUT, url: &url, scope, headers };
        let mut tries = self.tries(&url);
        let mut lost = false;
        loop {
            let error = match self.stream(&request, || None).await {
                Ok(answer) if answer.status() == StatusCode::CREATED => return Ok(()),
                Ok(answer) => self.refusal_of(&request.method, &url, scope, answer).await,
                Err(error) => {
                    lost = true;
                    error
                }
            };
            if is_gone(&error) {
                // The lost answer may have said that the upload is complete. The context tells the
                // caller.
                let kind = if lost {
                    "the last response was lost"
                } else {
                    "the upload session no longer exists"
                };
                return Err(SessionError::Gone(error.context(kind)));
            }
            tries.after(error).await.map_err(SessionError::Failed)?;
        }
    }
}

/// The token scope that allows pushing to `repository`.
pub(super) fn push_scope(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}

/// The number of bytes that a registry has: `Range: 0-N`. This is `0-0` for both one byte and none,
/// so `sent` decides.
fn received(answer: &Response, sent: u64) -> Option<u64> {
    let text = answer.headers().get(RANGE)?.to_str().ok()?;
    let end: u64 = text.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
    Some(if end == 0 && sent != 1 { 0 } else { end.saturating_add(1) })
}

/// Whether a session cannot be continued: the registry no longer knows it, or has other bytes than
/// it should (416).
fn is_gone(error: &Error) -> bool {
    let is_lost = |code: &str| code.starts_with("BLOB_UPLOAD_") || code == "DIGEST_INVALID";
    error.kind() == ErrorKind::NotFound || error.status() == Some(416) || error.codes().any(is_lost)
}
