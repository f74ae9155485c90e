//! Merges the results of a run's items with the rows of the previous snapshot into rows and their
//! coverage. There is one file per source.
//!
//! All functions are pure: they do no I/O, and nothing depends on when or in what order results
//! arrived.

mod fold;
pub mod gallery;
pub mod marketplace;
pub mod registry;

use crate::work::{Gap, Malformed, State};
use time::OffsetDateTime;

/// How a scope of a run ended.
#[derive(Debug, Clone)]
pub struct ScopeResult<S> {
    /// The scope.
    pub scope: S,
    /// The final state.
    pub state: State,
    /// The reason for the state. Empty if the scope is complete.
    pub reason: String,
    /// Number of failed attempts.
    pub attempts: u32,
    /// Number of listings that were not empty.
    pub listed: u64,
    /// Parts of the scope that ended differently.
    pub gaps: Vec<Gap>,
    /// Members of the responses whose form was not as specified.
    pub malformed: Malformed,
    /// Number of rows found.
    pub rows: u64,
}

/// Rows of the previous snapshot that are kept for a scope that could not be listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct CarriedRows {
    /// Number of rows.
    pub rows: u64,
    /// When the oldest row was observed.
    pub since: Option<OffsetDateTime>,
}

impl CarriedRows {
    /// The state of a scope that ended in `state` and keeps these rows.
    pub fn ends(self, state: State) -> State {
        match state {
            State::Failed if self.rows > 0 => State::Carried,
            state => state,
        }
    }

    /// Adds a row that was observed at `at`.
    pub fn add(&mut self, at: OffsetDateTime) {
        self.rows += 1;
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }
}
