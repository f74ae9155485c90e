//! Processing of one work item: rows go to a shard, then the outcome is written, last and once.

use super::survey::read_outcome;
use super::to_json;
use crate::blocking::{in_place, in_place_bounded};
use crate::error::{Error, ErrorKind, Result};
use crate::format::shard;
use crate::image::marketplace::ListedVersion;
use crate::source::{self, Crawled, Invocation, PreviousFindings, Rows, Source};
use crate::store::{Key, Store};
use crate::work::{Outcome, State, WorkItem};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::time::Duration;

/// The result of processing an item.
#[derive(Debug)]
pub enum ItemResult {
    /// The item has ended.
    Ended(Outcome),
    /// The item must be delivered again in this form, after the given delay.
    Later(WorkItem, Duration),
}

/// Delay of an item whose quota is spent, if the service gives no retry time.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// Number of postponements after which an item checks whether it has ended meanwhile. Most items
/// are postponed at most once, and the check costs three reads.
pub const PUT_OFF_UNSEEN: u32 = 2;

/// Processes one item and returns how it ended. The first writer decides: a second worker, a second
/// delivery and a worker that was killed midway all end with the same outcome.
pub async fn crawl(
    store: &dyn Store,
    source: &dyn Source,
    item: &WorkItem,
    effort: &Invocation,
    known: &PreviousFindings,
) -> Result<ItemResult> {
    // A postponed item is a new message, and one item may have several. Those that are delivered
    // later must see that the item has ended. Otherwise they use up its quota without end.
    if (effort.delivery > 1 || item.put_off >= PUT_OFF_UNSEEN)
        && let Some(outcome) = ended_before(store, item).await?
    {
        return Ok(ItemResult::Ended(outcome));
    }
    let (outcome, rows) = match source::crawl(source, item, effort, known).await {
        Ok(Crawled::Ended(outcome, rows)) => (outcome, rows),
        Ok(Crawled::Later(item, wait)) => return Ok(ItemResult::Later(item, wait)),
        Err(error) if error.kind() == ErrorKind::Throttled => {
            let wait = error.retry_after().unwrap_or(SOME_WHILE);
            return Ok(ItemResult::Later(item.clone(), wait));
        }
        Err(error) => return Err(error),
    };
    // Two workers may have progressed differently with one item. The one shard decides whose
    // children and gaps count.
    let nothing = rows.is_empty()
        && outcome.children.is_empty()
        && outcome.gaps.is_empty()
        && outcome.state.is_complete();
    let outcome = match rows {
        _ if nothing || !item.scope.has_rows() => outcome,
        Rows::Listed(mut rows) => {
            // Sorted here so that publishing can merge the rows of all locations without sorting.
            in_place(|| rows.sort_by(ListedVersion::compare));
            keep(store, item, outcome, &rows).await?
        }
        Rows::Detailed(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Gallery(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Replicated(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Registry(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Details(rows) => keep(store, item, outcome, &rows).await?,
    };
    let rows = outcome.rows;
    let first = conclude(store, item, outcome).await?;
    // If the first outcome has rows, its shard was damaged and this shard replaces it.
    if first.rows == 0 && rows > 0 {
        withdraw(store, item).await?;
    }
    Ok(ItemResult::Ended(first))
}

/// Removes a shard that was written after the item had ended without one, because it was empty or
/// the store refused its shard.
async fn withdraw(store: &dyn Store, item: &WorkItem) -> Result<()> {
    tracing::warn!(item = %item.item, "a shard was written after its item had ended; it is \
                                       removed");
    store.delete(&Key::shard(item).to_string()).await
}

/// Records that an item failed permanently, unless it has ended meanwhile.
pub async fn fail(store: &dyn Store, item: &WorkItem, reason: &str, tries: u32) -> Result<Outcome> {
    if let Some(outcome) = ended_before(store, item).await? {
        return Ok(outcome);
    }
    let outcome = Outcome::bare(item.scope.clone(), State::Failed, reason, tries);
    // A late worker may still have rows. The one shard decides whether they count.
    let outcome = if item.scope.has_rows() {
        let failed = outcome.clone();
        match keep::<()>(store, item, failed, &[]).await {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(%error, "the shard of a failed item cannot be written");
                outcome
            }
        }
    } else {
        outcome
    };
    conclude(store, item, outcome).await
}

/// Writes the shard. If there is one already, returns the outcome in it.
async fn keep<T: serde::Serialize>(
    store: &dyn Store,
    item: &WorkItem,
    outcome: Outcome,
    rows: &[T],
) -> Result<Outcome> {
    let key = Key::shard(item);
    let bytes = Bytes::from(in_place_bounded(|| shard::encode(&outcome, rows)).await?);
    for _ in 0..3 {
        if store.create(&key, bytes.clone()).await? {
            return Ok(outcome);
        }
        match stored_shard(store, item).await {
            Ok(Some(first)) => return Ok(first),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a damaged shard is replaced");
                store.delete(&key.to_string()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::transient(format!("shard of {}: other workers keep changing it", item.item)))
}

/// Writes the outcome, or returns the one that was written first.
async fn conclude(store: &dyn Store, item: &WorkItem, outcome: Outcome) -> Result<Outcome> {
    let parent = !outcome.children.is_empty();
    let key = Key::outcome(item, parent);
    for _ in 0..3 {
        if store.create(&key, to_json(&outcome)?.into()).await? {
            return Ok(outcome);
        }
        match read_outcome(store, (item.run, item.source, &item.item), parent).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a damaged outcome is replaced");
                store.delete(&key.to_string()).await?;
            }
            read => return read.map(|first| first.unwrap_or(outcome)),
        }
    }
    Err(Error::transient(format!("outcome of {}: other workers keep changing it", item.item)))
}

/// How an item has ended, if it has. A shard without an outcome is from a worker that was killed
/// just before the end: its outcome is written now, and no request is repeated.
async fn ended_before(store: &dyn Store, item: &WorkItem) -> Result<Option<Outcome>> {
    for parent in [false, true] {
        let key = Key::outcome(item, parent);
        match read_outcome(store, (item.run, item.source, &item.item), parent).await {
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // The shard also contains the outcome. Without a shard, the item is processed
                // again.
                tracing::warn!(%error, "a damaged outcome is replaced");
                store.delete(&key.to_string()).await?;
            }
            Ok(Some(outcome)) => {
                // The worker that wrote a late shard may have been killed before it removed the
                // shard.
                if outcome.rows == 0
                    && matches!(stored_shard(store, item).await, Ok(Some(late)) if late.rows > 0)
                {
                    withdraw(store, item).await?;
                }
                return Ok(Some(outcome));
            }
            Err(error) => return Err(error),
        }
    }
    match stored_shard(store, item).await {
        Ok(Some(outcome)) => conclude(store, item, outcome).await.map(Some),
        Ok(None) => Ok(None),
        // `keep` replaces the shard.
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

async fn stored_shard(store: &dyn Store, item: &WorkItem) -> Result<Option<Outcome>> {
    let key = Key::shard(item);
    let Some(object) = store.get(&key).await? else { return Ok(None) };
    let decode = || shard::decode::<Box<RawValue>>(&object.bytes, &key.to_string());
    let (outcome, _) = in_place(decode)?;
    Ok(Some(outcome))
}
