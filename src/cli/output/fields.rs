//! `--fields`: which members of rows are printed.

use crate::error::{Error, Result};
use crate::image::names::{are, nearest, quoted};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// If there are more, not all of them are told where some are near.
const MOST_TOLD: usize = 20;

/// `is_latest` as `isLatest`: both spellings of a column are taken.
pub(in crate::cli) fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut all, part| {
        let mut letters = part.chars();
        all.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        all.push_str(letters.as_str());
        all
    })
}

/// Refuses a field that no row has, which an option names.
pub(in crate::cli) fn check(option: &str, fields: &[String], known: &[String]) -> Result<()> {
    let Some(unknown) = fields.iter().find(|field| !known.contains(field)) else { return Ok(()) };
    let near = nearest(unknown, known.iter().map(String::as_str));
    let all = || format!("there are {}", known.join(", "));
    let told = if near.is_empty() {
        all()
    } else if known.len() > MOST_TOLD {
        are(&near)
    } else {
        format!("{}; {}", are(&near), all())
    };
    let unknown = quoted(unknown);
    Err(Error::invalid(format!("{option}: there is no field {unknown}; {told}")))
}

/// Leaves the named fields, in that order; what a row has not is null.
pub(super) fn pick(row: Value, fields: &[String]) -> Value {
    let Value::Object(mut row) = row else { return row };
    let picked: Map<String, Value> = fields
        .iter()
        .map(|field| (field.clone(), row.get_mut(field).map_or(Value::Null, Value::take)))
        .collect();
    picked.into()
}

/// The names of all members that rows have, in the order in which they are met.
pub(super) fn all_names(rows: &[Value]) -> Vec<String> {
    let (mut known, mut names) = (HashSet::new(), Vec::new());
    for name in rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys) {
        if known.insert(name.as_str()) {
            names.push(name.clone());
        }
    }
    names
}
