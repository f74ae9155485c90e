//! Purges: what is protected never goes, whatever is pushed meanwhile; and the same by the command line,
//! against a real registry.

use crate::support::changing::{Change, Changing};
use crate::support::layout::{Layout, digest};
use crate::support::oci::{How, Oci};
use crate::support::plans::written_down;
use crate::support::purge_oracle::Oracle;
use crate::support::{finish, json, paused, read_json};
use crate::tests;
use async_trait::async_trait;
use axum::http::Method;
use azimg::error::{Error, Result};
use azimg::format::ledger::Ledger;
use azimg::image::referrers::tagged_subject;
use azimg::purge::{
    Applied, DeletionLimit, ImageUsage, InUse, Kind, ListedRows, LiveRegistry, ManifestCheck,
    ManifestState, PurgePlan, PurgeTarget, RepositoryPlan, RepositoryState, RepositoryVersion,
    Rule, Rules, Span, TagState, apply, plan,
};
use azimg::registry::{Content, Name, Registry};
use azimg::sim::registries::SimRepository;
use azimg::sim::{Conditions, Sim};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

tests![
    what_is_protected_never_goes_in_ten_thousand_plans slow "ten thousand plans",
    a_repository_that_is_never_quiet_is_given_up,
    brakes_and_ages_hold,
    what_is_hidden_from_lists_stays_with_what_it_needs,
    what_cannot_be_read_is_protected_and_says_so,
    a_tag_that_is_not_told_still_protects_its_image,
    what_cannot_be_read_right_before_it_goes_stays,
    what_runs_is_never_purged,
    a_purge_is_planned_reviewed_applied_and_undone needs [Registry],
    indexes_signatures_and_what_is_referred_to_are_spared needs [Registry],
];

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

/// A registry in memory, to which somebody else pushes at any moment at which that can be seen.
struct Shop {
    world: Mutex<World>,
    calm: bool,
}

struct World {
    random: StdRng,
    state: RepositoryState,
    /// Everything that was pushed or tagged after the plan was made.
    fresh: BTreeSet<String>,
    fresh_tags: BTreeMap<String, String>,
    /// With how often somebody had pushed when it went.
    deleted: BTreeMap<String, usize>,
    dies: Option<usize>,
    meddled: usize,
    /// How often a call finds that somebody has pushed.
    share: f64,
    /// Whether a tag of it is moved each time that it is looked at.
    is_restless: bool,
    calls: usize,
    /// How many manifests and tags it counts too many, and by how many looks its counts are late.
    skew: (i64, i64),
    late: usize,
    counts: Vec<(u64, u64)>,
}

