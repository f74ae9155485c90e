//! The steps of a model: what a seed chooses, races, damage, and the end of every run.

use super::super::worlds::{LOCATIONS, PUBLISHERS, SOURCES, STATES};
use super::{Act, Fate, Letter, Model, request};
use azimg::testing::functions::{PUBLISH, WORK};
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::{RunId, SourceName};
use bytes::Bytes;
use rand::RngExt;
use serde_json::Value;
use std::sync::atomic::Ordering;
use time::Duration;

impl Model {
    /// A request for some part of the world.
    pub fn request(&mut self) -> Value {
        let mut some = |all: &[&str], share: f64| -> Vec<String> {
            if self.random.random_bool(share) {
                return Vec::new();
            }
            let some = all.iter().filter(|_| self.random.random_bool(0.5));
            some.map(|name| (*name).to_owned()).collect()
        };
        let (sources, locations) = (some(&SOURCES, 0.5), some(&LOCATIONS, 0.6));
        let publishers = some(&PUBLISHERS, 0.7);
        request(&sources, &locations, &publishers)
    }

    pub fn take(&mut self, which: impl Fn(&Letter) -> bool) -> Option<Letter> {
        let fit: Vec<usize> =
            (0..self.letters.len()).filter(|at| which(&self.letters[*at])).collect();
        let at = *fit.get(self.random.random_range(0..fit.len().max(1)))?;
        Some(self.letters.swap_remove(at))
    }

    /// One step on the way; what it is, a seed decides.
    pub async fn step(&mut self) {
        let begun = self.chain.runs().len();
        if begun == 0 || (begun < self.fate.runs && self.chance(0.12)) {
            let mut body = self.request();
            if self.fate.is_crowd {
                let place = [LOCATIONS[self.below(2)].to_owned()];
                let small = request(&["marketplace".to_owned()], &place, &["beta".to_owned()]);
                body = if begun == 0 { request(&[], &[], &[]) } else { small };
            }
            if self.chance(0.2) {
                body["force"] = true.into();
            }
            self.start(body).await;
            return;
        }
        // The first one of a crowd is in no hurry.
        let waits = self.fate.is_crowd.then(|| self.chain.runs()[0]);
        let hurries = |letter: &Letter| waits != Some(letter.run());
        match self.below(100) {
            0..60 => {
                let letter = self.take(|letter| letter.queue == WORK && hurries(letter));
                let letter = letter.or_else(|| self.take(|letter| letter.queue == WORK));
                if let Some(letter) = letter {
                    self.act(Act::Deliver(letter)).await;
                }
            }
            60..72 => {
                if let Some(letter) = self.take(|letter| letter.queue == PUBLISH) {
                    self.act(Act::Deliver(letter)).await;
                }
            }
            72..84 => self.race().await,
            84..88 => {
                self.act(Act::Sweep).await;
            }
            88..93 => {
                let state = self.below(STATES);
                self.wire.state.store(state, Ordering::Relaxed);
            }
            93..95 => {
                let at = self.below(self.old.len().max(1));
                self.letters.extend(self.old.get(at).cloned());
            }
            95..97 => {
                let which = self.below(2);
                self.processes[which] = self.process(self.fate.fails);
            }
            97 => {
                if let Some(letter) = self.take(|letter| letter.queue == WORK) {
                    self.act(Act::Poison(letter)).await;
                }
            }
            _ => self.damage().await,
        }
        if self.chance(self.fate.forced) {
            let under_way = self.chain.under_way();
            if let Some(run) = under_way.get(self.below(under_way.len().max(1))) {
                self.act(Act::Force(*run)).await;
            }
        }
    }

    /// Several who publish one run, and whoever comes in between.
    async fn race(&mut self) {
        let under_way = self.chain.under_way();
        let Some(run) = under_way.get(self.below(under_way.len().max(1))).copied() else { return };
        let mut acts = vec![Act::Deliver(Letter::look(run)), Act::Deliver(Letter::look(run))];
        if self.chance(self.fate.forced * 4.0) {
            acts[0] = Act::Force(run);
        }
        let other = under_way[self.below(under_way.len())];
        match self.below(4) {
            0 => acts.push(Act::Deliver(Letter::look(other))),
            1 => acts.push(Act::Sweep),
            2 => acts.extend(self.take(|letter| letter.queue == WORK).map(Act::Deliver)),
            _ => {}
        }
        let ended = self.at_once(&acts).await;
        for (act, ended) in acts.into_iter().zip(ended) {
            self.settle(act, ended);
        }
    }

