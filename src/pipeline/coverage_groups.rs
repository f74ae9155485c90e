//! The coverage of a run in groups: by source, by location, and what could not be listed by reason.

use super::coverage::{CoverageLine, Totals, each_line};
use super::snapshot::{self, Manifest};
use super::{read_plan, report};
use crate::blocking::blocking;
use crate::error::Result;
use crate::store::{SnapshotFile, Store};
use crate::work::{RunId, SourceName, State};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Maximum number of scopes that a group of gaps names.
const NAMED: usize = 20;

/// The coverage of a run in groups. Scopes of a run that is not published are not known yet.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CoverageGroups {
    /// The name of the run.
    pub(crate) run: RunId,
    /// The state of the run.
    #[schemars(extend("enum" = report::STATES))]
    pub(crate) state: &'static str,
    /// When the run started.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub(crate) started_at: OffsetDateTime,
    /// When the snapshot was written; null if it is not published.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(crate) published_at: Option<OffsetDateTime>,
    /// The number of scopes with a line in the coverage, by outcome, for each source.
    pub(crate) sources: Vec<SourceCoverage>,
    /// The same for each location, sorted by name.
    pub(crate) locations: Vec<LocationCoverage>,
    /// The scopes that could not be listed, by reason and outcome, most first.
    pub(crate) gaps: Vec<GapGroup>,
}

/// The coverage of a source.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct SourceCoverage {
    /// The source.
    source: SourceName,
    /// The number of scopes by outcome.
    #[serde(flatten)]
    totals: Totals,
}

/// The coverage of a location.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LocationCoverage {
    /// The short name of the location.
    location: String,
    /// The number of scopes by outcome.
    #[serde(flatten)]
    totals: Totals,
}

/// Scopes that ended in the same way, for the same reason.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct GapGroup {
    /// The reason for the outcome; empty if there is none.
    reason: String,
    /// The outcome.
    outcome: State,
    /// The number of scopes.
    count: u64,
    /// The names of the first 20 scopes.
    scopes: Vec<String>,
}

/// The groups while lines are added.
#[derive(Default)]
struct Groups {
    sources: BTreeMap<SourceName, Totals>,
    locations: BTreeMap<String, Totals>,
    gaps: BTreeMap<(String, State), (u64, Vec<String>)>,
}

impl Groups {
    fn add(&mut self, line: CoverageLine) {
        self.sources.entry(line.source).or_default().add(line.state, 1);
        if !matches!(line.state, State::Done | State::Empty) {
            let name = line.name();
            let gap = self.gaps.entry((line.reason, line.state)).or_default();
            gap.0 += 1;
            if gap.1.len() < NAMED {
                gap.1.push(name);
            }
        }
        if !line.location.is_empty() {
            self.locations.entry(line.location).or_default().add(line.state, 1);
        }
    }

    /// The groups of a run that is published with this manifest.
    fn of(self, manifest: &Manifest) -> CoverageGroups {
        let gap =
            |((reason, outcome), (count, scopes))| GapGroup { reason, outcome, count, scopes };
        let mut gaps: Vec<GapGroup> = self.gaps.into_iter().map(gap).collect();
        gaps.sort_by_key(|gap| Reverse(gap.count));
        let source = |(source, totals)| SourceCoverage { source, totals };
        let location = |(location, totals)| LocationCoverage { location, totals };
        CoverageGroups {
            run: manifest.run,
            state: manifest.state.as_str(),
            started_at: manifest.started_at,
            published_at: Some(manifest.published_at),
            sources: self.sources.into_iter().map(source).collect(),
            locations: self.locations.into_iter().map(location).collect(),
            gaps,
        }
    }
}

/// The coverage of a published run.
pub(crate) async fn published(store: &dyn Store, manifest: &Manifest) -> Result<CoverageGroups> {
    let bytes = snapshot::verified(store, manifest, SnapshotFile::Coverage).await?;
    let group = move || {
        let mut groups = Groups::default();
        if let Some(bytes) = bytes {
            each_line(&bytes, |line| groups.add(line))?;
        }
        Ok(groups)
    };
    Ok(blocking("grouping a coverage", group).await?.of(manifest))
}

/// The state of a run that is not published.
pub(crate) async fn unpublished(
    store: &dyn Store,
    run: RunId,
    now: OffsetDateTime,
) -> Result<CoverageGroups> {
    let plan = read_plan(store, run).await?;
    let report = report::unpublished(store, run, &plan, now).await?;
    Ok(CoverageGroups {
        run,
        state: report.state,
        started_at: plan.started_at,
        published_at: None,
        sources: Vec::new(),
        locations: Vec::new(),
        gaps: Vec::new(),
    })
}
