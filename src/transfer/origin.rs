//! A blob in another registry, read from there while it is uploaded. Nothing of it is stored.

use super::cut_off::WINDOW;
use crate::client::send_failure;
use crate::error::{Error, Result};
use crate::registry::Registry;
use bytes::Bytes;
use futures::{Stream, stream};
use reqwest::Response;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// A blob in a registry.
pub struct Origin {
    registry: Arc<Registry>,
    repository: String,
    url: Url,
    /// An answer with more bytes than the last chunk needed. The next chunk continues with it.
    kept: Mutex<Option<Opened>>,
    /// Why the blob cannot be read. The upload only sees its own request break off.
    failed: Mutex<Option<Error>>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("url", &self.url.path()).finish_non_exhaustive()
    }
}

/// An answer that was read up to the byte `at` of the blob.
struct Opened {
    answer: Response,
    at: u64,
    /// Bytes that were received and not yet used.
    rest: Bytes,
}

impl Opened {
    /// The next bytes, at most `most` of them.
    async fn next(&mut self, what: &str, most: u64) -> Result<Bytes> {
        while self.rest.is_empty() {
            let came = tokio::time::timeout(WINDOW, self.answer.chunk()).await;
            let came = came.map_err(|_| Error::transient(format!("{what}: the transfer stalled")));
            match came?.map_err(|e| send_failure(what, &e))? {
                Some(bytes) => self.rest = bytes,
                None => return Err(Error::transient(format!("{what}: truncated"))),
            }
        }
        let count = self.rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.at += count as u64;
        Ok(self.rest.split_to(count))
    }
}

impl Origin {
    /// The blob `digest` in a repository.
    pub(super) fn new(registry: &Arc<Registry>, repository: &str, digest: &str) -> Self {
        Self {
            registry: Arc::clone(registry),
            repository: repository.to_owned(),
            url: registry.blob_url(repository, digest),
            kept: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    /// Takes the error of the last failed read.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn what(&self) -> String {
        format!("GET {}{}", self.registry.login_server(), self.url.path())
    }

    fn keep(&self, opened: Opened) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }

    /// Opens the blob at the byte `at`: continues the kept answer if it is there, or requests the
    /// blob again.
    async fn open(&self, at: u64) -> Result<Opened> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = kept.filter(|opened| opened.at == at) {
            return Ok(opened);
        }
        let opened = self.registry.open_blob(&self.repository, &self.url, at).await?;
        let what = self.what();
        let short = || Error::corrupt(format!("{what}: shorter than its descriptor states"));
        let (answer, begins_there) = opened.ok_or_else(short)?;
        let begin = if begins_there { at } else { 0 };
        let mut opened = Opened { answer, at: begin, rest: Bytes::new() };
        // A registry without support for ranges answers with the whole blob.
        while opened.at < at {
            let skipped = at - opened.at;
            opened.next(&what, skipped).await?;
        }
        Ok(opened)
    }

    /// The next bytes from `at` on, at most `left` of them. A connection that breaks off is opened
    /// again.
    async fn next(&self, opened: Option<Opened>, at: u64, left: u64) -> Result<(Bytes, Opened)> {
        let mut tries = self.registry.tries(&self.url);
        let mut opened = opened;
        loop {
            let next = async {
                let mut open = match opened.take() {
                    Some(open) => open,
                    None => self.open(at).await?,
                };
                let bytes = open.next(&self.what(), left).await?;
                Ok((bytes, open))
            };
            match next.await {
                Ok(next) => return Ok(next),
                Err(error) => tries.after(error).await?,
            }
        }
    }

    /// A stream of `size` bytes from `at` on.
    pub(super) fn read(
        self: Arc<Self>,
        at: u64,
        size: u64,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((None, at, size), move |(opened, at, left)| {
            let origin = Arc::clone(&self);
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let (bytes, opened) = match origin.next(opened, at, left).await {
                    Ok(next) => next,
                    Err(error) => {
                        let io_error = std::io::Error::other(error.to_string());
                        let mut failed =
                            origin.failed.lock().unwrap_or_else(PoisonError::into_inner);
                        *failed = Some(error);
                        return Err(io_error);
                    }
                };
                let read = bytes.len() as u64;
                let (at, left) = (at + read, left - read);
                // A body of known length is not polled for its end after the last byte.
                let opened = if left == 0 {
                    origin.keep(opened);
                    None
                } else {
                    Some(opened)
                };
                Ok(Some((bytes, (opened, at, left))))
            }
        })
    }
}
