//! A live registry as the target of a purge.

use super::content::{KnownContent, lists_no_manifests};
use super::state::{Kind, ListedRows, ManifestState, RepositoryState, RepositoryVersion, TagState};
use super::target::{ManifestCheck, PurgeTarget};
use super::unread::{later, tag_state, unread_manifest, unread_repository};
use crate::error::{Error, ErrorKind, Result};
use crate::image::registry::is_schema_1;
use crate::registry::{Content, Listed, Manifest, Name, Registry, Repository, Tag};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most manifests that are fetched concurrently.
const CONCURRENCY: usize = 16;
/// The most times that a repository is listed again because it changed while it was listed.
const MOST_RELISTINGS: usize = 5;
/// The waits for rows that are counted and not listed: counts lag behind lists by seconds.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// After this many repositories were waited for in vain, the registry's counts are wrong, and no
/// more are waited for.
const MOST_WAITED: usize = 3;
/// The most digests that are looked up because something names them and no list contains them. With
/// more, nothing is deleted.
const MOST_LOOKUPS: usize = 1_000;
const HIDDEN: &str = "hidden from lists";

/// A registry, with the known contents of its manifests by `repository@digest`.
pub struct LiveRegistry<'a> {
    registry: &'a Registry,
    /// Known contents, which never change: from the catalog, and as fetched.
    known: Mutex<HashMap<String, KnownContent>>,
    /// The repositories that are known to contain a digest.
    repositories: HashMap<String, BTreeSet<String>>,
    /// Whether subjects that no list contains are looked up.
    seeks_subjects: bool,
    /// The remaining [`RepositoryState::uncounted`] after a wait in vain, by repository.
    uncounted: Mutex<HashMap<String, u64>>,
}

/// The result of reading a manifest.
enum ManifestRead {
    /// Everything that is needed.
    Known(KnownContent),
    /// Unreadable, but it needs no other manifest.
    Unread(String),
    /// Unreadable, and it may need any manifest.
    Unknown(String),
}

/// The lists of a repository.
#[derive(PartialEq)]
struct RepositoryLists {
    manifests: Listed<Manifest>,
    tags: Listed<Tag>,
}

impl<'a> LiveRegistry<'a> {
    /// A registry without prior knowledge.
    pub fn new(registry: &'a Registry) -> Self {
        Self::knowing(registry, HashMap::new(), HashMap::new())
    }

    /// A registry with the known contents of its manifests by `repository@digest`, and with the
    /// repositories that are known to contain a digest.
    pub fn knowing(
        registry: &'a Registry,
        known: HashMap<String, KnownContent>,
        repositories: HashMap<String, BTreeSet<String>>,
    ) -> Self {
        let (known, uncounted) = (Mutex::new(known), Mutex::default());
        Self { registry, known, repositories, seeks_subjects: false, uncounted }
    }

    /// With `seeks`, subjects that are not listed are looked up by digest.
    #[must_use]
    pub fn seeking_subjects(mut self, seeks: bool) -> Self {
        self.seeks_subjects = seeks;
        self
    }

    async fn lists(&self, repository: &str) -> Result<Option<RepositoryLists>> {
        // Manifests first: a tag that is moved in between points at a known manifest, or at none.
        let Some(manifests) = found(self.registry.every_manifest(repository).await)? else {
            return Ok(None);
        };
        let Some(tags) = found(self.registry.list_tags(repository, &[], None).await)? else {
            return Ok(None);
        };
        Ok(Some(RepositoryLists { manifests, tags }))
    }

