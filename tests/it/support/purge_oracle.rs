//! What a purge takes and what it must leave, worked out once more: slowly, from the rules as the documentation has
//! them, and without the planner.

use azimg::testing::image::referrers::tagged_subject;
use azimg::testing::image::version;
use azimg::testing::purge::{Kind, ManifestState, RepositoryState, Rule, Rules, TagState};
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

pub struct Oracle<'a> {
    pub state: &'a RepositoryState,
    pub rules: &'a Rules,
    pub used: &'a BTreeSet<String>,
    pub at: OffsetDateTime,
}

fn is_plain(tag: &TagState) -> bool {
    tagged_subject(&tag.name).is_none()
}

/// A tag as people compare it: `v1.10` comes after `v1.9`.
fn numbers(tag: &str) -> String {
    tag.trim_start_matches(|c: char| !c.is_ascii_digit()).replace(['-', '_'], ".")
}

impl<'a> Oracle<'a> {
    fn manifest(&self, digest: &str) -> Option<&'a ManifestState> {
        self.state.manifests.iter().find(|manifest| manifest.digest == digest)
    }

    fn tags(&self, digest: &str) -> Vec<&'a TagState> {
        self.state.tags.iter().filter(|tag| tag.digest == digest).collect()
    }

    fn plain(&self, digest: &str) -> Vec<&'a TagState> {
        self.tags(digest).into_iter().filter(|tag| is_plain(tag)).collect()
    }

    fn lists(&self, whole: &str, part: &str) -> bool {
        let parts = self.manifest(whole).map(|found| found.parts.as_slice()).unwrap_or_default();
        parts.iter().any(|own| own == part || self.lists(own, part))
    }

    /// What it refers to, but itself.
    pub fn subjects(&self, manifest: &ManifestState) -> BTreeSet<String> {
        let tags = self.tags(&manifest.digest);
        let named = tags.iter().filter_map(|tag| tagged_subject(&tag.name));
        let all = named.chain(manifest.subject.clone());
        all.filter(|subject| *subject != manifest.digest).collect()
    }

    fn is_old(&self, at: Option<OffsetDateTime>, rule: &Rule) -> bool {
        match (at, rule.older_than) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(at), Some(span)) => {
                self.at - at > Duration::seconds(span.length().as_secs().cast_signed())
            }
        }
    }

    /// What stays whatever the rules say of its tags.
    pub fn is_held(&self, manifest: &ManifestState) -> bool {
        let tags = self.tags(&manifest.digest);
        self.is_closed(manifest)
            || tags.iter().any(|tag| tagged_subject(&tag.name).as_ref() == Some(&manifest.digest))
    }

    fn is_closed(&self, manifest: &ManifestState) -> bool {
        let is_locked = manifest.is_locked || manifest.unread.is_some();
        is_locked
            || self.used.contains(&manifest.digest)
            || self.tags(&manifest.digest).iter().any(|tag| tag.is_locked)
    }

    /// The images that a manifest with a plain tag is counted as.
    fn images(&self, digest: &str) -> Vec<&'a str> {
        let is_tagged = |whole: &&ManifestState| !self.plain(&whole.digest).is_empty();
        let over = |part: &str| {
            let all = self.state.manifests.iter().filter(is_tagged);
            all.filter(|whole| self.lists(&whole.digest, part)).collect::<Vec<_>>()
        };
        let outermost: Vec<&str> = over(digest)
            .into_iter()
            .filter(|whole| over(&whole.digest).is_empty())
            .map(|whole| whole.digest.as_str())
            .collect();
        if !outermost.is_empty() {
            return outermost;
        }
        self.manifest(digest).map(|found| found.digest.as_str()).into_iter().collect()
    }

    fn is_usable(&self, digest: &str) -> bool {
        let Some(found) = self.manifest(digest) else { return false };
        match found.kind {
            Kind::Nothing => false,
            Kind::Cache => true,
            _ if found.parts.is_empty() => true,
            _ => self.state.manifests.iter().any(|part| {
                let is_image = part.kind == Kind::Image && part.parts.is_empty();
                is_image && self.lists(digest, &part.digest)
            }),
        }
    }

    fn fitting(&self, rule: &Rule) -> Vec<&'a TagState> {
        let fits = |tag: &&TagState| rule.tags.as_ref().is_some_and(|tags| tags.fits(&tag.name));
        self.state.tags.iter().filter(fits).filter(|tag| is_plain(tag)).collect()
    }

    fn keeps_by_name(&self, tag: &TagState) -> bool {
        is_plain(tag)
            && self.rules.rules.iter().any(|rule| rule.keep_tags.iter().any(|k| k.fits(&tag.name)))
    }

    /// The images that a rule keeps by number, and those of which a tag of their own is too young for it.
    fn kept_and_young(&self, rule: &Rule) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
        let fitting = self.fitting(rule);
        let mut tags: BTreeMap<&str, Vec<&TagState>> = BTreeMap::new();
        for tag in &fitting {
            for image in self.images(&tag.digest) {
                tags.entry(image).or_default().push(tag);
            }
        }
        let (mut kept, mut young) = (BTreeSet::new(), BTreeSet::new());
        let mut counted: Vec<(OffsetDateTime, String, &str)> = Vec::new();
        for (image, all) in &tags {
            let own: Vec<&TagState> = all.iter().copied().filter(|t| t.digest == *image).collect();
            if own.iter().any(|tag| !self.is_old(tag.updated, rule)) {
                young.insert(*image);
            }
            let of_it = if own.is_empty() { all } else { &own };
            if of_it.iter().any(|tag| tag.updated.is_none()) {
                kept.insert(*image);
                continue;
            }
            let last = of_it.iter().filter_map(|tag| tag.updated).max().unwrap();
            let newest = of_it.iter().filter(|tag| tag.updated == Some(last));
            let names = newest.map(|tag| numbers(&tag.name));
            let name = names.max_by(|a, b| version::compare(a, b)).unwrap();
            counted.push((last, name, image));
        }
        counted.sort_by(|a, b| {
            let names = || version::compare(&b.1, &a.1);
            b.0.cmp(&a.0).then_with(names).then_with(|| a.2.cmp(b.2))
        });
        let kind = |digest: &str| match self.manifest(digest).map(|found| found.kind) {
            Some(Kind::Nothing) | None => Kind::Image,
            Some(kind) => kind,
        };
        for wanted in [Kind::Image, Kind::Cache, Kind::Attachment] {
            let mut left = rule.keep.unwrap_or(0);
            for (_, _, image) in counted.iter().filter(|(_, _, image)| kind(image) == wanted) {
                if left == 0 {
                    break;
                }
                kept.insert(*image);
                let found = self.manifest(image);
                let is_protected = found.is_some_and(|found| self.is_held(found))
                    || self.plain(image).iter().any(|tag| self.keeps_by_name(tag));
                left -= usize::from(!is_protected && self.is_usable(image));
            }
        }
        (kept, young)
    }

    /// The tags that the rules take.
    pub fn gone_tags(&self) -> BTreeSet<&'a str> {
        let (mut taken, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for rule in &self.rules.rules {
            let (by_number, young) = self.kept_and_young(rule);
            for tag in self.fitting(rule) {
                let images = self.images(&tag.digest);
                let is_part = images.iter().any(|image| *image != tag.digest);
                let held = |image: &str| self.manifest(image).is_some_and(|m| self.is_held(m));
                let stays = |image: &&str| by_number.contains(*image) || (is_part && held(image));
                if images.iter().any(stays) {
                    kept.insert(tag.name.as_str());
                } else if self.is_old(tag.updated, rule)
                    && !(is_part && images.iter().any(|image| young.contains(image)))
                {
                    taken.insert(tag.name.as_str());
                }
            }
        }
        taken.retain(|tag| !kept.contains(tag));
        taken.retain(|name| {
            let tag = self.state.tags.iter().find(|tag| tag.name == *name).unwrap();
            !self.keeps_by_name(tag)
        });
        taken
    }

    /// Whether something without a tag of its own goes by itself.
    fn goes_without_tag(&self, manifest: &ManifestState) -> bool {
        let tags = self.tags(&manifest.digest);
        let mut moments: Vec<Option<OffsetDateTime>> = tags.iter().map(|tag| tag.updated).collect();
        moments.push(manifest.updated);
        let last = if moments.contains(&None) { None } else { moments.into_iter().flatten().max() };
        let attached = |found: &ManifestState| found.kind == Kind::Attachment;
        let is_list = !manifest.parts.is_empty()
            && manifest.parts.iter().filter_map(|part| self.manifest(part)).all(attached);
        let subjects = self.subjects(manifest);
        let is_orphan = (attached(manifest) || is_list)
            && !subjects.is_empty()
            && subjects.iter().all(|subject| {
                self.manifest(subject).is_none() && !self.state.elsewhere.contains(subject)
            })
            && self
                .state
                .manifests
                .iter()
                .any(|other| other.kind == Kind::Image && self.subjects(other).is_empty());
        self.rules.rules.iter().any(|rule| {
            let takes = (rule.untagged && tags.is_empty()) || (rule.orphans && is_orphan);
            takes && self.is_old(last, rule)
        })
    }

    /// Whether something that has no tag of its own may go at all: it is not fresh.
    fn is_settled(&self, manifest: &ManifestState) -> bool {
        let tags = self.tags(&manifest.digest);
        if tags.is_empty() && self.state.uncounted > 0 {
            return false;
        }
        let grace = Duration::seconds(self.rules.grace().length().as_secs().cast_signed());
        let mut moments = tags.iter().map(|tag| tag.updated).chain([manifest.updated]);
        moments.all(|at| at.is_some_and(|at| self.at - at > grace))
    }

    /// The manifests that go: all that the rules would have, but what something needs that stays.
    pub fn goes(&self) -> BTreeSet<String> {
        let gone_tags = self.gone_tags();
        let all = &self.state.manifests;
        let is_tagged = |manifest: &ManifestState| !self.plain(&manifest.digest).is_empty();
        let mut goes: BTreeSet<&str> = all
            .iter()
            .filter(|manifest| {
                let plain = self.plain(&manifest.digest);
                let all_taken = plain.iter().all(|tag| gone_tags.contains(tag.name.as_str()));
                if plain.is_empty() { self.goes_without_tag(manifest) } else { all_taken }
            })
            .map(|manifest| manifest.digest.as_str())
            .collect();
        // What hangs on it goes with it.
        loop {
            let hangs = |manifest: &&ManifestState| {
                let part_of = |whole: &ManifestState| whole.parts.contains(&manifest.digest);
                let subjects = self.subjects(manifest);
                let over =
                    |whole: &ManifestState| part_of(whole) || subjects.contains(&whole.digest);
                !is_tagged(manifest)
                    && !goes.contains(manifest.digest.as_str())
                    && all.iter().any(|whole| goes.contains(whole.digest.as_str()) && over(whole))
            };
            let more: Vec<&str> = all.iter().filter(hangs).map(|m| m.digest.as_str()).collect();
            if more.is_empty() {
                break;
            }
            goes.extend(more);
        }
        let may_go = |manifest: &ManifestState| {
            !self.is_held(manifest) && (is_tagged(manifest) || self.is_settled(manifest))
        };
        goes.retain(|digest| self.manifest(digest).is_some_and(may_go));
        // What stays keeps its parts, what it refers to, and what refers to it.
        loop {
            let is_needed = |digest: &&str| {
                let own = self.manifest(digest).unwrap();
                let subjects = self.subjects(own);
                all.iter().filter(|other| !goes.contains(other.digest.as_str())).any(|other| {
                    other.parts.contains(&own.digest)
                        || self.subjects(other).contains(&own.digest)
                        || subjects.contains(&other.digest)
                })
            };
            let needed: Vec<&str> = goes.iter().copied().filter(is_needed).collect();
            if needed.is_empty() {
                return goes.into_iter().map(str::to_owned).collect();
            }
            goes.retain(|digest| !needed.contains(digest));
        }
    }
}
