//! What of a repository goes, and what protects the rest: a function of how the repository is, what is
//! in use, and the rules.
//!
//! Whatever stays protects what it is made of (the images of an index), what it refers to (a
//! signature's image) and what refers to it. So a plan is found by taking back: everything that the
//! rules would have is a candidate, and each candidate that something which stays needs is one no
//! more, until nothing changes.

use super::rules::{Rule, Rules};
use crate::image::registry::tagged_subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// A manifest as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestState {
    /// Its digest.
    pub digest: String,
    /// When it was last pushed or changed; none where that cannot be read.
    pub updated: Option<OffsetDateTime>,
    /// Whether it can be neither deleted nor written.
    pub is_locked: bool,
    /// What cannot be read of it: it may be locked, new, or tagged.
    pub unread: Option<String>,
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
    /// Manifests and tags that it has, and that are hidden from lists (`listEnabled: false`). What they
    /// need cannot be known, so nothing goes.
    pub hidden: u64,
}

/// A manifest that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Its digest.
    pub digest: String,
    /// The tags that go with it.
    pub tags: Vec<String>,
    /// When it, or one of its tags, was last changed as the plan saw it, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why it goes.
    pub reason: String,
    /// Bytes of what it points at; what others have, too, is not freed.
    pub bytes: u64,
}

/// A tag that goes, while what it points at stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Untagging {
    /// The tag.
    pub tag: String,
    /// What it points at.
    pub digest: String,
    /// When it was last moved as the plan saw it, by the registry's clock.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub changed_at: Option<OffsetDateTime>,
    /// Why it goes.
    pub reason: String,
    /// Why its manifest stays.
    pub protected_by: String,
}

/// What the rules would have taken, and what protects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protected {
    /// Its digest.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What protects it.
    pub protected_by: String,
}

/// What of one repository goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The repository.
    pub repository: String,
    /// Manifests that it has.
    pub manifests: usize,
    /// Manifests that go, each before what it is made of and what refers to it.
    pub deletions: Vec<Deletion>,
    /// Tags that go alone.
    pub untaggings: Vec<Untagging>,
    /// Why nothing of it goes, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<String>,
    /// What stays although a rule is about it.
    pub protected: Vec<Protected>,
}

/// Why something stays.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stays {
    /// It may not even lose a tag.
    Wholly(String),
    /// It may lose tags that a rule takes.
    Itself(String),
}

impl Stays {
    fn reason(&self) -> &str {
        match self {
            Self::Wholly(reason) | Self::Itself(reason) => reason,
        }
    }
}

/// What is older than a rule wants; nothing is, where that is further back than time goes.
fn is_old(at: Option<OffsetDateTime>, rule: &Rule, now: OffsetDateTime) -> bool {
    let Some(at) = at else { return false };
    let Some(span) = rule.older_than else { return true };
    let span = time::Duration::try_from(span.0).ok();
    span.and_then(|span| now.checked_sub(span)).is_some_and(|limit| at < limit)
}

