//! Which rows of a list are printed, and in what order: `--top` and `--sort`.
//!
//! A sorted list is held in memory before any row is printed, so memory grows with the number of
//! matching rows. An unsorted list is printed while it is read, and reading stops after the last
//! row wanted.

use super::output::{Columns, Output, Visit, camel, check};
use crate::error::{Error, Result};
use crate::image::version;
use serde_json::Value;
use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::str::FromStr;

#[derive(clap::Args, Clone, Default)]
pub(super) struct ShapeArgs {
    /// Maximum number of rows
    #[arg(long, value_name = "N")]
    top: Option<NonZeroUsize>,
    /// Fields to sort by, comma-separated, most significant first; :desc sorts in descending order
    ///
    /// Nothing is printed until all rows are read.
    #[arg(long, value_name = "FIELD[:desc]", value_delimiter = ',')]
    sort: Vec<SortKey>,
}

/// A field to sort by, and its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SortKey {
    field: String,
    descending: bool,
}

impl FromStr for SortKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (field, order) = text.split_once(':').unwrap_or((text, "asc"));
        let descending = match order {
            "asc" => false,
            "desc" => true,
            _ => {
                let text = format!("'{text}' is not a sort order: give FIELD or FIELD:desc");
                return Err(Error::invalid(text));
            }
        };
        Ok(Self { field: camel(field.trim()), descending })
    }
}

impl ShapeArgs {
    /// The maximum number of rows to look up. Unlimited with `--sort`, where the order decides
    /// which rows are printed.
    pub(super) fn most(&self) -> usize {
        if self.sort.is_empty() {
            self.top.map_or(usize::MAX, NonZeroUsize::get)
        } else {
            usize::MAX
        }
    }

    /// Prints a list whose rows come one by one from `feed`, which stops when no more rows are
    /// wanted.
    pub(super) fn print(
        &self,
        columns: &Columns,
        output: &Output,
        feed: impl FnOnce(Visit<'_>) -> Result<()>,
    ) -> Result<()> {
        if !self.sort.is_empty() {
            let fields: Vec<String> = self.sort.iter().map(|key| key.field.clone()).collect();
            let known: Vec<String> =
                columns.all.iter().chain(&columns.elsewhere).cloned().collect();
            check("--sort", &fields, &known)?;
            let mut rows = Vec::new();
            feed(&mut |row| {
                rows.push(serde_json::from_slice(row).map_err(|e| Error::bug(e.to_string()))?);
                Ok(ControlFlow::Continue(()))
            })?;
            let rows = self.arranged(rows);
            return output.stream(columns, |visit| {
                for row in rows {
                    if visit(row.to_string().as_bytes())?.is_break() {
                        break;
                    }
                }
                Ok(())
            });
        }
        let mut left = self.most();
        output.stream(columns, |visit| {
            feed(&mut |row| {
                left -= 1;
                let flow = visit(row)?;
                Ok(if left == 0 { ControlFlow::Break(()) } else { flow })
            })
        })
    }

    /// The rows to print, in order. The sort is stable.
    pub(super) fn shape(&self, rows: Vec<Value>) -> Result<Vec<Value>> {
        if let Some(first) = rows.first().and_then(Value::as_object) {
            let known: Vec<String> = first.keys().cloned().collect();
            let has = |field: &&SortKey| rows.iter().any(|row| row.get(&field.field).is_some());
            let missing = self.sort.iter().find(|key| !has(key)).map(|key| key.field.clone());
            check("--sort", missing.as_slice(), &known)?;
        }
        Ok(self.arranged(rows))
    }

    fn arranged(&self, mut rows: Vec<Value>) -> Vec<Value> {
        rows.sort_by(|one, other| {
            let keys = self.sort.iter().map(|key| key.order(one, other));
            keys.fold(Ordering::Equal, Ordering::then)
        });
        rows.truncate(self.top.map_or(usize::MAX, NonZeroUsize::get));
        rows
    }
}

impl SortKey {
    fn order(&self, one: &Value, other: &Value) -> Ordering {
        let nothing = &Value::Null;
        let value = |row| Value::get(row, &self.field).unwrap_or(nothing);
        let (one, other) = (value(one), value(other));
        // Missing values sort last in both directions.
        match (one.is_null(), other.is_null()) {
            (false, false) => {}
            (one, other) => return one.cmp(&other),
        }
        let order = match (one, other) {
            (Value::Number(one), Value::Number(other)) => {
                let number = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
                number(one).total_cmp(&number(other))
            }
            (Value::Array(one), Value::Array(other)) => one.len().cmp(&other.len()),
            (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
            (Value::String(one), Value::String(other)) => match self.field.as_str() {
                "version" | "latest" => version::compare(one, other),
                _ => one.to_lowercase().cmp(&other.to_lowercase()),
            },
            (one, other) => one.to_string().cmp(&other.to_string()),
        };
        if self.descending { order.reverse() } else { order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_sorted_by_what_their_fields_are_and_unknown_ones_come_last() {
        let rows = || {
            vec![
                json!({"version": "1.10.0", "images": 9, "os": null, "locations": ["a", "b"]}),
                json!({"version": "1.9.0", "images": 10, "os": "windows", "locations": []}),
                json!({"version": "1.9.0", "images": 2, "os": "Linux", "locations": ["a"]}),
            ]
        };
        let sorted = |keys: &[&str]| {
            let sort = keys.iter().map(|key| key.parse().unwrap()).collect();
            let shaped = ShapeArgs { top: None, sort }.shape(rows()).unwrap();
            shaped.iter().map(|row| row["images"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&[]), [9, 10, 2]);
        assert_eq!(sorted(&["version"]), [10, 2, 9]);
        assert_eq!(sorted(&["version:desc", "images"]), [9, 2, 10]);
        assert_eq!(sorted(&["images:desc"]), [10, 9, 2]);
        assert_eq!(sorted(&["os"]), [2, 10, 9]);
        assert_eq!(sorted(&["os:desc"]), [10, 2, 9]);
        assert_eq!(sorted(&["locations"]), [10, 2, 9]);
        let top = ShapeArgs { top: NonZeroUsize::new(1), sort: vec!["images".parse().unwrap()] };
        assert_eq!(top.shape(rows()).unwrap()[0]["images"], 2);
        assert_eq!(top.most(), usize::MAX);
        assert!("images:down".parse::<SortKey>().is_err());
        let none = ShapeArgs { top: None, sort: vec!["colour".parse().unwrap()] };
        assert!(none.shape(rows()).is_err() && none.shape(Vec::new()).is_ok());
    }
}