impl World {
    fn new(seed: u64, share: f64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            state: RepositoryState { name: "app".into(), ..RepositoryState::default() },
            fresh: BTreeSet::new(),
            fresh_tags: BTreeMap::new(),
            deleted: BTreeMap::new(),
            dies: None,
            meddled: 0,
            share,
            is_restless: false,
            calls: 0,
            skew: (0, 0),
            late: 0,
            counts: Vec::new(),
        }
    }

    /// What it says of itself: counts as it has them, and when it was changed.
    fn standing(&mut self) -> RepositoryVersion {
        self.calls += 1;
        let now = (self.state.manifests.len() as u64, self.state.tags.len() as u64);
        self.counts.push(now);
        let told = self.counts[self.counts.len().saturating_sub(self.late + 1)];
        RepositoryVersion {
            manifests: told.0.saturating_add_signed(self.skew.0),
            tags: told.1.saturating_add_signed(self.skew.1),
            updated: Some((self.meddled + self.deleted.len()).to_string()),
        }
    }

    /// A restless one is changed by whoever looks at it.
    fn restless(&mut self) {
        if self.is_restless {
            self.calls += 1;
            let digest = self.state.manifests[0].digest.clone();
            self.retag(&format!("busy-{}", self.calls), &digest);
        }
    }

    /// When something was pushed: so many days ago, or within the last two hours; not always known.
    fn moment(&mut self, age: i64) -> Option<OffsetDateTime> {
        let span = match self.random.random_range(0..10) {
            0 => time::Duration::minutes(self.random.random_range(0..120)),
            _ => time::Duration::days(age),
        };
        self.random.random_bool(0.95).then(|| now() - span)
    }

    fn manifest(&mut self, parts: Vec<String>, subject: Option<String>, age: i64) -> String {
        let name = format!("sha256:{:064x}", self.random.random::<u128>());
        let updated = self.moment(age);
        let kind = match self.random.random_range(0..12) {
            _ if subject.is_some() => Kind::Attachment,
            0 => Kind::Cache,
            1 => Kind::Attachment,
            2 if parts.is_empty() => Kind::Nothing,
            _ => Kind::Image,
        };
        let config = format!("sha256:{:064x}", self.random.random::<u128>());
        self.state.manifests.push(ManifestState {
            digest: name.clone(),
            updated,
            is_locked: self.random.random_bool(0.04),
            unread: self.random.random_bool(0.03).then(|| "Docker schema 1".to_owned()),
            kind,
            bytes: 10,
            blobs: BTreeMap::from([(config, 10)]),
            parts,
            subject,
            ..ManifestState::default()
        });
        name
    }

    fn some(&mut self) -> Option<String> {
        let count = self.state.manifests.len();
        (count > 0).then(|| self.state.manifests[self.random.random_range(0..count)].digest.clone())
    }

    fn tag(&mut self, name: String, digest: &str, age: i64) {
        self.state.tags.retain(|tag| tag.name != name);
        let updated = self.moment(age);
        let is_locked = self.random.random_bool(0.03);
        let digest = digest.to_owned();
        self.state.tags.push(TagState { name, digest, updated, is_locked, unread: None });
    }

    fn grow(&mut self, count: usize, age: &dyn Fn(&mut StdRng) -> i64) {
        for number in 0..count {
            let days = age(&mut self.random);
            let made = match self.random.random_range(0..14) {
                10 => {
                    // An index with its platforms, each with a tag of its own.
                    let parts: Vec<String> =
                        (0..2).map(|_| self.manifest(Vec::new(), None, days)).collect();
                    for (part, platform) in parts.iter().zip(["amd64", "arm64"]) {
                        self.tag(format!("v-{number}-{platform}"), part, days);
                    }
                    let made = self.manifest(parts, None, days);
                    self.tag(format!("v-{number}"), &made, days);
                    made
                }
                11 => {
                    // What refers to an image that is gone, or is in another repository.
                    let gone = format!("sha256:{:064x}", self.random.random::<u128>());
                    if self.random.random_bool(0.2) {
                        self.state.elsewhere.insert(gone.clone());
                    }
                    if self.random.random_bool(0.5) {
                        self.manifest(Vec::new(), Some(gone), days)
                    } else {
                        let own = self.manifest(Vec::new(), None, days);
                        self.tag(format!("{}.att", gone.replace(':', "-")), &own, days);
                        own
                    }
                }
                12 => {
                    // What somebody tagged by its own digest, so that it stays.
                    let own = self.manifest(Vec::new(), None, days);
                    if self.random.random_bool(0.5) {
                        self.tag(format!("{}.imgpkg", own.replace(':', "-")), &own, days);
                    }
                    own
                }
                0 | 1 => {
                    let parts: Vec<String> = (0..3).filter_map(|_| self.some()).collect();
                    self.manifest(parts, None, days)
                }
                2 => {
                    let subject = self.some();
                    self.manifest(Vec::new(), subject, days)
                }
                3 => {
                    let own = self.manifest(Vec::new(), None, days);
                    if let Some(subject) = self.some().filter(|subject| *subject != own) {
                        self.tag(format!("{}.sig", subject.replace(':', "-")), &own, days);
                    }
                    own
                }
                _ => self.manifest(Vec::new(), None, days),
            };
            for _ in 0..self.random.random_range(0..3) {
                let kind = ["pr", "v", "release"][self.random.random_range(0..3)];
                let digest =
                    if self.random.random_bool(0.8) { Some(made.clone()) } else { self.some() };
                let name = format!("{kind}-{}", self.random.random_range(0..20 + number));
                let days = age(&mut self.random);
                self.tag(name, &digest.unwrap(), days);
            }
        }
    }

    /// Somebody pushes: an index of what is there, a reference to it, a tag, a lock.
    fn meddle(&mut self) {
        self.meddled += 1;
        let before: BTreeSet<String> =
            self.state.manifests.iter().map(|m| m.digest.clone()).collect();
        match self.random.random_range(0..5) {
            0 => {
                let parts: Vec<String> = (0..3).filter_map(|_| self.some()).collect();
                let made = self.manifest(parts, None, 0);
                self.retag("fresh", &made);
            }
            1 => {
                let subject = self.some();
                self.manifest(Vec::new(), subject, 0);
            }
            2 => {
                if let Some(digest) = self.some() {
                    self.retag("again", &digest);
                }
            }
            3 => {
                let at = self.random.random_range(0..self.state.manifests.len().max(1));
                if let Some(found) = self.state.manifests.get_mut(at) {
                    found.is_locked = true;
                }
            }
            _ => {
                // A tag is moved to something else.
                if let (Some(digest), true) = (self.some(), !self.state.tags.is_empty()) {
                    let at = self.random.random_range(0..self.state.tags.len());
                    let name = self.state.tags[at].name.clone();
                    if tagged_subject(&name).is_none() && !self.state.tags[at].is_locked {
                        self.retag(&name, &digest);
                    }
                }
            }
        }
        let fresh = self.state.manifests.iter().map(|m| m.digest.clone());
        self.fresh.extend(fresh.filter(|digest| !before.contains(digest)));
    }

    fn retag(&mut self, name: &str, digest: &str) {
        self.state.tags.retain(|tag| tag.name != name);
        self.state.tags.push(TagState {
            name: name.to_owned(),
            digest: digest.to_owned(),
            updated: Some(now() + time::Duration::minutes(1)),
            is_locked: false,
            unread: None,
        });
        self.fresh_tags.insert(name.to_owned(), digest.to_owned());
    }
}

impl Shop {
    /// A call begins: somebody may have pushed before it.
    fn enter(&self, may_meddle: bool) -> Result<std::sync::MutexGuard<'_, World>> {
        let mut world = self.world.lock().unwrap();
        if let Some(left) = &mut world.dies {
            if *left == 0 {
                return Err(Error::transient("the process died"));
            }
            *left -= 1;
        }
        let share = world.share;
        if may_meddle && !self.calm && world.random.random_bool(share) {
            world.meddle();
        }
        Ok(world)
    }
}

