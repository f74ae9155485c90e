//! How a run is closed, once, and whose turn it is to publish.
//!
//! A run is closed by one document that is created and never overwritten: what was given up, and the
//! snapshot that is built on. All files of the run's snapshot follow from its ground state and that
//! document, so whoever publishes the run writes the same bytes, and what ends later does not count.
//!
//! One run at a time is published. Whose turn it is stands in `publishing.json`, which is changed by
//! compare-and-swap alone, and only as long as the snapshot that is built on is the current one: a
//! snapshot has one successor, and snapshots form one chain.

use super::{parse_json, read_json, to_json};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{RunId, SourceName, WORK_VERSION};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An item that does not count for its run's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GivenUp {
    /// Where it would have asked.
    pub source: SourceName,
    /// Its id.
    pub item: String,
    /// What is wrong with its shard; none when it had not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A snapshot that could not be built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PassedOver {
    /// The run.
    pub run: RunId,
    /// What is wrong with its snapshot.
    pub reason: String,
}

/// `runs/{run}/closing….json`: what a run's snapshot is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// [`WORK_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: RunId,
    /// The snapshot whose rows live on where nothing newer is known.
    pub base: Option<RunId>,
    /// When it was closed.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Newer snapshots than the base, which were damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// Items that do not count, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<GivenUp>,
}

impl Closed {
    /// A closing of `run` on `base`.
    pub fn new(run: RunId, base: Option<RunId>, at: OffsetDateTime) -> Self {
        let at = at.replace_nanosecond(0).unwrap_or(at);
        let (passed_over, given_up) = (Vec::new(), Vec::new());
        Self { schema_version: WORK_VERSION, run, base, at, passed_over, given_up }
    }

    /// Whether the same snapshot follows from both.
    pub fn is_like(&self, other: &Self) -> bool {
        self.base == other.base
            && self.passed_over == other.passed_over
            && self.given_up == other.given_up
    }
}

/// `publishing.json`: whose turn it is to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishTurn {
    /// The run that is being published, or was the last one.
    pub run: RunId,
    /// The snapshot that was the current one when its turn began.
    pub head: Option<RunId>,
    /// The snapshot that it is built on: `head`, unless that was damaged.
    pub base: Option<RunId>,
    /// When its turn began.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A turn as it was read: nothing changes it in between, or the swap fails.
#[derive(Debug, Default)]
pub struct TurnRead {
    /// The turn, if there is one that can be read.
    pub turn: Option<PublishTurn>,
    tag: Option<String>,
}

/// Reads whose turn it is. What cannot be read is nobody's: it is made anew.
pub async fn turn(store: &dyn Store) -> Result<TurnRead> {
    let Some(object) = store.get(&Key::Publishing).await? else { return Ok(TurnRead::default()) };
    let turn = match parse_json(store, &Key::Publishing, &object.bytes) {
        Ok(turn) => Some(turn),
        Err(error) => {
            tracing::warn!(%error, "whose turn it was to publish is lost");
            None
        }
    };
    Ok(TurnRead { turn, tag: Some(object.tag) })
}

/// Takes the turn that nobody else has taken since `seen` was read; whether it is ours.
pub async fn take(store: &dyn Store, turn: &PublishTurn, seen: &TurnRead) -> Result<bool> {
    if store.swap(&Key::Publishing, to_json(turn)?.into(), seen.tag.as_deref()).await? {
        return Ok(true);
    }
    // Another who publishes the same run on the same snapshot is no rival.
    let now = self::turn(store).await?.turn;
    Ok(now.is_some_and(|now| (now.run, now.head, now.base) == (turn.run, turn.head, turn.base)))
}

/// Ends whatever turn there was, since the snapshot of `run` was made the current one by hand.
pub async fn settle(store: &dyn Store, run: RunId, now: OffsetDateTime) -> Result<()> {
    let turn = PublishTurn { run, head: Some(run), base: None, at: now };
    for _ in 0..16 {
        let seen = self::turn(store).await?;
        if take(store, &turn, &seen).await? {
            return Ok(());
        }
    }
    Err(Error::transient("publishing.json: others keep changing it"))
}

/// How `run` was closed on `base`, if it was. A document that is damaged is removed: what it decided was
/// not published.
pub async fn closed(store: &dyn Store, run: RunId, base: Option<RunId>) -> Result<Option<Closed>> {
    let key = Key::Closing(run, base);
    match read_json(store, &key).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "how a run was closed is decided anew");
            store.delete(&key.to_string()).await?;
            Ok(None)
        }
        read => read,
    }
}

/// Writes down how a run is closed, unless that was done before: how it is closed now.
pub async fn close(store: &dyn Store, mine: Closed) -> Result<Closed> {
    let key = Key::Closing(mine.run, mine.base);
    if store.create(&key, to_json(&mine)?.into()).await? {
        return Ok(mine);
    }
    Ok(closed(store, mine.run, mine.base).await?.unwrap_or(mine))
}
