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
    let shape = ManifestGraph::new(state);
    let mut planned = RepositoryPlan {
        repository: state.name.clone(),
        manifests: shape.manifests.len(),
        ..RepositoryPlan::default()
    };
    if rules.of(&state.name).next().is_none() {
        return planned;
    }
    planned.left_alone = left_alone(state);
    if planned.left_alone.is_some() {
        return planned;
    }
    let planning = Planner { state, shape: &shape, rules, in_use, now };
    let held = planning.held_whatever_the_rules_say();
    let counting = ImageCounter { state, shape: &shape, held: &held, again, now };
    let counted = counting.of(rules);
    let mut candidates = planning.candidates(&counted);
    for digest in shape.manifests.keys() {
        if (again.was_planned)(digest) && !shape.has_plain_tag(digest) {
            candidates
                .entry(digest)
                .or_insert_with(|| "planned together with deleted manifests".to_owned());
        }
    }
    let wanted: BTreeSet<&str> = candidates.keys().copied().collect();
    let mut stays: BTreeMap<&str, Protection> = BTreeMap::new();
    for (digest, manifest) in &shape.manifests {
        let held = (again.hold)(manifest).map(Protection::Wholly);
        if let Some(why) = held.or_else(|| planning.held(manifest, &counted)) {
            stays.insert(digest, why);
        }
    }
    planning.take_back(&mut candidates, &mut stays);
    planning.write_down_deletions(&candidates, &mut planned);
    planning.write_down_what_stays(&stays, &wanted, &counted, &mut planned);
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
fn youngest<'a>(
    updated: Option<OffsetDateTime>,
    tags: impl Iterator<Item = &'a TagState>,
) -> Option<OffsetDateTime> {
    tags.map(|tag| tag.updated)
        .chain([updated])
        .try_fold(OffsetDateTime::UNIX_EPOCH, |last, at| Some(last.max(at?)))
}

/// The index that a manifest is counted with.
fn image(wholes: &HashMap<&str, BTreeSet<&str>>, digest: &str) -> Option<String> {
    wholes.get(digest)?.first().map(|whole| (*whole).to_owned())
}

/// Plans one repository.
struct Planner<'a, 'b> {
    state: &'a RepositoryState,
    shape: &'b ManifestGraph<'a>,
    rules: &'b Rules,
    in_use: &'b BTreeMap<String, String>,
    now: OffsetDateTime,
}

