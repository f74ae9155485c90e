//! Decides which tags the rules take and which they keep, by counting images as people do.
//!
//! An index and those of its parts that have tags are one image. Build caches and attachments are
//! counted separately from images. An image that is protected, or that is unusable, does not count
//! towards `keep`.

use super::graph::{ManifestGraph, names_digest};
use super::planned::KeptTag;
use super::replan::Replan;
use super::rules::{Rule, Rules};
use super::state::{Kind, RepositoryState, TagState};
use crate::image::version;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use time::OffsetDateTime;

/// Whether something is older than a rule requires. An unknown age is not old.
pub(super) fn is_old(at: Option<OffsetDateTime>, rule: &Rule, now: OffsetDateTime) -> bool {
    let Some(at) = at else { return false };
    let Some(span) = rule.older_than else { return true };
    at < span.before(now)
}

/// The tags that the rules match: those they take and those they keep, with the reason.
#[derive(Default)]
pub(super) struct TagDecisions<'a> {
    pub(super) taken: BTreeMap<&'a str, String>,
    pub(super) kept: BTreeMap<&'a str, String>,
    /// Tags that one rule leaves because they are too young for it. Another rule may take them.
    young: BTreeMap<&'a str, String>,
}

/// An image, as the unit of counting.
struct Image<'a, 'b> {
    digest: &'a str,
    /// Its newest tag that the rule matches. An image with a tag of unknown age is not counted, but
    /// kept.
    newest: Option<&'a TagState>,
    kind: Kind,
    is_usable: bool,
    /// Why it stays, whatever the rule says.
    protection: Option<&'b str>,
}

impl Image<'_, '_> {
    /// The newest first. Of images tagged at the same moment, the one with the highest version
    /// comes first.
    fn compare(&self, other: &Self) -> Ordering {
        let age = |image: &Self| image.newest.map(|tag| Reverse(tag.updated));
        let name = |image: &Self| image.newest.map(|tag| tag.name.clone()).unwrap_or_default();
        age(self)
            .cmp(&age(other))
            .then_with(|| version::compare(&numbered(&name(other)), &numbered(&name(self))))
            .then_with(|| self.digest.cmp(other.digest))
    }
}

/// A tag in the form that is compared: `v1.10` is the same version as `1.10`.
fn numbered(tag: &str) -> String {
    tag.trim_start_matches(|c: char| !c.is_ascii_digit()).replace(['-', '_'], ".")
}

/// Counts the images of one repository.
pub(super) struct ImageCounter<'a, 'b> {
    pub(super) state: &'a RepositoryState,
    pub(super) graph: &'b ManifestGraph<'a>,
    /// Why manifests stay, whatever the rules say about their tags.
    pub(super) protected: &'b BTreeMap<&'a str, String>,
    pub(super) again: &'b Replan<'b>,
    pub(super) now: OffsetDateTime,
}

