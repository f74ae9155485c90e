//! Blobs pushed to a simulated registry, in memory: their bytes, the repositories that have them,
//! and uploads. The bytes of blobs and of uploads are counted.

use axum::body::Bytes;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time after which an upload without new bytes is cancelled, and after which a blob that no
/// manifest has may be removed.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);

/// The bytes of a blob, in the pieces in which they were sent.
#[derive(Debug, Clone, Default)]
pub(in crate::sim) struct Pieces {
    pieces: Arc<Vec<Bytes>>,
    size: u64,
}

impl Pieces {
    /// A blob of one piece.
    pub(in crate::sim) fn one(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Self { pieces: Arc::new(vec![bytes.into()]), size }
    }

    /// Number of bytes.
    pub(in crate::sim) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from offset `from` up to, without, offset `to`.
    pub(in crate::sim) fn part(&self, from: u64, to: u64) -> Vec<Bytes> {
        let mut at = 0;
        let mut found = Vec::new();
        for piece in self.pieces.iter() {
            let length = piece.len() as u64;
            let within = |position: u64| usize::try_from(position.clamp(at, at + length) - at);
            if let (Ok(start), Ok(end)) = (within(from), within(to))
                && start < end
            {
                found.push(piece.slice(start..end));
            }
            at += length;
        }
        found
    }

    /// All bytes in one piece.
    pub(in crate::sim) fn joined(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

/// A blob of a repository.
#[derive(Debug, Clone)]
struct RepositoryBlob {
    size: u64,
    /// When no manifest has it: the time from which it may be removed.
    until: Instant,
}

/// An upload in progress.
#[derive(Debug, Clone)]
struct Upload {
    repository: String,
    pieces: Vec<Bytes>,
    /// All bytes received, and those of requests that have ended.
    size: u64,
    settled: u64,
    /// `None` while a request sends bytes.
    hasher: Option<Sha256>,
    /// The time of the last bytes.
    last: Instant,
}

/// The reason for which an upload does not accept bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum UploadError {
    /// The upload does not exist.
    Gone,
    /// Another request is sending bytes to it.
    Busy,
}

/// Pushed blobs, and uploads.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    blobs: BTreeMap<String, Pieces>,
    /// Blobs by repository and digest.
    kept: BTreeMap<String, BTreeMap<String, RepositoryBlob>>,
    /// Repository and digest of blobs that were deleted while manifests still have them.
    deleted: BTreeSet<(String, String)>,
    uploads: BTreeMap<String, Upload>,
    /// Number of uploads that were begun.
    begun: u64,
    /// Bytes of all blobs and uploads.
    held: u64,
}

impl Pushed {
    /// Number of bytes of all blobs and uploads.
    pub(in crate::sim) fn held(&self) -> u64 {
        self.held
    }

    /// The bytes of a blob.
    pub(in crate::sim) fn bytes(&self, digest: &str) -> Option<&Pieces> {
        self.blobs.get(digest)
    }

    /// The size of a blob that was pushed to a repository, whether or not a manifest has it.
    pub(in crate::sim) fn size(&self, repository: &str, digest: &str) -> Option<u64> {
        Some(self.kept.get(repository)?.get(digest)?.size)
    }

    /// Whether a blob was deleted from a repository.
    pub(in crate::sim) fn is_deleted(&self, repository: &str, digest: &str) -> bool {
        self.deleted.contains(&(repository.to_owned(), digest.to_owned()))
    }

    /// Adds a blob to a repository.
    pub(in crate::sim) fn keep(&mut self, repository: &str, digest: &str, size: u64) {
        self.deleted.remove(&(repository.to_owned(), digest.to_owned()));
        let kept = RepositoryBlob { size, until: Instant::now() + ABANDONED_AFTER };
        self.kept.entry(repository.to_owned()).or_default().insert(digest.to_owned(), kept);
    }

    /// Marks a blob that no manifest of a repository has any more: it is removed when its room is
    /// needed.
    pub(in crate::sim) fn idle(&mut self, repository: &str, digest: &str, size: u64) {
        let kept = RepositoryBlob { size, until: Instant::now() };
        self.kept.entry(repository.to_owned()).or_default().insert(digest.to_owned(), kept);
    }

    /// Deletes a blob from a repository.
    pub(in crate::sim) fn delete(&mut self, repository: &str, digest: &str) {
        if let Some(kept) = self.kept.get_mut(repository) {
            kept.remove(digest);
        }
        self.deleted.insert((repository.to_owned(), digest.to_owned()));
        self.drop_unless_kept(digest);
    }

