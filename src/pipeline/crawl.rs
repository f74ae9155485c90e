//! One work item: rows into a shard, then the outcome, which is written last and once.

use super::survey::read_outcome;
use super::to_json;
use crate::blocking::{in_place, in_turn};
use crate::error::{Error, ErrorKind, Result};
use crate::format::shard;
use crate::image::marketplace::ListedVersion;
use crate::source::{self, Crawled, Invocation, PreviousFindings, Rows, Source};
use crate::store::{Key, Store};
use crate::work::{Outcome, State, WorkItem};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::time::Duration;

/// What became of an item.
#[derive(Debug)]
pub enum ItemResult {
    /// It has ended.
    Ended(Outcome),
    /// It is to be delivered again, as it now is, after so long.
    Later(WorkItem, Duration),
}

/// An item whose quota is spent, and that nobody has told for how long, waits so long.
const SOME_WHILE: Duration = Duration::from_secs(30);

/// An item that was put off so often looks whether it has ended meanwhile. Most are put off once
/// at most, and looking costs three reads.
pub const PUT_OFF_UNSEEN: u32 = 2;

/// Does one item and returns how it ended. Whoever did it first decides: a second worker, a second
/// delivery and a worker that was killed in between all end with the same outcome.
pub async fn crawl(
    store: &dyn Store,
    source: &dyn Source,
    item: &WorkItem,
    effort: &Invocation,
    known: &PreviousFindings,
) -> Result<ItemResult> {
    // What went back to the queue is a new message, and there may be several of one item: those
    // that come round must see that it has ended, or they spend its quota without end.
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
    // Two who did one item may have got differently far: one shard decides whose parts count.
    let nothing = rows.is_empty()
        && outcome.children.is_empty()
        && outcome.gaps.is_empty()
        && outcome.state.is_complete();
    let outcome = match rows {
        _ if nothing || !item.scope.has_rows() => outcome,
        Rows::Listed(mut rows) => {
            // Publishing merges the rows of all locations, and need not sort them then.
            in_place(|| rows.sort_by(ListedVersion::compare));
            keep(store, item, outcome, &rows).await?
        }
        Rows::Detailed(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Gallery(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Replicated(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Registry(rows) => keep(store, item, outcome, &rows).await?,
        Rows::Told(rows) => keep(store, item, outcome, &rows).await?,
    };
    let rows = outcome.rows;
    let first = conclude(store, item, outcome).await?;
    // One whose shard was damaged has rows, and this shard is in its place.
    if first.rows == 0 && rows > 0 {
        withdraw(store, item).await?;
    }
    Ok(ItemResult::Ended(first))
}

/// Removes a shard that came too late: who ended the item had none, since it was empty then or the store refused it.
async fn withdraw(store: &dyn Store, item: &WorkItem) -> Result<()> {
    tracing::warn!(item = %item.item, "a shard that came after its item had ended does not count");
    store.delete(&Key::shard(item).to_string()).await
}

/// Writes down that an item failed for good, unless it has ended otherwise in the meantime.
pub async fn fail(store: &dyn Store, item: &WorkItem, reason: &str, tries: u32) -> Result<Outcome> {
    if let Some(outcome) = ended_before(store, item).await? {
        return Ok(outcome);
    }
    let outcome = Outcome::bare(item.scope.clone(), State::Failed, reason, tries);
    // A worker that is late may still have rows: the one shard decides whether they count.
    let outcome = if item.scope.has_rows() {
        let failed = outcome.clone();
        match keep::<()>(store, item, failed, &[]).await {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(%error, "the shard of an item that is given up cannot be written");
                outcome
            }
        }
    } else {
        outcome
    };
    conclude(store, item, outcome).await
}

/// Writes the shard, or takes over the outcome in the shard that is there already.
async fn keep<T: serde::Serialize>(
    store: &dyn Store,
    item: &WorkItem,
    outcome: Outcome,
    rows: &[T],
) -> Result<Outcome> {
    let key = Key::shard(item);
    let bytes = Bytes::from(in_turn(|| shard::encode(&outcome, rows)).await?);
    for _ in 0..3 {
        if store.create(&key, bytes.clone()).await? {
            return Ok(outcome);
        }
        match stored_shard(store, item).await {
            Ok(Some(first)) => return Ok(first),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a damaged shard is written anew");
                store.delete(&key.to_string()).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::transient(format!("shard of {}: others keep changing it", item.item)))
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
                tracing::warn!(%error, "a damaged outcome is written anew");
                store.delete(&key.to_string()).await?;
            }
            read => return read.map(|first| first.unwrap_or(outcome)),
        }
    }
    Err(Error::transient(format!("outcome of {}: others keep changing it", item.item)))
}

/// How an item has ended, if it has. A shard without an outcome is one whose worker was killed
/// just before the end: its outcome is written now, and nothing is asked again.
async fn ended_before(store: &dyn Store, item: &WorkItem) -> Result<Option<Outcome>> {
    for parent in [false, true] {
        let key = Key::outcome(item, parent);
        match read_outcome(store, (item.run, item.source, &item.item), parent).await {
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                // The shard has the outcome, too; if there is none, the item is done again.
                tracing::warn!(%error, "a damaged outcome is written anew");
                store.delete(&key.to_string()).await?;
            }
            Ok(Some(outcome)) => {
                // Whoever wrote a shard too late may have been killed before that was seen.
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
        // `keep` will replace it.
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
