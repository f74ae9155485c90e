//! The changes between two snapshots, row by row.

use crate::image::Status;
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::names::ClosedSet;
use crate::image::registry::RegistryImage;
use crate::work::RunId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cmp::Ordering;
use time::OffsetDateTime;

/// The kind of change of an image.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The image is new; `after` states whether it is the latest of its SKU.
    Added,
    /// The image is no longer listed.
    Removed,
    /// The status changed.
    Status,
    /// The image was replicated to a location, or withdrawn from one.
    Locations,
    /// An image that already existed became the latest of its SKU, or ceased to be.
    Latest,
    /// The tags changed.
    Tags,
    /// A date changed.
    Dates,
    /// Another property changed.
    Attributes,
}

impl Change {
    /// The names of all changes in the feed.
    pub const NAMES: [&str; 8] =
        ["added", "removed", "status", "locations", "latest", "tags", "dates", "attributes"];

    /// The names as a closed set.
    pub const SET: ClosedSet = ClosedSet { what: "change", names: &Self::NAMES };
}

/// One row of the change feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// The start of the run that observed the change.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: OffsetDateTime,
    /// The run that observed the change.
    pub run: RunId,
    /// The run that it is compared with.
    pub previous_run: RunId,
    /// The kind of image.
    #[schemars(extend("enum" = crate::image::KINDS))]
    pub kind: String,
    /// The id of the image.
    pub id: String,
    /// The kind of change.
    pub change: Change,
    /// The value before the change.
    pub before: Value,
    /// The value after the change.
    pub after: Value,
}

/// A row whose changes the feed reports.
pub trait ChangedRow {
    /// The kind of image.
    fn kind(&self) -> &str;
    /// The id of the image.
    fn id(&self) -> &str;
    /// The table's order.
    fn order(&self, other: &Self) -> Ordering;
    /// The status, if known.
    fn status(&self) -> Option<Status>;
    /// The locations of the image.
    fn locations(&self) -> &[String];
    /// Whether the row is the latest.
    fn is_latest(&self) -> bool;
    /// The end of the image's life.
    fn ends_at(&self) -> Option<OffsetDateTime>;
    /// The tags.
    fn tags(&self) -> Value;
    /// The other properties that can be compared with those of `other`. A property that was asked
    /// for in only one of the two runs is not a change of the image.
    fn attributes(&self, other: &Self) -> Value;
}

impl ChangedRow for MarketplaceImage {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn order(&self, other: &Self) -> Ordering {
        self.compare(other)
    }

    fn status(&self) -> Option<Status> {
        self.status
    }

    fn locations(&self) -> &[String] {
        &self.locations
    }

    fn is_latest(&self) -> bool {
        self.is_latest
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        self.scheduled_deprecation_at
    }

    fn tags(&self) -> Value {
        Value::Null
    }

    fn attributes(&self, other: &Self) -> Value {
        if self.details_from != other.details_from {
            return json!({ "alternative": self.alternative });
        }
        json!({"architecture": self.architecture, "hyperVGeneration": self.hyper_v_generation,
               "alternative": self.alternative})
    }
}

impl ChangedRow for GalleryImage {
    fn kind(&self) -> &str {
        self.kind.as_str()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn order(&self, other: &Self) -> Ordering {
        self.compare(other)
    }

    fn status(&self) -> Option<Status> {
        Some(self.status)
    }

    fn locations(&self) -> &[String] {
        &self.locations
    }

    fn is_latest(&self) -> bool {
        self.is_latest
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        self.end_of_life_at
    }

    fn tags(&self) -> Value {
        json!(self.tags)
    }

    fn attributes(&self, other: &Self) -> Value {
        let both_known = self.replication_state.is_some() && other.replication_state.is_some();
        let replication = both_known.then_some(&self.replication_state);
        json!({"sharing": self.sharing, "publicNames": self.public_names, "os": self.os, "osState": self.os_state,
               "architecture": self.architecture, "hyperVGeneration": self.hyper_v_generation,
               "features": self.features, "replicas": self.replicas,
               "excludedLocations": self.excluded_locations,
               "excludeFromLatest": self.exclude_from_latest,
               "storageType": self.storage_type, "storageTypes": self.storage_types,
               "replicationMode": self.replication_mode, "replicationState": replication,
               "provisioningState": self.provisioning_state, "sourceId": self.source_id,
               "vcpus": [self.min_vcpus, self.max_vcpus],
               "memory": [self.min_memory, self.max_memory],
               "disallowedDiskTypes": self.disallowed_disk_types,
               "plan": [&self.plan_publisher, &self.plan_product, &self.plan_name],
               "description": self.description, "releaseNotesUri": self.release_notes_uri})
    }
}

impl ChangedRow for RegistryImage {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn order(&self, other: &Self) -> Ordering {
        self.compare(other)
    }