/// The tags that the rules take, and why.
fn taken_tags<'a>(
    state: &'a RepositoryState,
    rules: &Rules,
    now: OffsetDateTime,
) -> BTreeMap<&'a str, String> {
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    let mut kept: BTreeSet<&str> = BTreeSet::new();
    for rule in rules.of(&state.name) {
        let keeps = |tag: &&TagState| rule.keep_tags.iter().any(|kept| kept.fits(&tag.name));
        kept.extend(state.tags.iter().filter(keeps).map(|tag| tag.name.as_str()));
        let Some(pattern) = &rule.tags else { continue };
        let fits = |tag: &&TagState| pattern.fits(&tag.name) && tagged_subject(&tag.name).is_none();
        let mut fitting: Vec<&TagState> = state.tags.iter().filter(fits).collect();
        // The newest first. What has a tag of unknown age stays, and takes the place of none that is known to be new.
        fitting.sort_by(|a, b| {
            let age = |tag: &TagState| {
                tag.updated.map_or((0, None), |at| (1, Some(std::cmp::Reverse(at))))
            };
            age(a).cmp(&age(b)).then_with(|| a.name.cmp(&b.name))
        });
        let of_unknown_age = fitting.iter().filter(|tag| tag.updated.is_none());
        let unknown: BTreeSet<&str> = of_unknown_age.map(|tag| tag.digest.as_str()).collect();
        let mut newest: BTreeSet<&str> = BTreeSet::new();
        for tag in fitting.iter().filter(|tag| !unknown.contains(tag.digest.as_str())) {
            if newest.len() < rule.keep.unwrap_or(0) {
                newest.insert(&tag.digest);
            }
        }
        for tag in fitting {
            let digest = tag.digest.as_str();
            if newest.contains(digest) || unknown.contains(digest) {
                kept.insert(&tag.name);
            } else if is_old(tag.updated, rule, now) {
                let age = rule.older_than.map(|span| format!(", older than {span}"));
                let keep = rule.keep.map(|keep| format!(", not among the {keep} newest"));
                let reason = format!(
                    "tags '{pattern}'{}{}",
                    age.unwrap_or_default(),
                    keep.unwrap_or_default()
                );
                taken.entry(&tag.name).or_insert(reason);
            }
        }
    }
    taken.retain(|tag, _| !kept.contains(tag));
    taken
}

/// What of a repository goes at `now`. `in_use` says what stands on a manifest, by digest.
pub fn plan(
    state: &RepositoryState,
    rules: &Rules,
    in_use: &BTreeMap<String, String>,
    now: OffsetDateTime,
) -> Planned {
    plan_again(state, rules, in_use, now, &Again { hold: &|_| None, was_planned: &|_| false })
}

/// What is known from a plan that was made before.
pub(super) struct Again<'a> {
    /// Why more manifests stay, with all their tags.
    pub(super) hold: &'a dyn Fn(&ManifestState) -> Option<String>,
    /// Whether a manifest was planned to go. One that went with another that is gone by now has no
    /// other reason to go.
    pub(super) was_planned: &'a dyn Fn(&str) -> bool,
}

/// The same, with what is known from a plan that was made before.
pub(super) fn plan_again(
    state: &RepositoryState,
    rules: &Rules,
    in_use: &BTreeMap<String, String>,
    now: OffsetDateTime,
    again: &Again<'_>,
) -> Planned {
    let shape = Shape::new(state);
    let mut planned = Planned {
        repository: state.name.clone(),
        manifests: shape.manifests.len(),
        ..Planned::default()
    };
    if rules.of(&state.name).next().is_none() {
        return planned;
    }
    planned.left_alone = match state.hidden {
        _ if state.is_locked => Some("the repository is locked".to_owned()),
        _ if state.unread.is_some() => state.unread.clone(),
        0 => None,
        hidden => Some(format!(
            "{hidden} manifests and tags are hidden from lists, and what they need is not known"
        )),
    };
    if planned.left_alone.is_some() {
        return planned;
    }
    let taken = taken_tags(state, rules, now);
    let mut candidates = shape.candidates(&taken, rules, &state.name, now);
    for digest in shape.manifests.keys() {
        if (again.was_planned)(digest) && !shape.has_plain_tag(digest) {
            candidates.entry(digest).or_insert_with(|| "planned with what is gone".to_owned());
        }
    }
    let mut stays: BTreeMap<&str, Stays> = BTreeMap::new();
    for (digest, manifest) in &shape.manifests {
        let held = (again.hold)(manifest).map(Stays::Wholly);
        if let Some(why) = held.or_else(|| shape.held(manifest, &taken, in_use)) {
            stays.insert(digest, why);
        }
    }
    shape.take_back(&mut candidates, &mut stays);
    for (digest, reason) in &candidates {
        let tags = shape.tags(digest).iter().map(|tag| tag.name.clone()).collect();
        let manifest = shape.manifests[digest];
        let changed_at = last_changed(manifest.updated, shape.tags(digest).iter().copied());
        let (digest, reason) = ((*digest).to_owned(), reason.clone());
        let bytes = manifest.bytes;
        planned.deletions.push(Deletion { digest, tags, changed_at, reason, bytes });
    }
    shape.order(&mut planned.deletions);
    for (digest, why) in &stays {
        let own = shape.tags(digest);
        let going: Vec<&&TagState> =
            own.iter().filter(|tag| taken.contains_key(tag.name.as_str())).collect();
        let protected_by = why.reason().to_owned();
        if matches!(why, Stays::Itself(_)) {
            planned.untaggings.extend(going.iter().map(|tag| Untagging {
                tag: tag.name.clone(),
                digest: (*digest).to_owned(),
                changed_at: tag.updated,
                reason: taken[tag.name.as_str()].clone(),
                protected_by: protected_by.clone(),
            }));
        } else if !going.is_empty() || own.is_empty() {
            let tags = own.iter().map(|tag| tag.name.clone()).collect();
            planned.protected.push(Protected { digest: (*digest).to_owned(), tags, protected_by });
        }
    }
    planned
}

