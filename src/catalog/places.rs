//! How each location of the marketplace was listed, according to the coverage of a snapshot.

use crate::error::{ErrorKind, Result};
use crate::pipeline::coverage::{CoverageLine, each_line};
use crate::pipeline::snapshot::{self, Manifest};
use crate::source::locations::UNNAMED;
use crate::store::{SnapshotFile, Store};
use crate::work::{SourceName, State};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// How a location of the marketplace was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedPlace {
    /// The outcome of listing its publishers, if it was requested.
    pub state: Option<State>,
    /// Since when all its images are known; `None` if some were never listed.
    pub at: Option<OffsetDateTime>,
}

/// How each location was listed, by short name.
pub type ListedPlaces = BTreeMap<String, ListedPlace>;

/// Reads how each location was listed. Empty if the coverage is damaged: no image depends on it.
pub(super) async fn read(store: &dyn Store, manifest: &Manifest) -> Result<ListedPlaces> {
    let bytes = match snapshot::verified(store, manifest, SnapshotFile::Coverage).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(%error, "cannot read how locations were listed");
            return Ok(ListedPlaces::new());
        }
        bytes => bytes?,
    };
    let Some(bytes) = bytes else { return Ok(ListedPlaces::new()) };
    let begun = manifest.started_at;
    let read = move || {
        let mut places = ListedPlaces::new();
        each_line(&bytes, |line| add(&mut places, &line, begun)).map(|()| places)
    };
    crate::blocking::blocking("reading a coverage", read).await
}

/// Adds a scope of a run that began at `begun`.
fn add(places: &mut ListedPlaces, line: &CoverageLine, begun: OffsetDateTime) {
    let is_place = line.source == SourceName::Marketplace
        && !line.location.is_empty()
        && line.location != UNNAMED;
    // The details of a version are requested in one location for all.
    if !is_place || line.version.is_some() {
        return;
    }
    if !places.contains_key(&line.location) {
        places.insert(line.location.clone(), ListedPlace { state: None, at: Some(begun) });
    }
    let Some(place) = places.get_mut(&line.location) else { return };
    if line.publisher.is_none() {
        place.state = Some(line.state);
    }
    let at = match line.state {
        // Only some publishers were requested.
        _ if !line.only.is_empty() => None,
        State::Done | State::Empty | State::Gone => Some(begun),
        State::Carried => line.since,
        State::Denied | State::Failed => None,
    };
    place.at = place.at.zip(at).map(|(one, other)| one.min(other));
}
