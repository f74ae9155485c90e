//! A registry as a purge meets it: listed, and read as far as it can be.

use super::content::{KnownContent, is_of_one_image};
use super::state::{Kind, ListedRows, ManifestState, RepositoryState, RepositoryVersion, TagState};
use super::target::{ManifestCheck, PurgeTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::is_schema_1;
use crate::registry::{
    Attributes, Content, Listed, Manifest, Name, OddMembers, Registry, Repository, Tag,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Manifests that are read at once.
const AT_ONCE: usize = 16;
/// A repository that changes while it is listed is listed so often.
const LISTED_AGAIN: usize = 5;
/// What is counted and not listed gets so long to be listed, or not to be counted any more: counts come seconds
/// late.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// A registry that was waited for in vain for so many repositories counts wrongly, and is not waited for.
const MOST_WAITED: usize = 3;
/// Digests that something names and no list has: more are not asked for, and nothing goes.
const MOST_NAMED: usize = 1_000;
const HIDDEN: &str = "it is hidden from lists";

/// A registry, with what is known of its manifests' contents by `repository@digest`.
pub struct LiveRegistry<'a> {
    registry: &'a Registry,
    /// What is known of contents, which never change: from the catalog, and what was read.
    known: Mutex<HashMap<String, KnownContent>>,
    /// The repositories that are known to have a digest.
    repositories: HashMap<String, BTreeSet<String>>,
    /// Whether subjects are asked for that no list has.
    seeks_subjects: bool,
    /// What was waited for in vain, by repository.
    uncounted: Mutex<HashMap<String, u64>>,
}

/// What could be read of a manifest.
enum ManifestRead {
    /// All that is needed.
    Known(KnownContent),
    /// Nothing; but it needs no other manifest.
    Unread(String),
    /// Nothing, so that it may need anything.
    Unknown(String),
}

/// What a repository's lists have.
#[derive(PartialEq)]
struct RepositoryLists {
    manifests: Listed<Manifest>,
    tags: Listed<Tag>,
}

impl<'a> LiveRegistry<'a> {
    /// A registry of which nothing is known.
    pub fn new(registry: &'a Registry) -> Self {
        Self::knowing(registry, HashMap::new(), HashMap::new())
    }

    /// A registry, with what is known of its manifests by `repository@digest`, and which repositories are known to
    /// have a digest.
    pub fn knowing(
        registry: &'a Registry,
        known: HashMap<String, KnownContent>,
        repositories: HashMap<String, BTreeSet<String>>,
    ) -> Self {
        let (known, uncounted) = (Mutex::new(known), Mutex::default());
        Self { registry, known, repositories, seeks_subjects: false, uncounted }
    }

    /// The same; where `seeks` is true, what is referred to and not listed is asked for by its digest.
    #[must_use]
    pub fn seeking_subjects(mut self, seeks: bool) -> Self {
        self.seeks_subjects = seeks;
        self
    }

    async fn lists(&self, repository: &str) -> Result<Option<RepositoryLists>> {
        // Manifests first: a tag that is moved meanwhile points at what is known, or at nothing.
        let Some(manifests) = found(self.registry.every_manifest(repository).await)? else {
            return Ok(None);
        };
        let Some(tags) = found(self.registry.list_tags(repository, &[], None).await)? else {
            return Ok(None);
        };
        Ok(Some(RepositoryLists { manifests, tags }))
    }

    /// A repository's lists, while nobody changes it. Its counts may come late, so that it looks changed: then its
    /// lists are compared.
    async fn lists_at_rest(
        &self,
        repository: &str,
    ) -> Result<Option<(Repository, RepositoryLists)>> {
        let Some(mut whole) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        let Some(mut lists) = self.lists(repository).await? else { return Ok(None) };
        for _ in 0..LISTED_AGAIN {
            let Some(after) = found(self.registry.repository(repository).await)? else {
                return Ok(None);
            };
            if after == whole {
                return Ok(Some((whole, lists)));
            }
            let Some(again) = self.lists(repository).await? else { return Ok(None) };
            if again == lists {
                return Ok(Some((after, lists)));
            }
            (whole, lists) = (after, again);
        }
        let at = self.registry.login_server();
        Err(Error::transient(format!("{at}/{repository}: it changes while it is listed")))
    }

    async fn content_of(&self, repository: &str, manifest: &Manifest) -> Result<ManifestRead> {
        let digest = &manifest.digest;
        let media_type = manifest.media_type.as_deref().unwrap_or_default();
        if is_schema_1(media_type) {
            return Ok(ManifestRead::Unread("Docker schema 1, which is not supported".to_owned()));
        }
        let id = format!("{repository}@{digest}");
        let known = lock(&self.known).get(&id).filter(|known| known.kind.is_some()).cloned();
        if let Some(known) = known {
            return Ok(ManifestRead::Known(known));
        }
        let error = match self.registry.seen(repository, digest).await {
            Ok((document, odd)) => match KnownContent::of(&document) {
                Ok(mut content) => {
                    content.odd = odd.or(content.odd);
                    lock(&self.known).insert(id, content.clone());
                    return Ok(ManifestRead::Known(content));
                }
                Err(why) => return Ok(ManifestRead::Unknown(why)),
            },
            Err(error) => error,
        };
        let is_certain = match error.kind() {
            ErrorKind::NotFound => true,
            ErrorKind::Transient
            | ErrorKind::Throttled
            | ErrorKind::Unauthenticated
            | ErrorKind::SignedOut
            | ErrorKind::Bug => {
                return Err(error);
            }
            // An image refers to nothing; an artifact of the same type may.
            _ => manifest.os.is_some(),
        };
        Ok(if is_certain && is_of_one_image(media_type) {
            ManifestRead::Unread(format!("it is listed, and cannot be read ({error})"))
        } else {
            ManifestRead::Unknown(error.to_string())
        })
    }

    /// A manifest; else why nothing of its repository may go.
    async fn manifest(
        &self,
        repository: &str,
        listed: Manifest,
        unread: Option<String>,
    ) -> Result<Result<ManifestState, String>> {
        let (known, odd) = match self.content_of(repository, &listed).await? {
            ManifestRead::Known(known) => {
                let odd = known.odd.clone();
                (known, odd)
            }
            ManifestRead::Unread(why) => (KnownContent::default(), Some(why)),
            ManifestRead::Unknown(why) => {
                let digest = &listed.digest;
                return Ok(Err(format!(
                    "{digest} cannot be read ({why}), and may need what is here"
                )));
            }
        };
        Ok(Ok(ManifestState {
            updated: later(listed.last_update_time.as_ref(), listed.created_time.as_ref()),
            is_locked: listed.changeable_attributes.is_locked(),
            unread: unread.or(odd),
            is_hidden: false,
            kind: known.kind.unwrap_or_default(),
            bytes: listed.image_size.unwrap_or_default(),
            blobs: known.blobs,
            parts: known.parts,
            subject: known.subject,
            digest: listed.digest,
        }))
    }

    /// A repository as its lists have it, with what these leave out as far as it is named.
    async fn read(
        &self,
        repository: &str,
        whole: &Repository,
        lists: RepositoryLists,
    ) -> Result<RepositoryState> {
        let lost = lists.manifests.lost.why("manifests").or_else(|| lists.tags.lost.why("tags"));
        let tags = lists.tags.rows;
        let names: HashSet<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
        let told: HashSet<String> =
            lists.manifests.rows.iter().flat_map(|row| row.tags.iter().cloned()).collect();
        let told_only = told.iter().filter(|tag| !names.contains(tag.as_str())).count();
        let with_unread = lists.manifests.rows.into_iter().map(|listed| {
            let unread = unread_manifest(&listed, &names);
            (listed, unread)
        });
        let with_unread: Vec<_> = with_unread.collect();
        drop(names);
        let read: Vec<Result<ManifestState, String>> = stream::iter(with_unread)
            .map(|(listed, unread)| self.manifest(repository, listed, unread))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut state = RepositoryState {
            name: repository.to_owned(),
            is_locked: whole.changeable_attributes.is_locked(),
            unread: unread_repository(whole).or(lost),
            tags: tags.into_iter().map(tag_state).collect(),
            standing: standing(whole),
            ..RepositoryState::default()
        };
        for manifest in read {
            match manifest {
                Ok(manifest) => state.manifests.push(manifest),
                Err(why) => state.unread = state.unread.or(Some(why)),
            }
        }
        let is_here = |state: &RepositoryState| {
            let RepositoryVersion { manifests, tags, .. } = &state.standing;
            let listed = (state.manifests.len(), state.tags.len() + told_only);
            manifests.saturating_sub(listed.0 as u64) + tags.saturating_sub(listed.1 as u64)
        };
        state.uncounted = is_here(&state);
        self.add_hidden(repository, &mut state).await?;
        state.uncounted = is_here(&state);
        let is_elsewhere = |digest: &String| {
            let mut others = self.repositories.get(digest).into_iter().flatten();
            others.any(|other| other != repository)
        };
        state.elsewhere = state.subjects().into_iter().filter(is_elsewhere).collect();
        Ok(state)
    }

    /// Adds what no list has, and tags point at; or indexes list, or something refers to, where it is looked for.
    async fn add_hidden(&self, repository: &str, state: &mut RepositoryState) -> Result<()> {
        let mut asked: BTreeSet<String> = BTreeSet::new();
        loop {
            let missing: Vec<String> = {
                let here: HashSet<&str> =
                    state.manifests.iter().map(|manifest| manifest.digest.as_str()).collect();
                let named = self.named(state);
                named
                    .into_iter()
                    .filter(|d| !here.contains(d.as_str()) && !asked.contains(d))
                    .collect()
            };
            if missing.is_empty() || state.unread.is_some() {
                return Ok(());
            }
            asked.extend(missing.iter().cloned());
            if asked.len() > MOST_NAMED {
                let text =
                    format!("more than {MOST_NAMED} manifests are named in it that are not listed");
                state.unread = Some(text);
                return Ok(());
            }
            let rows: Vec<Option<Manifest>> =
                stream::iter(missing)
                    .map(|digest| async move {
                        found(self.registry.manifest(repository, &digest).await)
                    })
                    .buffered(AT_ONCE)
                    .try_collect()
                    .await?;
            for row in rows.into_iter().flatten() {
                let hidden = Some(HIDDEN.to_owned());
                match self.manifest(repository, row, hidden).await? {
                    Ok(manifest) => {
                        state.manifests.push(ManifestState { is_hidden: true, ..manifest });
                    }
                    Err(why) => state.unread = Some(why),
                }
            }
        }
    }

    /// The digests by which something is named that may not be listed.
    fn named(&self, state: &RepositoryState) -> BTreeSet<String> {
        let mut named: BTreeSet<String> = state.tags.iter().map(|tag| tag.digest.clone()).collect();
        if state.uncounted > 0 {
            // What a build cache lists are blobs.
            let indexes = state.manifests.iter().filter(|found| found.kind != Kind::Cache);
            named.extend(indexes.flat_map(|found| found.parts.iter().cloned()));
        }
        if self.seeks_subjects || state.uncounted > 0 {
            named.extend(state.subjects());
        }
        named.retain(|digest| digest.starts_with("sha256:"));
        named
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
fn unread(attributes: &Attributes, odd: &OddMembers, updated: Option<&String>) -> Option<String> {
    if let Some(why) = odd.deciding() {
        return Some(why);
    }
    if !attributes.is_open() && !attributes.is_locked() {
        return Some("it is not told whether it is locked".to_owned());
    }
    updated.is_none().then(|| "it is not told when it was last changed".to_owned())
}

fn tag_state(tag: Tag) -> TagState {
    let Tag { last_update_time, created_time, changeable_attributes, odd, name, digest, .. } = tag;
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

/// What cannot be read of a repository.
fn unread_repository(whole: &Repository) -> Option<String> {
    let Repository { changeable_attributes, odd, last_update_time, .. } = whole;
    let counts = (whole.manifest_count, whole.tag_count);
    unread(changeable_attributes, odd, last_update_time.as_ref()).or_else(|| {
        let is_counted = matches!(counts, (Some(_), Some(_)));
        (!is_counted).then(|| "it is not told how much is in it".to_owned())
    })
}

fn standing(whole: &Repository) -> RepositoryVersion {
    RepositoryVersion {
        manifests: whole.manifest_count.unwrap_or_default(),
        tags: whole.tag_count.unwrap_or_default(),
        updated: whole.last_update_time.clone(),
    }
}

#[async_trait]
impl PurgeTarget for LiveRegistry<'_> {
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>> {
        let mut pauses = PAUSES.iter();
        loop {
            let Some((whole, lists)) = self.lists_at_rest(repository).await? else {
                return Ok(None);
            };
            let state = self.read(repository, &whole, lists).await?;
            let (in_vain, waited) = {
                let waited = lock(&self.uncounted);
                (waited.get(repository).copied(), waited.len())
            };
            let is_counted = state.uncounted == 0 || Some(state.uncounted) == in_vain;
            if is_counted || waited >= MOST_WAITED || state.unread.is_some() {
                return Ok(Some(state));
            }
            if let Some(pause) = pauses.next() {
                tokio::time::sleep(*pause).await;
            } else {
                lock(&self.uncounted).insert(repository.to_owned(), state.uncounted);
                return Ok(Some(state));
            }
        }
    }

    async fn rows(&self, repository: &str) -> Result<Option<ListedRows>> {
        let Some(lists) = self.lists(repository).await? else { return Ok(None) };
        let row = |m: &Manifest| {
            let updated = later(m.last_update_time.as_ref(), m.created_time.as_ref());
            (m.digest.clone(), (updated, m.changeable_attributes.is_locked()))
        };
        let tags: Vec<TagState> = lists.tags.rows.into_iter().map(tag_state).collect();
        let manifests = lists.manifests.rows.iter().map(row).collect();
        Ok(Some(ListedRows { manifests, tags: ListedRows::of_tags(&tags) }))
    }

    async fn standing(&self, repository: &str) -> Result<Option<RepositoryVersion>> {
        let Some(whole) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        match unread_repository(&whole) {
            Some(why) => Err(Error::transient(format!("nothing goes: {why}"))),
            None => Ok(Some(standing(&whole))),
        }
    }

    async fn look(&self, repository: &str, digest: &str) -> Result<Option<ManifestCheck>> {
        let manifest = found(self.registry.manifest(repository, digest).await)?;
        let Some(manifest) = manifest else { return Ok(None) };
        // A tag is locked, and pushed again, by itself; and what a manifest tells of its tags is not all.
        let tags = self.registry.list_tags(repository, &[], Some(digest)).await?;
        let names: HashSet<&str> = tags.rows.iter().map(|tag| tag.name.as_str()).collect();
        let unread = unread_manifest(&manifest, &names).or_else(|| tags.lost.why("tags"));
        Ok(Some(ManifestCheck {
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
