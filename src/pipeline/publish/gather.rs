//! A run's shards, brought together publisher by publisher, in the table's order, a few ahead.

use crate::blocking::{in_place, in_turn};
use crate::error::{Error, ErrorKind, Result};
use crate::format::shard;
use crate::image::marketplace::{Detailed, Listed, MarketplaceImage};
use crate::pipeline::merge::{Answer, Publisher, Reach};
use crate::pipeline::newer::Newer;
use crate::pipeline::snapshot;
use crate::pipeline::survey::{Survey, read_outcome};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Gap, Malformed, Outcome, Plan, RunId, Scope, SourceName, State, WorkItem};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Publishers that are being read ahead, and parts of each.
const AHEAD: usize = 12;
const PARTS_AHEAD: usize = 8;
/// A shard under this many bytes is decoded at once: a turn at it, or another thread, would take longer.
const LARGE_SHARD: usize = 32 << 10;
const NOT_REACHED: &str = "not reached before the run's deadline";

/// One item of a run, and where its outcome is.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) item: WorkItem,
    lies: Lies,
}

#[derive(Clone)]
enum Lies {
    InShard,
    InOutcome,
    Here(Box<Outcome>),
    /// Its shard was damaged when the run was closed.
    Damaged(String),
    Nowhere,
}

/// An item whose shard cannot be used, and why.
pub(super) struct DamagedItem {
    pub(super) item: WorkItem,
    pub(super) damage: String,
}

impl Part {
    fn has_ended(&self) -> bool {
        !matches!(self.lies, Lies::Nowhere)
    }
}

/// The items of a source that a survey knows of.
pub(super) async fn parts(
    store: &dyn Store,
    plan: &Plan,
    survey: &Survey,
    source: SourceName,
) -> Result<Vec<Part>> {
    let entries = store.list(&Key::shards_prefix(plan.run, source)).await?;
    let shards: HashSet<&str> = entries
        .iter()
        .filter_map(|entry| Key::parse_shard(&entry.name, plan.run, source))
        .collect();
    let ended = survey.ended.iter().map(|item| (item, true));
    let all = ended.chain(survey.missing.iter().map(|item| (item, false)));
    let of_source = all.filter(|(item, _)| item.source == source);
    let part = |(item, ended): (&WorkItem, bool)| {
        let lies = if !ended {
            Lies::Nowhere
        } else if let Some(damage) = survey.damaged.get(&(source, item.item.clone())) {
            Lies::Damaged(damage.clone())
        } else if shards.contains(item.item.as_str()) {
            Lies::InShard
        } else if let Some(outcome) = survey.parents.get(&(source, item.item.clone())) {
            Lies::Here(Box::new(outcome.clone()))
        } else {
            Lies::InOutcome
        };
        Part { item: item.clone(), lies }
    };
    Ok(of_source.map(part).collect())
}

/// What a run has stored, by publisher.
pub(super) struct Shards {
    locations: Vec<Part>,
    groups: BTreeMap<String, Vec<Part>>,
    missing_locations: HashSet<String>,
    ends: HashMap<String, (State, String, u32)>,
    /// What of the answers to locations' lists was of another form.
    malformed: HashMap<String, Malformed>,
    /// Locations whose lists cannot be read.
    pub(super) damaged: Vec<DamagedItem>,
}

