//! What changed between two snapshots, row by row.

use crate::image::marketplace::MarketplaceImage;
use crate::work::RunId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Ordering;
use time::OffsetDateTime;

/// What happened to an image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It is no longer listed.
    Removed,
    /// Its status is another.
    Status,
    /// It was replicated to, or withdrawn from, a location.
    Locations,
    /// It became, or is no longer, the latest of its SKU.
    Latest,
    /// Its tags are others.
    Tags,
    /// A date is another.
    Dates,
    /// Another property is another.
    Attributes,
}

impl Change {
    /// Every change, by the name that the feed gives it.
    pub const NAMES: [&str; 8] =
        ["added", "removed", "status", "locations", "latest", "tags", "dates", "attributes"];
}

/// One row of the change feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// Start of the run that saw it.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String")]
    pub at: OffsetDateTime,
    /// The run that saw it.
    pub run: RunId,
    /// The run that it is compared with.
    pub previous_run: RunId,
    /// Kind of image.
    pub kind: String,
    /// The image.
    pub id: String,
    /// What happened.
    pub change: Change,
    /// What it was.
    pub before: Value,
    /// What it is.
    pub after: Value,
}

/// The changes between two states of one publisher, both in the table's order, in that order and
/// then by kind of change.
pub fn between(
    before: &[MarketplaceImage],
    after: &[MarketplaceImage],
    run: (RunId, OffsetDateTime),
    previous_run: RunId,
) -> Vec<ChangeRow> {
    let change = |id: &str, change, before, after| ChangeRow {
        at: run.1,
        run: run.0,
        previous_run,
        kind: crate::image::marketplace::KIND.to_owned(),
        id: id.to_owned(),
        change,
        before,
        after,
    };
    let whole = |row: &MarketplaceImage| json!({"status": row.status, "locations": row.locations});
    let mut rows = Vec::new();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return rows,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) if was.id.eq_ignore_ascii_case(&is.id) => Ordering::Equal,
            (Some(was), Some(is)) => was.compare(is),
        };
        let was = if order.is_le() { before.next() } else { None };
        let is = if order.is_ge() { after.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) => differences(was, is, |kind, before, after| {
                rows.push(change(&is.id, kind, before, after));
            }),
            (Some(was), None) => {
                rows.push(change(&was.id, Change::Removed, whole(was), Value::Null));
            }
            (None, Some(is)) => rows.push(change(&is.id, Change::Added, Value::Null, whole(is))),
            (None, None) => return rows,
        }
    }
}

fn differences(
    was: &MarketplaceImage,
    is: &MarketplaceImage,
    mut say: impl FnMut(Change, Value, Value),
) {
    if was.status != is.status {
        say(Change::Status, json!(was.status), json!(is.status));
    }
    if was.locations != is.locations {
        say(Change::Locations, json!(was.locations), json!(is.locations));
    }
    if was.is_latest != is.is_latest {
        say(Change::Latest, json!(was.is_latest), json!(is.is_latest));
    }
    let date = |row: &MarketplaceImage| {
        row.scheduled_deprecation_at
            .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
    };
    if was.scheduled_deprecation_at != is.scheduled_deprecation_at {
        say(Change::Dates, json!(date(was)), json!(date(is)));
    }
    // Details that were asked for the first time are no change of the image.
    let properties = |row: &MarketplaceImage| {
        json!({"architecture": row.architecture, "hyperVGeneration": row.hyper_v_generation,
               "alternative": row.alternative})
    };
    let detailed_alike = was.has_details() == is.has_details();
    if detailed_alike && properties(was) != properties(is) {
        say(Change::Attributes, properties(was), properties(is));
    }
}
