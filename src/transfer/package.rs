//! A package to be pushed: blobs, read from where they are, and manifests, each after what it
//! refers to.

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

/// In bytes. The size of one read.
const PIECE: usize = 256 << 10;

/// The source of a blob's bytes.
#[derive(Debug, Clone)]
pub enum BlobSource {
    /// In a file, from an offset on.
    In(Arc<PathBuf>, u64),
    /// In memory.
    Here(Bytes),
    /// In another registry, or in another repository of this one.
    At(Arc<Origin>),
}

/// A blob to be pushed.
#[derive(Debug, Clone)]
pub struct Blob {
    /// The digest.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    /// The source of its bytes.
    pub source: BlobSource,
}

impl Blob {
    /// A small blob in memory.
    pub(super) fn here(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: sha256(&bytes), size: bytes.len() as u64, source: BlobSource::Here(bytes) }
    }

    /// A range of the blob as a request body. The bytes read are counted.
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
        let (path, from) = match &self.source {
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
    /// Takes the error of the last failed read of its source.
    pub(super) fn failure(&self) -> Option<Error> {
        match &self.source {
            BlobSource::At(origin) => origin.failure(),
            BlobSource::In(..) | BlobSource::Here(_) => None,
        }
    }
}

/// Reads the next piece of a file, and opens the file if necessary.
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
    /// The digest.
    pub digest: String,
    /// The media type.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
    /// The bytes, parsed as JSON.
    pub document: Value,
}

impl PackedManifest {
    /// A manifest of these bytes. Its media type is the one it declares, or else `media_type`.
    pub(super) fn new(bytes: Bytes, media_type: &str) -> Result<Self> {
        let document: Value = serde_json::from_slice(&bytes)
            .map_err(|e| Error::corrupt(format!("the manifest is not JSON ({e})")))?;
        let own = document["mediaType"].as_str().unwrap_or(media_type).to_owned();
        Ok(Self { digest: sha256(&bytes), media_type: own, bytes, document })
    }
}

/// An image, an index of images or an artifact, to be pushed.
#[derive(Debug, Default)]
pub struct Package {
    /// The blobs, each once: layers, then configurations.
    pub blobs: Vec<Blob>,
    /// The manifests, each after those it lists. The last one is the root.
    pub manifests: Vec<PackedManifest>,
    /// Layers with another location, which no registry needs to have.
    pub left_out: Vec<Descriptor>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Manifests that an index lists and that are missing here, with their platforms. The registry
    /// must have them.
    pub(super) elsewhere: Vec<(String, Option<String>)>,
    /// The digests of uncompressed layers by those of the compressed ones, from the configurations.
    pub(super) unpacked: BTreeMap<String, String>,
    /// Temporary files, removed on drop.
    pub(super) scratch: Vec<Scratch>,
}

impl Package {
    /// The form in which it is pushed: `index`, `image` or `artifact`.
    pub fn form(&self) -> &'static str {
        let Some(top_manifest) = self.manifests.last() else { return "nothing" };
        let config = top_manifest.document["config"]["mediaType"].as_str().unwrap_or_default();
        if top_manifest.document["manifests"].is_array() {
            "index"
        } else if crate::registry::is_image_config(config) {
            "image"
        } else {
            "artifact"
        }
    }

    /// Adds a blob, unless it is already contained.
    pub(super) fn add(&mut self, blob: Blob) {
        if !self.blobs.iter().any(|known| known.digest == blob.digest) {
            self.blobs.push(blob);
        }
    }

    /// The bytes of all blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}
