//! A run's shards, brought together publisher by publisher, in the table's order, a few ahead.

use crate::error::{Error, ErrorKind, Result};
use crate::format::shard;
use crate::image::marketplace::{Detailed, Listed, MarketplaceImage, caseless};
use crate::pipeline::merge::{Answer, Publisher, Reach};
use crate::pipeline::read_json;
use crate::pipeline::snapshot;
use crate::pipeline::survey::Survey;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Gap, Outcome, Plan, RunId, Scope, SourceName, State, WorkItem};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Publishers that are being read ahead.
const AHEAD: usize = 16;
const NOT_REACHED: &str = "not reached before the run's deadline";

/// What a run has stored, by publisher.
pub(super) struct Shards {
    locations: Vec<WorkItem>,
    groups: BTreeMap<String, Vec<Part>>,
    missing_locations: HashSet<String>,
    ends: HashMap<String, (State, String, u32)>,
    parents: HashMap<(SourceName, String), Outcome>,
    pub(super) damaged: Vec<WorkItem>,
}

/// One item of a publisher, and where its outcome is.
#[derive(Clone)]
struct Part {
    item: WorkItem,
    lies: Lies,
}

#[derive(Clone)]
enum Lies {
    InShard,
    InOutcome,
    Here(Box<Outcome>),
    Nowhere,
}

impl Shards {
    pub(super) async fn list(store: &dyn Store, plan: &Plan, survey: Survey) -> Result<Self> {
        let source = SourceName::Marketplace;
        let entries = store.list(&Key::shards_prefix(plan.run, source)).await?;
        let shards: HashSet<&str> = entries
            .iter()
            .filter_map(|entry| Key::parse_shard(&entry.name, plan.run, source))
            .collect();
        let mut this = Self {
            locations: Vec::new(),
            groups: BTreeMap::new(),
            missing_locations: HashSet::new(),
            ends: HashMap::new(),
            parents: survey.parents,
            damaged: Vec::new(),
        };
        let ended = survey.ended.into_iter().map(|item| (item, true));
        for (item, ended) in ended.chain(survey.missing.into_iter().map(|item| (item, false))) {
            let Some(publisher) = item.scope.publisher().map(str::to_ascii_lowercase) else {
                if ended {
                    this.locations.push(item);
                } else {
                    this.missing_locations.insert(item.scope.location().to_owned());
                }
                continue;
            };
            let lies = if !ended {
                Lies::Nowhere
            } else if shards.contains(item.item.as_str()) {
                Lies::InShard
            } else if let Some(outcome) = this.parents.get(&(source, item.item.clone())) {
                Lies::Here(Box::new(outcome.clone()))
            } else {
                Lies::InOutcome
            };
            this.groups.entry(publisher).or_default().push(Part { item, lies });
        }
        Ok(this)
    }

    /// Which locations' lists of publishers are in.
    pub(super) async fn reach(
        &mut self,
        store: &dyn Store,
        plan: &Plan,
    ) -> Result<BTreeMap<String, Reach>> {
        let mut reach: BTreeMap<String, Reach> = BTreeMap::new();
        for item in &plan.items {
            let Scope::Location { location, only, .. } = &item.scope else { continue };
            let listed = !self.missing_locations.contains(location);
            reach.insert(location.clone(), Reach { listed, only: only.clone() });
        }
        for item in &self.locations {
            let parent = self.parents.get(&(item.source, item.item.clone())).cloned();
            let outcome = match parent {
                Some(outcome) => Some(outcome),
                None => read_json(store, &Key::outcome(item, false)).await?,
            };
            let Some(outcome) = outcome else { continue };
            let location = item.scope.location();
            if let Some(reach) = reach.get_mut(location) {
                reach.listed &= outcome.state.is_complete();
            }
            let end = (outcome.state, outcome.reason, outcome.attempts);
            let worst = self.ends.entry(location.to_owned()).or_insert_with(|| end.clone());
            if worst.0.is_complete() && !end.0.is_complete() {
                *worst = end;
            }
        }
        Ok(reach)
    }

