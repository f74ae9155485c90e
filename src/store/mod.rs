//! Storage of runs and snapshots: typed names, and one small trait over blob stores.
//!
//! Invariants, on every backend:
//! - A completed write survives a power failure, and writes persist in the order in which they were
//!   made.
//! - Stored names are built here and nowhere else.
//! - `create` never overwrites.
//! - A reader never sees part of an object.
//!
//! One contract test runs against all backends.

pub mod azure;
mod key;
pub mod local;
pub mod memory;

pub use key::{Key, SnapshotFile};

use crate::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use std::path::Path;

/// A stored object.
#[derive(Debug, Clone)]
pub struct Object {
    /// The contents.
    pub bytes: Bytes,
    /// The version that [`Store::swap`] compares. It changes with every write.
    pub tag: String,
}

/// An object as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full name.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
}

/// The exclusive right to crawl into a store. Released on drop.
pub type StoreClaim = Box<dyn std::any::Any + Send + Sync>;

/// The blob store operations that azimg needs.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The store's address, without secrets.
    fn address(&self) -> String;

    /// Creates the container or folder, and checks that it is writable.
    async fn prepare(&self) -> Result<()>;

    /// Returns the whole object, or `None`. For objects that fit into memory.
    async fn get(&self, key: &Key) -> Result<Option<Object>>;

    /// Streams the object into a file. Returns false if there is no such object.
    async fn download(&self, key: &Key, into: &Path) -> Result<bool>;

    /// Writes the object unless it exists. Returns false if it does. Of any number of concurrent
    /// calls, at most one returns true.
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool>;

    /// Writes the object if its tag is still `expected` (`None`: if it does not exist). Returns
    /// false otherwise.
    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool>;

    /// Streams a file into the object, replacing an existing one.
    async fn upload(&self, key: &Key, from: &Path) -> Result<()>;

    /// Lists all objects whose names start with `prefix`, sorted by name.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Lists the next level of names under `prefix` (which ends in `/`) without descending. Under
    /// `runs/`, these are the runs.
    async fn list_level(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes an object. Succeeds if it does not exist.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Acquires the exclusive right to crawl into this store from the command line. Returns a
    /// conflict if another process holds it. Also removes old partial files of killed processes.
    /// Function apps do not claim the store: their runs have distinct names.
    async fn claim(&self) -> Result<StoreClaim>;

    /// Whether a process holds the claim, or `None` if the backend cannot tell.
    async fn is_claimed(&self) -> Result<Option<bool>> {
        Ok(None)
    }
}
