//! Coverage while it is being gathered.

use super::gather::Shards;
use crate::pipeline::coverage::{Coverage, DetailsCount, Line, Totals};
use crate::pipeline::merge::{Merged, Reach, Standing};
use crate::pipeline::snapshot::SCHEMA_VERSION;
use crate::work::{Plan, SourceName, State};
use std::collections::BTreeMap;

/// Coverage while it is being gathered.
#[derive(Default)]
pub(super) struct Report {
    pub(super) totals: Totals,
    pub(super) details: DetailsCount,
    pub(super) replication: DetailsCount,
    pub(super) contents: DetailsCount,
    pub(super) outside: u64,
    pub(super) lines: Vec<Line>,
    pub(super) unlisted: BTreeMap<String, Standing>,
}

impl Report {
    pub(super) fn add(&mut self, merged: &Merged) {
        let known = merged.rows.iter().filter(|row| row.has_details()).count() as u64;
        self.details.known += known;
        self.details.unknown += merged.rows.len() as u64 - known;
        self.outside += merged.outside;
        self.lines.extend_from_slice(&merged.lines);
        join(&mut self.unlisted, &merged.unlisted);
        self.totals.join(&merged.totals);
    }

    /// A line for every location's list of publishers.
    pub(super) fn locations(&mut self, reach: &BTreeMap<String, Reach>, shards: &Shards) {
        for location in reach.keys() {
            let standing = self.unlisted.get(location).copied().unwrap_or_default();
            let only = reach[location].only.clone();
            let (mut state, reason, attempts) = shards.location_end(location);
            if state == State::Failed && standing.rows > 0 {
                state = State::Carried;
            }
            self.totals.add(state, 1);
            self.lines.push(Line {
                location: location.clone(),
                state,
                reason,
                attempts,
                malformed: shards.malformed(location),
                only,
                rows: standing.rows,
                since: standing.since,
                ..Line::new(SourceName::Marketplace)
            });
        }
    }

    pub(super) fn coverage(mut self, plan: &Plan) -> Coverage {
        self.lines.sort_by(Line::compare);
        Coverage {
            schema_version: SCHEMA_VERSION,
            run: plan.run.to_string(),
            totals: self.totals,
            details: self.details,
            replication: self.replication,
            contents: self.contents,
            outside: self.outside,
            passed_over: Vec::new(),
            scopes: self.lines,
        }
    }
}

/// Adds what stands in for lists that could not be had.
pub(super) fn join(sums: &mut BTreeMap<String, Standing>, more: &BTreeMap<String, Standing>) {
    for (name, standing) in more {
        let sum = sums.entry(name.clone()).or_default();
        sum.rows += standing.rows;
        sum.since = sum.since.into_iter().chain(standing.since).min();
    }
}