    /// Lists a repository, and again if it was changed in between. Counts may lag, so that it
    /// appears changed; then the lists are compared instead.
    async fn unchanged_lists(
        &self,
        repository: &str,
    ) -> Result<Option<(Repository, RepositoryLists)>> {
        let Some(mut properties) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        let Some(mut lists) = self.lists(repository).await? else { return Ok(None) };
        for _ in 0..MOST_RELISTINGS {
            let Some(after) = found(self.registry.repository(repository).await)? else {
                return Ok(None);
            };
            if after == properties {
                return Ok(Some((properties, lists)));
            }
            let Some(again) = self.lists(repository).await? else { return Ok(None) };
            if again == lists {
                return Ok(Some((after, lists)));
            }
            (properties, lists) = (after, again);
        }
        let at = self.registry.login_server();
        Err(Error::transient(format!(
            "{at}/{repository}: the repository changes while it is listed"
        )))
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
            Ok((document, malformed)) => match KnownContent::of(&document) {
                Ok(mut content) => {
                    content.malformed = malformed.or(content.malformed);
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
            // An image has no subject; an artifact of the same media type may.
            _ => manifest.os.is_some(),
        };
        Ok(if is_certain && lists_no_manifests(media_type) {
            ManifestRead::Unread(format!("it is listed, but cannot be read ({error})"))
        } else {
            ManifestRead::Unknown(error.to_string())
        })
    }

    /// Reads a manifest. The inner error says why nothing of its repository may be deleted.
    async fn manifest(
        &self,
        repository: &str,
        listed: Manifest,
        unread: Option<String>,
    ) -> Result<Result<ManifestState, String>> {
        let (known, malformed) = match self.content_of(repository, &listed).await? {
            ManifestRead::Known(known) => {
                let malformed = known.malformed.clone();
                (known, malformed)
            }
            ManifestRead::Unread(why) => (KnownContent::default(), Some(why)),
            ManifestRead::Unknown(why) => {
                let digest = &listed.digest;
                return Ok(Err(format!(
                    "{digest} cannot be read ({why}), and may depend on other manifests"
                )));
            }
        };
        Ok(Ok(ManifestState {
            updated: later(listed.last_update_time.as_ref(), listed.created_time.as_ref()),
            is_locked: listed.changeable_attributes.is_locked(),
            unread: unread.or(malformed),
            is_hidden: false,
            kind: known.kind.unwrap_or_default(),
            bytes: listed.image_size.unwrap_or_default(),
            blobs: known.blobs,
            parts: known.parts,
            subject: known.subject,
            digest: listed.digest,
        }))
    }

    /// Builds the state of a repository from its lists, and adds the manifests that these omit, as
    /// far as they are named.
    async fn read(
        &self,
        repository: &str,
        properties: &Repository,
        lists: RepositoryLists,
    ) -> Result<RepositoryState> {
        let lost = lists.manifests.lost.why("manifests").or_else(|| lists.tags.lost.why("tags"));
        let tags = lists.tags.rows;
        let names: HashSet<&str> = tags.iter().map(|tag| tag.name.as_str()).collect();
        let manifest_tags: HashSet<String> =
            lists.manifests.rows.iter().flat_map(|row| row.tags.iter().cloned()).collect();
        let unlisted_tags =
            manifest_tags.iter().filter(|tag| !names.contains(tag.as_str())).count();
        let with_unread = lists.manifests.rows.into_iter().map(|listed| {
            let unread = unread_manifest(&listed, &names);
            (listed, unread)
        });
        let with_unread: Vec<_> = with_unread.collect();
        drop(names);
        let read: Vec<Result<ManifestState, String>> = stream::iter(with_unread)
            .map(|(listed, unread)| self.manifest(repository, listed, unread))
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut state = RepositoryState {
            name: repository.to_owned(),
            is_locked: properties.changeable_attributes.is_locked(),
            unread: unread_repository(properties).or(lost),
            tags: tags.into_iter().map(tag_state).collect(),
            version: version_of(properties),
            ..RepositoryState::default()
        };
        for manifest in read {
            match manifest {
                Ok(manifest) => state.manifests.push(manifest),
                Err(why) => state.unread = state.unread.or(Some(why)),
            }
        }
        let count_unlisted = |state: &RepositoryState| {
            let RepositoryVersion { manifests, tags, .. } = &state.version;
            let listed = (state.manifests.len(), state.tags.len() + unlisted_tags);
            manifests.saturating_sub(listed.0 as u64) + tags.saturating_sub(listed.1 as u64)
        };
        state.uncounted = count_unlisted(&state);
        self.add_hidden(repository, &mut state).await?;
        state.uncounted = count_unlisted(&state);
        let is_elsewhere = |digest: &String| {
            let mut others = self.repositories.get(digest).into_iter().flatten();
            others.any(|other| other != repository)
        };
        state.elsewhere = state.subjects().into_iter().filter(is_elsewhere).collect();
        Ok(state)
    }

    /// Adds manifests that no list contains: those that tags point at; and those that indexes list,
    /// or that are subjects, under the conditions of [`Self::named`].
    async fn add_hidden(&self, repository: &str, state: &mut RepositoryState) -> Result<()> {
        let mut requested: BTreeSet<String> = BTreeSet::new();
        loop {
            let missing: Vec<String> = {
                let listed: HashSet<&str> =
                    state.manifests.iter().map(|manifest| manifest.digest.as_str()).collect();
                let is_new = |d: &String| !listed.contains(d.as_str()) && !requested.contains(d);
                self.named(state).into_iter().filter(is_new).collect()
            };
            if missing.is_empty() || state.unread.is_some() {
                return Ok(());
            }
            requested.extend(missing.iter().cloned());
            if requested.len() > MOST_LOOKUPS {
                state.unread = Some(format!(
                    "it refers to more than {MOST_LOOKUPS} manifests that are not listed"
                ));
                return Ok(());
            }
            let rows: Vec<Option<Manifest>> =
                stream::iter(missing)
                    .map(|digest| async move {
                        found(self.registry.manifest(repository, &digest).await)
                    })
                    .buffered(CONCURRENCY)
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

    /// The digests that something names and that may not be listed.
    fn named(&self, state: &RepositoryState) -> BTreeSet<String> {
        let mut named: BTreeSet<String> = state.tags.iter().map(|tag| tag.digest.clone()).collect();
        if state.uncounted > 0 {
            // The members of a build cache are blobs.
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

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn version_of(properties: &Repository) -> RepositoryVersion {
    RepositoryVersion {
        manifests: properties.manifest_count.unwrap_or_default(),
        tags: properties.tag_count.unwrap_or_default(),
        updated: properties.last_update_time.clone(),
    }
}

#[async_trait]
impl PurgeTarget for LiveRegistry<'_> {
    async fn state(&self, repository: &str) -> Result<Option<RepositoryState>> {
        let mut pauses = PAUSES.iter();
        loop {
            let Some((properties, lists)) = self.unchanged_lists(repository).await? else {
                return Ok(None);
            };
            let state = self.read(repository, &properties, lists).await?;
            let (missing_before, waited) = {
                let waited = lock(&self.uncounted);
                (waited.get(repository).copied(), waited.len())
            };
            let is_counted = state.uncounted == 0 || Some(state.uncounted) == missing_before;
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

    async fn version(&self, repository: &str) -> Result<Option<RepositoryVersion>> {
        let Some(properties) = found(self.registry.repository(repository).await)? else {
            return Ok(None);
        };
        match unread_repository(&properties) {
            Some(why) => Err(Error::transient(format!("nothing is deleted: {why}"))),
            None => Ok(Some(version_of(&properties))),
        }
    }

    async fn look(&self, repository: &str, digest: &str) -> Result<Option<ManifestCheck>> {
        let manifest = found(self.registry.manifest(repository, digest).await)?;
        let Some(manifest) = manifest else { return Ok(None) };
        // A tag has its own lock and time, and the manifest's own list of tags may be incomplete.
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

    async fn read_tag(&self, repository: &str, tag: &str) -> Result<Option<TagState>> {
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
