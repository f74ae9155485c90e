//! Where runs and snapshots are kept: typed names, and one small port over blob stores.
//!
//! Invariants: what was written is still there after a power cut, in the order in which it was written; a
//! stored name is built here and nowhere else; `create` never overwrites and a reader
//! never sees half of an object, on every backend. One contract test runs against all of them.

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
    /// Its bytes.
    pub bytes: Bytes,
    /// What [`Store::swap`] compares: changes with every write.
    pub tag: String,
}

/// What a listing tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its full name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The right to crawl into a store; given back when dropped.
pub type StoreClaim = Box<dyn std::any::Any + Send + Sync>;

/// A blob store, as far as azimg needs one.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The store's address, without secrets.
    fn address(&self) -> String;

    /// Makes the container or folder, and shows that it can be written.
    async fn prepare(&self) -> Result<()>;

    /// The whole object, or `None`. For objects that fit into memory.
    async fn get(&self, key: &Key) -> Result<Option<Object>>;

    /// Writes the object into a file, streaming; false when there is no such object.
    async fn download(&self, key: &Key, into: &Path) -> Result<bool>;

    /// Writes the object unless it is there already; false when it was. At most one of any number
    /// of concurrent calls answers true.
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool>;

    /// Writes the object when its tag is still `expected` (`None`: when there is none); false when
    /// it is not.
    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool>;

    /// Writes the object from a file, streaming, over whatever was there.
    async fn upload(&self, key: &Key, from: &Path) -> Result<()>;

    /// Every object whose name begins with `prefix`, by name.
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// The next level of names under `prefix` (which ends in `/`), without descending: the runs
    /// under `runs/`.
    async fn list_level(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes an object; it is no error when it is gone already.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Takes the right to crawl into this store from the command line; a conflict when another
    /// process has it. What a process that was killed left half written long ago is removed.
    /// Function apps do not claim: their runs are apart by name.
    async fn claim(&self) -> Result<StoreClaim>;

    /// Whether a process has that right now; none where nobody can tell.
    async fn is_claimed(&self) -> Result<Option<bool>> {
        Ok(None)
    }
}
