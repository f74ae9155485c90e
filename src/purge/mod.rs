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
mod unread;
mod uses;

pub use crate::format::ledger::Ledger;
pub use crate::format::plan::{DeletionLimit, Plan};
pub use crate::span::Span;
pub use apply::{Applied, apply};
pub use content::KnownContent;
pub use in_use::{InUse, InUseSource};
pub use live::LiveRegistry;
pub use notes::notes;
pub use plan::plan;
pub use planned::RepositoryPlan;
pub use rules::{Pattern, Rule, Rules};
pub use state::{Kind, ListedRows, ManifestState, RepositoryState, RepositoryVersion, TagState};
pub use target::{ManifestCheck, PurgeTarget};
pub use undo::{ManifestBackup, undo};
pub use uses::ImageUsage;

use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use time::OffsetDateTime;

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

impl Plan for PurgePlan {
    const VERSION: u32 = 1;
    const COMMAND: &'static str = "azimg registry purge";

    fn schema_version(&self) -> u32 {
        self.schema_version
    }

    fn valid(&self) -> (OffsetDateTime, OffsetDateTime) {
        (self.made_at, self.expires_at)
    }

    fn check_rules(&self) -> Result<()> {
        self.rules.check()
    }
}

impl PurgePlan {
    /// Refuses a plan that deletes more than `limit`, a percentage of the manifests in the
    /// repositories that the rules match.
    pub fn check_limit(&self, limit: DeletionLimit) -> Result<()> {
        limit.check(self.deletions, self.manifests, |most| {
            format!(
                "the plan deletes {} of {} manifests, and --max-delete allows {most}: nothing was deleted",
                self.deletions, self.manifests
            )
        })
    }
}

/// Counts the bytes that each deletion and each repository frees: those of blobs that nothing which
/// stays refers to, neither in these repositories nor in `elsewhere`. Each blob counts once.
/// Returns the total.
pub fn count_bytes(
    states: &mut [(RepositoryState, RepositoryPlan)],
    elsewhere: &BTreeSet<String>,
) -> u64 {
    let digests_of = |planned: &RepositoryPlan| -> BTreeSet<String> {
        planned.deletions.iter().map(|deletion| deletion.digest.clone()).collect()
    };
    let mut kept_blobs: BTreeSet<String> = elsewhere.clone();
    for (state, planned) in states.iter() {
        let deleted = digests_of(planned);
        let stay = state.manifests.iter().filter(|manifest| !deleted.contains(&manifest.digest));
        kept_blobs.extend(stay.flat_map(|manifest| manifest.blobs.keys().cloned()));
    }
    let mut all: u64 = 0;
    for (state, planned) in states {
        let by_digest: HashMap<&str, &ManifestState> =
            state.manifests.iter().map(|manifest| (manifest.digest.as_str(), manifest)).collect();
        for deletion in &mut planned.deletions {
            let of_it = by_digest.get(deletion.digest.as_str()).map(|manifest| &manifest.blobs);
            for (blob, bytes) in of_it.into_iter().flatten() {
                if kept_blobs.insert(blob.clone()) {
                    deletion.frees = deletion.frees.saturating_add(*bytes);
                }
            }
            planned.bytes_freed = planned.bytes_freed.saturating_add(deletion.frees);
        }
        all = all.saturating_add(planned.bytes_freed);
    }
    all
}
