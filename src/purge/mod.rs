//! Purge of a registry: what to delete is planned, reviewed by people, and then deleted exactly as
//! planned.
//!
//! Invariants:
//! - Nothing is deleted that is locked, in use, a part of something that stays, a subject of
//!   something that stays, or a referrer of something that stays.
//! - Nothing is deleted that is not in the plan.
//! - Each item is checked again immediately before its deletion.

mod apply;
mod content;
mod count;
mod graph;
mod in_use;
mod live;
mod notes;
mod plan;
mod planned;
mod replan;
mod rules;
mod state;
mod target;
mod undo;
mod uses;

pub use crate::format::ledger::Ledger;
pub use crate::span::Span;
pub use apply::{Applied, Failed, Progress, Skipped, apply};
pub use content::KnownContent;
pub use in_use::{InUse, InUseSource};
pub use live::LiveRegistry;
pub use notes::notes;
pub use plan::plan;
pub use planned::{Deletion, KeptTag, Protected, RepositoryPlan, Untagging};
pub use rules::{Pattern, Rule, Rules};
pub use state::{Kind, ListedRows, ManifestState, RepositoryState, RepositoryVersion, TagState};
pub use target::{ManifestCheck, PurgeTarget};
pub use undo::{ManifestBackup, undo};
pub use uses::{ImageUsage, Usage};

use crate::error::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use time::OffsetDateTime;

/// The schema version of plans.
pub const PLAN_VERSION: u32 = 1;

/// A stored plan for purging a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PurgePlan {
    /// The schema version of the plan.
    pub schema_version: u32,
    /// The name of the plan.
    pub plan: String,
    /// The login server of the registry.
    pub login_server: String,
    /// When the plan was made.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub made_at: OffsetDateTime,
    /// When the plan expires; it cannot be applied after that.
    #[serde(with = "time::serde::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires_at: OffsetDateTime,
    /// The run of the catalog that provided the contents of manifests; null if the registry
    /// provided all of them.
    pub catalog_run: Option<String>,
    /// The rules that the plan was made with.
    pub rules: Rules,
    /// Whether the images in use were checked.
    pub uses_known: bool,
    /// The lists of images in use that the plan was made with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// Notes to read before the plan is applied, such as patterns that match nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The number of manifests in the repositories that the rules match.
    pub manifests: usize,
    /// The number of manifests to delete.
    pub deletions: usize,
    /// The number of tags to remove from manifests that are kept.
    pub untaggings: usize,
    /// The number of bytes that the plan frees: blobs that no kept manifest refers to, as far as
    /// known.
    pub bytes_freed: u64,
    /// The plan of each repository.
    pub repositories: Vec<RepositoryPlan>,
}

impl PurgePlan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("not a plan of azimg registry purge: {e}")))?;
        if plan.schema_version != PLAN_VERSION {
            return Err(Error::invalid(format!(
                "the plan has version {}; this azimg supports only version {PLAN_VERSION}",
                plan.schema_version
            )));
        }
        plan.rules.check()?;
        Ok(plan)
    }

    /// Refuses a plan that has expired by `now`.
    pub fn check_age(&self, now: OffsetDateTime) -> Result<()> {
        if now <= self.expires_at && now >= self.made_at - time::Duration::minutes(5) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the plan of {} cannot be applied now: it is valid until {}; create a new plan",
            self.made_at, self.expires_at
        )))
    }
}

/// The most that a plan may delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionLimit {
    /// A number of manifests.
    Count(usize),
    /// A percentage of the manifests in the repositories that the rules match.
    Percent(u8),
}

impl std::str::FromStr for DeletionLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("'{text}' is neither a number nor a percentage"));
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                percent.map(Self::Percent).ok_or_else(bad)
            }
            None => text.parse().map(Self::Count).map_err(|_| bad()),
        }
    }
}

impl DeletionLimit {
    /// Refuses a plan that deletes more.
    pub fn check(self, plan: &PurgePlan) -> Result<()> {
        let most = match self {
            Self::Count(most) => most,
            Self::Percent(percent) => plan.manifests * usize::from(percent) / 100,
        };
        if plan.deletions <= most {
            return Ok(());
        }
        // A conflict, not invalid input: the request was well formed, and was stopped.
        Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the plan deletes {} of {} manifests, but --max-delete allows {most}: nothing was \
                 deleted",
                plan.deletions, plan.manifests
            ),
        ))
    }
}

/// Counts the bytes that each deletion and each repository frees: those of blobs that nothing which
/// stays refers to, neither in these repositories nor in `elsewhere`. Each blob counts once.
/// Returns the total.
pub fn count_bytes(
    states: &mut [(RepositoryState, RepositoryPlan)],
    elsewhere: &BTreeSet<String>,
) -> u64 {
    let goes = |planned: &RepositoryPlan| -> BTreeSet<String> {
        planned.deletions.iter().map(|deletion| deletion.digest.clone()).collect()
    };
    let mut held: BTreeSet<String> = elsewhere.clone();
    for (state, planned) in states.iter() {
        let goes = goes(planned);
        let stay = state.manifests.iter().filter(|manifest| !goes.contains(&manifest.digest));
        held.extend(stay.flat_map(|manifest| manifest.blobs.keys().cloned()));
    }
    let mut all: u64 = 0;
    for (state, planned) in states {
        let by_digest: HashMap<&str, &ManifestState> =
            state.manifests.iter().map(|manifest| (manifest.digest.as_str(), manifest)).collect();
        for deletion in &mut planned.deletions {
            let of_it = by_digest.get(deletion.digest.as_str()).map(|manifest| &manifest.blobs);
            for (blob, bytes) in of_it.into_iter().flatten() {
                if held.insert(blob.clone()) {
                    deletion.frees = deletion.frees.saturating_add(*bytes);
                }
            }
            planned.bytes_freed = planned.bytes_freed.saturating_add(deletion.frees);
        }
        all = all.saturating_add(planned.bytes_freed);
    }
    all
}
