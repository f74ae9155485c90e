//! Checks that the changes of a snapshot lead from the previous table to the new one.

use super::Contents;
use crate::support::worlds::{SOURCES, rows};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The members of a row that the change feed reports.
type Reported = BTreeMap<&'static str, Value>;

fn reported(contents: &Contents, run: &str) -> BTreeMap<String, Reported> {
    let mut all = BTreeMap::new();
    for row in SOURCES.iter().flat_map(|table| rows(contents, run, table)) {
        let date = [&row["scheduledDeprecationAt"], &row["endOfLifeAt"]];
        let date = date.into_iter().find(|date| !date.is_null()).cloned().unwrap_or_default();
        let locations =
            if row["locations"].is_null() { json!([]) } else { row["locations"].clone() };
        let of_row = Reported::from([
            ("status", row["status"].clone()),
            ("locations", locations),
            ("latest", row["isLatest"].clone()),
            ("tags", row["tags"].clone()),
            ("dates", date),
        ]);
        all.insert(row["id"].as_str().unwrap().to_ascii_lowercase(), of_row);
    }
    all
}

/// Applies the changes of `run` to the table of `base`. The result must be the table of `run`.
pub fn check(contents: &Contents, base: &str, run: &str) {
    let (mut table, after) = (reported(contents, base), reported(contents, run));
    for change in rows(contents, run, "changes") {
        assert_eq!((&change["run"], &change["previousRun"]), (&json!(run), &json!(base)));
        let id = change["id"].as_str().unwrap().to_ascii_lowercase();
        let kind = change["change"].as_str().unwrap();
        match kind {
            "added" => {
                let mut row = after.get(&id).unwrap_or_else(|| panic!("{id} was added?")).clone();
                row.extend([
                    ("status", change["after"]["status"].clone()),
                    ("locations", change["after"]["locations"].clone()),
                ]);
                assert!(
                    table.insert(id.clone(), row).is_none(),
                    "{id} was there when it was added"
                );
            }
            "removed" => assert!(table.remove(&id).is_some(), "{id} was not there to be removed"),
            "attributes" => assert!(table.contains_key(&id), "{id} is not there"),
            _ => {
                let row = table.get_mut(&id).unwrap_or_else(|| panic!("{id} is not there"));
                let (_, value) =
                    row.iter_mut().find(|(name, _)| **name == kind).expect("a change of that name");
                assert_eq!(*value, change["before"], "{id}: {kind}");
                *value = change["after"].clone();
            }
        }
    }
    for (id, row) in &after {
        assert_eq!(table.get(id), Some(row), "{id}: what changed in {run} since {base}");
    }
    assert_eq!(table.len(), after.len(), "what was removed in {run} since {base}");
}
