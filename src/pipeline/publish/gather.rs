//! Reads a run's shards and the rows of the previous snapshot, group by group in the table's order,
//! a few groups ahead.

use crate::blocking::{in_place, in_place_bounded};
use crate::error::{Error, ErrorKind, Result};
use crate::format::shard;
use crate::pipeline::newer::NewerRuns;
use crate::pipeline::snapshot;
use crate::pipeline::survey::{Survey, read_outcome};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Outcome, Plan, RunId, SourceName, State, WorkItem};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// Number of groups that are read ahead.
const AHEAD: usize = 12;
/// Number of a group's items that are read ahead.
pub(super) const PARTS_AHEAD: usize = 8;
/// Shards smaller than this, in bytes, are decoded inline: waiting for a permit or switching
/// threads would take longer.
const LARGE_SHARD: usize = 32 << 10;
pub(super) const NOT_REACHED: &str = "not reached before the run's deadline";

/// An item of a run, with the location of its outcome.
#[derive(Clone)]
pub(super) struct RunItem {
    pub(super) item: WorkItem,
    outcome_in: OutcomeLocation,
}

#[derive(Clone)]
enum OutcomeLocation {
    InShard,
    InOutcome,
    Here(Box<Outcome>),
    /// Its shard was damaged when the run was closed.
    Damaged(String),
    Nowhere,
}

/// An item whose shard cannot be used, and the reason.
pub(super) struct DamagedItem {
    pub(super) item: WorkItem,
    pub(super) damage: String,
}

impl RunItem {
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.outcome_in, OutcomeLocation::Nowhere)
    }
}

/// The items of a source that a survey knows.
pub(super) async fn parts(
    store: &dyn Store,
    plan: &Plan,
    survey: &Survey,
    source: SourceName,
) -> Result<Vec<RunItem>> {
    let entries = store.list(&Key::shards_prefix(plan.run, source)).await?;
    let shards: HashSet<&str> = entries
        .iter()
        .filter_map(|entry| Key::parse_shard(&entry.name, plan.run, source))
        .collect();
    let ended = survey.ended.iter().map(|item| (item, true));
    let all = ended.chain(survey.missing.iter().map(|item| (item, false)));
    let of_source = all.filter(|(item, _)| item.source == source);
    let part = |(item, ended): (&WorkItem, bool)| {
        let outcome_in = if !ended {
            OutcomeLocation::Nowhere
        } else if let Some(damage) = survey.damaged.get(&(source, item.item.clone())) {
            OutcomeLocation::Damaged(damage.clone())
        } else if shards.contains(item.item.as_str()) {
            OutcomeLocation::InShard
        } else if let Some(outcome) = survey.parents.get(&(source, item.item.clone())) {
            OutcomeLocation::Here(Box::new(outcome.clone()))
        } else {
            OutcomeLocation::InOutcome
        };
        RunItem { item: item.clone(), outcome_in }
    };
    Ok(of_source.map(part).collect())
}

/// A group whose items have been read.
pub(super) struct LoadedGroup<G> {
    pub(super) key: String,
    pub(super) group: G,
    pub(super) damaged: Vec<DamagedItem>,
}

/// Reads the items of a group.
type Load<F> = fn((Arc<dyn Store>, Arc<NewerRuns>), String, Vec<RunItem>) -> F;

/// The groups of a run and of the previous snapshot, in the table's order.
pub(super) struct Groups<G> {
    loaded: BoxStream<'static, Result<LoadedGroup<G>>>,
    waiting: Option<LoadedGroup<G>>,
    damaged: Vec<DamagedItem>,
}