    /// Deletes a repository with its uploads.
    pub(in crate::sim) fn forget(&mut self, repository: &str) {
        self.deleted.retain(|(name, _)| name != repository);
        for digest in self.kept.remove(repository).unwrap_or_default().into_keys() {
            self.drop_unless_kept(&digest);
        }
        let of_it = self.uploads.iter().filter(|(_, upload)| upload.repository == repository);
        let ids: Vec<String> = of_it.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.cancel(&id);
        }
    }

    /// Drops the bytes of a blob that no repository has.
    fn drop_unless_kept(&mut self, digest: &str) {
        if !self.kept.values().any(|kept| kept.contains_key(digest))
            && let Some(gone) = self.blobs.remove(digest)
        {
            self.held -= gone.size;
        }
    }

    /// Repository and digest of the blobs with bytes that may be removed if no manifest has them.
    pub(in crate::sim) fn collectable(&self) -> Vec<(String, String)> {
        let now = Instant::now();
        let of = |(repository, kept): (&String, &BTreeMap<String, RepositoryBlob>)| {
            let due = kept.iter().filter(|(digest, kept)| {
                kept.until <= now && self.blobs.contains_key(digest.as_str())
            });
            let due = due.map(|(digest, _)| (repository.clone(), digest.clone()));
            due.collect::<Vec<_>>()
        };
        self.kept.iter().flat_map(of).collect()
    }

    /// Removes a blob from a repository to make room.
    pub(in crate::sim) fn collect(&mut self, repository: &str, digest: &str) {
        if let Some(kept) = self.kept.get_mut(repository) {
            kept.remove(digest);
        }
        self.drop_unless_kept(digest);
    }

    /// Begins an upload; returns its id.
    pub(in crate::sim) fn begin(&mut self, repository: &str) -> String {
        self.sweep();
        self.begun += 1;
        let id = format!("5a5a5a5a-0000-4000-8000-{:012x}", self.begun);
        let upload = Upload {
            repository: repository.to_owned(),
            pieces: Vec::new(),
            size: 0,
            settled: 0,
            hasher: Some(Sha256::new()),
            last: Instant::now(),
        };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// Cancels uploads that have had no new bytes for `ABANDONED_AFTER`.
    pub(in crate::sim) fn sweep(&mut self) {
        let now = Instant::now();
        let is_over =
            |upload: &Upload| upload.hasher.is_some() && upload.last + ABANDONED_AFTER <= now;
        let over = self.uploads.iter().filter(|(_, upload)| is_over(upload));
        let ids: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.cancel(&id);
        }
    }

    /// Number of bytes of an upload; `None` if the repository has no such upload.
    pub(in crate::sim) fn offset(&mut self, repository: &str, id: &str) -> Option<u64> {
        self.sweep();
        let upload = self.uploads.get(id).filter(|upload| upload.repository == repository)?;
        Some(upload.settled)
    }

    /// Begins a request that sends bytes to an upload, and has to hash them until `settle`.
    pub(in crate::sim) fn write(&mut self, id: &str) -> Result<Sha256, UploadError> {
        let upload = self.uploads.get_mut(id).ok_or(UploadError::Gone)?;
        upload.hasher.take().ok_or(UploadError::Busy)
    }

    /// Adds bytes to an upload; the caller has checked that there is room.
    pub(in crate::sim) fn append(&mut self, id: &str, piece: Bytes) -> Result<(), UploadError> {
        let upload = self.uploads.get_mut(id).ok_or(UploadError::Gone)?;
        upload.size += piece.len() as u64;
        self.held += piece.len() as u64;
        upload.pieces.push(piece);
        upload.last = Instant::now();
        Ok(())
    }

    /// Ends a request that has sent all its bytes; returns the number of bytes of the upload.
    pub(in crate::sim) fn settle(&mut self, id: &str, hasher: Sha256) -> Result<u64, UploadError> {
        let upload = self.uploads.get_mut(id).ok_or(UploadError::Gone)?;
        (upload.hasher, upload.settled, upload.last) = (Some(hasher), upload.size, Instant::now());
        Ok(upload.settled)
    }

    /// Ends an upload without a blob; false if it does not exist.
    pub(in crate::sim) fn cancel(&mut self, id: &str) -> bool {
        let gone = self.uploads.remove(id);
        self.held -= gone.as_ref().map_or(0, |upload| upload.size);
        gone.is_some()
    }

    /// Ends an upload with its blob, if the blob has this digest; an error is the digest that it
    /// has.
    pub(in crate::sim) fn finish(&mut self, id: &str, digest: &str) -> Result<(), String> {
        let Some(Upload { repository, pieces, size, hasher, .. }) = self.uploads.remove(id) else {
            return Err("nothing".to_owned());
        };
        let hash = hasher.unwrap_or_default().finalize();
        let found = format!("sha256:{}", crate::format::hex(&hash));
        if found != digest {
            self.held -= size;
            return Err(found);
        }
        if self.blobs.contains_key(digest) {
            self.held -= size;
        } else {
            let pieces = Pieces { pieces: Arc::new(pieces), size };
            self.blobs.insert(digest.to_owned(), pieces);
        }
        self.keep(&repository, digest, size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_of_a_blob_is_assembled_from_its_pieces() {
        let pieces = ["abc", "", "defg", "h"].map(|text| Bytes::from_static(text.as_bytes()));
        let blob = Pieces { pieces: Arc::new(pieces.to_vec()), size: 8 };
        let part = |from, to| String::from_utf8(blob.part(from, to).concat()).unwrap();
        assert_eq!(
            (part(0, 8), part(2, 4), part(3, 3)),
            ("abcdefgh".into(), "cd".into(), String::new())
        );
        assert_eq!((part(7, 99), part(1, 8)), ("h".into(), "bcdefgh".into()));
    }

    #[test]
    fn stored_bytes_are_counted_once() {
        let mut pushed = Pushed::default();
        let digest = super::super::digest(b"hello");
        for repository in ["a", "b"] {
            let id = pushed.begin(repository);
            let mut hasher = pushed.write(&id).unwrap();
            assert_eq!(pushed.write(&id).unwrap_err(), UploadError::Busy);
            hasher.update(b"hello");
            pushed.append(&id, Bytes::from_static(b"hello")).unwrap();
            assert_eq!(pushed.settle(&id, hasher).unwrap(), 5);
            pushed.finish(&id, &digest).unwrap();
            assert_eq!(pushed.held(), 5);
        }
        let id = pushed.begin("a");
        pushed.append(&id, Bytes::from_static(b"more")).unwrap();
        assert_eq!(pushed.held(), 9);
        pushed.forget("a");
        assert_eq!((pushed.held(), pushed.cancel(&id)), (5, false));
        pushed.delete("b", &digest);
        assert_eq!((pushed.held(), pushed.bytes(&digest).is_none()), (0, true));
    }
}