/// When a manifest, or one of its tags, was last changed. The same tag may be pushed to the same image
/// again, which nothing else tells.
pub(super) fn last_changed<'a>(
    updated: Option<OffsetDateTime>,
    tags: impl Iterator<Item = &'a TagState>,
) -> Option<OffsetDateTime> {
    tags.map(|tag| tag.updated).chain([updated]).max().flatten()
}

/// How the manifests of a repository hang together.
pub(super) struct Shape<'a> {
    pub(super) manifests: BTreeMap<&'a str, &'a ManifestState>,
    tags: HashMap<&'a str, Vec<&'a TagState>>,
    /// What refers to a manifest, by subject or by the name of a tag.
    referrers: HashMap<String, Vec<&'a str>>,
}

impl<'a> Shape<'a> {
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

    /// Whether a tag of its own points at a manifest, rather than one that names another's digest.
    fn has_plain_tag(&self, digest: &str) -> bool {
        self.tags(digest).iter().any(|tag| tagged_subject(&tag.name).is_none())
    }

    /// What a manifest refers to: its subject, and the digests that its tags name.
    pub(super) fn subjects(&self, manifest: &ManifestState) -> BTreeSet<String> {
        let by_tag = self.tags(&manifest.digest).iter().filter_map(|tag| tagged_subject(&tag.name));
        let mut subjects: BTreeSet<String> = by_tag.chain(manifest.subject.clone()).collect();
        subjects.remove(&manifest.digest);
        subjects
    }

