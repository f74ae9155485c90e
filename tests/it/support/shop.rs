//! A registry in memory for plans of purges, with pushes by another client while a purge runs.

use async_trait::async_trait;
use azimg::testing::error::{Error, Result};
use azimg::testing::image::referrers::tagged_subject;
use azimg::testing::purge::{
    Kind, ListedRows, ManifestCheck, ManifestState, PurgeTarget, RepositoryState,
    RepositoryVersion, TagState,
};
use azimg::testing::registry::{Content, Name};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use time::OffsetDateTime;

pub fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_795_000_000).unwrap()
}

/// A registry in memory, to which somebody else pushes at any moment at which that can be seen.
pub struct Shop {
    pub world: Mutex<World>,
    pub calm: bool,
}

pub struct World {
    pub random: StdRng,
    pub state: RepositoryState,
    /// Everything that was pushed or tagged after the plan was made.
    pub fresh: BTreeSet<String>,
    pub fresh_tags: BTreeMap<String, String>,
    /// With how often somebody had pushed when it went.
    pub deleted: BTreeMap<String, usize>,
    pub dies: Option<usize>,
    pub meddled: usize,
    /// How often a call finds that somebody has pushed.
    pub share: f64,
    /// Whether a tag of it is moved each time that it is looked at.
    pub is_restless: bool,
    pub calls: usize,
    /// How many manifests and tags it counts too many, and by how many looks its counts are late.
    pub skew: (i64, i64),
    pub late: usize,
    pub counts: Vec<(u64, u64)>,
}

impl World {
    pub fn new(seed: u64, share: f64) -> Self {
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
    pub fn version(&mut self) -> RepositoryVersion {
        self.calls += 1;
        let now = (self.state.manifests.len() as u64, self.state.tags.len() as u64);
        self.counts.push(now);
        let reported = self.counts[self.counts.len().saturating_sub(self.late + 1)];
        RepositoryVersion {
            manifests: reported.0.saturating_add_signed(self.skew.0),
            tags: reported.1.saturating_add_signed(self.skew.1),
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
    pub fn moment(&mut self, age: i64) -> Option<OffsetDateTime> {
        let span = match self.random.random_range(0..10) {
            0 => time::Duration::minutes(self.random.random_range(0..120)),
            _ => time::Duration::days(age),
        };
        self.random.random_bool(0.95).then(|| now() - span)
    }

    pub fn manifest(&mut self, parts: Vec<String>, subject: Option<String>, age: i64) -> String {
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

    pub fn tag(&mut self, name: String, digest: &str, age: i64) {
        self.state.tags.retain(|tag| tag.name != name);
        let updated = self.moment(age);
        let is_locked = self.random.random_bool(0.03);
        let digest = digest.to_owned();
        self.state.tags.push(TagState { name, digest, updated, is_locked, unread: None });
    }

    pub fn grow(&mut self, count: usize, age: &dyn Fn(&mut StdRng) -> i64) {
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
    pub fn enter(&self, may_meddle: bool) -> Result<std::sync::MutexGuard<'_, World>> {
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
        let version = world.version();
        Ok(Some(RepositoryState { version, ..world.state.clone() }))
    }

    async fn version(&self, _: &str) -> Result<Option<RepositoryVersion>> {
        let mut world = self.enter(true)?;
        world.restless();
        Ok(Some(world.version()))
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

    async fn read_tag(&self, _: &str, tag: &str) -> Result<Option<TagState>> {
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
