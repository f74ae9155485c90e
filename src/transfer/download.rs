//! Download of one blob into a staging folder. It is resumed where it broke off, and gets its name
//! only if its bytes match its digest.

use super::TransferProgress;
use super::cut_off::{SLOWEST, WINDOW};
use super::digest::{digest_of_file, hex as hex_of};
use super::landing::StagedBlobs;
use crate::blocking::blocking;
use crate::client::{refusal, send_failure};
use crate::error::{Error, Result};
use crate::files::Kind;
use crate::format::hex;
use crate::registry::{ANSWERS_WITHIN, Descriptor, Registry, StreamRequest, pull_scope};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use url::Url;

/// In bytes. The size of one write.
const PIECE: usize = 1 << 20;
/// The most times that a blob is fetched if its bytes do not match its digest.
const TIMES: u32 = 2;

/// A partially downloaded blob.
struct Part {
    staged: Arc<StagedBlobs>,
    name: String,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Part {
    /// Opens the part of a blob that is already present, and hashes it.
    fn open(staged: Arc<StagedBlobs>, blob: &str) -> Result<Self> {
        let name = format!("{blob}.part");
        let file = staged.parts().open_to_continue(&name)?;
        let mut part = Self { staged, name, file, hash: Sha256::new(), size: 0 };
        let mut piece = vec![0; PIECE];
        loop {
            match part.file.read(&mut piece).map_err(|e| part.failed(e))? {
                0 => return Ok(part),
                count => {
                    part.hash.update(&piece[..count]);
                    part.size += count as u64;
                }
            }
        }
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(self.staged.parts().folder().path(&self.name).display(), error)
    }

    /// Removes the part.
    fn remove(&self) -> Result<()> {
        self.staged.parts().remove(&self.name)
    }

    /// Syncs the part and moves it to the name of its blob.
    fn end(&self, blob: &str) -> Result<()> {
        self.file.sync_data().map_err(|e| self.failed(e))?;
        self.staged.parts().rename(&self.name, self.staged.blobs(), blob)
    }

    fn add(mut self, bytes: &[u8]) -> Result<Self> {
        self.file.write_all(bytes).map_err(|e| self.failed(e))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(self)
    }

    fn restart(mut self) -> Result<Self> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| self.failed(e))?;
        (self.hash, self.size) = (Sha256::new(), 0);
        Ok(self)
    }
}