impl Shards {
    pub(super) async fn list(store: &dyn Store, plan: &Plan, survey: &Survey) -> Result<Self> {
        let mut this = Self {
            locations: Vec::new(),
            groups: BTreeMap::new(),
            missing_locations: HashSet::new(),
            ends: HashMap::new(),
            malformed: HashMap::new(),
            damaged: Vec::new(),
        };
        for part in parts(store, plan, survey, SourceName::Marketplace).await? {
            match part.item.scope.publisher().map(str::to_ascii_lowercase) {
                Some(publisher) => this.groups.entry(publisher).or_default().push(part),
                None if part.has_ended() => this.locations.push(part),
                None => {
                    this.missing_locations.insert(part.item.scope.location().to_owned());
                }
            }
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
        for part in &self.locations {
            let location = part.item.scope.location();
            let outcome = match read::<Listed>(store, part).await {
                Ok((outcome, _)) => outcome,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let (item, damage) = (part.item.clone(), error.to_string());
                    let outcome = Outcome::bare(item.scope.clone(), State::Failed, &damage, 1);
                    self.damaged.push(DamagedItem { item, damage });
                    outcome
                }
                Err(error) => return Err(error),
            };
            if let Some(reach) = reach.get_mut(location) {
                reach.listed &= outcome.state.is_complete();
            }
            let malformed = self.malformed.entry(location.to_owned()).or_default();
            malformed.join(&outcome.malformed);
            let end = (outcome.state, outcome.reason, outcome.attempts);
            let worst = self.ends.entry(location.to_owned()).or_insert_with(|| end.clone());
            let tells_more = worst.1.is_empty() && !end.1.is_empty();
            if worst.0.is_complete() && (!end.0.is_complete() || tells_more) {
                *worst = end;
            }
        }
        Ok(reach)
    }

    /// What of the answers to a location's list of publishers was of another form.
    pub(super) fn malformed(&self, location: &str) -> Malformed {
        self.malformed.get(location).cloned().unwrap_or_default()
    }

    /// How a location's list of publishers ended.
    pub(super) fn location_end(&self, location: &str) -> (State, String, u32) {
        if self.missing_locations.contains(location) {
            return (State::Failed, NOT_REACHED.to_owned(), 0);
        }
        let unknown = || (State::Failed, NOT_REACHED.to_owned(), 0);
        self.ends.get(location).cloned().unwrap_or_else(unknown)
    }

    /// The publishers of the run, in order, once. Each is read by a task of its own.
    pub(super) fn publishers(
        &mut self,
        store: &Arc<dyn Store>,
        newer: &Arc<Newer>,
    ) -> Groups<Publisher> {
        Groups::new(std::mem::take(&mut self.groups), (store, newer), load)
    }
}

/// A group's parts, read.
pub(super) struct Loaded<G> {
    pub(super) key: String,
    pub(super) group: G,
    pub(super) damaged: Vec<DamagedItem>,
}

/// Reads a group's parts.
type Load<F> = fn((Arc<dyn Store>, Arc<Newer>), String, Vec<Part>) -> F;

/// The groups of a run and of the snapshot before, in the table's order.
pub(super) struct Groups<G> {
    loaded: BoxStream<'static, Result<Loaded<G>>>,
    waiting: Option<Loaded<G>>,
    damaged: Vec<DamagedItem>,
}

impl<G: Send + 'static> Groups<G> {
    /// Reads groups a few ahead, each by a task of its own, with `load`.
    pub(super) fn new<F>(
        groups: BTreeMap<String, Vec<Part>>,
        (store, newer): (&Arc<dyn Store>, &Arc<Newer>),
        load: Load<F>,
    ) -> Self
    where
        F: Future<Output = Result<Loaded<G>>> + Send + 'static,
    {
        let with = (Arc::clone(store), Arc::clone(newer));
        let loaded = stream::iter(groups)
            .map(move |(key, parts)| {
                let read = tokio::spawn(load(with.clone(), key, parts));
                async move {
                    AbortOnDropHandle::new(read)
                        .await
                        .map_err(|e| Error::bug("reading shards panicked").with_source(e))?
                }
            })
            .buffered(AHEAD)
            .boxed();
        Self { loaded, waiting: None, damaged: Vec::new() }
    }

    /// The next group that the run, the snapshot before, or both have, and its rows there.
    pub(super) async fn next<R: Grouped>(
        &mut self,
        previous: &mut Previous<R>,
    ) -> Result<Option<(Option<G>, Vec<R>)>> {
        if self.waiting.is_none() {
            self.waiting = self.loaded.try_next().await?;
        }
        let old = previous.peek()?.map(Grouped::group);
        match (&self.waiting, old) {
            (Some(new), old) if old.as_ref().is_none_or(|old| *old >= new.key) => {
                let Some(mut new) = self.waiting.take() else { return Ok(None) };
                self.damaged.append(&mut new.damaged);
                let rows = if old.is_some_and(|old| old == new.key) {
                    in_place(|| previous.take(&new.key))?
                } else {
                    Vec::new()
                };
                Ok(Some((Some(new.group), rows)))
            }
            (_, Some(old)) => Ok(Some((None, in_place(|| previous.take(&old))?))),
            (_, None) => Ok(None),
        }
    }

    /// Items whose shards were damaged.
    pub(super) fn finish(self) -> Vec<DamagedItem> {
        self.damaged
    }
}

