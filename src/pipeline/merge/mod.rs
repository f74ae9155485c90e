//! The results of a run's items and the rows of the snapshot before, merged into rows, with the coverage that
//! belongs to them: one file for each source.
//!
//! Pure functions: nothing here depends on when or in what order results came, and nothing does I/O.

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
    /// How it ended.
    pub state: State,
    /// Why it ended so; empty when it is complete.
    pub reason: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// Listings that were not empty.
    pub listed: u64,
    /// Parts of the scope that ended otherwise.
    pub gaps: Vec<Gap>,
    /// Members of the answers that had another form than specified.
    pub malformed: Malformed,
    /// Rows that were found.
    pub rows: u64,
}

/// Rows of the snapshot before that stand in for a scope that could not be listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct CarriedRows {
    /// Number of rows.
    pub rows: u64,
    /// When the oldest of them was observed.
    pub since: Option<OffsetDateTime>,
}

impl CarriedRows {
    /// The state of a scope that ended in `state`, with these rows in place of new ones.
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
