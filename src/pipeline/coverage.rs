//! How every scope of a run ended.

use crate::work::{SourceName, State, is_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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
    /// Counts one more scope.
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

    /// Whether Azure gave the whole answer for every scope.
    pub fn is_complete(&self) -> bool {
        self.denied + self.failed + self.carried == 0
    }
}

/// One scope and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The source.
    pub source: SourceName,
    /// The location.
    pub location: String,
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
    /// Rows that this scope has in the snapshot.
    #[serde(default)]
    pub rows: u64,
    /// When the rows that stand in were observed.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub since: Option<OffsetDateTime>,
    /// For a publisher: the start of the run that listed its offers.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub offers_listed_at: Option<OffsetDateTime>,
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

/// `coverage.json`: one line for every location and publisher, and for every offer, SKU and
/// version that ended otherwise than done. `totals` counts every listing, of SKUs too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// [`super::snapshot::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: String,
    /// How many listings ended how.
    pub totals: Totals,
    /// What is known of details.
    pub details: DetailsCount,
    /// Rows of locations and publishers that the run was not asked to crawl.
    pub outside: u64,
    /// The scopes.
    pub scopes: Vec<Line>,
}
