//! The kept snapshots, their order, and the one that `current.json` names.

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::snapshot::{self, Current, Manifest};
use crate::store::{Key, SnapshotFile, Store};
use crate::work::RunId;
use futures::{StreamExt, TryStreamExt, stream};

/// Number of manifests that are read concurrently.
const READ_CONCURRENCY: usize = 16;

/// The contents of `current.json`.
#[derive(Debug, Clone, Default)]
pub struct CurrentName {
    /// The run that it names.
    pub run: Option<RunId>,
    /// What is wrong with it.
    pub wrong: Option<String>,
    pub(super) tag: Option<String>,
}

/// The kept snapshots, by manifest.
#[derive(Debug, Default)]
pub struct KeptSnapshots {
    /// The readable manifests, newest first.
    pub manifests: Vec<Manifest>,
    /// The runs with unreadable manifests, and the reasons.
    pub unreadable: Vec<(RunId, Error)>,
}

/// Reads the manifests of all kept snapshots. A snapshot with neither a manifest nor the marker
/// that is written after it is being published or removed, and is omitted.
pub async fn kept(store: &dyn Store) -> Result<KeptSnapshots> {
    let runs = snapshot::runs(store).await?;
    let read = stream::iter(runs)
        .map(|run| async move {
            let manifest = match snapshot::manifest(store, run).await {
                Ok(Some(manifest)) => Ok(manifest),
                Ok(None) => {
                    let mark = Key::Snapshot(run, SnapshotFile::Success);
                    if store.get(&mark).await?.is_none() {
                        return Ok(None);
                    }
                    Err(Error::corrupt("is missing"))
                }
                Err(error) if error.is_unreadable() => Err(error),
                Err(error) => return Err(error),
            };
            Ok::<_, Error>(Some((run, manifest)))
        })
        .buffered(READ_CONCURRENCY);
    let read: Vec<_> = read.try_collect().await?;
    let mut kept = KeptSnapshots::default();
    for (run, manifest) in read.into_iter().flatten() {
        match manifest {
            Ok(manifest) => kept.manifests.push(manifest),
            Err(error) => kept.unreadable.push((run, error)),
        }
    }
    kept.manifests = newest_first(kept.manifests);
    Ok(kept)
}

/// The readable manifests in the order of their chain, newest last.
pub async fn readable_manifests(store: &dyn Store) -> Result<Vec<Manifest>> {
    let mut readable = Vec::new();
    for run in snapshot::runs(store).await? {
        match snapshot::manifest(store, run).await {
            Ok(found) => readable.extend(found),
            Err(error) if error.is_unreadable() => {
                tracing::debug!(%error, %run, "an unreadable manifest is skipped");
            }
            Err(error) => return Err(error),
        }
    }
    let mut manifests = newest_first(readable);
    manifests.reverse();
    Ok(manifests)
}

/// Sorts snapshots in the order of their chain, newest first. Snapshots that are in no chain are
/// sorted by when they were published.
fn newest_first(mut manifests: Vec<Manifest>) -> Vec<Manifest> {
    manifests.sort_by_key(|manifest| std::cmp::Reverse((manifest.published_at, manifest.run)));
    let mut ordered = Vec::with_capacity(manifests.len());
    while !manifests.is_empty() {
        let has_follower = |one: &Manifest| {
            manifests
                .iter()
                .any(|other| other.run != one.run && other.previous_run == Some(one.run))
        };
        let next = manifests.iter().position(|one| !has_follower(one)).unwrap_or(0);
        ordered.push(manifests.remove(next));
    }
    ordered
}

/// Reads `current.json`, without checking that the snapshot it names exists.
pub async fn named(store: &dyn Store) -> Result<CurrentName> {
    let Some(object) = store.get(&Key::Current).await? else { return Ok(CurrentName::default()) };
    let tag = Some(object.tag);
    let current: Current = match serde_json::from_slice(&object.bytes) {
        Ok(current) => current,
        Err(e) => {
            let wrong = Some(format!("cannot be read ({e})"));
            return Ok(CurrentName { run: None, wrong, tag });
        }
    };
    let manifest = Key::Snapshot(current.run, SnapshotFile::Manifest).to_string();
    let other = current.manifest != manifest;
    let wrong =
        other.then(|| format!("names run {}, but the manifest {}", current.run, current.manifest));
    Ok(CurrentName { run: Some(current.run), wrong, tag })
}

/// The manifest of the current snapshot. If `current.json` does not lead to one, that of the newest
/// snapshot that has one.
pub async fn current_or_newest(store: &dyn Store) -> Result<Option<Manifest>> {
    match snapshot::current(store).await {
        Ok(Some(manifest)) => return Ok(Some(manifest)),
        Ok(None) => {}
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(%error, "the current snapshot is damaged and is skipped");
        }
        Err(error) => return Err(error),
    }
    Ok(kept(store).await?.manifests.into_iter().next())
}