/// Reads a publisher's parts, location by location in alphabetical order, and folds them together.
async fn load(
    (store, newer): (Arc<dyn Store>, Arc<Newer>),
    key: String,
    mut parts: Vec<Part>,
) -> Result<Loaded<Publisher>> {
    // Stable: the parts of one location stay in the order of the survey.
    parts.sort_by(|a, b| a.item.scope.location().cmp(b.item.scope.location()));
    let names = parts.iter().filter_map(|part| {
        Some((part.item.scope.location(), part.item.scope.publisher()?.to_owned()))
    });
    let name = names.min().map(|(_, name)| name).unwrap_or_default();
    let newer_too = Arc::clone(&newer);
    let mut publisher = Publisher { name, newer: newer_too, ..Publisher::default() };
    let mut damaged = Vec::new();
    let mut listed: Vec<Listed> = Vec::new();
    let mut read = stream::iter(parts)
        .map(|part| {
            let store = Arc::clone(&store);
            async move { read_part::<Listed, Detailed>(store.as_ref(), part).await }
        })
        .buffered(PARTS_AHEAD)
        .boxed();
    let mut at: Option<String> = None;
    while let Some(part) = read.try_next().await? {
        let Read { item, outcome, mut rows, details, damage } = part;
        let location = item.scope.location();
        if !newer.is_empty() {
            rows.retain(|row| !newer.has_sku(location, &publisher.name, &row.offer, &row.sku));
        }
        if at.as_deref() != Some(location)
            && let Some(before) = at.replace(location.to_owned())
        {
            publisher.fresh.add(&before, std::mem::take(&mut listed));
        }
        let answer = publisher.answers.entry(location.to_owned()).or_insert_with(unasked);
        answer.rows += rows.len() as u64;
        add(answer, outcome);
        listed.extend(rows);
        publisher.details.extend(details);
        damaged.extend(damage.map(|damage| DamagedItem { item, damage }));
    }
    if let Some(last) = at {
        publisher.fresh.add(&last, listed);
    }
    for answer in publisher.answers.values_mut() {
        answer.gaps.sort();
    }
    publisher.details.sort_by(|a, b| a.urn.cmp(&b.urn));
    Ok(Loaded { key, group: publisher, damaged })
}

fn unasked() -> Answer {
    Answer {
        state: State::Done,
        reason: String::new(),
        attempts: 0,
        listed: 0,
        gaps: Vec::new(),
        malformed: Malformed::default(),
        offers_listed_at: None,
        offers_known: HashSet::new(),
        rows: 0,
    }
}

/// A part that was read: rows, or what an item adds to the rows of others.
pub(super) struct Read<R, D> {
    pub(super) item: WorkItem,
    pub(super) outcome: Outcome,
    pub(super) rows: Vec<R>,
    pub(super) details: Vec<D>,
    /// What is wrong with its shard.
    pub(super) damage: Option<String>,
}

/// Reads a part; one that is damaged is one that failed.
pub(super) async fn read_part<R, D>(store: &dyn Store, part: Part) -> Result<Read<R, D>>
where
    R: DeserializeOwned,
    D: DeserializeOwned,
{
    let read = if part.item.scope.adds_details() {
        let read = read::<D>(store, &part).await;
        read.map(|(outcome, details)| (outcome, Vec::new(), details))
    } else {
        let read = read::<R>(store, &part).await;
        read.map(|(outcome, rows)| (outcome, rows, Vec::new()))
    };
    let item = part.item;
    match read {
        Ok((outcome, rows, details)) => Ok(Read { item, outcome, rows, details, damage: None }),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "a shard cannot be used");
            let damage = error.to_string();
            let outcome = Outcome::bare(item.scope.clone(), State::Failed, &damage, 1);
            let (rows, details) = (Vec::new(), Vec::new());
            Ok(Read { item, outcome, rows, details, damage: Some(damage) })
        }
        Err(error) => Err(error),
    }
}

