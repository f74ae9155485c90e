//! `--fields`: the members of rows to print.

use crate::error::{Error, Result};
use crate::image::names::{are, nearest, quoted};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// With more fields than this, an error lists only the nearest ones, if there are any.
const MOST_TOLD: usize = 20;

/// Converts `is_latest` to `isLatest`, so that both spellings of a column are accepted.
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

/// Refuses a field named by `option` that no row has.
pub(in crate::cli) fn check(option: &str, fields: &[String], known: &[String]) -> Result<()> {
    let Some(unknown) = fields.iter().find(|field| !known.contains(field)) else { return Ok(()) };
    let near = nearest(unknown, known.iter().map(String::as_str));
    let all = || format!("there are {}", known.join(", "));
    let suggestion = if near.is_empty() {
        all()
    } else if known.len() > MOST_TOLD {
        are(&near)
    } else {
        format!("{}; {}", are(&near), all())
    };
    let unknown = quoted(unknown);
    Err(Error::invalid(format!("{option}: there is no field {unknown}; {suggestion}")))
}

/// Reduces a row to the named fields, in that order. Missing members are null.
pub(super) fn pick(row: Value, fields: &[String]) -> Value {
    let Value::Object(mut row) = row else { return row };
    let picked: Map<String, Value> = fields
        .iter()
        .map(|field| (field.clone(), row.get_mut(field).map_or(Value::Null, Value::take)))
        .collect();
    picked.into()
}

/// The names of all members of the rows, in order of first occurrence.
pub(super) fn all_names(rows: &[Value]) -> Vec<String> {
    let (mut known, mut names) = (HashSet::new(), Vec::new());
    for name in rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys) {
        if known.insert(name.as_str()) {
            names.push(name.clone());
        }
    }
    names
}