    fn status(&self) -> Option<Status> {
        Some(self.status)
    }

    fn locations(&self) -> &[String] {
        &[]
    }

    fn is_latest(&self) -> bool {
        self.is_latest
    }

    fn ends_at(&self) -> Option<OffsetDateTime> {
        None
    }

    fn tags(&self) -> Value {
        json!(self.tags)
    }

    fn attributes(&self, other: &Self) -> Value {
        // Content never changes, so content that becomes known is not a change.
        json!({"canDelete": self.can_delete, "canWrite": self.can_write,
               "canList": self.can_list, "canRead": self.can_read,
               "referrers": (self.is_content_known == other.is_content_known)
                   .then_some(&self.referrers),
               "scanStatus": self.scan_status, "findings": self.findings})
    }
}

/// The changes between two states of one group of rows. Both states must be in the table's order.
/// The result is in the same order, then by kind of change.
pub fn between<R: ChangedRow>(
    before: &[R],
    after: &[R],
    run: (RunId, OffsetDateTime),
    previous_run: RunId,
) -> Vec<ChangeRow> {
    let change = |row: &R, change, before, after| ChangeRow {
        at: run.1,
        run: run.0,
        previous_run,
        kind: row.kind().to_owned(),
        id: row.id().to_owned(),
        change,
        before,
        after,
    };
    let state_of = |row: &R| json!({"status": row.status(), "locations": row.locations(), "isLatest": row.is_latest()});
    let mut rows = Vec::new();
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return rows,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) if was.id().eq_ignore_ascii_case(is.id()) => Ordering::Equal,
            (Some(was), Some(is)) => was.order(is),
        };
        let was = if order.is_le() { before.next() } else { None };
        let is = if order.is_ge() { after.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) => differences(was, is, |kind, before, after| {
                rows.push(change(is, kind, before, after));
            }),
            (Some(was), None) => {
                rows.push(change(was, Change::Removed, state_of(was), Value::Null));
            }
            (None, Some(is)) => rows.push(change(is, Change::Added, Value::Null, state_of(is))),
            (None, None) => return rows,
        }
    }
}

fn differences<R: ChangedRow>(was: &R, is: &R, mut say: impl FnMut(Change, Value, Value)) {
    if was.status() != is.status() {
        say(Change::Status, json!(was.status()), json!(is.status()));
    }
    if was.locations() != is.locations() {
        say(Change::Locations, json!(was.locations()), json!(is.locations()));
    }
    if was.is_latest() != is.is_latest() {
        say(Change::Latest, json!(was.is_latest()), json!(is.is_latest()));
    }
    if was.tags() != is.tags() {
        say(Change::Tags, was.tags(), is.tags());
    }
    let date = |row: &R| {
        let format = &time::format_description::well_known::Rfc3339;
        row.ends_at().and_then(|at| at.format(format).ok())
    };
    if was.ends_at() != is.ends_at() {
        say(Change::Dates, json!(date(was)), json!(date(is)));
    }
    let (before, after) = (was.attributes(is), is.attributes(was));
    if before != after {
        let (before, after) = changed(before, after);
        say(Change::Attributes, before, after);
    }
}

/// Reduces two objects with more than four members to the members that differ.
fn changed(before: Value, after: Value) -> (Value, Value) {
    const FEW: usize = 4;
    match (before, after) {
        (Value::Object(mut before), Value::Object(mut after)) if before.len() > FEW => {
            before.retain(|name, value| after.get(name) != Some(value));
            after.retain(|name, _| before.contains_key(name));
            (before.into(), after.into())
        }
        same => same,
    }
}
