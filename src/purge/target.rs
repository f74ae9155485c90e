//! The registry that a purge works on: the state of its repositories, and deletions.

use super::state::{ListedRows, RepositoryState, RepositoryVersion, TagState};
use crate::error::Result;
use crate::registry::{Content, Name};
use async_trait::async_trait;
use time::OffsetDateTime;

/// The operations of a registry that a purge needs.
#[async_trait]
pub trait PurgeTarget: Send + Sync {
    /// The state of a repository; `None` if it no longer exists.
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>>;

    /// The version of a repository; `None` if it no longer exists.
    async fn version(&self, repository: &str) -> Result<Option<RepositoryVersion>>;

    /// The rows of a repository's lists; `None` if it no longer exists.
    async fn rows(&self, repository: &str) -> Result<Option<ListedRows>>;

    /// The state of a manifest; `None` if it no longer exists.
    async fn look(&self, repository: &str, digest: &str) -> Result<Option<ManifestCheck>>;

    /// The state of a tag; `None` if it no longer exists.
    async fn read_tag(&self, repository: &str, tag: &str) -> Result<Option<TagState>>;

    /// The bytes and media type of a manifest.
    async fn content(&self, repository: &str, digest: &str) -> Result<Content>;

    /// Deletes a manifest with its tags, or only a tag. Succeeds if it no longer exists.
    async fn delete(&self, repository: &str, name: &Name) -> Result<()>;
}

/// The state of a manifest immediately before its deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestCheck {
    /// The tags.
    pub tags: Vec<TagState>,
    /// When it was last changed.
    pub updated: Option<OffsetDateTime>,
    /// Whether it cannot be deleted, or cannot be written.
    pub is_locked: bool,
    /// What cannot be read of it.
    pub unread: Option<String>,
}