    /// How a location's list of publishers ended.
    pub(super) fn location_end(&self, location: &str) -> (State, String, u32) {
        if self.missing_locations.contains(location) {
            return (State::Failed, NOT_REACHED.to_owned(), 0);
        }
        let unknown = || (State::Failed, NOT_REACHED.to_owned(), 0);
        self.ends.get(location).cloned().unwrap_or_else(unknown)
    }

    /// The publishers of the run, in order, once.
    pub(super) fn publishers<'a>(&mut self, store: &'a dyn Store) -> Publishers<'a> {
        let loaded = stream::iter(std::mem::take(&mut self.groups))
            .map(move |(name, parts)| load(store, name, parts))
            .buffered(AHEAD)
            .boxed();
        Publishers { loaded, waiting: None, damaged: Vec::new() }
    }
}

/// A publisher's parts, read.
struct Loaded {
    lower: String,
    publisher: Publisher,
    damaged: Vec<WorkItem>,
}

/// The publishers of a run and of the snapshot before, in the table's order.
pub(super) struct Publishers<'a> {
    loaded: BoxStream<'a, Result<Loaded>>,
    waiting: Option<Loaded>,
    damaged: Vec<WorkItem>,
}

impl Publishers<'_> {
    /// The next publisher that the run, the snapshot before, or both have.
    pub(super) async fn next(&mut self, previous: &mut Previous) -> Result<Option<Publisher>> {
        if self.waiting.is_none() {
            self.waiting = self.loaded.try_next().await?;
        }
        let old = previous.peek()?.map(|row| row.publisher.to_ascii_lowercase());
        match (&self.waiting, old) {
            (Some(new), old) if old.as_ref().is_none_or(|old| *old >= new.lower) => {
                let Some(mut new) = self.waiting.take() else { return Ok(None) };
                self.damaged.append(&mut new.damaged);
                if old.is_some_and(|old| old == new.lower) {
                    new.publisher.previous = previous.take(&new.lower)?;
                }
                Ok(Some(new.publisher))
            }
            (_, Some(old)) => {
                let rows = previous.take(&old)?;
                let name = rows.first().map(|row| row.publisher.clone()).unwrap_or_default();
                Ok(Some(Publisher { name, previous: rows, ..Publisher::default() }))
            }
            (_, None) => Ok(None),
        }
    }

    /// Items whose shards were damaged.
    pub(super) fn finish(self) -> Vec<WorkItem> {
        self.damaged
    }
}

async fn load(store: &dyn Store, lower: String, parts: Vec<Part>) -> Result<Loaded> {
    let mut publisher = Publisher::default();
    let mut damaged = Vec::new();
    let mut first: Option<(String, String)> = None;
    for part in parts {
        let item = &part.item;
        let location = item.scope.location().to_owned();
        if let Some(name) = item.scope.publisher() {
            let candidate = (location.clone(), name.to_owned());
            if first.as_ref().is_none_or(|first| candidate < *first) {
                first = Some(candidate);
            }
        }
        let is_details = matches!(item.scope, Scope::Details { .. });
        let read = if is_details {
            read::<Detailed>(store, &part).await.map(|(outcome, rows)| {
                publisher.details.extend(rows);
                (outcome, Vec::new())
            })
        } else {
            read::<Listed>(store, &part).await
        };
        let (outcome, rows) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a shard cannot be used");
                damaged.push(item.clone());
                let reason = error.to_string();
                (Outcome::bare(item.scope.clone(), State::Failed, reason, 1), Vec::new())
            }
            Err(error) => return Err(error),
        };
        let answer = publisher.answers.entry(location).or_insert_with(|| Answer {
            state: State::Done,
            reason: String::new(),
            attempts: 0,
            listed: 0,
            gaps: Vec::new(),
            offers_listed_at: None,
            rows: Vec::new(),
        });
        add(answer, outcome, rows);
    }
    for answer in publisher.answers.values_mut() {
        answer.gaps.sort();
        answer.rows.sort_by(|a, b| {
            caseless(&a.offer, &b.offer)
                .then_with(|| caseless(&a.sku, &b.sku))
                .then_with(|| crate::image::version::compare(&a.version, &b.version))
        });
    }
    publisher.details.sort_by(|a, b| a.urn.cmp(&b.urn));
    publisher.name = first.map(|(_, name)| name).unwrap_or_default();
    Ok(Loaded { lower, publisher, damaged })
}

