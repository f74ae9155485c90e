//! The coverage of a run: how every scope ended.

use super::closing::PassedOver;
use crate::error::{Error, Result};
use crate::work::{Malformed, SourceName, State, is_zero};
use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt::{self, Formatter};
use time::OffsetDateTime;

/// The number of scopes by outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Scopes that were listed and are not empty.
    pub done: u64,
    /// Scopes that were listed and are empty.
    pub empty: u64,
    /// Scopes that their parent listed, but that were not found.
    pub gone: u64,
    /// Scopes that the identity is not allowed to list.
    pub denied: u64,
    /// Scopes that could not be listed, and have no rows of an earlier run.
    pub failed: u64,
    /// Scopes that could not be listed; rows of an earlier run are carried over.
    pub carried: u64,
}

impl Totals {
    /// Adds the counts of another part.
    pub fn join(&mut self, more: &Self) {
        self.done += more.done;
        self.empty += more.empty;
        self.gone += more.gone;
        self.denied += more.denied;
        self.failed += more.failed;
        self.carried += more.carried;
    }

    /// Adds `scopes` scopes that ended in `state`.
    pub fn add(&mut self, state: State, scopes: u64) {
        *match state {
            State::Done => &mut self.done,
            State::Empty => &mut self.empty,
            State::Gone => &mut self.gone,
            State::Denied => &mut self.denied,
            State::Failed => &mut self.failed,
            State::Carried => &mut self.carried,
        } += scopes;
    }

    /// Whether Azure answered every scope completely.
    pub fn is_complete(&self) -> bool {
        self.denied + self.failed + self.carried == 0
    }
}

/// A scope and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Line")]
pub struct CoverageLine {
    /// The source.
    pub source: SourceName,
    /// The location; omitted if one request covers all locations.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// The subscription, for your own galleries and managed images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// The resource group of your own gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// The gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery: Option<String>,
    /// The registry, by its login server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The repository, or `@findings` for the scanner findings of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The digest of the manifest, if the scope is its content; or `@tags` for the tags of the
    /// repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The image definition, or `@images` for the managed images of a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// For the list of other owners' galleries in a location: `shared` or `community`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<String>,
    /// The publisher; omitted if the scope is the list of publishers of a location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// The SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The version, if the scope is its details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The outcome.
    pub state: State,
    /// The reason for the outcome.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The number of failed attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Members of responses that had an unexpected type and were treated as absent, and members
    /// that exceeded the limit of a row and were truncated: a count for each description. For a
    /// registry, a gallery and a publisher, all requests for their rows count.
    #[serde(default, skip_serializing_if = "Malformed::is_empty")]
    pub malformed: Malformed,
    /// For a location: the publishers that were requested, by name or part of a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The number of rows that this scope has in the snapshot.
    #[serde(default)]
    pub rows: u64,
    /// When the carried rows were observed.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<OffsetDateTime>,
    /// For a publisher: the start of the run that listed its offers.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub offers_listed_at: Option<OffsetDateTime>,
}

impl CoverageLine {
    /// A line for a scope of `source` that is done. The names are unset.
    pub fn new(source: SourceName) -> Self {
        Self {
            source,
            location: String::new(),
            subscription: None,
            resource_group: None,
            gallery: None,
            registry: None,
            repository: None,
            digest: None,
            definition: None,
            sharing: None,
            publisher: None,
            offer: None,
            sku: None,
            version: None,
            state: State::Done,
            reason: String::new(),
            attempts: 0,
            malformed: Malformed::default(),
            only: Vec::new(),
            rows: 0,
            since: None,
            offers_listed_at: None,
        }
    }

    /// The name of the scope: all its parts.
    pub fn name(&self) -> String {
        let location = Some(&self.location).filter(|name| !name.is_empty());
        let names = [
            location,
            self.subscription.as_ref(),
            self.publisher.as_ref(),
            self.offer.as_ref(),
            self.sku.as_ref(),
            self.version.as_ref(),
            self.gallery.as_ref(),
            self.definition.as_ref(),
            self.registry.as_ref(),
            self.repository.as_ref(),
            self.digest.as_ref(),
        ];
        let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
        names.join("/")
    }

    /// Compares lines by their order in a coverage.
    pub fn compare(&self, other: &Self) -> Ordering {
        fn names(line: &CoverageLine) -> [&str; 13] {
            [
                &line.location,
                line.sharing.as_deref().unwrap_or_default(),
                line.subscription.as_deref().unwrap_or_default(),
                line.resource_group.as_deref().unwrap_or_default(),
                line.gallery.as_deref().unwrap_or_default(),
                line.definition.as_deref().unwrap_or_default(),
                line.registry.as_deref().unwrap_or_default(),
                line.repository.as_deref().unwrap_or_default(),
                line.digest.as_deref().unwrap_or_default(),
                line.publisher.as_deref().unwrap_or_default(),
                line.offer.as_deref().unwrap_or_default(),
                line.sku.as_deref().unwrap_or_default(),
                line.version.as_deref().unwrap_or_default(),
            ]
        }
        self.source.cmp(&other.source).then_with(|| names(self).cmp(&names(other)))
    }
}

/// The number of rows with known and with unknown details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailsCount {
    /// The number of rows whose details are known.
    pub known: u64,
    /// The number of rows whose details were not requested, or could not be read.
    pub unknown: u64,
}

/// `coverage.json`: one line for each location, publisher, subscription, gallery and registry, and
/// for each offer, SKU, definition, version, repository and manifest with an outcome other than
/// done. `totals` counts every listing, including those of SKUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// [`super::snapshot::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: String,
    /// The number of listings by outcome.
    pub totals: Totals,
    /// How many rows of marketplace images have known details.
    pub details: DetailsCount,
    /// How many gallery versions have a known replication state.
    #[serde(default)]
    pub replication: DetailsCount,
    /// How many manifests have known contents.
    #[serde(default)]
    pub contents: DetailsCount,
    /// The number of rows outside the request of the run.
    pub outside: u64,
    /// Snapshots newer than the one that rows were carried over from. They were damaged, and
    /// information that only they contained is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The scopes.
    pub scopes: Vec<CoverageLine>,
}

/// Calls `visit` with each scope of a coverage, as stored, one after the other: those of a large run
/// take a multiple of their bytes in memory.
pub fn each_line(bytes: &[u8], mut visit: impl FnMut(CoverageLine)) -> Result<()> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Document(&mut visit)
        .deserialize(&mut reader)
        .map_err(|e| Error::corrupt(format!("coverage.json has a line that cannot be read ({e})")))
}

/// Visits the scopes of a coverage.
struct Document<'a>(&'a mut dyn FnMut(CoverageLine));

/// Visits the lines of a list.
struct Lines<'a>(&'a mut dyn FnMut(CoverageLine));

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a coverage")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "scopes" {
                map.next_value_seed(Lines(&mut *self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Lines<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Lines<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of scopes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> Result<(), A::Error> {
        while let Some(line) = lines.next_element()? {
            (self.0)(line);
        }
        Ok(())
    }
}
