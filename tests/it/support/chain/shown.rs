//! What the rows of a snapshot show of the parts of the world, held against what they must show.

use super::super::worlds::{Cell, WORLDS, cells, rows};
use super::{Contents, Seen, Stale, Table};
use serde_json::Value;
use std::collections::BTreeMap;

/// Whether a version of a publisher is, in any state of the world, in another location than that of
/// `cell`.
fn is_in_several(cell: &Cell, id: &str) -> bool {
    let Cell::Publisher(place, publisher) = cell else { return false };
    WORLDS.iter().flat_map(|world| &world.cells).any(|(other, rows)| match other {
        Cell::Publisher(at, of) => at != place && of == publisher && rows.contains_key(id),
        _ => false,
    })
}

/// The content of a snapshot.
pub(super) struct Shown {
    cells: super::super::worlds::Cells,
    /// Rows by id, each belonging to one or more parts.
    pub(super) rows: BTreeMap<String, Value>,
}

impl Shown {
    pub(super) fn read(contents: &Contents, run: &str) -> Self {
        let all = super::super::worlds::SOURCES.iter().flat_map(|table| rows(contents, run, table));
        let rows = all.map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect();
        Self { cells: cells(contents, run), rows }
    }

    pub(super) fn of(&self, cell: &Cell) -> Vec<&Value> {
        let ids = self.cells.get(cell).into_iter().flat_map(BTreeMap::keys);
        ids.map(|id| &self.rows[id]).collect()
    }

    pub(super) fn is_as(&self, cell: &Cell, seen: Seen) -> bool {
        let nothing = BTreeMap::new();
        let expected = seen.by.and_then(|(_, state)| WORLDS[state].cells.get(cell));
        if self.cells.get(cell).unwrap_or(&nothing) != expected.unwrap_or(&nothing) {
            return false;
        }
        self.of(cell).iter().all(|row| {
            let is_joined = row["locations"].as_array().is_some_and(|l| l.len() > 1);
            let is_joined = is_joined && matches!(cell, Cell::Publisher(..));
            let is_stale = row["stale"].as_bool().unwrap();
            let is_right = match seen.stale {
                Stale::Either => true,
                Stale::Yes => is_stale,
                // A row with several locations may be stale because of another one.
                Stale::No => is_joined || !is_stale,
            };
            let by = seen.by.map(|(run, _)| run.to_string());
            // The run that saw it last may have seen it in another location, where it no longer is.
            let was_joined = is_joined || is_in_several(cell, row["id"].as_str().unwrap());
            is_right && (was_joined || row["observedRun"].as_str() == by.as_deref())
        })
    }

    /// Checks that each row of several parts agrees with one of them.
    pub(super) fn check_joined(&self, table: &Table) {
        let mut newest: BTreeMap<&str, (u32, &str)> = BTreeMap::new();
        for row in
            self.rows.values().filter(|row| row["offer"].is_string() && row["gallery"].is_null())
        {
            let Some(publisher) = row["publisher"].as_str() else { continue };
            let places = row["locations"].as_array().unwrap().iter();
            let seen: Vec<&Seen> = places
                .flat_map(|place| {
                    let place = place.as_str().unwrap().to_owned();
                    &table[&Cell::Publisher(place, publisher.to_owned())]
                })
                .collect();
            let by = |seen: &&&Seen| {
                seen.by.is_some_and(|(run, _)| row["observedRun"] == run.to_string())
            };
            // The run that saw it last may have seen it in another location, where it no longer is.
            let place = row["locations"][0].as_str().unwrap().to_owned();
            let cell = Cell::Publisher(place, publisher.to_owned());
            let is_right = is_in_several(&cell, row["id"].as_str().unwrap())
                || seen.iter().any(|seen| by(&seen));
            assert!(is_right, "{row} was seen by another: {seen:?}");
            let may_be_stale = seen.iter().any(|seen| seen.stale != Stale::No);
            assert!(may_be_stale || row["stale"] == false, "{row} is not stale: {seen:?}");
            let id = row["id"].as_str().unwrap();
            let (sku, version) = id.rsplit_once(':').unwrap();
            let version: u32 = version.rsplit('.').next().unwrap().parse().unwrap();
            let newest = newest.entry(sku).or_insert((version, id));
            *newest = (*newest).max((version, id));
        }
        for (_, id) in newest.values() {
            assert_eq!(self.rows[*id]["isLatest"], true, "{id}");
        }
        let latest = |row: &&Value| {
            row["isLatest"] == true && row["gallery"].is_null() && row["sku"].is_string()
        };
        assert_eq!(self.rows.values().filter(latest).count(), newest.len());
    }
}
