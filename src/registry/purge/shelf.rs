//! The registry that a purge is about: how its repositories are, and what is taken from them.

use super::plan::{ManifestState, RepositoryState, TagState};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Content, Manifest, Name, Registry, Tag};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Manifests that are read at once.
const AT_ONCE: usize = 16;

/// A repository that changes while it is listed is listed so often.
const LISTED_AGAIN: usize = 5;

/// What a purge asks of a registry.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// A repository as it is; none when it is gone.
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>>;

    /// What a repository has, and when it was changed; none when it is gone.
    async fn standing(&self, repository: &str) -> Result<Option<Standing>>;

    /// A manifest as it is; none when it is gone.
    async fn look(&self, repository: &str, digest: &str) -> Result<Option<Look>>;

    /// A tag as it is; none when it is gone.
    async fn look_at_tag(&self, repository: &str, tag: &str) -> Result<Option<TagState>>;

    /// The bytes of a manifest, and what it is.
    async fn content(&self, repository: &str, digest: &str) -> Result<Content>;

    /// Deletes a manifest with its tags, or a tag alone. What is gone already is as good.
    async fn delete(&self, repository: &str, name: &Name) -> Result<()>;
}

/// What tells that somebody changed a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its manifests.
    pub manifests: u64,
    /// Its tags.
    pub tags: u64,
    /// When it was last changed, in the registry's words.
    pub updated: Option<String>,
}

/// A manifest right before it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its tags.
    pub tags: Vec<TagState>,
    /// When it was last changed.
    pub updated: Option<OffsetDateTime>,
    /// Whether it can be neither deleted nor written.
    pub is_locked: bool,
}

/// What the content of a manifest told before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownContent {
    /// The manifests that it lists.
    pub parts: Vec<String>,
    /// What it refers to.
    pub subject: Option<String>,
    /// Bytes by digest.
    pub blobs: BTreeMap<String, u64>,
}

/// A registry, with what is known of its manifests' contents by `repository@digest`.
pub struct Live<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// What is known.
    pub known: HashMap<String, KnownContent>,
}

fn moment(text: Option<&String>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// The later of two moments; none when either cannot be read, since it may be the later one.
fn later(one: Option<&String>, other: Option<&String>) -> Option<OffsetDateTime> {
    match (one, other) {
        (Some(_), Some(_)) => Some(moment(one)?.max(moment(other)?)),
        (one, other) => moment(one.or(other)),
    }
}

fn tag_state(tag: Tag) -> TagState {
    TagState {
        updated: later(tag.last_update_time.as_ref(), tag.created_time.as_ref()),
        is_locked: tag.changeable_attributes.is_locked(),
        name: tag.name,
        digest: tag.digest,
    }
}

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Live<'_> {
    async fn content_of(&self, repository: &str, manifest: &Manifest) -> Result<KnownContent> {
        let digest = &manifest.digest;
        if let Some(known) = self.known.get(&format!("{repository}@{digest}")) {
            return Ok(known.clone());
        }
        let content = self.registry.content(repository, &Name::Digest(digest.clone())).await?;
        let mut known = KnownContent {
            subject: content.document["subject"]["digest"].as_str().map(str::to_owned),
            ..KnownContent::default()
        };
        for part in ["config", "layers", "blobs"] {
            let blobs = content.descriptors(part)?;
            known.blobs.extend(blobs.into_iter().map(|blob| (blob.digest, blob.size)));
        }
        let parts = content.descriptors("manifests")?;
        known.parts = parts.into_iter().map(|part| part.digest).collect();
        Ok(known)
    }

    async fn manifest(&self, repository: &str, listed: Manifest) -> Result<Option<ManifestState>> {
        // A manifest that went since it was listed is not there to be read.
        let Some(known) = found(self.content_of(repository, &listed).await)? else {
            return Ok(None);
        };
        Ok(Some(ManifestState {
            updated: later(listed.last_update_time.as_ref(), listed.created_time.as_ref()),
            is_locked: listed.changeable_attributes.is_locked(),
            bytes: listed.image_size.unwrap_or_default(),
            blobs: known.blobs,
            parts: known.parts,
            subject: known.subject,
            digest: listed.digest,
        }))
    }
}

impl Live<'_> {
    /// A repository as its lists have it.
    async fn listed(&self, repository: &str) -> Result<Option<RepositoryState>> {
        let Some(whole) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        // Manifests first: a tag that is moved meanwhile points at what is known, or at nothing.
        let listed = self.registry.manifests(repository).await?;
        let tags = self.registry.tags(repository, None).await?;
        let manifests = stream::iter(listed)
            .map(|listed| self.manifest(repository, listed))
            .buffered(AT_ONCE)
            .try_filter_map(|manifest| async move { Ok(manifest) })
            .try_collect()
            .await?;
        let tags = tags.into_iter().map(tag_state);
        Ok(Some(RepositoryState {
            name: repository.to_owned(),
            is_locked: whole.changeable_attributes.is_locked(),
            tags: tags.collect(),
            manifests,
            hidden: 0,
        }))
    }
}

#[async_trait]
impl Shelf for Live<'_> {
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>> {
        for _ in 0..LISTED_AGAIN {
            let before = self.standing(repository).await?;
            let Some(mut state) = self.listed(repository).await? else { return Ok(None) };
            if self.standing(repository).await? != before {
                continue;
            }
            // What is hidden from lists can be counted, and nothing else.
            let counted = before.map_or(0, |before| before.manifests + before.tags);
            let listed = (state.manifests.len() + state.tags.len()) as u64;
            state.hidden = counted.saturating_sub(listed);
            return Ok(Some(state));
        }
        let at = self.registry.login_server();
        Err(Error::transient(format!("{at}/{repository}: it changes while it is listed")))
    }

    async fn standing(&self, repository: &str) -> Result<Option<Standing>> {
        let whole = found(self.registry.repository(repository).await)?;
        Ok(whole.map(|whole| Standing {
            manifests: whole.manifest_count,
            tags: whole.tag_count,
            updated: whole.last_update_time,
        }))
    }

    async fn look(&self, repository: &str, digest: &str) -> Result<Option<Look>> {
        let manifest = found(self.registry.manifest(repository, digest).await)?;
        let Some(manifest) = manifest else { return Ok(None) };
        // A tag is locked, and pushed again, by itself.
        let tags = match manifest.tags[..] {
            [] => Vec::new(),
            _ => self.registry.tags(repository, Some(digest)).await?,
        };
        Ok(Some(Look {
            tags: tags.into_iter().map(tag_state).collect(),
            updated: later(manifest.last_update_time.as_ref(), manifest.created_time.as_ref()),
            is_locked: manifest.changeable_attributes.is_locked(),
        }))
    }

    async fn look_at_tag(&self, repository: &str, tag: &str) -> Result<Option<TagState>> {
        let tag = found(self.registry.tag(repository, tag).await)?;
        Ok(tag.map(tag_state))
    }

    async fn content(&self, repository: &str, digest: &str) -> Result<Content> {
        self.registry.content(repository, &Name::Digest(digest.to_owned())).await
    }

    async fn delete(&self, repository: &str, name: &Name) -> Result<()> {
        found(self.registry.delete(repository, name).await).map(|_| ())
    }
}
