//! The graph of the manifests in a repository.

use super::planned::Deletion;
use super::state::{Kind, ManifestState, RepositoryState, TagState};
use crate::image::referrers::tagged_subject;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The graph of the manifests in a repository: tags, parts, subjects and referrers.
pub(super) struct ManifestGraph<'a> {
    pub(super) manifests: BTreeMap<&'a str, &'a ManifestState>,
    tags: HashMap<&'a str, Vec<&'a TagState>>,
    /// The referrers of a manifest, by subject or by the name of a tag.
    referrers: HashMap<String, Vec<&'a str>>,
}

/// Whether a tag names a digest, as those of signatures do, and those that protect a manifest. No
/// rule matches such a tag.
pub(super) fn names_digest(tag: &TagState) -> bool {
    tagged_subject(&tag.name).is_some()
}

impl<'a> ManifestGraph<'a> {
    pub(super) fn new(state: &'a RepositoryState) -> Self {
        let manifests =
            state.manifests.iter().map(|manifest| (manifest.digest.as_str(), manifest)).collect();
        let mut tags: HashMap<&str, Vec<&TagState>> = HashMap::new();
        for tag in &state.tags {
            tags.entry(&tag.digest).or_default().push(tag);
        }
        let mut graph = Self { manifests, tags, referrers: HashMap::new() };
        let mut referrers: HashMap<String, Vec<&str>> = HashMap::new();
        for (digest, manifest) in &graph.manifests {
            for subject in graph.subjects(manifest) {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        graph.referrers = referrers;
        graph
    }

    pub(super) fn tags(&self, digest: &str) -> &[&'a TagState] {
        self.tags.get(digest).map(Vec::as_slice).unwrap_or_default()
    }

    /// The tags of a manifest that do not name a digest.
    pub(super) fn plain_tags(&self, digest: &str) -> impl Iterator<Item = &'a TagState> {
        self.tags(digest).iter().copied().filter(|tag| !names_digest(tag))
    }

    pub(super) fn has_plain_tag(&self, digest: &str) -> bool {
        self.plain_tags(digest).next().is_some()
    }

    /// A tag that names the digest of the manifest it points at. It is set to keep that manifest
    /// (imgpkg does so for the contents of bundles).
    pub(super) fn own_digest_tag(&self, digest: &str) -> Option<&'a TagState> {
        let names_it = |tag: &&&TagState| tagged_subject(&tag.name).is_some_and(|d| d == digest);
        self.tags(digest).iter().find(names_it).copied()
    }

    /// The subjects of a manifest: that of its content, and the digests that its tags name.
    pub(super) fn subjects(&self, manifest: &ManifestState) -> BTreeSet<String> {
        let by_tag = self.tags(&manifest.digest).iter().filter_map(|tag| tagged_subject(&tag.name));
        let mut subjects: BTreeSet<String> = by_tag.chain(manifest.subject.clone()).collect();
        subjects.remove(&manifest.digest);
        subjects
    }

    pub(super) fn referrers(&self, digest: &str) -> impl Iterator<Item = &'a str> {
        self.referrers.get(digest).into_iter().flatten().copied()
    }

    /// The key of a digest that is in the repository.
    pub(super) fn key_of(&self, digest: &str) -> Option<&'a str> {
        self.manifests.get_key_value(digest).map(|(digest, _)| *digest)
    }

    /// The display name of a manifest: its first tag, with its digest.
    pub(super) fn display_name(&self, digest: &str) -> String {
        match self.plain_tags(digest).map(|tag| tag.name.as_str()).min() {
            Some(tag) => format!("{tag} ({digest})"),
            None => digest.to_owned(),
        }
    }

    /// The manifests that a manifest lists, directly or indirectly, as far as they are in the
    /// repository.
    fn descendants(&self, digest: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut queue: Vec<&str> = self.key_of(digest).into_iter().collect();
        while let Some(parent) = queue.pop() {
            let parts = self.manifests[parent].parts.iter().filter_map(|part| self.key_of(part));
            queue.extend(parts.filter(|part| *part != digest && found.insert(*part)));
        }
        found
    }

    /// The outermost tagged indexes that contain each tagged manifest. A part with a tag of its own
    /// and its index are one image.
    pub(super) fn outermost_indexes(&self) -> HashMap<&'a str, BTreeSet<&'a str>> {
        let tagged = || self.manifests.keys().copied().filter(|digest| self.has_plain_tag(digest));
        let mut within: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for index in tagged().filter(|digest| !self.manifests[*digest].parts.is_empty()) {
            for part in self.descendants(index) {
                within.entry(part).or_default().insert(index);
            }
        }
        let outermost = |part: &'a str| {
            let all = within.get(part)?;
            let outer = all.iter().filter(|index| !within.contains_key(**index));
            let outer: BTreeSet<&str> = outer.copied().collect();
            (!outer.is_empty()).then_some((part, outer))
        };
        tagged().filter_map(outermost).collect()
    }

    /// The tagged indexes that an index lists, directly or indirectly.
    pub(super) fn tagged_indexes(&self, digest: &str) -> Vec<String> {
        let is_one =
            |part: &&str| !self.manifests[*part].parts.is_empty() && self.has_plain_tag(part);
        self.descendants(digest).into_iter().filter(is_one).map(str::to_owned).collect()
    }

    /// Whether it could be run. An index needs one of its images for that.
    pub(super) fn is_usable(&self, digest: &str) -> bool {
        let Some(manifest) = self.manifests.get(digest) else { return false };
        if manifest.parts.is_empty() {
            return !matches!(manifest.kind, Kind::Nothing);
        }
        manifest.kind == Kind::Cache
            || self.descendants(digest).iter().any(|part| {
                let part = self.manifests[part];
                part.kind == Kind::Image && part.parts.is_empty()
            })
    }

    /// The manifests to delete before each manifest: the indexes that it is a part of, and its
    /// subjects.
    pub(super) fn predecessors(&self) -> HashMap<&'a str, BTreeSet<&'a str>> {
        let mut predecessors: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (digest, manifest) in &self.manifests {
            for part in &manifest.parts {
                predecessors.entry(part).or_default().insert(digest);
            }
            for subject in self.subjects(manifest) {
                if let Some(subject) = self.key_of(&subject) {
                    predecessors.entry(digest).or_default().insert(subject);
                }
            }
        }
        predecessors
    }

    /// Sorts indexes before their parts, and images before their referrers. An interruption then
    /// leaves nothing that refers to something deleted.
    pub(super) fn order(&self, deletions: &mut [Deletion]) {
        // Longer chains come only from tags that name each other.
        const LONGEST: usize = 8;
        let predecessors = self.predecessors();
        let mut depths: HashMap<String, usize> = HashMap::new();
        for _ in 0..LONGEST {
            let mut changed = false;
            for deletion in deletions.iter() {
                let earlier = predecessors.get(deletion.digest.as_str()).into_iter().flatten();
                let depth = earlier.map(|d| depths.get(*d).copied().unwrap_or_default() + 1).max();
                let depth = depth.unwrap_or_default();
                changed |= depths.insert(deletion.digest.clone(), depth) != Some(depth);
            }
            if !changed {
                break;
            }
        }
        let depth = |d: &Deletion| depths.get(&d.digest).copied().unwrap_or_default();
        deletions.sort_by_key(|d| (depth(d), d.digest.clone()));
    }
}
