//! The registry that a purge is about: how its repositories are, and what is taken from them.

use super::state::{ListedRows, RepositoryState, RepositoryVersion, TagState};
use crate::error::Result;
use crate::registry::{Content, Name};
use async_trait::async_trait;
use time::OffsetDateTime;

/// What a purge asks of a registry.
#[async_trait]
pub trait PurgeTarget: Send + Sync {
    /// A repository as it is; none when it is gone.
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>>;

    /// What a repository has, and when it was changed; none when it is gone.
    async fn standing(&self, repository: &str) -> Result<Option<RepositoryVersion>>;

    /// What a repository's lists have; none when it is gone.
    async fn rows(&self, repository: &str) -> Result<Option<ListedRows>>;

    /// A manifest as it is; none when it is gone.
    async fn look(&self, repository: &str, digest: &str) -> Result<Option<ManifestCheck>>;

    /// A tag as it is; none when it is gone.
    async fn look_at_tag(&self, repository: &str, tag: &str) -> Result<Option<TagState>>;

    /// The bytes of a manifest, and what it is.
    async fn content(&self, repository: &str, digest: &str) -> Result<Content>;

    /// Deletes a manifest with its tags, or a tag alone. What is gone already is as good.
    async fn delete(&self, repository: &str, name: &Name) -> Result<()>;
}

/// A manifest right before it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestCheck {
    /// Its tags.
    pub tags: Vec<TagState>,
    /// When it was last changed.
    pub updated: Option<OffsetDateTime>,
    /// Whether it can be neither deleted nor written.
    pub is_locked: bool,
    /// What cannot be read of it.
    pub unread: Option<String>,
}
