//! The state of a repository as input of a purge: plain values, without rules.

use crate::image::referrers::tagged_subject;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// The state of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// The name.
    pub name: String,
    /// The digest that it points at.
    pub digest: String,
    /// When it was last moved; `None` if that cannot be read.
    pub updated: Option<OffsetDateTime>,
    /// Whether it cannot be deleted, or cannot be moved.
    pub is_locked: bool,
    /// What cannot be read of it. It may be locked, or new.
    pub unread: Option<String>,
}

/// The kind of a manifest. Each kind is counted separately: a build cache does not take the place
/// of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kind {
    /// An image, an index of images, or anything else that exists for its own sake, such as a
    /// chart.
    #[default]
    Image,
    /// A cache that `BuildKit` keeps for the next build.
    Cache,
    /// A signature, an attestation, an SBOM: it exists for the sake of an image.
    Attachment,
    /// An index that lists nothing, so that nothing of it can be run.
    Nothing,
}

/// The state of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestState {
    /// The digest.
    pub digest: String,
    /// When it was last pushed or changed; `None` if that cannot be read.
    pub updated: Option<OffsetDateTime>,
    /// Whether it cannot be deleted, or cannot be written.
    pub is_locked: bool,
    /// What cannot be read of it. It may be locked, new, or tagged.
    pub unread: Option<String>,
    /// Whether lists omit it (`listEnabled: false`), so that there may be more unknown ones.
    pub is_hidden: bool,
    /// The kind.
    pub kind: Kind,
    /// The bytes of what it refers to.
    pub bytes: u64,
    /// The sizes of its blobs in bytes by digest, as far as they are known.
    pub blobs: BTreeMap<String, u64>,
    /// The manifests that it lists.
    pub parts: Vec<String>,
    /// Its subject.
    pub subject: Option<String>,
}

/// The state of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryState {
    /// The name.
    pub name: String,
    /// Whether nothing in it can be deleted.
    pub is_locked: bool,
    /// What cannot be read of it. It may be locked, or contain something unknown.
    pub unread: Option<String>,
    /// The tags.
    pub tags: Vec<TagState>,
    /// The manifests.
    pub manifests: Vec<ManifestState>,
    /// The number of manifests and tags that the registry counts and no list contains, even after a
    /// wait. Either the count is wrong, or they are hidden and may need manifests without a tag.
    pub uncounted: u64,
    /// Subjects that are missing here, and exist in another repository of the registry.
    pub elsewhere: BTreeSet<String>,
    /// The version of the repository when it was listed.
    pub version: RepositoryVersion,
}

impl RepositoryState {
    /// All subjects of its manifests and tags.
    pub fn subjects(&self) -> BTreeSet<String> {
        let named = self.manifests.iter().filter_map(|manifest| manifest.subject.clone());
        named.chain(self.tags.iter().filter_map(|tag| tagged_subject(&tag.name))).collect()
    }
}

/// Data that shows whether a repository was changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryVersion {
    /// The number of manifests, as the registry counts them.
    pub manifests: u64,
    /// The number of tags, as the registry counts them.
    pub tags: u64,
    /// When it was last changed, as the registry writes it.
    pub updated: Option<String>,
}

/// The rows of a repository's lists, which are compared if counts are unreliable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedRows {
    /// When each manifest was changed, and whether it is locked, by digest.
    pub manifests: BTreeMap<String, (Option<OffsetDateTime>, bool)>,
    /// The digest that each tag points at, when it was moved, and whether it is locked, by name.
    pub tags: BTreeMap<String, (String, Option<OffsetDateTime>, bool)>,
}

impl ListedRows {
    /// The rows of a repository that was listed.
    pub fn of(state: &RepositoryState) -> Self {
        let listed = state.manifests.iter().filter(|manifest| !manifest.is_hidden);
        Self {
            manifests: listed.map(|m| (m.digest.clone(), (m.updated, m.is_locked))).collect(),
            tags: Self::of_tags(&state.tags),
        }
    }

    /// The rows of tags.
    pub(super) fn of_tags(
        tags: &[TagState],
    ) -> BTreeMap<String, (String, Option<OffsetDateTime>, bool)> {
        let row = |t: &TagState| (t.name.clone(), (t.digest.clone(), t.updated, t.is_locked));
        tags.iter().map(row).collect()
    }

    /// Removes a manifest and the tags that are deleted with it.
    pub(super) fn remove(&mut self, digest: &str) {
        self.manifests.remove(digest);
        self.tags.retain(|_, (of, ..)| of != digest);
    }
}