    /// Damages one object, once or twice in a seed.
    async fn damage(&mut self) {
        if !self.fate.damages || self.damaged >= 2 {
            return;
        }
        let Some(current) = self.chain.order().last().copied() else { return };
        let of_snapshot = format!("snapshots/{current}/");
        let under_way = self.chain.under_way();
        let kind = self.below(3);
        let names: Vec<String> = self.store.contents().into_keys().collect();
        let fits = |name: &&String| match kind {
            0 => {
                let is_data = !name.ends_with("_SUCCESS") && !name.ends_with(".schema.json");
                name.starts_with(&of_snapshot) && is_data
            }
            1 => *name == "current.json",
            _ => {
                name.contains("/shards/")
                    && under_way.iter().any(|run| name.starts_with(&format!("runs/{run}/")))
            }
        };
        let names: Vec<&String> = names.iter().filter(fits).collect();
        if let Some(name) = names.get(self.below(names.len().max(1))) {
            self.break_object(name).await;
        }
    }

    pub async fn break_object(&mut self, name: &str) {
        self.damaged += 1;
        let key = key(name);
        let object = self.store.get(&key).await.unwrap().unwrap();
        let mut bytes = object.bytes.to_vec();
        let at = self.below(bytes.len());
        bytes[at] ^= 0x15;
        let bytes = Bytes::from(bytes);
        assert!(self.store.swap(&key, bytes.clone(), Some(&object.tag)).await.unwrap());
        self.chain.damage(name, &bytes);
    }

    /// Goes on without any trouble until every run is published.
    pub async fn finish(&mut self) {
        const MOST: usize = 600;
        self.fate = Fate { seed: self.fate.seed, ..Fate::default() };
        self.processes = vec![self.process(0.0)];
        for round in 0.. {
            let under_way = self.chain.under_way();
            if under_way.is_empty() {
                break;
            }
            assert!(round < MOST, "they are never published: {under_way:?}");
            self.now += Duration::seconds(61);
            for letter in std::mem::take(&mut self.letters) {
                self.act(Act::Deliver(letter)).await;
            }
            if round % 10 == 9 {
                self.act(Act::Sweep).await;
            }
        }
        // What comes late changes nothing.
        for letter in std::mem::take(&mut self.old).into_iter().rev().take(20) {
            let current = self.chain.order().last().copied();
            self.act(Act::Deliver(letter)).await;
            assert_eq!(self.chain.order().last().copied(), current);
        }
    }

    /// Delivers the messages of one run until none is left but those that go round; so many at most.
    pub async fn crawl(&mut self, run: RunId, most: usize) {
        for _ in 0..most {
            let Some(letter) = self.take(|letter| letter.queue == WORK && letter.run() == run)
            else {
                break;
            };
            self.act(Act::Deliver(letter)).await;
        }
    }

    /// Ends one run.
    pub async fn publish(&mut self, run: RunId) {
        self.crawl(run, usize::MAX).await;
        self.act(Act::Deliver(Letter::look(run))).await;
        assert_eq!(self.chain.order().last(), Some(&run), "it is published, and the current one");
    }
}

/// The key of an object of a snapshot, of a shard, or of what names the current snapshot.
fn key(name: &str) -> Key {
    let parts: Vec<&str> = name.splitn(3, '/').collect();
    let (folder, run, rest) = match parts[..] {
        [folder, run, rest] => (folder, run.parse().unwrap(), rest),
        _ => return Key::Current,
    };
    if folder == "runs" {
        let (source, item) = rest.strip_prefix("shards/").unwrap().split_once('/').unwrap();
        let source = SourceName::ALL.iter().copied().find(|name| name.as_str() == source).unwrap();
        let item = item.strip_suffix(".ndjson.zst").unwrap().to_owned();
        return Key::Shard { run, source, item };
    }
    let file = match rest {
        "changes.ndjson.zst" => SnapshotFile::Changes,
        "coverage.json" => SnapshotFile::Coverage,
        "index.bin" => SnapshotFile::Index,
        "manifest.json" => SnapshotFile::Manifest,
        _ => {
            let tables = SourceName::ALL.iter().copied();
            let tables = tables.flat_map(|t| [SnapshotFile::Parquet(t), SnapshotFile::Ndjson(t)]);
            tables.into_iter().find(|file| file.to_string() == rest).unwrap()
        }
    };
    Key::Snapshot(run, file)
}
