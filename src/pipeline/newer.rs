//! What runs that began later than one have answered already: their answers stand.
//!
//! A run that takes long is published behind others that began after it. Of a scope that both asked
//! about, the newer observation counts, whoever's it is. What a run answered is in the coverage of its
//! snapshot; a scope counts as answered when the list that it is found by was answered and no line says
//! that it, or anything around it, was not.

use super::answered::{AnsweredScopes, before};
use super::snapshot::Manifest;
use crate::error::Result;
use crate::source::gallery::MANAGED_IMAGES;
use crate::store::Store;
use crate::work::Plan;

/// Snapshots that are looked at, from the newest back.
const LOOKS_BACK: usize = 1_000;

/// What newer runs have answered.
#[derive(Debug, Default)]
pub struct NewerRuns {
    runs: Vec<AnsweredScopes>,
}

impl NewerRuns {
    /// Reads what runs that began after `plan`'s have answered, of those that were published since: from
    /// `base` back to the snapshot that `plan` knows.
    pub async fn read(store: &dyn Store, plan: &Plan, base: Option<&Manifest>) -> Result<Self> {
        let mut newer = Self::default();
        let mut at = base.cloned();
        for _ in 0..LOOKS_BACK {
            // When it was published says nothing: the clock may have been wrong.
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

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn has(&self, names: &[&str], publisher: Option<&str>) -> bool {
        self.runs.iter().any(|ledger| ledger.has(names, publisher))
    }

    /// Whether one answered about a SKU in a location.
    pub fn has_sku(&self, location: &str, publisher: &str, offer: &str, sku: &str) -> bool {
        self.has(&["marketplace", location, publisher, offer, sku], Some(publisher))
    }

    /// Whether one answered about a definition of ours.
    pub fn has_definition(&self, subscription: &str, gallery: &str, name: &str) -> bool {
        self.has(&["gallery", subscription, gallery, name], None)
    }

    /// Whether one answered about the managed images of a subscription.
    pub fn has_managed_images(&self, subscription: &str) -> bool {
        self.has(&["gallery", subscription, MANAGED_IMAGES], None)
    }

    /// Whether one answered about a gallery of others in a location; `sharing` is `shared` or `community`.
    pub fn has_foreign(&self, sharing: &str, location: &str, gallery: &str) -> bool {
        self.has(&[sharing, location, gallery], None)
    }

    /// Whether one answered about a repository, or found that its registry is no more.
    pub fn has_repository(&self, registry: &str, subscription: Option<&str>, name: &str) -> bool {
        self.runs.iter().any(|ledger| {
            ledger.has(&["registry", registry, name], None)
                || !ledger.knows(&["registry", registry])
                    && subscription.is_some_and(|own| ledger.has(&["registries", own], None))
        })
    }
}
