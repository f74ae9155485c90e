//! What is to be pushed: blobs where they lie, and manifests, each behind what it points at.

use super::Moved;
use super::{archive, files, layout};
use crate::error::{Error, Result};
use crate::registry::content::sha256;
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum Lies {
    /// In a file, from that place on.
    In(Arc<PathBuf>, u64),
    /// Here.
    Here(Bytes),
}

/// A blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub size: u64,
    /// Where its bytes are.
    pub lies: Lies,
}

impl Blob {
    /// A small one.
    pub(super) fn here(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), size: bytes.len() as u64, lies: Lies::Here(bytes) }
    }

    /// A part of it as a body; what is read is counted.
    pub(super) fn body(
        &self,
        at: u64,
        size: u64,
        moved: &Moved,
        counted: &Arc<AtomicU64>,
    ) -> reqwest::Body {
        let count = {
            let (moved, counted) = (moved.clone(), Arc::clone(counted));
            move |bytes: usize| {
                moved.add(bytes as u64);
                counted.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        };
        let (path, from) = match &self.lies {
            Lies::Here(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let end = usize::try_from(at + size).unwrap_or(usize::MAX).min(bytes.len());
                count(end - start);
                return bytes.slice(start..end).into();
            }
            Lies::In(path, from) => (Arc::clone(path), from + at),
        };
        let pieces = stream::try_unfold((None, size), move |(file, left)| {
            let (path, count) = (Arc::clone(&path), count.clone());
            async move {
                if left == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                let read = tokio::task::spawn_blocking(move || piece(file, &path, from, left));
                let (file, bytes) = read.await.map_err(std::io::Error::other)??;
                count(bytes.len());
                let left = left - bytes.len() as u64;
                Ok(Some((bytes, (Some(file), left))))
            }
        });
        reqwest::Body::wrap_stream(pieces)
    }
}

/// The next piece of a file, which is opened when it is not open yet.
fn piece(
    file: Option<std::fs::File>,
    path: &Path,
    from: u64,
    left: u64,
) -> std::io::Result<(std::fs::File, Bytes)> {
    let mut file = if let Some(file) = file {
        file
    } else {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        file
    };
    let mut bytes = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
    file.read_exact(&mut bytes)?;
    Ok((file, bytes.into()))
}

/// A manifest to be pushed.
#[derive(Debug, Clone)]
pub struct Packed {
    /// Its digest.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The same, read.
    pub document: Value,
}

impl Packed {
    /// A manifest of these bytes, whose media type is its own, or else `media_type`.
    pub(super) fn new(bytes: Bytes, media_type: &str) -> Result<Self> {
        let document: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::corrupt(format!("a manifest that is no JSON ({e})")))?;
        let own = document["mediaType"].as_str().unwrap_or(media_type).to_owned();
        Ok(Self { digest: sha256(&bytes), media_type: own, bytes, document })
    }
}

/// An image, an index of images or an artifact.
#[derive(Debug, Default)]
pub struct Package {
    /// Its blobs, each once: layers, then configurations.
    pub blobs: Vec<Blob>,
    /// Its manifests, each behind those that it lists; the last one is the whole.
    pub manifests: Vec<Packed>,
    /// What was unpacked for it, removed when it is dropped.
    pub(super) scratch: Option<TempDir>,
}

/// What a source is read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAs {
    /// What it looks like: a folder with `oci-layout` in it, an archive of images, or files.
    Guessed,
    /// A folder in the OCI image layout, or an archive of one.
    Image,
    /// Files, as an artifact of that type.
    Artifact(Option<String>),
}

impl Package {
    /// Reads what is to be pushed from `paths`; `name` chooses among several images of a layout or an
    /// archive.
    pub fn read(paths: &[PathBuf], read_as: &ReadAs, name: Option<&str>) -> Result<Self> {
        let [path] = paths else {
            return match read_as {
                ReadAs::Image => Err(Error::invalid("an image is one folder, or one archive")),
                ReadAs::Artifact(kind) => files::pack(paths, kind.as_deref()),
                ReadAs::Guessed => files::pack(paths, None),
            };
        };
        let is_layout = path.join("oci-layout").is_file();
        match read_as {
            ReadAs::Artifact(kind) => files::pack(paths, kind.as_deref()),
            _ if is_layout => layout::read(path, name),
            _ if path.is_dir() => Err(Error::invalid(format!(
                "{}: no OCI image layout (a folder with 'oci-layout' in it)",
                path.display()
            ))),
            ReadAs::Image => archive::read(path, name),
            ReadAs::Guessed if archive::is_one(path) => archive::read(path, name),
            ReadAs::Guessed => files::pack(paths, None),
        }
    }

    /// Adds a blob unless it is there.
    pub(super) fn add(&mut self, blob: Blob) {
        if !self.blobs.iter().any(|known| known.digest == blob.digest) {
            self.blobs.push(blob);
        }
    }

    /// Bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}