#[async_trait]
impl PurgeTarget for Shop {
    async fn state(&self, _: &str) -> Result<Option<RepositoryState>> {
        let mut world = self.enter(true)?;
        world.restless();
        let standing = world.standing();
        Ok(Some(RepositoryState { standing, ..world.state.clone() }))
    }

    async fn standing(&self, _: &str) -> Result<Option<RepositoryVersion>> {
        let mut world = self.enter(true)?;
        world.restless();
        Ok(Some(world.standing()))
    }

    async fn rows(&self, _: &str) -> Result<Option<ListedRows>> {
        let mut world = self.enter(true)?;
        world.restless();
        Ok(Some(ListedRows::of(&world.state)))
    }

    async fn look(&self, _: &str, digest: &str) -> Result<Option<ManifestCheck>> {
        let world = self.enter(true)?;
        let found = world.state.manifests.iter().find(|m| m.digest == digest);
        let tags = world.state.tags.iter().filter(|tag| tag.digest == digest).cloned().collect();
        Ok(found.map(|found| ManifestCheck {
            tags,
            updated: found.updated,
            is_locked: found.is_locked,
            unread: None,
        }))
    }

    async fn look_at_tag(&self, _: &str, tag: &str) -> Result<Option<TagState>> {
        let world = self.enter(true)?;
        Ok(world.state.tags.iter().find(|found| found.name == tag).cloned())
    }

    async fn content(&self, _: &str, _: &str) -> Result<Content> {
        Err(Error::not_found("no content here"))
    }

    /// Between the last look and this nothing can be seen: a registry has no conditional delete.
    async fn delete(&self, _: &str, name: &Name) -> Result<()> {
        let mut world = self.enter(false)?;
        match name {
            Name::Digest(digest) => {
                world.state.manifests.retain(|m| m.digest != *digest);
                world.state.tags.retain(|tag| tag.digest != *digest);
                let meddled = world.meddled;
                world.deleted.insert(digest.clone(), meddled);
            }
            Name::Tag(tag) => world.state.tags.retain(|found| found.name != *tag),
            Name::Whole => panic!("a whole repository"),
        }
        Ok(())
    }
}

fn some_rules(random: &mut StdRng) -> Rules {
    let pattern = |random: &mut StdRng| {
        ["*", "pr-*", "v-*", "regex:(pr|v)-[0-9]+", "v-1?", "*-amd64"][random.random_range(0..6)]
            .parse()
            .unwrap()
    };
    let rules = (0..random.random_range(1..3)).map(|_| Rule {
        repositories: "app*".parse().unwrap(),
        tags: random.random_bool(0.85).then(|| pattern(random)),
        older_than: random
            .random_bool(0.7)
            .then(|| Span::new(Duration::from_hours(24 * random.random_range(0..60)))),
        keep: Some(random.random_range(0..5)),
        keep_tags: if random.random_bool(0.5) {
            vec!["release-*".parse().unwrap()]
        } else {
            vec![]
        },
        untagged: random.random_bool(0.8),
        orphans: random.random_bool(0.5),
    });
    let rules: Vec<Rule> = rules.collect();
    let grace = match random.random_range(0..4) {
        0 => Some(Span::new(Duration::from_mins(random.random_range(0..180)))),
        _ => None,
    };
    // What is about nothing is no rule.
    let about = |rule: &Rule| rule.tags.is_some() || rule.untagged || rule.orphans;
    let rules: Vec<Rule> = rules
        .into_iter()
        .map(|rule| Rule { untagged: rule.untagged || !about(&rule), ..rule })
        .collect();
    Rules { grace, rules }
}

/// What must be there after a purge, worked out without the planner: by what was there when the plan
/// was made, and what was pushed since.
fn check(oracle: &Oracle<'_>, shop: &World, seed: u64) {
    let before = oracle.state;
    let after: BTreeMap<&str, &ManifestState> =
        shop.state.manifests.iter().map(|m| (m.digest.as_str(), m)).collect();
    let had: BTreeSet<&str> = before
        .manifests
        .iter()
        .map(|m| m.digest.as_str())
        .chain(shop.fresh.iter().map(String::as_str))
        .collect();
    let tags: BTreeMap<&str, &str> =
        shop.state.tags.iter().map(|t| (t.name.as_str(), t.digest.as_str())).collect();
    for manifest in before.manifests.iter().filter(|manifest| oracle.is_held(manifest)) {
        assert!(after.contains_key(manifest.digest.as_str()), "seed {seed}: locked or in use");
    }
    for manifest in after.values() {
        for part in manifest.parts.iter().filter(|part| had.contains(part.as_str())) {
            assert!(after.contains_key(part.as_str()), "seed {seed}: a part of what stays");
        }
        // What it refers to goes first: a push after that may need it all the same.
        let subject = manifest.subject.as_deref().filter(|subject| {
            shop.deleted.get(*subject).is_none_or(|meddled| *meddled == shop.meddled)
        });
        if let Some(subject) = subject.filter(|subject| had.contains(subject)) {
            assert!(after.contains_key(subject), "seed {seed}: what stays refers to it");
        }
    }
    for manifest in &before.manifests {
        let stays = manifest.subject.as_deref().is_some_and(|subject| after.contains_key(subject));
        assert!(!stays || after.contains_key(manifest.digest.as_str()), "seed {seed}: a referrer");
    }
    for digest in &shop.fresh {
        assert!(after.contains_key(digest.as_str()), "seed {seed}: pushed since the plan");
    }
    for (tag, digest) in &shop.fresh_tags {
        assert_eq!(tags.get(tag.as_str()), Some(&digest.as_str()), "seed {seed}: tagged since");
    }
    let goes = oracle.gone_tags();
    for tag in &before.tags {
        let moved = shop.fresh_tags.contains_key(&tag.name);
        let of_subject = tagged_subject(&tag.name).is_some();
        if !goes.contains(tag.name.as_str()) && !moved && !of_subject {
            assert_eq!(
                tags.get(tag.name.as_str()),
                Some(&tag.digest.as_str()),
                "seed {seed}: {tag:?}"
            );
        }
    }
}

