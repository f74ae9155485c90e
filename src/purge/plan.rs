//! Decides what to delete from a repository, and what protects the rest: a function of the state of
//! the repository, the images in use, and the rules.
//!
//! Whatever stays protects its parts (the images of an index), its subjects (the image of a
//! signature) and its referrers. The plan is computed by elimination: everything that the rules
//! match is a candidate, and every candidate that is needed by something which stays is removed,
//! until nothing changes.

use super::count::{ImageCounter, TagDecisions, is_old};
use super::graph::ManifestGraph;
use super::planned::{Deletion, Protected, RepositoryPlan, Untagging};
use super::replan::Replan;
use super::rules::{Rule, Rules};
use super::state::{Kind, ManifestState, RepositoryState, TagState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use time::OffsetDateTime;

/// Why a manifest stays.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Protection {
    /// It stays with all its tags.
    Wholly(String),
    /// It stays, and loses the tags that a rule takes.
    Itself(String),
}

impl Protection {
    fn reason(&self) -> &str {
        match self {
            Self::Wholly(reason) | Self::Itself(reason) => reason,
        }
    }
}

/// Plans what to delete from a repository at `now`. `in_use` has the users of manifests, by digest.
pub fn plan(
    state: &RepositoryState,
    rules: &Rules,
    in_use: &BTreeMap<String, String>,
    now: OffsetDateTime,
) -> RepositoryPlan {
    plan_again(state, rules, in_use, now, &Replan::NOTHING)
}

/// Why nothing is deleted from a repository.
fn left_alone(state: &RepositoryState) -> Option<String> {
    match &state.unread {
        _ if state.is_locked => Some("the repository is locked".to_owned()),
        unread => unread.clone(),
    }
}

/// Like [`plan`], with knowledge from an earlier plan.
pub(super) fn plan_again(
    state: &RepositoryState,
    rules: &Rules,
    in_use: &BTreeMap<String, String>,
    now: OffsetDateTime,
    again: &Replan<'_>,
) -> RepositoryPlan {
    let graph = ManifestGraph::new(state);
    let mut planned = RepositoryPlan {
        repository: state.name.clone(),
        manifests: graph.manifests.len(),
        ..RepositoryPlan::default()
    };
    if rules.of(&state.name).next().is_none() {
        return planned;
    }
    planned.left_alone = left_alone(state);
    if planned.left_alone.is_some() {
        return planned;
    }
    let planning = Planner { state, graph: &graph, rules, in_use, now };
    let protected = planning.unconditionally_protected();
    let counting = ImageCounter { state, graph: &graph, protected: &protected, again, now };
    let counted = counting.of(rules);
    let mut candidates = planning.candidates(&counted);
    for digest in graph.manifests.keys() {
        if (again.was_planned)(digest) && !graph.has_plain_tag(digest) {
            candidates
                .entry(digest)
                .or_insert_with(|| "planned together with deleted manifests".to_owned());
        }
    }
    let matched: BTreeSet<&str> = candidates.keys().copied().collect();
    let mut protections: BTreeMap<&str, Protection> = BTreeMap::new();
    for (digest, manifest) in &graph.manifests {
        let protection = (again.hold)(manifest).map(Protection::Wholly);
        if let Some(why) = protection.or_else(|| planning.protection(manifest, &counted)) {
            protections.insert(digest, why);
        }
    }
    planning.keep_needed(&mut candidates, &mut protections);
    planning.record_deletions(&candidates, &mut planned);
    planning.record_protected(&protections, &matched, &counted, &mut planned);
    planned
}

/// When a manifest, or one of its tags, was last changed. A tag may be pushed again for the same
/// image, which only its time shows.
pub(super) fn last_changed<'a>(
    updated: Option<OffsetDateTime>,
    tags: impl Iterator<Item = &'a TagState>,
) -> Option<OffsetDateTime> {
    tags.map(|tag| tag.updated).chain([updated]).max().flatten()
}

/// Like [`last_changed`]; `None` if one of the times is unknown, since it may be the last.
fn last_changed_if_known<'a>(
    updated: Option<OffsetDateTime>,
    tags: impl Iterator<Item = &'a TagState>,
) -> Option<OffsetDateTime> {
    tags.map(|tag| tag.updated)
        .chain([updated])
        .try_fold(OffsetDateTime::UNIX_EPOCH, |last, at| Some(last.max(at?)))
}

/// The index that a manifest is counted with.
fn image(outermost_indexes: &HashMap<&str, BTreeSet<&str>>, digest: &str) -> Option<String> {
    outermost_indexes.get(digest)?.first().map(|index| (*index).to_owned())
}

/// Plans one repository.
struct Planner<'a, 'b> {
    state: &'a RepositoryState,
    graph: &'b ManifestGraph<'a>,
    rules: &'b Rules,
    in_use: &'b BTreeMap<String, String>,
    now: OffsetDateTime,
}

