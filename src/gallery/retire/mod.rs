//! Retirement of versions: planned, reviewed by people, and then done exactly as planned.
//!
//! Invariants:
//! - The latest version of a definition, or of one of its regions, is never retired.
//! - The last version in a region where something runs from the definition is never retired.
//! - A version from which something runs is never deleted.
//! - A plan is applied only while everything is as it was planned for.

mod apply;
mod plan;

pub use crate::format::ledger::{Ledger, PartState};
pub use crate::format::plan::Plan;
pub use apply::RetirePlan;
pub use plan::{Action, DefinitionState, Planned, Retired, Rules, plan};

use super::{Galleries, Name};
use crate::error::{Error, Result};
use crate::image::gallery::{GalleryImage, mark_latest};
use crate::image::identity::{GalleryName, ImageName, PublicNames};
use crate::image::machine::{Machine, MachineImage};
use crate::source::gallery::parse::{Resource, gallery_id, own_gallery};
use crate::source::gallery::{Communities, Gallery};
use crate::work::OwnGallery;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// The most lists that are requested concurrently.
const CONCURRENCY: usize = 8;
/// The retention of soft-deleted versions, in days, if the policy does not give one
/// (learn.microsoft.com/azure/virtual-machines/soft-delete-gallery).
const RETENTION_DAYS: u32 = 7;

impl Galleries {
    pub(super) fn source(&self) -> Gallery {
        Gallery::new(self.client.clone(), Communities::Named(Vec::new()))
    }

    /// The definitions in `subscriptions` whose `gallery/definition` contains one of `filter`,
    /// ignoring case; all if `filter` is empty.
    pub async fn definitions(
        &self,
        subscriptions: &[String],
        filter: &[String],
    ) -> Result<Vec<(OwnGallery, String)>> {
        let source = &self.source();
        let galleries: Vec<_> = subscriptions.iter().map(|id| source.galleries(id)).collect();
        let galleries: Vec<Vec<OwnGallery>> =
            stream::iter(galleries).buffered(CONCURRENCY).try_collect().await?;
        let definitions: Vec<_> = galleries
            .into_iter()
            .flatten()
            .map(|own| async move {
                let listed = source.definitions(&own).await?;
                Ok::<_, Error>((own, listed))
            })
            .collect();
        let definitions: Vec<(OwnGallery, Vec<Resource>)> =
            stream::iter(definitions).buffered(CONCURRENCY).try_collect().await?;
        let mut found = Vec::new();
        for (own, listed) in definitions {
            for definition in listed {
                let name = format!("{}/{}", own.gallery, definition.name).to_ascii_lowercase();
                let wanted = |part: &String| name.contains(&part.to_ascii_lowercase());
                if filter.is_empty() || filter.iter().any(wanted) {
                    found.push((own.clone(), definition.name));
                }
            }
        }
        Ok(found)
    }

    /// A definition in its current state, with the machines that run from it.
    pub async fn world(
        &self,
        own: &OwnGallery,
        definition: &str,
        machines: &[Machine],
        now: OffsetDateTime,
    ) -> Result<DefinitionState> {
        let mut rows = self.source().rows_of(own, definition).await?;
        for row in &mut rows {
            row.status = row.status_at(now);
        }
        mark_latest(&mut rows);
        let id = rows
            .first()
            .map(|row| row.id.clone())
            .ok_or_else(|| Error::bug("the definition has no row"))?;
        let machines = self.machines_on(own, definition, machines).await?;
        let versions: Vec<GalleryImage> =
            rows.into_iter().filter(|row| row.version.is_some()).collect();
        Ok(DefinitionState { definition: id, versions, machines })
    }

    /// The machines that run from a definition, by any form of its id. The gallery's public names
    /// are requested only if something runs from a community definition of the same name.
    async fn machines_on(
        &self,
        own: &OwnGallery,
        definition: &str,
        machines: &[Machine],
    ) -> Result<Vec<Machine>> {
        let gallery = GalleryName::of(&own.subscription, &own.gallery);
        let wanted = ImageName {
            gallery: gallery.clone(),
            definition: Some(definition.to_ascii_lowercase()),
            version: None,
        };
        let image = |machine: &Machine| match &machine.image {
            MachineImage::Gallery(id, _) => ImageName::parse(id).map(ImageName::without_version),
            _ => None,
        };
        let in_community = |machine: &Machine| {
            image(machine).is_some_and(|image| {
                matches!(image.gallery, GalleryName::Community(_))
                    && image.definition == wanted.definition
            })
        };
        let mut published = PublicNames::default();
        if machines.iter().any(in_community) {
            let name = Name { own: own.clone(), definition: None, version: None };
            let gallery_document = self.get(&name).await?;
            let profile = &gallery_document["properties"]["sharingProfile"];
            let names = &profile["communityGalleryInfo"]["publicNames"];
            let names = names.as_array().into_iter().flatten();
            let names: Vec<String> = names.filter_map(Value::as_str).map(str::to_owned).collect();
            published.add(&gallery, &names);
        }
        let runs_from_definition = |machine: &&Machine| {
            image(machine).is_some_and(|image| published.resolved(image) == wanted)
        };
        Ok(machines.iter().filter(runs_from_definition).cloned().collect())
    }

    /// The galleries, by id, that soft-delete what `planned` deletes, and the days for which that
    /// can be undone.
    pub async fn restorable_days(&self, planned: &[Planned]) -> Result<BTreeMap<String, u32>> {
        let deletes = |planned: &&Planned| {
            planned.retired.iter().any(|retired| retired.action == Action::Delete)
        };
        let ids = planned.iter().filter(deletes);
        let galleries = ids.filter_map(|planned| own_gallery(&planned.definition));
        let galleries: BTreeMap<String, OwnGallery> =
            galleries.map(|own| (gallery_id(&own), own)).collect();
        let mut found = BTreeMap::new();
        for (id, own) in galleries {
            let gallery = self.get(&Name { own, definition: None, version: None }).await?;
            let policy = &gallery["properties"]["softDeletePolicy"];
            if policy["isSoftDeleteEnabled"] == true {
                let days = |name: &str| policy[name].as_u64().and_then(|n| u32::try_from(n).ok());
                // It can be used during the retention, and restored until the end of both.
                let retention = days("retentionPeriodInDays").unwrap_or(RETENTION_DAYS);
                let grace = days("gracePeriodInDays").unwrap_or(0);
                found.insert(id, retention.saturating_add(grace));
            }
        }
        Ok(found)
    }

    /// The machines of all visible subscriptions: an image may be used in any of them.
    pub async fn machines(&self) -> Result<Vec<Machine>> {
        self.source().machines(&[]).await
    }
}