/// Lists of what runs, as people have them: references by tag and digest, and configurations; what they are about.
fn some_lists(world: &mut World) -> (ImageUsage, BTreeSet<String>) {
    let (mut text, mut used) = (String::new(), BTreeSet::new());
    for _ in 0..world.random.random_range(0..3) {
        let count = world.state.manifests.len();
        let manifest = &world.state.manifests[world.random.random_range(0..count)];
        let digest = manifest.digest.clone();
        let config = manifest.blobs.keys().next().unwrap().clone();
        let tag = world.state.tags.iter().find(|tag| tag.digest == digest);
        let line = match (world.random.random_range(0..4), tag) {
            (0, Some(tag)) => format!("r.azurecr.io/app:{}", tag.name),
            (1, _) => config,
            (2, _) => digest.clone(),
            _ => format!("docker-pullable://r.azurecr.io/app@{digest}"),
        };
        text.extend([line.as_str(), "\nr.azurecr.io/other@", &digest.replace('0', "1"), "\n"]);
        used.insert(digest);
    }
    if text.is_empty() {
        return (ImageUsage::default(), used);
    }
    (ImageUsage(InUse::parse("list", &text, "r.azurecr.io").unwrap().uses), used)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn what_is_protected_never_goes_in_ten_thousand_plans() {
    let seeds = number("AZIMG_SEED").map_or(0..10_000, |seed| seed..seed + 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut planned_in_all, mut went) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, 0.15);
        let count = world.random.random_range(1..30);
        world.grow(count, &|random| random.random_range(0..90));
        let rules = some_rules(&mut world.random);
        let (uses, used) = some_lists(&mut world);
        world.state.uncounted = u64::from(world.random.random_bool(0.03));
        (world.skew, world.late) = match seed % 8 {
            1 => ((1, 0), 0),
            2 => ((-1, -1), 0),
            3 => ((0, 0), 3),
            5 => ((0, 1), 6),
            _ => ((0, 0), 0),
        };
        let before = world.state.clone();
        let in_use = uses.of(&before);
        // The clock of who plans may be a day ahead of the registry's, or behind.
        let at = now() + time::Duration::days([0, 1, -1][(seed % 5).min(2) as usize]);
        let planned = plan(&before, &rules, &in_use, at);
        let oracle = Oracle { state: &before, rules: &rules, used: &used, at };
        let wanted: BTreeSet<String> =
            planned.deletions.iter().map(|deletion| deletion.digest.clone()).collect();
        assert_eq!(wanted, oracle.goes(), "seed {seed}: {rules:?}");
        let whole = written_down(planned.clone(), rules.clone(), at);
        // It is what it says after it was written down.
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(PurgePlan::parse(&text).unwrap(), whole);
        let calm = seed % 4 == 0;
        world.dies = (seed % 3 == 0).then(|| world.random.random_range(0..20));
        let shop = Shop { world: Mutex::new(world), calm };
        let path = folder.path().join(seed.to_string());
        let tell = |_: &str, _: usize| {};
        let mut last = None;
        for _ in 0..3 {
            let mut ledger = Ledger::open(&path, "PLAN").unwrap();
            let done = apply(&shop, &whole, &uses, &mut ledger, None, &tell);
            let applied = runtime.block_on(done).unwrap();
            let died = shop.world.lock().unwrap().dies.take().is_some();
            last = Some(applied);
            if !died {
                break;
            }
        }
        std::fs::remove_file(&path).unwrap();
        let shop = shop.world.into_inner().unwrap();
        check(&oracle, &shop, seed);
        let deleted: BTreeSet<String> = shop.deleted.keys().cloned().collect();
        assert!(deleted.is_subset(&wanted), "seed {seed}: not in the plan");
        if calm {
            assert_eq!(deleted, wanted, "seed {seed}: {last:?}");
            let left: BTreeSet<&str> = shop.state.tags.iter().map(|t| t.name.as_str()).collect();
            let untagged = planned.untaggings.iter().all(|u| !left.contains(u.tag.as_str()));
            assert!(untagged, "seed {seed}: {last:?}");
        }
        planned_in_all += wanted.len();
        went += deleted.len();
    }
    println!("{planned_in_all} manifests planned, {went} went");
    assert!(planned_in_all == 0 || went > planned_in_all / 3);
}

