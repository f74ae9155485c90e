//! Closing of runs, and the turn to publish.
//!
//! A run is closed by one document that is created and never overwritten. It lists the items that
//! were given up and names the snapshot that the run is built on. All files of the run's snapshot
//! follow from its ground state and that document. Every publisher of the run therefore writes the
//! same bytes, and items that end later do not count.
//!
//! Runs are published one at a time. `publishing.json` records whose turn it is. It is changed only
//! by compare-and-swap, and only while the snapshot that the run is built on is the current one.
//! Each snapshot therefore has one successor, and snapshots form one chain.

use super::{parse_json, read_json, to_json};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Key, Store};
use crate::work::{RunId, SourceName, WORK_VERSION};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An item that does not count for its run's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GivenUp {
    /// The source of the item.
    pub source: SourceName,
    /// The item's id.
    pub item: String,
    /// What is wrong with the item's shard. `None` if the item had not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// A damaged snapshot that was skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PassedOver {
    /// The run of the snapshot.
    pub run: RunId,
    /// What is wrong with the snapshot.
    pub reason: String,
}

/// `runs/{run}/closing….json`: the decisions that determine a run's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// [`WORK_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: RunId,
    /// The snapshot whose rows are kept where nothing newer is known.
    pub base: Option<RunId>,
    /// When the run was closed.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Snapshots that are newer than the base and damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The items that do not count, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<GivenUp>,
}

impl Closed {
    /// Closes `run` on `base`, with nothing passed over or given up.
    pub fn new(run: RunId, base: Option<RunId>, at: OffsetDateTime) -> Self {
        let at = at.replace_nanosecond(0).unwrap_or(at);
        let (passed_over, given_up) = (Vec::new(), Vec::new());
        Self { schema_version: WORK_VERSION, run, base, at, passed_over, given_up }
    }

    /// Whether both closings lead to the same snapshot.
    pub fn is_like(&self, other: &Self) -> bool {
        self.base == other.base
            && self.passed_over == other.passed_over
            && self.given_up == other.given_up
    }
}

/// `publishing.json`: the turn to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishTurn {
    /// The run that is being published, or that was published last.
    pub run: RunId,
    /// The snapshot that was current when the turn began.
    pub head: Option<RunId>,
    /// The snapshot that the run is built on: `head`, unless that was damaged.
    pub base: Option<RunId>,
    /// When the turn began.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// A turn with the version of the document it was read from. A swap fails if the document has
/// changed since.
#[derive(Debug, Default)]
pub struct TurnRead {
    /// The turn. `None` if there is none or it cannot be read.
    pub turn: Option<PublishTurn>,
    tag: Option<String>,
}

/// Reads the turn. An unreadable turn belongs to nobody and is replaced.
pub async fn turn(store: &dyn Store) -> Result<TurnRead> {
    let Some(object) = store.get(&Key::Publishing).await? else { return Ok(TurnRead::default()) };
    let turn = match parse_json(store, &Key::Publishing, &object.bytes) {
        Ok(turn) => Some(turn),
        Err(error) => {
            tracing::warn!(%error, "publishing.json is damaged; the run that holds the publishing \
                                    turn is unknown");
            None
        }
    };
    Ok(TurnRead { turn, tag: Some(object.tag) })
}

/// Takes the turn, unless it has changed since `seen` was read. Returns whether `turn` is now in
/// effect.
pub async fn take(store: &dyn Store, turn: &PublishTurn, seen: &TurnRead) -> Result<bool> {
    if store.swap(&Key::Publishing, to_json(turn)?.into(), seen.tag.as_deref()).await? {
        return Ok(true);
    }
    // Another publisher of the same run on the same snapshot is not a competitor.
    let now = self::turn(store).await?.turn;
    Ok(now.is_some_and(|now| (now.run, now.head, now.base) == (turn.run, turn.head, turn.base)))
}

/// Ends the current turn, after the snapshot of `run` was made current by hand.
pub async fn settle(store: &dyn Store, run: RunId, now: OffsetDateTime) -> Result<()> {
    let turn = PublishTurn { run, head: Some(run), base: None, at: now };
    for _ in 0..16 {
        let seen = self::turn(store).await?;
        if take(store, &turn, &seen).await? {
            return Ok(());
        }
    }
    Err(Error::transient("publishing.json: other processes keep changing it"))
}

/// How `run` was closed on `base`, if it was. Removes a damaged document: what it decided was not
/// published.
pub async fn closed(store: &dyn Store, run: RunId, base: Option<RunId>) -> Result<Option<Closed>> {
    let key = Key::Closing(run, base);
    match read_json(store, &key).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "a damaged closing record was removed; the run is closed again");
            store.delete(&key.to_string()).await?;
            Ok(None)
        }
        read => read,
    }
}

/// Records how a run is closed, unless that is recorded already. Returns the closing in effect.
pub async fn close(store: &dyn Store, mine: Closed) -> Result<Closed> {
    let key = Key::Closing(mine.run, mine.base);
    if store.create(&key, to_json(&mine)?.into()).await? {
        return Ok(mine);
    }
    Ok(closed(store, mine.run, mine.base).await?.unwrap_or(mine))
}