impl<'a> Planner<'a, '_> {
    /// All manifests that the rules match, with the reason, and those that depend only on them.
    fn candidates(&self, counted: &TagDecisions<'a>) -> BTreeMap<&'a str, String> {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for (digest, manifest) in &self.graph.manifests {
            if self.graph.has_plain_tag(digest) {
                let reasons: Option<Vec<&String>> = self
                    .graph
                    .plain_tags(digest)
                    .map(|tag| counted.taken.get(tag.name.as_str()))
                    .collect();
                if let Some(reason) = reasons.and_then(|reasons| reasons.first().copied()) {
                    found.insert(digest, reason.clone());
                }
            } else if let Some(reason) = self.untagged_reason(manifest) {
                found.insert(digest, reason);
            }
        }
        // Parts and referrers of a candidate without a plain tag of their own are candidates, too.
        let mut queue: Vec<&str> = found.keys().copied().collect();
        while let Some(candidate) = queue.pop() {
            let parts = self.graph.manifests[candidate].parts.iter();
            let parts = parts.filter_map(|part| Some((self.graph.key_of(part)?, true)));
            let of_it = self.graph.referrers(candidate).map(|own| (own, false));
            for (digest, is_part) in parts.chain(of_it) {
                if self.graph.has_plain_tag(digest) || found.contains_key(digest) {
                    continue;
                }
                let how = if is_part { "a part of" } else { "refers to" };
                found.insert(digest, format!("{how} {}", self.graph.display_name(candidate)));
                queue.push(digest);
            }
        }
        found
    }

    /// Why a manifest without a plain tag is deleted.
    fn untagged_reason(&self, manifest: &ManifestState) -> Option<String> {
        let own = self.graph.tags(&manifest.digest);
        let changed = last_changed_if_known(manifest.updated, own.iter().copied());
        let all = || self.rules.of(&self.state.name).filter(|r| is_old(changed, r, self.now));
        let age = |rule: &Rule| {
            rule.older_than.map(|span| format!(", older than {span}")).unwrap_or_default()
        };
        if let (true, Some(rule)) = (own.is_empty(), all().find(|rule| rule.untagged)) {
            return Some(format!("untagged{}", age(rule)));
        }
        let rule = all().find(|rule| rule.orphans)?;
        let subjects = self.graph.subjects(manifest);
        let is_gone = |subject: &String| {
            self.graph.key_of(subject).is_none() && !self.state.elsewhere.contains(subject)
        };
        // A repository of only signatures has those of images in other repositories.
        let has_images = self.state.manifests.iter().any(|other| self.is_image(other));
        let is_orphan = self.is_attached(manifest)
            && !subjects.is_empty()
            && subjects.iter().all(is_gone)
            && has_images;
        let subject = subjects.first()?;
        is_orphan.then(|| format!("refers to {subject}, which no longer exists{}", age(rule)))
    }

    fn is_image(&self, manifest: &ManifestState) -> bool {
        manifest.kind == Kind::Image && self.graph.subjects(manifest).is_empty()
    }

    /// Whether it exists for the sake of its subject, or is a list of such manifests.
    fn is_attached(&self, manifest: &ManifestState) -> bool {
        let is_one = |manifest: &ManifestState| manifest.kind == Kind::Attachment;
        let mut parts = manifest.parts.iter().filter_map(|part| self.graph.key_of(part));
        is_one(manifest)
            || (!manifest.parts.is_empty() && parts.all(|part| is_one(self.graph.manifests[part])))
    }

    /// The manifests that stay whatever happens to their tags, with the reason.
    fn unconditionally_protected(&self) -> BTreeMap<&'a str, String> {
        let with_reason = |(digest, manifest): (&&'a str, &&'a ManifestState)| {
            let own_digest = || {
                let tag = self.graph.own_digest_tag(digest)?;
                Some(format!("tagged {}, which names its own digest", tag.name))
            };
            Some((*digest, self.full_protection(manifest).or_else(own_digest)?))
        };
        self.graph.manifests.iter().filter_map(with_reason).collect()
    }

    /// Why a manifest may not even lose a tag.
    fn full_protection(&self, manifest: &ManifestState) -> Option<String> {
        let own = self.graph.tags(&manifest.digest);
        if manifest.is_locked {
            return Some("locked".to_owned());
        }
        if let Some(tag) = own.iter().find(|tag| tag.is_locked) {
            return Some(format!("the tag {} is locked", tag.name));
        }
        if let Some(why) = &manifest.unread {
            return Some(why.clone());
        }
        if let Some((name, why)) = own.iter().find_map(|t| Some((&t.name, t.unread.as_ref()?))) {
            return Some(format!("the tag {name}: {why}"));
        }
        self.in_use.get(&manifest.digest).map(|user| format!("in use by {user}"))
    }

    /// Why a manifest stays on its own account.
    fn protection(
        &self,
        manifest: &ManifestState,
        counted: &TagDecisions<'a>,
    ) -> Option<Protection> {
        let digest = manifest.digest.as_str();
        if let Some(why) = self.full_protection(manifest) {
            return Some(Protection::Wholly(why));
        }
        if let Some(tag) = self.graph.own_digest_tag(digest) {
            return Some(Protection::Itself(format!(
                "tagged {}, which names its own digest",
                tag.name
            )));
        }
        let mut plain = self.graph.plain_tags(digest).peekable();
        if plain.peek().is_some() {
            let kept_tag = plain.find(|tag| !counted.taken.contains_key(tag.name.as_str()))?;
            return Some(Protection::Itself(format!("tagged {}", kept_tag.name)));
        }
        let uncounted = self.state.uncounted;
        if uncounted > 0 && self.graph.tags(digest).is_empty() {
            return Some(Protection::Wholly(format!(
                "the registry counts {uncounted} more manifests and tags than it lists, and a \
                 hidden one may depend on an untagged one"
            )));
        }
        // What a push in progress has sent has no tag yet, and neither has a new signature.
        let grace = self.rules.grace();
        let own = self.graph.tags(digest).iter().copied();
        match last_changed_if_known(manifest.updated, own) {
            Some(at) if at < grace.before(self.now) => None,
            Some(_) => Some(Protection::Wholly(format!("untagged, and pushed within {grace}"))),
            None => Some(Protection::Wholly("the time of the push is unknown".to_owned())),
        }
    }

    /// Removes every candidate that something which stays needs.
    fn keep_needed(
        &self,
        candidates: &mut BTreeMap<&'a str, String>,
        protections: &mut BTreeMap<&'a str, Protection>,
    ) {
        candidates.retain(|digest, _| !protections.contains_key(digest));
        // Whatever is not a candidate stays, and needs its parts and subjects.
        let all = self.graph.manifests.keys().copied();
        let mut queue: Vec<&str> = all.filter(|digest| !candidates.contains_key(digest)).collect();
        while let Some(digest) = queue.pop() {
            let manifest = self.graph.manifests[digest];
            let name = self.graph.display_name(digest);
            let parts = manifest.parts.iter().map(|part| {
                (part.clone(), Protection::Itself(format!("a part of {name}, which is kept")))
            });
            let subjects = self.graph.subjects(manifest).into_iter().map(|subject| {
                (subject, Protection::Wholly(format!("{name} refers to it, and is kept")))
            });
            let of_it = self.graph.referrers(digest).map(|referrer| {
                let why = Protection::Wholly(format!("refers to {name}, which is kept"));
                (referrer.to_owned(), why)
            });
            for (needed, why) in parts.chain(subjects).chain(of_it) {
                let Some(needed) = self.graph.key_of(&needed) else { continue };
                if candidates.remove(needed).is_some() {
                    protections.insert(needed, why);
                    queue.push(needed);
                }
            }
        }
    }

    fn changed_at(&self, digest: &str) -> Option<OffsetDateTime> {
        let tags = self.graph.tags(digest).iter().copied();
        last_changed(self.graph.manifests.get(digest)?.updated, tags)
    }

    fn tag_names(&self, digest: &str) -> Vec<String> {
        self.graph.tags(digest).iter().map(|tag| tag.name.clone()).collect()
    }

    fn record_deletions(
        &self,
        candidates: &BTreeMap<&'a str, String>,
        planned: &mut RepositoryPlan,
    ) {
        let outermost_indexes = self.graph.outermost_indexes();
        planned.deletions.extend(candidates.iter().map(|(digest, reason)| Deletion {
            digest: (*digest).to_owned(),
            tags: self.tag_names(digest),
            changed_at: self.changed_at(digest),
            reason: reason.clone(),
            image: image(&outermost_indexes, digest),
            indexes: self.graph.tagged_indexes(digest),
            bytes: self.graph.manifests[*digest].bytes,
            frees: 0,
        }));
        self.graph.order(&mut planned.deletions);
    }

    fn record_protected(
        &self,
        protections: &BTreeMap<&'a str, Protection>,
        matched: &BTreeSet<&'a str>,
        counted: &TagDecisions<'a>,
        planned: &mut RepositoryPlan,
    ) {
        let outermost_indexes = self.graph.outermost_indexes();
        for (digest, why) in protections {
            let own = self.graph.tags(digest);
            let mut taken = own.iter().filter(|tag| counted.taken.contains_key(tag.name.as_str()));
            let protected_by = why.reason().to_owned();
            if matches!(why, Protection::Itself(_)) {
                planned.untaggings.extend(taken.map(|tag| Untagging {
                    tag: tag.name.clone(),
                    digest: (*digest).to_owned(),
                    changed_at: tag.updated,
                    reason: counted.taken[tag.name.as_str()].clone(),
                    protected_by: protected_by.clone(),
                    image: image(&outermost_indexes, digest),
                }));
                continue;
            }
            let is_unread = self.graph.manifests[*digest].unread.is_some();
            if taken.next().is_some() || matched.contains(digest) || is_unread {
                planned.protected.push(Protected {
                    digest: (*digest).to_owned(),
                    tags: self.tag_names(digest),
                    changed_at: self.changed_at(digest),
                    protected_by,
                });
            }
        }
        planned.kept = counted.kept_rows(self.state);
    }
}
