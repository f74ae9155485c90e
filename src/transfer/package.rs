//! What is to be pushed: blobs where they lie, and manifests, each behind what it points at.

use super::TransferProgress;
use super::origin::Origin;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::registry::Descriptor;
use crate::registry::sha256;
use crate::scratch::Scratch;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// In a file, from that place on.
    In(Arc<PathBuf>, u64),
    /// Here.
    Here(Bytes),
    /// In another registry, or in another repository of this one.
    At(Arc<Origin>),
}

/// A blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its digest.
    pub digest: String,
    /// Its size.
    pub size: u64,
    /// Where its bytes are.
    pub lies: BlobSource,
}

impl Blob {
    /// A small one.
    pub(super) fn here(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), size: bytes.len() as u64, lies: BlobSource::Here(bytes) }
    }

    /// A part of it as a body; what is read is counted.
    pub(super) fn body(
        &self,
        at: u64,
        size: u64,
        moved: &TransferProgress,
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
            BlobSource::Here(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let end = usize::try_from(at + size).unwrap_or(usize::MAX).min(bytes.len());
                count(end - start);
                return bytes.slice(start..end).into();
            }
            BlobSource::In(path, from) => (Arc::clone(path), from + at),
            BlobSource::At(origin) => {
                let pieces = Arc::clone(origin).read(at, size);
                let counted = pieces.inspect_ok(move |bytes| count(bytes.len()));
                return reqwest::Body::wrap_stream(counted);
            }
        };
        let pieces = stream::try_unfold((None, size), move |(file, left)| {
            let (path, count) = (Arc::clone(&path), count.clone());
            async move {
                if left == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                let read = move || {
                    piece(file, &path, from, left).map_err(|e| Error::io(path.display(), e))
                };
                let read = blocking("reading a layer", read).await;
                let (file, bytes) = read.map_err(std::io::Error::other)?;
                count(bytes.len());
                let left = left - bytes.len() as u64;
                Ok(Some((bytes, (Some(file), left))))
            }
        });
        reqwest::Body::wrap_stream(pieces)
    }
}

impl Blob {
    /// Why its bytes could not be read where they lie, once.
    pub(super) fn failure(&self) -> Option<Error> {
        match &self.lies {
            BlobSource::At(origin) => origin.failure(),
            BlobSource::In(..) | BlobSource::Here(_) => None,
        }
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
pub struct PackedManifest {
    /// Its digest.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The same, read.
    pub document: Value,
}

impl PackedManifest {
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
    pub manifests: Vec<PackedManifest>,
    /// Layers that are said to have a place elsewhere, and that no registry has to have.
    pub left_out: Vec<Descriptor>,
    /// What whoever pushes it should know.
    pub notes: Vec<String>,
    /// Manifests that an index lists and that are not here, with their platforms: the registry has to have them.
    pub(super) elsewhere: Vec<(String, Option<String>)>,
    /// The digests of what is in compressed layers, by the digests of these, as configurations say.
    pub(super) unpacked: BTreeMap<String, String>,
    /// What was unpacked for it, removed when it is dropped.
    pub(super) scratch: Vec<Scratch>,
}

impl Package {
    /// What it is pushed as.
    pub fn form(&self) -> &'static str {
        let Some(whole) = self.manifests.last() else { return "nothing" };
        let config = whole.document["config"]["mediaType"].as_str().unwrap_or_default();
        if whole.document["manifests"].is_array() {
            "index"
        } else if crate::registry::is_image_config(config) {
            "image"
        } else {
            "artifact"
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