/// A part's outcome and rows.
async fn read<T: DeserializeOwned>(store: &dyn Store, part: &Part) -> Result<(Outcome, Vec<T>)> {
    let item = &part.item;
    let lost = |what: &str| Error::corrupt(format!("the {what} of {} is gone", item.item));
    match &part.lies {
        Lies::Here(outcome) if outcome.rows > 0 => Err(lost("shard")),
        Lies::Here(outcome) => Ok((outcome.as_ref().clone(), Vec::new())),
        Lies::Nowhere => {
            let outcome = Outcome::bare(item.scope.clone(), State::Failed, NOT_REACHED, 0);
            Ok((outcome, Vec::new()))
        }
        Lies::Damaged(damage) => Err(Error::corrupt(damage.clone())),
        Lies::InOutcome => {
            let name = (item.run, item.source, item.item.as_str());
            let outcome = read_outcome(store, name, false).await?;
            let outcome = outcome.ok_or_else(|| lost("outcome"))?;
            if outcome.rows > 0 {
                return Err(lost("shard"));
            }
            Ok((outcome, Vec::new()))
        }
        Lies::InShard => {
            let key = Key::shard(item);
            let object = store.get(&key).await?.ok_or_else(|| lost("shard"))?;
            let decode = || shard::decode(&object.bytes, &key.to_string());
            if object.bytes.len() < LARGE_SHARD { decode() } else { in_turn(decode).await }
        }
    }
}

/// Adds one item's outcome to what its location answered. A part that could not be done becomes
/// gaps of its offers or versions, so that the rest of the publisher counts as answered.
fn add(answer: &mut Answer, outcome: Outcome) {
    let Outcome { scope, state, reason, attempts, listed, gaps, malformed, .. } = outcome;
    answer.malformed.join(&malformed);
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
            let offers = known.iter().flat_map(|known| &known.offers);
            answer.offers_known = offers.map(|offer| offer.to_ascii_lowercase()).collect();
            answer.state = state;
            answer.reason = reason;
            answer.attempts = attempts;
        }
        _ => {}
    }
    answer.listed += listed;
    answer.gaps.extend(gaps);
}

/// A row that belongs to a group; the table's order puts a group's rows beside each other.
pub(super) trait Grouped: DeserializeOwned {
    /// The table it is in.
    const TABLE: SourceName;

    /// The group's name, in lower case.
    fn group(&self) -> String;

    /// Whether it belongs to the group of that name.
    fn is_of(&self, group: &str) -> bool;
}

impl Grouped for MarketplaceImage {
    const TABLE: SourceName = SourceName::Marketplace;

    fn group(&self) -> String {
        self.publisher.to_ascii_lowercase()
    }

    fn is_of(&self, group: &str) -> bool {
        self.publisher.eq_ignore_ascii_case(group)
    }
}

/// The rows of the snapshot before, in order.
pub(super) struct Previous<R> {
    rows: Option<snapshot::StoredRows<R>>,
    next: Option<R>,
}

impl<R: Grouped> Previous<R> {
    pub(super) async fn open(store: &dyn Store, run: Option<RunId>) -> Result<Self> {
        let rows = match run {
            Some(run) => snapshot::open_rows(store, run, SnapshotFile::Ndjson(R::TABLE)).await?,
            None => None,
        };
        Ok(Self { rows, next: None })
    }

    pub(super) fn peek(&mut self) -> Result<Option<&R>> {
        if self.next.is_none() {
            self.next = self.rows.as_mut().and_then(Iterator::next).transpose()?;
        }
        Ok(self.next.as_ref())
    }

    /// All rows of the group whose rows come next.
    pub(super) fn take(&mut self, group: &str) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        while self.peek()?.is_some_and(|row| row.is_of(group)) {
            rows.extend(self.next.take());
        }
        Ok(rows)
    }
}