impl<'a> ImageCounter<'a, '_> {
    /// The tags that all rules together take and keep. A tag that one rule keeps is taken by none.
    pub(super) fn of(&self, rules: &Rules) -> TagDecisions<'a> {
        let mut counted = TagDecisions::default();
        let outermost_indexes = self.graph.outermost_indexes();
        // An image that one rule protects does not count towards `keep` of another.
        let mut named: BTreeMap<&str, String> = BTreeMap::new();
        for tag in self.state.tags.iter().filter(|tag| !names_digest(tag)) {
            let mut keeping = rules.numbered(&self.state.name);
            let kept = keeping.find_map(|(n, rule)| Some((n, rule.keeps(&tag.name)?)));
            if let Some((number, pattern)) = kept {
                named.insert(&tag.name, format!("rule {number}: keep-tags '{pattern}'"));
            }
        }
        for (number, rule) in rules.numbered(&self.state.name) {
            self.count((number, rule), &outermost_indexes, &named, &mut counted);
        }
        counted.kept.extend(named);
        counted.taken.retain(|tag, _| !counted.kept.contains_key(tag));
        counted
    }

    fn count(
        &self,
        (number, rule): (usize, &Rule),
        outermost_indexes: &HashMap<&'a str, BTreeSet<&'a str>>,
        named: &BTreeMap<&'a str, String>,
        counted: &mut TagDecisions<'a>,
    ) {
        let Some(pattern) = &rule.tags else { return };
        let fits = |tag: &&TagState| pattern.fits(&tag.name) && !names_digest(tag);
        let fitting: Vec<&TagState> = self.state.tags.iter().filter(fits).collect();
        // A part of an index that this plan has deleted does not count as an image of its own.
        let is_left_over = |digest: &str| {
            let of: Vec<&str> =
                outermost_indexes.get(digest).into_iter().flatten().copied().collect();
            (self.again.is_left_over)(digest, &of)
        };
        let images_of = |digest: &'a str| -> Vec<&'a str> {
            let outermost = outermost_indexes.get(digest).into_iter().flatten().copied();
            let outermost: Vec<&str> = outermost.collect();
            if outermost.is_empty() { vec![digest] } else { outermost }
        };
        let mut images: BTreeMap<&str, Vec<&TagState>> = BTreeMap::new();
        for tag in fitting.iter().filter(|tag| !is_left_over(&tag.digest)) {
            for image in images_of(&tag.digest) {
                images.entry(image).or_default().push(tag);
            }
        }
        let kept = self.kept_images(rule, &images, named);
        let young = self.young_images(rule, &images);
        for tag in fitting {
            let digest = tag.digest.as_str();
            let of_it: Vec<&str> =
                if is_left_over(digest) { Vec::new() } else { images_of(digest) };
            let is_part = of_it.first().is_some_and(|image| *image != digest);
            let with_rule = |image: &str, why: &str| {
                let of = || format!("a part of {}: ", self.graph.display_name(image));
                let of = if is_part { of() } else { String::new() };
                format!("rule {number}: {of}{why}")
            };
            // A part keeps its tags if its index stays, whether that is among the newest or not.
            let kept_reason = of_it.iter().find_map(|image| {
                Some(with_rule(
                    image,
                    kept.get(image).or(self.protected.get(image).filter(|_| is_part))?,
                ))
            });
            if let Some(why) = kept_reason {
                counted.kept.entry(&tag.name).or_insert(why);
                continue;
            }
            let with_young = of_it.iter().filter(|_| is_part).find(|image| young.contains(**image));
            let is_young = !is_old(tag.updated, rule, self.now);
            if let Some(image) = with_young.or_else(|| of_it.first().filter(|_| is_young)) {
                let why = match (rule.older_than, tag.updated) {
                    (Some(span), Some(_)) => format!("not older than {span}"),
                    _ => "the time of tagging is unknown".to_owned(),
                };
                counted.young.entry(&tag.name).or_insert_with(|| with_rule(image, &why));
            } else if !is_young {
                counted.taken.entry(&tag.name).or_insert_with(|| rule.to_string());
            }
        }
    }

    /// The images that a rule keeps, with the reason for each: the newest usable ones that are not
    /// protected anyway, and every image newer than the last of these.
    fn kept_images(
        &self,
        rule: &Rule,
        images: &BTreeMap<&'a str, Vec<&'a TagState>>,
        named: &BTreeMap<&'a str, String>,
    ) -> BTreeMap<&'a str, String> {
        let keep = rule.keep.unwrap_or_default();
        let mut all: Vec<Image<'a, '_>> = Vec::new();
        let mut kept: BTreeMap<&'a str, String> = BTreeMap::new();
        for (digest, tags) in images {
            // The age of an index is that of its own tags. The tags of its parts count only if it
            // has none.
            let own: Vec<&TagState> =
                tags.iter().copied().filter(|tag| tag.digest == *digest).collect();
            let tags = if own.is_empty() { tags } else { &own };
            if tags.iter().any(|tag| tag.updated.is_none()) {
                kept.insert(digest, "the time of tagging is unknown".to_owned());
                continue;
            }
            let newest = tags.iter().copied().max_by(|a, b| {
                let numbers = || version::compare(&numbered(&a.name), &numbered(&b.name));
                a.updated.cmp(&b.updated).then_with(numbers)
            });
            let by_name = self.graph.plain_tags(digest).find_map(|tag| named.get(&*tag.name));
            all.push(Image {
                digest,
                newest,
                kind: self.graph.manifests.get(digest).map_or(Kind::Image, |m| match m.kind {
                    Kind::Nothing => Kind::Image,
                    kind => kind,
                }),
                is_usable: self.graph.is_usable(digest),
                protection: self.protected.get(digest).or(by_name).map(String::as_str),
            });
        }
        all.sort_by(Image::compare);
        for kind in [Kind::Image, Kind::Cache, Kind::Attachment] {
            let mut count = 0;
            for image in all.iter().filter(|image| image.kind == kind) {
                if count == keep {
                    break;
                }
                let what = kind_name(kind);
                let why = match image.protection {
                    Some(reason) => format!("not counted, because it is kept anyway ({reason})"),
                    None if !image.is_usable => {
                        "not counted, because it cannot be run: none of its parts is in the \
                         repository"
                            .to_owned()
                    }
                    None => {
                        count += 1;
                        format!("{what} {count} of the {keep} newest")
                    }
                };
                kept.insert(image.digest, why);
            }
        }
        kept
    }

    /// The images with a tag of their own that is too young for a rule.
    fn young_images(
        &self,
        rule: &Rule,
        images: &BTreeMap<&'a str, Vec<&'a TagState>>,
    ) -> BTreeSet<&'a str> {
        let is_young = |(digest, tags): &(&&'a str, &Vec<&TagState>)| {
            let mut own = tags.iter().filter(|tag| tag.digest == ***digest);
            own.any(|tag| !is_old(tag.updated, rule, self.now))
        };
        images.iter().filter(is_young).map(|(digest, _)| *digest).collect()
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Image | Kind::Nothing => "image",
        Kind::Cache => "build cache",
        Kind::Attachment => "attachment",
    }
}

impl<'a> TagDecisions<'a> {
    /// The tags that the rules match and keep, in the order of the repository.
    pub(super) fn kept_rows(&self, state: &'a RepositoryState) -> Vec<KeptTag> {
        let row = |tag: &TagState| {
            let name = tag.name.as_str();
            let young = || self.young.get(name).filter(|_| !self.taken.contains_key(name));
            let reason = self.kept.get(name).or_else(young)?.clone();
            let (name, digest) = (tag.name.clone(), tag.digest.clone());
            Some(KeptTag { tag: name, digest, changed_at: tag.updated, reason })
        };
        state.tags.iter().filter_map(row).collect()
    }
}
