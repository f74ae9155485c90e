//! The registry that a purge is about: how its repositories are, and what is taken from them.

use super::plan::{ManifestState, RepositoryState, TagState};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Attributes, Content, Manifest, Name, Odd, Registry, Repository, Tag};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// What cannot be read of it.
    pub unread: Option<String>,
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

/// What must be known of something before it may go, and cannot be read: its locks, its times and its tags.
fn unread(attributes: &Attributes, odd: &Odd, updated: Option<&String>) -> Option<String> {
    if let Some(why) = odd.deciding() {
        return Some(why);
    }
    if !attributes.is_open() && !attributes.is_locked() {
        return Some("it is not told whether it is locked".to_owned());
    }
    updated.is_none().then(|| "it is not told when it was last changed".to_owned())
}

fn tag_state(tag: Tag) -> TagState {
    let Tag { last_update_time, created_time, changeable_attributes, odd, name, digest } = tag;
    TagState {
        updated: later(last_update_time.as_ref(), created_time.as_ref()),
        is_locked: changeable_attributes.is_locked(),
        unread: unread(&changeable_attributes, &odd, last_update_time.as_ref()),
        name,
        digest,
    }
}

/// What cannot be read of a manifest; also that a tag points at it which the list of tags does not have, so
/// that it would pass for untagged.
fn unread_manifest(manifest: &Manifest, tags: &HashSet<&str>) -> Option<String> {
    let Manifest { changeable_attributes, odd, last_update_time, .. } = manifest;
    unread(changeable_attributes, odd, last_update_time.as_ref()).or_else(|| {
        let missing = manifest.tags.iter().find(|name| !tags.contains(name.as_str()))?;
        Some(format!("the tag {missing} points at it, and is not in the list of tags"))
    })
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

    async fn manifest(
        &self,
        repository: &str,
        listed: Manifest,
        unread: Option<String>,
    ) -> Result<Option<ManifestState>> {
        // A manifest that went since it was listed is not there to be read.
        let Some(known) = found(self.content_of(repository, &listed).await)? else {
            return Ok(None);
        };
        Ok(Some(ManifestState {
            updated: later(listed.last_update_time.as_ref(), listed.created_time.as_ref()),
            is_locked: listed.changeable_attributes.is_locked(),
            unread,
            bytes: listed.image_size.unwrap_or_default(),
            blobs: known.blobs,
            parts: known.parts,
            subject: known.subject,
            digest: listed.digest,
        }))
    }

    /// A repository as its lists have it.
    async fn listed(&self, repository: &str, whole: &Repository) -> Result<RepositoryState> {
        // Manifests first: a tag that is moved meanwhile points at what is known, or at nothing.
        let listed = self.registry.every_manifest(repository).await?;
        let tags = self.registry.list_tags(repository, &[], None).await?;
        let lost = listed.lost.why("manifests").or_else(|| tags.lost.why("tags"));
        let tags = tags.rows;
        let names: HashSet<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
        let with_unread = listed.rows.into_iter().map(|listed| {
            let unread = unread_manifest(&listed, &names);
            (listed, unread)
        });
        let with_unread: Vec<_> = with_unread.collect();
        drop(names);
        let manifests = stream::iter(with_unread)
            .map(|(listed, unread)| self.manifest(repository, listed, unread))
            .buffered(AT_ONCE)
            .try_filter_map(|manifest| async move { Ok(manifest) })
            .try_collect()
            .await?;
        Ok(RepositoryState {
            name: repository.to_owned(),
            is_locked: whole.changeable_attributes.is_locked(),
            unread: unread_repository(whole).or(lost),
            tags: tags.into_iter().map(tag_state).collect(),
            manifests,
            hidden: 0,
        })
    }
}

/// What cannot be read of a repository.
fn unread_repository(whole: &Repository) -> Option<String> {
    let Repository { changeable_attributes, odd, last_update_time, .. } = whole;
    let counts = (whole.manifest_count, whole.tag_count);
    unread(changeable_attributes, odd, last_update_time.as_ref()).or_else(|| {
        let is_counted = matches!(counts, (Some(_), Some(_)));
        (!is_counted).then(|| "it is not told how much is in it".to_owned())
    })
}

fn standing(whole: &Repository) -> Standing {
    Standing {
        manifests: whole.manifest_count.unwrap_or_default(),
        tags: whole.tag_count.unwrap_or_default(),
        updated: whole.last_update_time.clone(),
    }
}

#[async_trait]
impl Shelf for Live<'_> {
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>> {
        for _ in 0..LISTED_AGAIN {
            let Some(before) = found(self.registry.repository(repository).await)? else {
                return Ok(None);
            };
            let Some(mut state) = found(self.listed(repository, &before).await)? else {
                return Ok(None);
            };
            let after = found(self.registry.repository(repository).await)?;
            if after.as_ref() != Some(&before) {
                continue;
            }
            // What is hidden from lists can be counted, and nothing else.
            let Standing { manifests, tags, .. } = standing(&before);
            state.hidden = manifests.saturating_sub(state.manifests.len() as u64)
                + tags.saturating_sub(state.tags.len() as u64);
            return Ok(Some(state));
        }
        let at = self.registry.login_server();
        Err(Error::transient(format!("{at}/{repository}: it changes while it is listed")))
    }

    async fn standing(&self, repository: &str) -> Result<Option<Standing>> {
        let Some(whole) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        match unread_repository(&whole) {
            Some(why) => Err(Error::transient(format!("nothing goes: {why}"))),
            None => Ok(Some(standing(&whole))),
        }
    }

    async fn look(&self, repository: &str, digest: &str) -> Result<Option<Look>> {
        let manifest = found(self.registry.manifest(repository, digest).await)?;
        let Some(manifest) = manifest else { return Ok(None) };
        // A tag is locked, and pushed again, by itself; and what a manifest tells of its tags is not all.
        let tags = self.registry.list_tags(repository, &[], Some(digest)).await?;
        let names: HashSet<&str> = tags.rows.iter().map(|tag| tag.name.as_str()).collect();
        let unread = unread_manifest(&manifest, &names).or_else(|| tags.lost.why("tags"));
        Ok(Some(Look {
            tags: tags.rows.into_iter().map(tag_state).collect(),
            updated: later(manifest.last_update_time.as_ref(), manifest.created_time.as_ref()),
            is_locked: manifest.changeable_attributes.is_locked(),
            unread,
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
