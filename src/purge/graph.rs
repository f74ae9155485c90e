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
pub(super) fn is_of_digest(tag: &TagState) -> bool {
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
        let mut shape = Self { manifests, tags, referrers: HashMap::new() };
        let mut referrers: HashMap<String, Vec<&str>> = HashMap::new();
        for (digest, manifest) in &shape.manifests {
            for subject in shape.subjects(manifest) {
                referrers.entry(subject).or_default().push(digest);
            }
        }
        shape.referrers = referrers;
        shape
    }

    pub(super) fn tags(&self, digest: &str) -> &[&'a TagState] {
        self.tags.get(digest).map(Vec::as_slice).unwrap_or_default()
    }

    /// The tags of a manifest that do not name a digest.
    pub(super) fn plain_tags(&self, digest: &str) -> impl Iterator<Item = &'a TagState> {
        self.tags(digest).iter().copied().filter(|tag| !is_of_digest(tag))
    }

    pub(super) fn has_plain_tag(&self, digest: &str) -> bool {
        self.plain_tags(digest).next().is_some()
    }

    /// A tag that names the digest of the manifest it points at. It is set to keep that manifest
    /// (imgpkg does so for the contents of bundles).
    pub(super) fn tag_of_itself(&self, digest: &str) -> Option<&'a TagState> {
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
    pub(super) fn here(&self, digest: &str) -> Option<&'a str> {
        self.manifests.get_key_value(digest).map(|(digest, _)| *digest)
    }

    /// The display name of a manifest: its first tag, with its digest.
    pub(super) fn called(&self, digest: &str) -> String {
        match self.plain_tags(digest).map(|tag| tag.name.as_str()).min() {
            Some(tag) => format!("{tag} ({digest})"),
            None => digest.to_owned(),
        }
    }

    /// The manifests that a manifest lists, directly or indirectly, as far as they are in the
    /// repository.
    fn below(&self, digest: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut news: Vec<&str> = self.here(digest).into_iter().collect();
        while let Some(whole) = news.pop() {
            let parts = self.manifests[whole].parts.iter().filter_map(|part| self.here(part));
            news.extend(parts.filter(|part| *part != digest && found.insert(*part)));
        }
        found
    }

    /// The outermost tagged indexes that contain each tagged manifest. A part with a tag of its own
    /// and its index are one image.
    pub(super) fn wholes(&self) -> HashMap<&'a str, BTreeSet<&'a str>> {
        let tagged = || self.manifests.keys().copied().filter(|digest| self.has_plain_tag(digest));
        let mut within: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for whole in tagged().filter(|digest| !self.manifests[*digest].parts.is_empty()) {
            for part in self.below(whole) {
                within.entry(part).or_default().insert(whole);
            }
        }
        let outermost = |part: &'a str| {
            let all = within.get(part)?;
            let outer = all.iter().filter(|whole| !within.contains_key(**whole));
            let outer: BTreeSet<&str> = outer.copied().collect();
            (!outer.is_empty()).then_some((part, outer))
        };
        tagged().filter_map(outermost).collect()
    }

    /// The tagged indexes that an index lists, directly or indirectly.
    pub(super) fn tagged_indexes(&self, digest: &str) -> Vec<String> {
        let is_one =
            |part: &&str| !self.manifests[*part].parts.is_empty() && self.has_plain_tag(part);
        self.below(digest).into_iter().filter(is_one).map(str::to_owned).collect()
    }

    /// Whether it could be run. An index needs one of its images for that.
    pub(super) fn is_usable(&self, digest: &str) -> bool {
        let Some(manifest) = self.manifests.get(digest) else { return false };
        if manifest.parts.is_empty() {
            return !matches!(manifest.kind, Kind::Nothing);
        }
        manifest.kind == Kind::Cache
            || self.below(digest).iter().any(|part| {
                let part = self.manifests[part];
                part.kind == Kind::Image && part.parts.is_empty()
            })
    }

    /// The manifests to delete before each manifest: the indexes that it is a part of, and its
    /// subjects.
    pub(super) fn above(&self) -> HashMap<&'a str, BTreeSet<&'a str>> {
        let mut above: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (digest, manifest) in &self.manifests {
            for part in &manifest.parts {
                above.entry(part).or_default().insert(digest);
            }
            for subject in self.subjects(manifest) {
                if let Some(subject) = self.here(&subject) {
                    above.entry(digest).or_default().insert(subject);
                }
            }
        }
        above
    }

    /// Sorts indexes before their parts, and images before their referrers. An interruption then
    /// leaves nothing that refers to something deleted.
    pub(super) fn order(&self, deletions: &mut [Deletion]) {
        // Longer chains come only from tags that name each other.
        const LONGEST: usize = 8;
        let above = self.above();
        let mut depths: HashMap<String, usize> = HashMap::new();
        for _ in 0..LONGEST {
            let mut changed = false;
            for deletion in deletions.iter() {
                let over = above.get(deletion.digest.as_str()).into_iter().flatten();
                let depth = over.map(|d| depths.get(*d).copied().unwrap_or_default() + 1).max();
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
