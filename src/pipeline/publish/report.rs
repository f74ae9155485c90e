//! Builds the coverage of a run.

use crate::pipeline::coverage::{Coverage, CoverageLine, DetailsCount, Totals};
use crate::pipeline::merge::CarriedRows;
use crate::pipeline::snapshot::SCHEMA_VERSION;
use crate::work::Plan;
use std::collections::BTreeMap;

/// The coverage of a run while it is built.
#[derive(Default)]
pub(super) struct CoverageBuilder {
    pub(super) totals: Totals,
    pub(super) details: DetailsCount,
    pub(super) replication: DetailsCount,
    pub(super) contents: DetailsCount,
    pub(super) outside: u64,
    pub(super) lines: Vec<CoverageLine>,
    pub(super) unlisted: BTreeMap<String, CarriedRows>,
}

impl CoverageBuilder {
    pub(super) fn coverage(mut self, plan: &Plan) -> Coverage {
        self.lines.sort_by(CoverageLine::compare);
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

/// Adds the rows that are kept for incomplete lists.
pub(super) fn join(sums: &mut BTreeMap<String, CarriedRows>, more: &BTreeMap<String, CarriedRows>) {
    for (name, carried) in more {
        let sum = sums.entry(name.clone()).or_default();
        sum.rows += carried.rows;
        sum.since = sum.since.into_iter().chain(carried.since).min();
    }
}