impl<G: Send + 'static> Groups<G> {
    /// Reads a few groups ahead, each in its own task, with `load`.
    pub(super) fn new<F>(
        groups: BTreeMap<String, Vec<RunItem>>,
        (store, newer): (&Arc<dyn Store>, &Arc<NewerRuns>),
        load: Load<F>,
    ) -> Self
    where
        F: Future<Output = Result<LoadedGroup<G>>> + Send + 'static,
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

    /// Returns the next group of the run, of the previous snapshot, or of both, with its rows in
    /// the previous snapshot.
    pub(super) async fn next<R: Grouped>(
        &mut self,
        previous: &mut PreviousRows<R>,
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

    /// The items with damaged shards.
    pub(super) fn finish(self) -> Vec<DamagedItem> {
        self.damaged
    }
}

/// An item that has been read. It has either rows or details of other items' rows.
pub(super) struct ItemRead<R, D> {
    pub(super) item: WorkItem,
    pub(super) outcome: Outcome,
    pub(super) rows: Vec<R>,
    pub(super) details: Vec<D>,
    /// What is wrong with its shard.
    pub(super) damage: Option<String>,
}

/// Reads an item. An item with a damaged shard counts as failed.
pub(super) async fn read_part<R, D>(store: &dyn Store, part: RunItem) -> Result<ItemRead<R, D>>
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
        Ok((outcome, rows, details)) => Ok(ItemRead { item, outcome, rows, details, damage: None }),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "a shard is damaged");
            let damage = error.to_string();
            let outcome = Outcome::bare(item.scope.clone(), State::Failed, &damage, 1);
            let (rows, details) = (Vec::new(), Vec::new());
            Ok(ItemRead { item, outcome, rows, details, damage: Some(damage) })
        }
        Err(error) => Err(error),
    }
}

/// Reads the outcome and the rows of an item.
pub(super) async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    part: &RunItem,
) -> Result<(Outcome, Vec<T>)> {
    let item = &part.item;
    let lost = |what: &str| Error::corrupt(format!("the {what} of {} is missing", item.item));
    match &part.outcome_in {
        OutcomeLocation::Here(outcome) if outcome.rows > 0 => Err(lost("shard")),
        OutcomeLocation::Here(outcome) => Ok((outcome.as_ref().clone(), Vec::new())),
        OutcomeLocation::Nowhere => {
            let outcome = Outcome::bare(item.scope.clone(), State::Failed, NOT_REACHED, 0);
            Ok((outcome, Vec::new()))
        }
        OutcomeLocation::Damaged(damage) => Err(Error::corrupt(damage.clone())),
        OutcomeLocation::InOutcome => {
            let name = (item.run, item.source, item.item.as_str());
            let outcome = read_outcome(store, name, false).await?;
            let outcome = outcome.ok_or_else(|| lost("outcome"))?;
            if outcome.rows > 0 {
                return Err(lost("shard"));
            }
            Ok((outcome, Vec::new()))
        }
        OutcomeLocation::InShard => {
            let key = Key::shard(item);
            let object = store.get(&key).await?.ok_or_else(|| lost("shard"))?;
            let decode = || shard::decode(&object.bytes, &key.to_string());
            if object.bytes.len() < LARGE_SHARD { decode() } else { in_place_bounded(decode).await }
        }
    }
}

/// A row that belongs to a group. In the table's order, the rows of a group are adjacent.
pub(super) trait Grouped: DeserializeOwned {
    /// The table of the row.
    const TABLE: SourceName;

    /// The name of the group, in lower case.
    fn group(&self) -> String;

    /// Whether the row belongs to the group called `group`.
    fn is_of(&self, group: &str) -> bool;
}

/// The rows of the previous snapshot, in order.
pub(super) struct PreviousRows<R> {
    rows: Option<snapshot::StoredRows<R>>,
    next: Option<R>,
}

impl<R: Grouped> PreviousRows<R> {
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

    /// Takes all rows of `group`, which must be the next group.
    pub(super) fn take(&mut self, group: &str) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        while self.peek()?.is_some_and(|row| row.is_of(group)) {
            rows.extend(self.next.take());
        }
        Ok(rows)
    }
}
