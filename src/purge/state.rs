//! A repository as a purge sees it: plain values, and nothing of rules.

use crate::image::referrers::tagged_subject;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// A tag as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagState {
    /// Its name.
    pub name: String,
    /// What it points at.
    pub digest: String,
    /// When it was last moved; none where that cannot be read.
    pub updated: Option<OffsetDateTime>,
    /// Whether it can be neither deleted nor moved.
    pub is_locked: bool,
    /// What cannot be read of it: it may be locked, or new.
    pub unread: Option<String>,
}

/// What people take a manifest for. Each is counted apart: a build cache uses up no place of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Kind {
    /// An image, or an index of images; or whatever else is there for its own sake, such as a chart.
    #[default]
    Image,
    /// What `BuildKit` keeps for the next build.
    Cache,
    /// A signature, an attestation, a bill of materials: it is there for the sake of an image.
    Attachment,
    /// An index that lists nothing, so that nothing of it can be run.
    Nothing,
}

/// A manifest as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestState {
    /// Its digest.
    pub digest: String,
    /// When it was last pushed or changed; none where that cannot be read.
    pub updated: Option<OffsetDateTime>,
    /// Whether it can be neither deleted nor written.
    pub is_locked: bool,
    /// What cannot be read of it: it may be locked, new, or tagged.
    pub unread: Option<String>,
    /// Whether lists do not have it (`listEnabled: false`), so that others may be there which nobody knows.
    pub is_hidden: bool,
    /// What it is taken for.
    pub kind: Kind,
    /// Bytes of what it points at.
    pub bytes: u64,
    /// What it points at: bytes by digest, as far as that is known.
    pub blobs: BTreeMap<String, u64>,
    /// The manifests that it lists.
    pub parts: Vec<String>,
    /// What it refers to.
    pub subject: Option<String>,
}

/// A repository as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryState {
    /// Its name.
    pub name: String,
    /// Whether nothing in it can be deleted.
    pub is_locked: bool,
    /// What cannot be read of it, so that it may be locked or have what is not known.
    pub unread: Option<String>,
    /// Its tags.
    pub tags: Vec<TagState>,
    /// Its manifests.
    pub manifests: Vec<ManifestState>,
    /// Manifests and tags that the registry still counts, after it was given time, and that no list has. It
    /// counts wrongly, or they are hidden and may need what no tag points at.
    pub uncounted: u64,
    /// Subjects that are not in it, and that another repository of the registry has.
    pub elsewhere: BTreeSet<String>,
    /// What the registry said of it as a whole when it was listed.
    pub standing: RepositoryVersion,
}

impl RepositoryState {
    /// Everything that something in it refers to.
    pub fn subjects(&self) -> BTreeSet<String> {
        let named = self.manifests.iter().filter_map(|manifest| manifest.subject.clone());
        named.chain(self.tags.iter().filter_map(|tag| tagged_subject(&tag.name))).collect()
    }
}

/// What tells that somebody changed a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepositoryVersion {
    /// Its manifests, as the registry counts them.
    pub manifests: u64,
    /// Its tags, as the registry counts them.
    pub tags: u64,
    /// When it was last changed, in the registry's words.
    pub updated: Option<String>,
}

/// What a repository's lists have: what is compared where counts cannot be believed.
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

    /// The same without a manifest, whose tags went with it.
    pub(super) fn remove(&mut self, digest: &str) {
        self.manifests.remove(digest);
        self.tags.retain(|_, (of, ..)| of != digest);
    }
}
