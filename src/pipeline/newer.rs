//! Scopes that newer runs have already answered. Their answers are kept.
//!
//! A long run may be published after runs that began later. For a scope that both asked for, the
//! newer observation counts. The answers of a run are taken from the coverage of its snapshot. A
//! scope counts as answered if the list that contains it was answered and no coverage line reports
//! it, or a scope around it, as unanswered.

use super::answered::{AnsweredScopes, before};
use super::snapshot::Manifest;
use crate::error::Result;
use crate::source::gallery::MANAGED_IMAGES;
use crate::store::Store;
use crate::work::Plan;

/// Maximum number of snapshots to read, starting with the newest.
const LOOKS_BACK: usize = 1_000;

/// The scopes that newer runs have answered.
#[derive(Debug, Default)]
pub struct NewerRuns {
    runs: Vec<AnsweredScopes>,
}

impl NewerRuns {
    /// Reads what runs have answered that began after `plan`'s run and are published already.
    /// Follows the chain from `base` back to the snapshot that `plan` knows.
    pub async fn read(store: &dyn Store, plan: &Plan, base: Option<&Manifest>) -> Result<Self> {
        let mut newer = Self::default();
        let mut at = base.cloned();
        for _ in 0..LOOKS_BACK {
            // The order of publishing is not used: the clock may have been wrong.
            let Some(manifest) = at.filter(|manifest| plan.previous != Some(manifest.run)) else {
                break;
            };
            if (manifest.started_at, manifest.run) > (plan.started_at, plan.run) {
                newer.runs.extend(AnsweredScopes::read(store, &manifest).await?);
            }
            at = before(store, &manifest).await?;
        }
        Ok(newer)
    }

    /// Whether there are no newer runs.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn has(&self, names: &[&str], publisher: Option<&str>) -> bool {
        self.runs.iter().any(|ledger| ledger.has(names, publisher))
    }

    /// Whether a newer run answered for a SKU in a location.
    pub fn has_sku(&self, location: &str, publisher: &str, offer: &str, sku: &str) -> bool {
        self.has(&["marketplace", location, publisher, offer, sku], Some(publisher))
    }

    /// Whether a newer run answered for a definition of ours.
    pub fn has_definition(&self, subscription: &str, gallery: &str, name: &str) -> bool {
        self.has(&["gallery", subscription, gallery, name], None)
    }

    /// Whether a newer run answered for the managed images of a subscription.
    pub fn has_managed_images(&self, subscription: &str) -> bool {
        self.has(&["gallery", subscription, MANAGED_IMAGES], None)
    }

    /// Whether a newer run answered for a gallery of others in a location. `sharing` is `shared` or
    /// `community`.
    pub fn has_foreign(&self, sharing: &str, location: &str, gallery: &str) -> bool {
        self.has(&[sharing, location, gallery], None)
    }

    /// Whether a newer run answered for a repository, or found that its registry no longer exists.
    pub fn has_repository(&self, registry: &str, subscription: Option<&str>, name: &str) -> bool {
        self.runs.iter().any(|ledger| {
            ledger.has(&["registry", registry, name], None)
                || !ledger.knows(&["registry", registry])
                    && subscription.is_some_and(|own| ledger.has(&["registries", own], None))
        })
    }
}