impl<'a> Planner<'a, '_> {
    /// All manifests that the rules match, with the reason, and those that depend only on them.
    fn candidates(&self, counted: &TagDecisions<'a>) -> BTreeMap<&'a str, String> {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for (digest, manifest) in &self.shape.manifests {
            if self.shape.has_plain_tag(digest) {
                let reasons: Option<Vec<&String>> = self
                    .shape
                    .plain_tags(digest)
                    .map(|tag| counted.taken.get(tag.name.as_str()))
                    .collect();
                if let Some(reason) = reasons.and_then(|reasons| reasons.first().copied()) {
                    found.insert(digest, reason.clone());
                }
            } else if let Some(reason) = self.without_tag(manifest) {
                found.insert(digest, reason);
            }
        }
        // Parts and referrers of a candidate without a plain tag of their own are candidates, too.
        let mut news: Vec<&str> = found.keys().copied().collect();
        while let Some(whole) = news.pop() {
            let parts = self.shape.manifests[whole].parts.iter();
            let parts = parts.filter_map(|part| Some((self.shape.here(part)?, true)));
            let of_it = self.shape.referrers(whole).map(|own| (own, false));
            for (digest, is_part) in parts.chain(of_it) {
                if self.shape.has_plain_tag(digest) || found.contains_key(digest) {
                    continue;
                }
                let how = if is_part { "a part of" } else { "refers to" };
                found.insert(digest, format!("{how} {}", self.shape.called(whole)));
                news.push(digest);
            }
        }
        found
    }

    /// Why a manifest without a plain tag is deleted.
    fn without_tag(&self, manifest: &ManifestState) -> Option<String> {
        let own = self.shape.tags(&manifest.digest);
        let changed = youngest(manifest.updated, own.iter().copied());
        let all = || self.rules.of(&self.state.name).filter(|r| is_old(changed, r, self.now));
        let age = |rule: &Rule| {
            rule.older_than.map(|span| format!(", older than {span}")).unwrap_or_default()
        };
        if let (true, Some(rule)) = (own.is_empty(), all().find(|rule| rule.untagged)) {
            return Some(format!("untagged{}", age(rule)));
        }
        let rule = all().find(|rule| rule.orphans)?;
        let subjects = self.shape.subjects(manifest);
        let is_gone = |subject: &String| {
            self.shape.here(subject).is_none() && !self.state.elsewhere.contains(subject)
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
        manifest.kind == Kind::Image && self.shape.subjects(manifest).is_empty()
    }

    /// Whether it exists for the sake of its subject, or is a list of such manifests.
    fn is_attached(&self, manifest: &ManifestState) -> bool {
        let is_one = |manifest: &ManifestState| manifest.kind == Kind::Attachment;
        let mut parts = manifest.parts.iter().filter_map(|part| self.shape.here(part));
        is_one(manifest)
            || (!manifest.parts.is_empty() && parts.all(|part| is_one(self.shape.manifests[part])))
    }

    /// The manifests that stay whatever happens to their tags, with the reason.
    fn held_whatever_the_rules_say(&self) -> BTreeMap<&'a str, String> {
        let held = |(digest, manifest): (&&'a str, &&'a ManifestState)| {
            let own_digest = || {
                let tag = self.shape.tag_of_itself(digest)?;
                Some(format!("tagged {}, which names its own digest", tag.name))
            };
            Some((*digest, self.closed(manifest).or_else(own_digest)?))
        };
        self.shape.manifests.iter().filter_map(held).collect()
    }

    /// Why a manifest may not even lose a tag.
    fn closed(&self, manifest: &ManifestState) -> Option<String> {
        let own = self.shape.tags(&manifest.digest);
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
    fn held(&self, manifest: &ManifestState, counted: &TagDecisions<'a>) -> Option<Protection> {
        let digest = manifest.digest.as_str();
        if let Some(why) = self.closed(manifest) {
            return Some(Protection::Wholly(why));
        }
        if let Some(tag) = self.shape.tag_of_itself(digest) {
            return Some(Protection::Itself(format!(
                "tagged {}, which names its own digest",
                tag.name
            )));
        }
        let mut plain = self.shape.plain_tags(digest).peekable();
        if plain.peek().is_some() {
            let stays = plain.find(|tag| !counted.taken.contains_key(tag.name.as_str()))?;
            return Some(Protection::Itself(format!("tagged {}", stays.name)));
        }
        let uncounted = self.state.uncounted;
        if uncounted > 0 && self.shape.tags(digest).is_empty() {
            return Some(Protection::Wholly(format!(
                "the registry counts {uncounted} more manifests and tags than it lists, and a \
                 hidden one may depend on an untagged one"
            )));
        }
        // What a push in progress has sent has no tag yet, and neither has a new signature.
        let grace = self.rules.grace();
        let own = self.shape.tags(digest).iter().copied();
        match youngest(manifest.updated, own) {
            Some(at) if at < grace.before(self.now) => None,
            Some(_) => Some(Protection::Wholly(format!("untagged, and pushed within {grace}"))),
            None => Some(Protection::Wholly("the time of the push is unknown".to_owned())),
        }
    }

    /// Removes every candidate that something which stays needs.
    fn take_back(
        &self,
        candidates: &mut BTreeMap<&'a str, String>,
        stays: &mut BTreeMap<&'a str, Protection>,
    ) {
        candidates.retain(|digest, _| !stays.contains_key(digest));
        // Whatever is not a candidate stays, and needs its parts and subjects.
        let all = self.shape.manifests.keys().copied();
        let mut news: Vec<&str> = all.filter(|digest| !candidates.contains_key(digest)).collect();
        while let Some(digest) = news.pop() {
            let manifest = self.shape.manifests[digest];
            let called = self.shape.called(digest);
            let parts = manifest.parts.iter().map(|part| {
                (part.clone(), Protection::Itself(format!("a part of {called}, which is kept")))
            });
            let subjects = self.shape.subjects(manifest).into_iter().map(|subject| {
                (subject, Protection::Wholly(format!("{called} refers to it, and is kept")))
            });
            let of_it = self.shape.referrers(digest).map(|referrer| {
                let why = Protection::Wholly(format!("refers to {called}, which is kept"));
                (referrer.to_owned(), why)
            });
            for (needed, why) in parts.chain(subjects).chain(of_it) {
                let Some(needed) = self.shape.here(&needed) else { continue };
                if candidates.remove(needed).is_some() {
                    stays.insert(needed, why);
                    news.push(needed);
                }
            }
        }
    }

    fn changed_at(&self, digest: &str) -> Option<OffsetDateTime> {
        let tags = self.shape.tags(digest).iter().copied();
        last_changed(self.shape.manifests.get(digest)?.updated, tags)
    }

    fn tag_names(&self, digest: &str) -> Vec<String> {
        self.shape.tags(digest).iter().map(|tag| tag.name.clone()).collect()
    }

    fn write_down_deletions(
        &self,
        candidates: &BTreeMap<&'a str, String>,
        planned: &mut RepositoryPlan,
    ) {
        let wholes = self.shape.wholes();
        planned.deletions.extend(candidates.iter().map(|(digest, reason)| Deletion {
            digest: (*digest).to_owned(),
            tags: self.tag_names(digest),
            changed_at: self.changed_at(digest),
            reason: reason.clone(),
            image: image(&wholes, digest),
            indexes: self.shape.tagged_indexes(digest),
            bytes: self.shape.manifests[*digest].bytes,
            frees: 0,
        }));
        self.shape.order(&mut planned.deletions);
    }

    fn write_down_what_stays(
        &self,
        stays: &BTreeMap<&'a str, Protection>,
        wanted: &BTreeSet<&'a str>,
        counted: &TagDecisions<'a>,
        planned: &mut RepositoryPlan,
    ) {
        let wholes = self.shape.wholes();
        for (digest, why) in stays {
            let own = self.shape.tags(digest);
            let mut going = own.iter().filter(|tag| counted.taken.contains_key(tag.name.as_str()));
            let protected_by = why.reason().to_owned();
            if matches!(why, Protection::Itself(_)) {
                planned.untaggings.extend(going.map(|tag| Untagging {
                    tag: tag.name.clone(),
                    digest: (*digest).to_owned(),
                    changed_at: tag.updated,
                    reason: counted.taken[tag.name.as_str()].clone(),
                    protected_by: protected_by.clone(),
                    image: image(&wholes, digest),
                }));
                continue;
            }
            let is_unread = self.shape.manifests[*digest].unread.is_some();
            if going.next().is_some() || wanted.contains(digest) || is_unread {
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
