//! Images on their way up and down: layers side by side, resumed where they broke off, every byte
//! verified against its digest before anything refers to it.
//!
//! Invariants: credentials go to the registry's own origin; a blob has its final name only when its
//! bytes are what its digest names; what is pulled is made in a staging folder and moved into place; configurations
//! and manifests go up behind what they point at.

mod annotation;
mod archive;
mod choice;
mod compare;
mod compression;
mod copy;
mod cut_off;
mod digest;
mod download;
mod files;
mod index;
mod landing;
mod layout;
mod origin;
mod package;
mod pull;
mod push;
mod read;
mod read_as;
mod resolved;
mod saved;
mod tag;
mod titled;
mod upload;
mod writer;

pub use choice::ImageChoice;
pub use copy::{Copied, CopyFrom};
pub use files::{Artifact, safe_path};
pub use package::{Blob, Package, PackedManifest};
pub use pull::{PullTo, Pulled, Target};
pub use push::Pushed;
pub use read_as::ReadAs;
pub use tag::Tagged;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blobs that are under way at once.
const AT_ONCE: usize = 4;

/// How far a transfer has come; shown while it runs.
#[derive(Debug, Clone, Default)]
pub struct TransferProgress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    of: AtomicU64,
    resumed: AtomicU64,
    restarted: AtomicU64,
}

impl TransferProgress {
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
