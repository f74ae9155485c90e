//! The coverage of a run: how every scope ended.

use super::closing::PassedOver;
use crate::work::{Malformed, SourceName, State, is_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use time::OffsetDateTime;

/// How many scopes ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Listed, with something in it.
    pub done: u64,
    /// Listed, and empty.
    pub empty: u64,
    /// Listed by its parent and then not found.
    pub gone: u64,
    /// Not allowed.
    pub denied: u64,
    /// Not listed, and nothing stands in.
    pub failed: u64,
    /// Not listed; rows of an earlier run stand in.
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

/// One scope and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Line")]
pub struct CoverageLine {
    /// The source.
    pub source: SourceName,
    /// The location; left out where everything is asked for at once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// The subscription, of galleries and managed images of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// The resource group of a gallery of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// The gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery: Option<String>,
    /// The registry, by its login server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The repository, or `@findings` for what scanners found in the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The manifest, when its content is meant; or `@tags` for the tags of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The image definition, or `@images` for a subscription's managed images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// For a location's list of galleries of others: `shared` or `community`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<String>,
    /// The publisher, unless the location's list of publishers is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// The offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<String>,
    /// The SKU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The version, when its details are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How it ended.
    pub state: State,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How often it was tried in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Members of the answers that were of another form, and were taken for absent: how often, by what is
    /// wrong with them; and members that were longer than a row holds, and were cut. Of a registry, a gallery and
    /// a publisher all that was asked for their rows counts.
    #[serde(default, skip_serializing_if = "Malformed::is_empty")]
    pub malformed: Malformed,
    /// Of a location: the names of publishers that were asked for alone, or parts of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Rows that this scope has in the snapshot.
    #[serde(default)]
    pub rows: u64,
    /// When the rows that stand in were observed.
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

/// What is known of details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailsCount {
    /// Rows whose details are known.
    pub known: u64,
    /// Rows whose details were not asked for, or not answered.
    pub unknown: u64,
}

/// `coverage.json`: one line for every location and publisher, subscription, gallery and registry, and for
/// every offer, SKU, definition, version, repository and manifest that ended otherwise than done. `totals` counts every listing, of SKUs too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// [`super::snapshot::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: String,
    /// How many listings ended how.
    pub totals: Totals,
    /// What is known of marketplace images' details.
    pub details: DetailsCount,
    /// What is known of gallery versions' replication.
    #[serde(default)]
    pub replication: DetailsCount,
    /// What is known of manifests' contents.
    #[serde(default)]
    pub contents: DetailsCount,
    /// Rows of what the run was not asked to crawl.
    pub outside: u64,
    /// Newer snapshots than the one that rows were carried over from: they were damaged, and what they alone
    /// knew is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// The scopes.
    pub scopes: Vec<CoverageLine>,
}