    /// Everything that the rules would have, with the reason, and what hangs on that alone.
    fn candidates(
        &self,
        taken: &BTreeMap<&str, String>,
        rules: &Rules,
        repository: &str,
        now: OffsetDateTime,
    ) -> BTreeMap<&'a str, String> {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for (digest, manifest) in &self.manifests {
            let own = self.tags(digest);
            if self.has_plain_tag(digest) {
                let plain = own.iter().filter(|tag| tagged_subject(&tag.name).is_none());
                let reasons: Option<Vec<&String>> =
                    plain.map(|tag| taken.get(tag.name.as_str())).collect();
                if let Some(reason) = reasons.and_then(|reasons| reasons.first().copied()) {
                    found.insert(digest, reason.clone());
                }
            } else if own.is_empty() {
                let mut of_it = rules.of(repository);
                let rule = of_it.find(|rule| rule.untagged && is_old(manifest.updated, rule, now));
                if let Some(rule) = rule {
                    let age = rule.older_than.map(|span| format!(", older than {span}"));
                    found.insert(digest, format!("untagged{}", age.unwrap_or_default()));
                }
            }
        }
        // What is a part of what goes, or refers to it, and has no plain tag of its own, goes with it.
        let mut news: Vec<&str> = found.keys().copied().collect();
        while let Some(whole) = news.pop() {
            let parts = self.manifests[whole].parts.iter().map(|part| (part.as_str(), true));
            let of_it = self.referrers.get(whole).into_iter().flatten().map(|own| (*own, false));
            for (digest, is_part) in parts.chain(of_it) {
                let Some((digest, _)) = self.manifests.get_key_value(digest) else { continue };
                if self.has_plain_tag(digest) || found.contains_key(digest) {
                    continue;
                }
                let how = if is_part { "a part of" } else { "refers to" };
                found.insert(digest, format!("{how} {whole}"));
                news.push(digest);
            }
        }
        found
    }

    /// What holds a manifest by itself.
    fn held(
        &self,
        manifest: &ManifestState,
        taken: &BTreeMap<&str, String>,
        in_use: &BTreeMap<String, String>,
    ) -> Option<Stays> {
        let own = self.tags(&manifest.digest);
        if manifest.is_locked {
            return Some(Stays::Wholly("locked".to_owned()));
        }
        if let Some(tag) = own.iter().find(|tag| tag.is_locked) {
            return Some(Stays::Wholly(format!("the tag {} is locked", tag.name)));
        }
        if let Some(why) = &manifest.unread {
            return Some(Stays::Wholly(why.clone()));
        }
        if let Some((name, why)) = own.iter().find_map(|t| Some((&t.name, t.unread.as_ref()?))) {
            return Some(Stays::Wholly(format!("the tag {name}: {why}")));
        }
        if let Some(user) = in_use.get(&manifest.digest) {
            return Some(Stays::Wholly(format!("in use by {user}")));
        }
        let mut plain = own.iter().filter(|tag| tagged_subject(&tag.name).is_none());
        let stays = plain.find(|tag| !taken.contains_key(tag.name.as_str()))?;
        Some(Stays::Itself(format!("tagged {}", stays.name)))
    }

    /// Takes back every candidate that something which stays needs.
    fn take_back(
        &self,
        candidates: &mut BTreeMap<&'a str, String>,
        stays: &mut BTreeMap<&'a str, Stays>,
    ) {
        candidates.retain(|digest, _| !stays.contains_key(digest));
        // Whatever is no candidate stays, and needs what it is made of and refers to.
        let all = self.manifests.keys().copied();
        let mut news: Vec<&str> = all.filter(|digest| !candidates.contains_key(digest)).collect();
        while let Some(digest) = news.pop() {
            let manifest = self.manifests[digest];
            let parts = manifest.parts.iter().map(|part| {
                (part.clone(), Stays::Itself(format!("a part of {digest}, which stays")))
            });
            let subjects = self.subjects(manifest).into_iter().map(|subject| {
                (subject, Stays::Wholly(format!("{digest} refers to it, and stays")))
            });
            let of_it = self.referrers.get(digest).into_iter().flatten().map(|referrer| {
                let why = Stays::Wholly(format!("refers to {digest}, which stays"));
                ((*referrer).to_owned(), why)
            });
            for (needed, why) in parts.chain(subjects).chain(of_it) {
                let needed = self.manifests.get_key_value(needed.as_str());
                let Some((needed, _)) = needed else { continue };
                if candidates.remove(needed).is_some() {
                    stays.insert(needed, why);
                    news.push(needed);
                }
            }
        }
    }

    /// What must go before a manifest does: the wholes that it is a part of, and its subjects.
    pub(super) fn above(&self) -> HashMap<&'a str, BTreeSet<&'a str>> {
        let mut above: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (digest, manifest) in &self.manifests {
            for part in &manifest.parts {
                above.entry(part).or_default().insert(digest);
            }
            for subject in self.subjects(manifest) {
                if let Some((subject, _)) = self.manifests.get_key_value(subject.as_str()) {
                    above.entry(digest).or_default().insert(subject);
                }
            }
        }
        above
    }

    /// Wholes before their parts, images before what refers to them: what breaks off in between leaves
    /// nothing that points at what is gone.
    fn order(&self, deletions: &mut [Deletion]) {
        // Longer ways than this are made up by tags that name each other.
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
