//! Transfers of images to and from registries: layers in parallel, resumed where they broke off,
//! and every byte verified against its digest before anything refers to it.
//!
//! Invariants:
//! - Credentials are sent only to the registry's own origin.
//! - A blob gets its final name only if its bytes match its digest.
//! - A pull is assembled in a staging folder and moved into place.
//! - Configurations and manifests are pushed after what they refer to.

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
pub use copy::CopyFrom;
pub use files::{Artifact, safe_path};
pub use package::Package;
pub use pull::{PullTo, Pulled, Target};
pub use read_as::ReadAs;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most blobs that are transferred concurrently.
const CONCURRENCY: usize = 4;

/// Progress of a transfer, shown while it runs.
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

    fn subtract(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bytes transferred or already present, and the total.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.bytes.load(Ordering::Relaxed), self.0.of.load(Ordering::Relaxed))
    }

    /// How many times a blob was resumed, and how many times one was restarted.
    pub fn mended(&self) -> (u64, u64) {
        (self.0.resumed.load(Ordering::Relaxed), self.0.restarted.load(Ordering::Relaxed))
    }
}