impl Registry {
    /// Downloads a blob into a staging folder, unless it is already there with the right bytes. The
    /// part that an earlier attempt left is resumed.
    pub(super) async fn download(
        &self,
        repository: &str,
        blob: &Descriptor,
        staged: &Arc<StagedBlobs>,
        moved: &TransferProgress,
    ) -> Result<()> {
        let name = hex_of(&blob.digest).to_owned();
        let (there, own) = (Arc::clone(staged), name.clone());
        let found = blocking("writing a blob", move || {
            let folder = there.blobs().folder();
            if folder.kind(&own)? != Some(Kind::File) {
                return Ok(None);
            }
            let failed = |e| Error::io(folder.path(&own).display(), e);
            folder.read(&own)?.map(digest_of_file).transpose().map_err(failed)
        });
        if found.await?.is_some_and(|(digest, size)| digest == blob.digest && size == blob.size) {
            moved.add(blob.size);
            return Ok(());
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let (to, own) = (Arc::clone(staged), name.clone());
            let part = blocking("writing a blob", move || Part::open(to, &own)).await?;
            let part = self.fetch(repository, blob, part, moved).await?;
            let digest = format!("sha256:{}", hex(&part.hash.clone().finalize()));
            if digest == blob.digest {
                let own = name.clone();
                return blocking("writing a blob", move || part.end(&own)).await;
            }
            moved.subtract(part.size);
            blocking("removing a blob", move || part.remove()).await?;
            if tried == TIMES {
                let at = self.login_server();
                return Err(Error::corrupt(format!(
                    "{at}/{repository}@{}: the downloaded content has the digest {digest}; it was \
                     removed",
                    blob.digest
                )));
            }
            moved.0.restarted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Fetches the missing bytes of a blob.
    async fn fetch(
        &self,
        repository: &str,
        blob: &Descriptor,
        mut part: Part,
        moved: &TransferProgress,
    ) -> Result<Part> {
        if part.size > blob.size {
            part = blocking("writing a blob", move || part.restart()).await?;
        }
        moved.add(part.size);
        let url = self.blob_url(repository, &blob.digest);
        let mut tries = self.tries(&url);
        while part.size < blob.size {
            if part.size > 0 {
                moved.0.resumed.fetch_add(1, Ordering::Relaxed);
            }
            let (answer, begins_there) = match self.open_blob(repository, &url, part.size).await {
                Ok(Some((answer, begins_there))) => (Ok(answer), begins_there),
                // The part is longer than the blob of the registry, so it is a part of something
                // else.
                Ok(None) => {
                    let text = format!("{url}: shorter than its descriptor states");
                    (Err(Error::corrupt(text)), false)
                }
                Err(error) => (Err(error), true),
            };
            if !begins_there {
                moved.subtract(part.size);
                part = blocking("writing a blob", move || part.restart()).await?;
            }
            let error = match answer {
                Ok(answer) => match self.read(blob, answer, part, moved).await? {
                    (read, None) => return Ok(read),
                    (read, Some(error)) => {
                        part = read;
                        error
                    }
                },
                Err(error) => error,
            };
            tries.after(error).await?;
        }
        Ok(part)
    }

    /// Opens a blob at the byte `from`: at the registry, or without credentials at the location
    /// that the registry redirects to. The flag says whether the answer begins at `from`. `None` if
    /// the blob ends before that.
    pub(super) async fn open_blob(
        &self,
        repository: &str,
        url: &Url,
        from: u64,
    ) -> Result<Option<(Response, bool)>> {
        let scope = pull_scope(repository);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            headers.insert(RANGE, range.map_err(|e| Error::bug(e.to_string()))?);
        }
        let request = StreamRequest { method: Method::GET, url, scope: &scope, headers };
        let pending = self.stream(&request, || None);
        let late = |_| Error::transient("no response within two minutes");
        let answer = tokio::time::timeout(ANSWERS_WITHIN, pending).await.map_err(late)??;
        let StreamRequest { method, headers, .. } = request;
        let answer = if answer.status().is_redirection() {
            let target = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = self.blob_redirect_target(url, target)?;
            let host = target.host_str().unwrap_or_default().to_owned();
            let what = format!("GET {host} (blob location)");
            let sent = self.http()?.get(target).headers(headers).send();
            let sent = tokio::time::timeout(ANSWERS_WITHIN, sent).await.map_err(late)?;
            let answer = sent.map_err(|e| send_failure(&what, &e))?;
            if !answer.status().is_success() && answer.status() != StatusCode::RANGE_NOT_SATISFIABLE
            {
                let (status, headers) = (answer.status(), answer.headers().clone());
                return Err(refusal(&what, status, &headers, &[]));
            }
            answer
        } else {
            answer
        };
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => Ok(Some((answer, true))),
            status if status.is_success() => Ok(Some((answer, from == 0))),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            _ => Err(self.refusal_of(&method, url, &scope, answer).await),
        }
    }

    /// Reads an answer into a part, to its end or to where it breaks off.
    async fn read(
        &self,
        blob: &Descriptor,
        mut answer: Response,
        mut part: Part,
        moved: &TransferProgress,
    ) -> Result<(Part, Option<Error>)> {
        let what = format!("GET {}@{}", self.login_server(), blob.digest);
        let mut piece: Vec<u8> = Vec::with_capacity(PIECE);
        let (mut since, mut in_window) = (Instant::now(), 0_u64);
        loop {
            let (bytes, error) = match tokio::time::timeout(WINDOW, answer.chunk()).await {
                Ok(Ok(Some(bytes))) => (bytes, None),
                Ok(Ok(None)) => (bytes::Bytes::new(), Some(None)),
                Ok(Err(e)) => (bytes::Bytes::new(), Some(Some(send_failure(&what, &e)))),
                Err(_) => {
                    let stalled = Error::transient(format!("{what}: the transfer stalled"));
                    (bytes::Bytes::new(), Some(Some(stalled)))
                }
            };
            in_window += bytes.len() as u64;
            if part.size + (piece.len() + bytes.len()) as u64 > blob.size {
                moved.subtract(part.size);
                blocking("removing a blob", move || part.remove()).await?;
                let text = format!("{what}: longer than the expected {} bytes", blob.size);
                return Err(Error::corrupt(text));
            }
            piece.extend_from_slice(&bytes);
            if piece.len() >= PIECE || error.is_some() {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                moved.add(full.len() as u64);
                part = blocking("writing a blob", move || part.add(&full)).await?;
            }
            if let Some(error) = error {
                let cut = || Error::transient(format!("{what}: truncated"));
                let is_whole = part.size == blob.size;
                return Ok((part, error.or_else(|| (!is_whole).then(cut))));
            }
            if since.elapsed() >= WINDOW {
                if in_window < SLOWEST {
                    let error = Error::transient(format!("{what}: the transfer is too slow"));
                    return Ok((part, Some(error)));
                }
                (since, in_window) = (Instant::now(), 0);
            }
        }
    }
}