/// A repository that says each time that it was changed: the purge ends, and can be gone on with.
fn a_repository_that_is_never_quiet_is_given_up() {
    let mut world = World::new(1, 0.0);
    world.is_restless = true;
    world.grow(20, &|random| random.random_range(40..90));
    let text = r#"{"rules": [{"repositories": "app", "tags": "*", "keep": 0, "untagged": true}]}"#;
    let rules = Rules::parse(text).unwrap();
    let planned = plan(&world.state, &rules, &BTreeMap::new(), now());
    assert!(!planned.deletions.is_empty());
    let whole = written_down(planned, rules, now());
    let shop = Shop { world: Mutex::new(world), calm: false };
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(&folder.path().join("ledger"), "PLAN").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tell, uses) = (|_: &str, _: usize| {}, ImageUsage::default());
    let done = apply(&shop, &whole, &uses, &mut ledger, None, &tell);
    let applied = runtime.block_on(done).unwrap();
    assert_eq!(applied.deleted, 0);
    assert!(applied.failed[0].reason.contains("when it is quiet"), "{applied:?}");
}

fn brakes_and_ages_hold() {
    let one = |text: &str| text.parse::<DeletionLimit>();
    assert!(one("-1").is_err() && one("101%").is_err() && one("x").is_err());
    let rules =
        Rules::parse(r#"{"rules": [{"repositories": "app", "tags": "*", "keep": 1}]}"#).unwrap();
    let mut state = RepositoryState { name: "app".into(), ..RepositoryState::default() };
    for number in 0..10_i64 {
        let digest = format!("sha256:{number:064x}");
        let updated = Some(now() - time::Duration::days(number));
        state.manifests.push(ManifestState {
            digest: digest.clone(),
            updated,
            bytes: 1,
            ..ManifestState::default()
        });
        let name = format!("v{number}");
        state.tags.push(TagState { name, digest, updated, is_locked: false, unread: None });
    }
    let planned = plan(&state, &rules, &BTreeMap::new(), now());
    assert_eq!(planned.deletions.len(), 9);
    let whole = written_down(planned, rules.clone(), now());
    assert!(one("9").unwrap().check(&whole).is_ok() && one("8").unwrap().check(&whole).is_err());
    assert!(
        one("90%").unwrap().check(&whole).is_ok() && one("89%").unwrap().check(&whole).is_err()
    );
    assert!(whole.check_age(now()).is_ok());
    assert!(whole.check_age(now() + time::Duration::hours(25)).is_err());
    // The longest age that there is: nothing is that old.
    let text = r#"{"rules": [{"repositories": "app", "tags": "*", "older-than": "36500d"}]}"#;
    let planned = plan(&state, &Rules::parse(text).unwrap(), &BTreeMap::new(), now());
    assert_eq!(planned.deletions.len(), 0);
}

/// What is hidden from lists stays with what it needs, where anything names it; else nothing goes that has no tag.
fn what_is_hidden_from_lists_stays_with_what_it_needs() {
    let (_, repository) = shelf();
    let mut named = 0;
    for (digest, manifest) in &repository.manifests {
        let (sim, _) = shelf();
        {
            let mut all = sim.registries();
            let repository = all[0].repositories.get_mut("app-1").unwrap();
            repository.manifests.get_mut(digest).unwrap().attributes.list = false;
        }
        let (planned, _) = purged(&sim, Arc::new(|_, _| {}), false);
        let goes: BTreeSet<&str> = planned.deletions.iter().map(|d| d.digest.as_str()).collect();
        assert!(!goes.contains(digest.as_str()), "{digest}");
        let content: Value = serde_json::from_slice(&manifest.content).unwrap();
        let said = planned.protected.iter().find(|row| row.digest == *digest);
        let Some(said) = said else {
            assert!(planned.deletions.iter().all(|row| !row.tags.is_empty()), "{planned:?}");
            assert!(
                planned.protected.iter().any(|row| row.protected_by.contains("more manifests"))
            );
            continue;
        };
        named += 1;
        let is_said = ["locked", "it is hidden from lists"].contains(&said.protected_by.as_str());
        assert!(is_said, "{said:?}");
        let parts = content["manifests"].as_array().into_iter().flatten();
        for needed in parts.chain(content.get("subject")) {
            assert!(!goes.contains(needed["digest"].as_str().unwrap()), "{digest}");
        }
    }
    assert!(named > 0);
}

const SERVER: &str = "registry0.azurecr.io";

/// A simulated registry with a repository `app-1`, and that repository.
fn shelf() -> (Arc<Sim>, SimRepository) {
    let sim = Sim::new(crate::support::registries::world(6), Conditions::default());
    let repository = sim.registries()[0].repositories["app-1"].clone();
    (sim, repository)
}

fn everything() -> Rules {
    let text = r#"{"rules": [{"repositories": "*", "tags": "*", "keep": 0, "untagged": true}]}"#;
    Rules::parse(text).unwrap()
}

/// What of `app-1` would go by those rules, as `change` has what the registry says; and what goes of
/// what would go as it is, if it is to be `applied` then.
fn purged(sim: &Arc<Sim>, change: Change, applied: bool) -> (RepositoryPlan, Option<Applied>) {
    let registry = |change: Change| {
        let wire = Changing::new(sim, change);
        Registry::over(Arc::new(wire), SERVER, crate::support::registries::entra(SERVER)).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    paused(async {
        let as_it_is: Change = Arc::new(|_, _| {});
        let planning = if applied { as_it_is } else { Arc::clone(&change) };
        let registry_then = registry(planning);
        let live = LiveRegistry::new(&registry_then);
        let state = live.state("app-1").await.unwrap().unwrap();
        let planned = plan(&state, &everything(), &BTreeMap::new(), now());
        if !applied {
            return (planned, None);
        }
        let whole = written_down(planned.clone(), everything(), now());
        let mut ledger = Ledger::open(&folder.path().join("ledger"), "PLAN").unwrap();
        let registry_now = registry(change);
        let live = LiveRegistry::new(&registry_now);
        let tell = |_: &str, _: usize| {};
        let done =
            apply(&live, &whole, &ImageUsage::default(), &mut ledger, None, &tell).await.unwrap();
        (planned, Some(done))
    })
}

/// A tagged image that would go, with its tag.
fn victim(sim: &Arc<Sim>, repository: &SimRepository) -> (String, String) {
    let (planned, _) = purged(sim, Arc::new(|_, _| {}), false);
    let goes = |digest: &str| planned.deletions.iter().any(|deletion| deletion.digest == digest);
    let mut tags = repository.tags.iter();
    let (tag, found) = tags.find(|(_, tag)| goes(&tag.digest)).expect("a tagged image goes");
    (found.digest.clone(), tag.clone())
}

/// A member by which it is decided what goes, in another form: what it is of stays, with all that it needs, and
/// the plan says why.
fn what_cannot_be_read_is_protected_and_says_so() {
    type Odd = fn(&mut Value);
    let (sim, repository) = shelf();
    let (digest, tag) = victim(&sim, &repository);
    let of_rows: [(&str, Odd); 8] = [
        ("deleteEnabled", |row| row["changeableAttributes"]["deleteEnabled"] = "true".into()),
        ("writeEnabled", |row| row["changeableAttributes"]["writeEnabled"] = Value::Null),
        ("readEnabled", |row| row["changeableAttributes"]["readEnabled"] = 1.into()),
        ("changeableAttributes", |row| row["changeableAttributes"] = Value::Null),
        ("whether it is locked", |row| {
            row["changeableAttributes"].as_object_mut().unwrap().remove("writeEnabled");
        }),
        ("lastUpdateTime", |row| row["lastUpdateTime"] = 7.into()),
        ("createdTime", |row| row["createdTime"] = "long ago".into()),
        ("when it was last changed", |row| row["lastUpdateTime"] = Value::Null),
    ];
    for (list, member, name) in [("manifests", "digest", &digest), ("tags", "name", &tag)] {
        for (why, odd) in of_rows {
            let name = name.clone();
            let change: Change = Arc::new(move |_, body| {
                let rows = body[list].as_array_mut().into_iter().flatten();
                rows.filter(|row| row[member] == name.as_str()).for_each(odd);
            });
            let (planned, _) = purged(&sim, change, false);
            let said = planned.protected.iter().find(|row| row.digest == digest);
            let said = said.unwrap_or_else(|| panic!("{list} {why}: {planned:?}"));
            assert!(said.protected_by.contains(why), "{list}: {said:?}");
            assert!(planned.deletions.iter().all(|row| row.digest != digest), "{list} {why}");
        }
    }
    let in_general: [(&str, Odd); 6] = [
        ("tagCount", |body| body["tagCount"] = "5".into()),
        ("how much is in it", |body| {
            body.as_object_mut().unwrap().remove("manifestCount");
        }),
        ("deleteEnabled", |body| body["changeableAttributes"]["deleteEnabled"] = Value::Null),
        ("manifests cannot be read", |body| body["manifests"][0]["digest"] = 7.into()),
        ("tags cannot be read", |body| body["tags"][0]["name"] = Value::Null),
        ("tags cannot be read", |body| body["tags"][0] = Value::Null),
    ];
    for (why, odd) in in_general {
        let change: Change = Arc::new(move |path, body| {
            let is_list = body["manifests"].is_array() || body["tags"].is_array();
            if is_list == why.contains("cannot be read") && path.contains("/app-1") {
                let list = if body["manifests"].is_array() { "manifests" } else { "tags" };
                if !is_list || why.starts_with(list) {
                    odd(body);
                }
            }
        });
        let (planned, _) = purged(&sim, change, false);
        assert!(planned.deletions.is_empty(), "{why}");
        assert!(planned.left_alone.as_deref().unwrap().contains(why), "{planned:?}");
    }
}

/// What a manifest's own list of tags leaves out is in the list of tags, and what that leaves out is no less a tag.
fn a_tag_that_is_not_told_still_protects_its_image() {
    let (sim, repository) = shelf();
    let (digest, tag) = victim(&sim, &repository);
    sim.registries()[0].most_tags = Some(0);
    let untagged = Rules::parse(r#"{"rules": [{"repositories": "*", "untagged": true}]}"#).unwrap();
    let registry = Registry::over(
        Arc::new(Changing::new(&sim, Arc::new(|_, _| {}))),
        SERVER,
        crate::support::registries::entra(SERVER),
    );
    let registry = registry.unwrap();
    let planned = paused(async {
        let live = LiveRegistry::new(&registry);
        let state = live.state("app-1").await.unwrap().unwrap();
        plan(&state, &untagged, &BTreeMap::new(), now())
    });
    let tagged: BTreeSet<&String> = repository.tags.values().map(|tag| &tag.digest).collect();
    assert!(!planned.deletions.is_empty());
    assert!(planned.deletions.iter().all(|row| !tagged.contains(&row.digest)), "{planned:?}");
    // What is to go goes with all its tags, told or not.
    let (planned, applied) = purged(&sim, Arc::new(|_, _| {}), true);
    assert_eq!(applied.unwrap().deleted, planned.deletions.len());
    // A list of tags that lacks one which the manifest tells.
    let (sim, _) = shelf();
    let change: Change = Arc::new(move |path, body| {
        if let (true, Some(rows)) = (path.ends_with("/_tags"), body["tags"].as_array_mut()) {
            rows.retain(|row| row["name"] != tag.as_str());
        }
        if let Some(count) = body["tagCount"].as_u64() {
            body["tagCount"] = (count - 1).into();
        }
    });
    let (planned, _) = purged(&sim, change, false);
    let said = planned.protected.iter().find(|row| row.digest == digest).unwrap();
    assert!(said.protected_by.contains("not in the list of tags"), "{said:?}");
}

/// The last look at a manifest counts, and what it cannot read stays.
fn what_cannot_be_read_right_before_it_goes_stays() {
    let (sim, repository) = shelf();
    let (digest, _) = victim(&sim, &repository);
    let looked_at = format!("/_manifests/{digest}");
    let change: Change = Arc::new(move |path, body| {
        if path.ends_with(&looked_at) {
            body["manifest"]["changeableAttributes"]["writeEnabled"] = "true".into();
        }
    });
    let (planned, applied) = purged(&sim, change, true);
    let applied = applied.unwrap();
    assert!(planned.deletions.iter().any(|row| row.digest == digest));
    assert!(applied.skipped.iter().any(|row| row.name.ends_with(&digest)), "{applied:?}");
    let after = sim.registries()[0].repositories["app-1"].clone();
    assert!(after.manifests.contains_key(&digest));
    assert!(applied.deleted > 0 && after.manifests.len() < repository.manifests.len());
}

fn what_runs_is_never_purged() {
    let azure = crate::support::Azure::start(crate::support::registries::world(6));
    let registry = azure.sim.registries()[0].clone();
    let server = &registry.login_server;
    let name = "app-1";
    let repository = &registry.repositories[name];
    let (tag, used) = repository.tags.iter().next().unwrap();
    let id = format!(
        "/subscriptions/{}/resourceGroups/rg/providers/Microsoft.App/containerApps/shop",
        registry.subscription
    );
    let app = json!({"id": id, "name": "shop", "type": "microsoft.app/containerapps",
        "subscriptionId": registry.subscription, "properties": {"template": {"containers": [
            {"image": format!("{server}/{name}:{tag}")}]}}});
    azure.sim.organisation().machines.insert(id.clone(), app);
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "registry",
        "purge",
        server,
        "--repository",
        name,
        "--keep",
        "0",
        "--untagged",
        "--yes",
        "-o",
        "json",
    ];
    let applied = json(azure.azimg(&line).current_dir(folder.path()));
    assert!(applied["deleted"].as_u64().unwrap() > 0, "{applied}");
    let after = azure.sim.registries()[0].repositories[name].clone();
    assert_eq!(after.tags[tag].digest, used.digest);
    assert!(after.manifests.contains_key(&used.digest));
    let plan = read_json(&folder.path().join(applied["plan"].as_str().unwrap()));
    let protected = plan["repositories"][0]["protected"].as_array().unwrap().clone();
    let of_it = protected.iter().find(|row| row["digest"] == used.digest.as_str()).unwrap();
    assert_eq!(of_it["protectedBy"], format!("in use by {id}"));
    // Locks stay, too.
    let locked = repository.manifests.iter().filter(|(_, m)| !m.attributes.delete);
    assert!(locked.into_iter().all(|(digest, _)| after.manifests.contains_key(digest)));
}

/// A repository with five images, the last with a signature, and an index of two.
fn filled(oci: &Oci, folder: &std::path::Path) -> Vec<String> {
    let mut digests = Vec::new();
    for number in 0..5 {
        let layout = Layout::new(&folder.join(number.to_string()));
        let layer = format!("layer {number}");
        let image = layout.image("amd64", &[b"base", layer.as_bytes()], &Value::Null);
        layout.tag(&image, "x");
        push(oci, &format!("app:v{number}"), &layout);
        digests.push(image["digest"].as_str().unwrap().to_owned());
    }
    digests
}

fn push(oci: &Oci, name: &str, layout: &Layout) {
    let at = oci.at(name);
    json(&mut oci.azimg(&["registry", "push", &at, layout.0.to_str().unwrap(), "-o", "json"]));
}

fn tags(oci: &Oci) -> BTreeSet<String> {
    let rows = json(&mut oci.azimg(&["registry", "tags", &oci.at("app"), "-o", "json"]));
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(name).collect()
}

fn a_purge_is_planned_reviewed_applied_and_undone() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let digests = filled(&oci, folder.path());
    let server = oci.front.server.clone();
    let run = |line: &[&str]| {
        let mut command: Command = oci.azimg(&[&["registry", "purge", &server], line].concat());
        finish(command.current_dir(folder.path()))
    };
    // Without a decision nothing goes, and what is in use must be asked for.
    let rules = ["--repository", "app", "--keep", "2", "-o", "json"];
    let (code, _, err) = run(&rules);
    assert!(code != 0 && err.contains("--ignore-use"), "{err}");
    let (code, out, err) = run(&[&rules[..], &["--ignore-use"]].concat());
    assert_eq!(code, 0, "{err}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&shown["deletions"], &shown["manifests"]), (&json!(3), &json!(5)));
    // Three layers and configurations of their own; the base is in what stays.
    assert!(shown["bytesFreed"].as_u64().unwrap() >= 21, "{shown}");
    assert!(err.contains("Nothing was deleted"), "{err}");
    assert_eq!(tags(&oci).len(), 5);
    // Written down, and applied: one was tagged again meanwhile, one is locked.
    let plan = folder.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    let (code, _, err) = run(&[&rules[..], &["--ignore-use", "--plan", plan]].concat());
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(&["--apply", plan, "--ignore-use", "--max-delete", "50%"]);
    assert!(code == 1 && err.contains("3 of 5"), "{err}");
    let again = Layout(folder.path().join("1"));
    push(&oci, "app:stable", &again);
    let undo = folder.path().join("undo");
    let apply = ["--apply", plan, "--ignore-use", "--export", undo.to_str().unwrap(), "-o", "json"];
    // One deletion is refused, and the plan is gone on with.
    let bad: &'static str = digests[2].clone().leak();
    oci.plays(Method::DELETE, bad, 1, How::Answer(403));
    let (code, out, err) = run(&apply);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 3, "{err}");
    assert_eq!((&applied["deleted"], applied["skipped"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(applied["failed"].as_array().unwrap().len(), 1, "{applied}");
    let (code, out, err) = run(&apply);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 3, "{err}");
    assert_eq!((&applied["deleted"], &applied["before"]), (&json!(1), &json!(1)), "{applied}");
    assert_eq!(applied["failed"], json!([]));
    let left: BTreeSet<String> = ["stable", "v1", "v3", "v4"].map(str::to_owned).into();
    assert_eq!(tags(&oci), left);
    // What went is put back: its blobs are still there.
    let (code, out, err) = run(&["--undo", undo.to_str().unwrap(), "-o", "json"]);
    assert_eq!(
        (code, &serde_json::from_str::<Value>(&out).unwrap()["back"]),
        (0, &json!(2)),
        "{err}"
    );
    assert_eq!(tags(&oci).len(), 6);
    let at = format!("{}@{}", oci.at("app"), digests[2]);
    let shown = json(&mut oci.azimg(&["registry", "show", &at, "-o", "json"]));
    assert_eq!(shown["tags"], json!(["v2"]));
    // The usual script, in one line.
    let (code, out, err) =
        run(&["--repository", "app", "--keep", "3", "--yes", "--ignore-use", "-o", "json"]);
    let applied: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &applied["deleted"]), (0, &json!(2)), "{out}{err}");
    assert!(
        std::fs::read_dir(folder.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().ends_with(".ledger") })
    );
    // Another registry's plan is not applied, nor one that has expired.
    let mut other = read_json(std::path::Path::new(plan));
    other["loginServer"] = "other.azurecr.io".into();
    std::fs::write(plan, other.to_string()).unwrap();
    assert!(run(&apply).2.contains("other.azurecr.io"));
    other["loginServer"] = server.clone().into();
    other["expiresAt"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(plan, other.to_string()).unwrap();
    assert!(run(&apply).2.contains("make another"));
}

fn indexes_signatures_and_what_is_referred_to_are_spared() {
    let oci = Oci::start();
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&folder.path().join("index"));
    let amd = layout.image("amd64", &[b"a"], &Value::Null);
    let arm = layout.image("arm64", &[b"b"], &Value::Null);
    let index = layout.index(&[amd.clone(), arm.clone()]);
    layout.tag(&index, "x");
    push(&oci, "app:multi", &layout);
    // A signature of one of the two, and an untagged image of nobody.
    let subject =
        json!({"mediaType": amd["mediaType"], "digest": amd["digest"], "size": amd["size"]});
    let more = json!({"artifactType": "application/vnd.example.signature", "subject": subject});
    let signature = layout.image("amd64", &[b"signature"], &more);
    layout.tag(&signature, "x");
    push(&oci, "app", &layout);
    let lonely = layout.image("amd64", &[b"lonely"], &Value::Null);
    layout.tag(&lonely, "x");
    push(&oci, "app", &layout);
    let old = layout.image("amd64", &[b"old"], &Value::Null);
    layout.tag(&old, "x");
    push(&oci, "app:pr-1", &layout);
    let line = [
        "registry",
        "purge",
        &oci.front.server,
        "--repository",
        "app",
        "--tags",
        "pr-*",
        "--keep",
        "0",
        "--untagged",
        "--grace",
        "0s",
        "--ignore-use",
        "--yes",
        "-o",
        "json",
    ];
    let mut command = oci.azimg(&line);
    let applied = json(command.current_dir(folder.path()));
    assert_eq!(applied["deleted"], 2, "{applied}");
    let rows = json(&mut oci.azimg(&["registry", "manifests", &oci.at("app"), "-o", "json"]));
    let left: BTreeSet<&str> =
        rows.as_array().unwrap().iter().map(|row| row["digest"].as_str().unwrap()).collect();
    for stays in [&index, &amd, &arm, &signature] {
        assert!(left.contains(stays["digest"].as_str().unwrap()), "{rows}");
    }
    // The index of referrers that a tag names stays, too.
    assert_eq!(left.len(), 5);
    assert!(!left.contains(digest(b"lonely").as_str()));
}