async fn read<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    part: &Part,
) -> Result<(Outcome, Vec<T>)> {
    let item = &part.item;
    let lost = |what: &str| Error::corrupt(format!("the {what} of {} is gone", item.item));
    match &part.lies {
        Lies::Here(outcome) => Ok((outcome.as_ref().clone(), Vec::new())),
        Lies::Nowhere => {
            let outcome = Outcome::bare(item.scope.clone(), State::Failed, NOT_REACHED, 0);
            Ok((outcome, Vec::new()))
        }
        Lies::InOutcome => {
            let outcome = read_json(store, &Key::outcome(item, false)).await?;
            let outcome: Outcome = outcome.ok_or_else(|| lost("outcome"))?;
            if outcome.rows > 0 {
                return Err(lost("shard"));
            }
            Ok((outcome, Vec::new()))
        }
        Lies::InShard => {
            let key = Key::shard(item);
            let object = store.get(&key).await?.ok_or_else(|| lost("shard"))?;
            shard::decode(&object.bytes, &key.to_string())
        }
    }
}

/// Adds one item's outcome to what its location answered. A part that could not be done becomes
/// gaps of its offers or versions, so that the rest of the publisher counts as answered.
fn add(answer: &mut Answer, outcome: Outcome, mut rows: Vec<Listed>) {
    let Outcome { scope, state, reason, attempts, listed, gaps, .. } = outcome;
    let gap = |offer: &String, sku: Option<&String>, version: Option<&String>| Gap {
        offer: offer.clone(),
        sku: sku.cloned(),
        version: version.cloned(),
        state,
        reason: reason.clone(),
        attempts,
    };
    match &scope {
        Scope::Offers { offers, .. } if !state.is_complete() => {
            answer.gaps.extend(offers.iter().map(|offer| gap(offer, None, None)));
        }
        Scope::Details { images, .. } if !state.is_complete() => {
            let gaps =
                images.iter().map(|[offer, sku, version]| gap(offer, Some(sku), Some(version)));
            answer.gaps.extend(gaps);
        }
        Scope::Publisher { known, .. } => {
            answer.offers_listed_at = known.as_ref().and_then(|known| known.listed_at);
            answer.state = state;
            answer.reason = reason;
            answer.attempts = attempts;
        }
        _ => {}
    }
    answer.listed += listed;
    answer.gaps.extend(gaps);
    answer.rows.append(&mut rows);
}

/// The rows of the snapshot before, in order.
pub(super) struct Previous {
    rows: Option<snapshot::StoredRows<MarketplaceImage>>,
    next: Option<MarketplaceImage>,
}

impl Previous {
    pub(super) async fn open(store: &dyn Store, run: Option<RunId>) -> Result<Self> {
        let rows = match run {
            Some(run) => {
                let table = SnapshotFile::Ndjson(SourceName::Marketplace);
                snapshot::open_rows(store, run, table).await?
            }
            None => None,
        };
        Ok(Self { rows, next: None })
    }

    fn peek(&mut self) -> Result<Option<&MarketplaceImage>> {
        if self.next.is_none() {
            self.next = self.rows.as_mut().and_then(Iterator::next).transpose()?;
        }
        Ok(self.next.as_ref())
    }

    /// All rows of the publisher whose rows come next.
    fn take(&mut self, lower: &str) -> Result<Vec<MarketplaceImage>> {
        let mut rows = Vec::new();
        while self.peek()?.is_some_and(|row| row.publisher.eq_ignore_ascii_case(lower)) {
            rows.extend(self.next.take());
        }
        Ok(rows)
    }
}
