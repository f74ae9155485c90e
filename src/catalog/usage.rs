//! What runs on which image, and how that image stands: machines joined with the catalog.

use super::rows::RowTable;
use super::{Catalog, LatestQuestion};
use crate::error::{Error, Result};
use crate::image::gallery::GalleryImage;
use crate::image::machine::{Machine, MachineKind, Reference};
use crate::image::marketplace::MarketplaceImage;
use crate::image::{Status, Urn};
use crate::pipeline::snapshot::Manifest;
use crate::source::Source;
use crate::store::{SnapshotFile, Store};
use crate::work::{Request, SourceName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use time::OffsetDateTime;

/// How the image of a machine stands, the worst first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// The image is no longer there: nothing can be made of it any more.
    Gone,
    /// It can no longer be deployed.
    Deprecated,
    /// It is past the end of life that its owner declared.
    EndOfLife,
    /// It has an end that is known.
    Scheduled,
    /// There is a newer version.
    NotLatest,
    /// It is the latest, or the machine follows the latest.
    Current,
    /// The catalog does not cover it.
    Unknown,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 7] = [
        Self::Gone,
        Self::Deprecated,
        Self::EndOfLife,
        Self::Scheduled,
        Self::NotLatest,
        Self::Current,
        Self::Unknown,
    ];

    /// The name of each.
    pub const NAMES: [&str; 7] =
        ["gone", "deprecated", "end-of-life", "scheduled", "not-latest", "current", "unknown"];

    /// The name that rows and filters use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Deprecated => "deprecated",
            Self::EndOfLife => "end-of-life",
            Self::Scheduled => "scheduled",
            Self::NotLatest => "not-latest",
            Self::Current => "current",
            Self::Unknown => "unknown",
        }
    }

    fn of(status: Status, is_newest: bool) -> Self {
        match status {
            Status::Gone => Self::Gone,
            Status::Deprecated => Self::Deprecated,
            Status::EndOfLife => Self::EndOfLife,
            Status::Scheduled => Self::Scheduled,
            Status::Active if is_newest => Self::Current,
            Status::Active => Self::NotLatest,
        }
    }
}

impl std::str::FromStr for Finding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found =
            Self::ALL.into_iter().find(|finding| finding.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|finding| finding.as_str()).collect();
            Error::invalid(format!("'{text}' is no finding: give one of {}", all.join(", ")))
        })
    }
}

/// A machine, and how its image stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The subscription of the machine.
    pub subscription_id: String,
    /// The machine or scale set, by its Resource Manager id.
    pub machine: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub machine_kind: MachineKind,
    /// Where it runs.
    pub location: String,
    /// Kind of image: `marketplace`, `gallery-version`, `managed-image`; none for a disk.
    #[schemars(extend("enum" = ["marketplace", "gallery-version", "managed-image", null]))]
    pub image_kind: Option<String>,
    /// What it refers to without the version: publisher:offer:sku, or an id.
    pub image: Option<String>,
    /// The version that it stands on; none when it follows the latest and nothing tells which.
    pub version: Option<String>,
    /// Whether it names a version, rather than following the latest.
    pub is_pinned: bool,
    /// How its image stands.
    pub finding: Finding,
    /// When the image's life ends, or has ended.
    #[serde(with = "time::serde::rfc3339::option", default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ends_at: Option<OffsetDateTime>,
    /// Whether its version is the newest that can be deployed where it runs; none where that is not known.
    pub is_latest: Option<bool>,
    /// The version to move to, if another one can be deployed where it runs.
    pub move_to: Option<String>,
}

/// The machines that `sources` know of in the subscriptions of `request`.
pub async fn machines(sources: &[Arc<dyn Source>], request: &Request) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for source in sources {
        machines.extend(source.machines(&request.subscriptions).await?);
    }
    Ok(machines)
}

/// Joins machines with a catalog, in their order.
pub async fn usage(
    catalog: &Catalog,
    store: &dyn Store,
    machines: &[Machine],
) -> Result<Vec<Usage>> {
    let covered = tables(&catalog.manifest);
    let gallery = catalog.others(store).await?;
    let mut join = Join { catalog, gallery, covered, latest: HashMap::new() };
    machines.iter().map(|machine| join.one(machine)).collect()
}

/// The sources that a snapshot has tables of.
fn tables(manifest: &Manifest) -> Vec<SourceName> {
    let has = |source: &SourceName| manifest.file(SnapshotFile::Ndjson(*source)).is_some();
    SourceName::ALL.iter().copied().filter(has).collect()
}

struct Join<'a> {
    catalog: &'a Catalog,
    gallery: &'a RowTable,
    covered: Vec<SourceName>,
    /// The latest version by image and location.
    latest: HashMap<(String, String), Option<String>>,
}

/// What the catalog has of an image.
struct Known {
    finding: Finding,
    ends_at: Option<OffsetDateTime>,
    latest: Option<String>,
}

impl Join<'_> {
    fn one(&mut self, machine: &Machine) -> Result<Usage> {
        let (kind, image, known) = match &machine.image {
            Reference::Marketplace(urn) => {
                let sku = format!("{}:{}:{}", urn.publisher, urn.offer, urn.sku);
                let known = self.marketplace(machine, urn, &sku)?;
                (Some("marketplace"), Some(sku), known)
            }
            Reference::Gallery(id, _) => {
                (Some("gallery-version"), Some(id.clone()), self.gallery_image(machine, id)?)
            }
            Reference::Managed(id) => (Some("managed-image"), Some(id.clone()), self.managed(id)),
            Reference::None => (None, None, Known::nothing(Finding::Unknown)),
        };
        let version = machine.version();
        let is_latest = known
            .latest
            .as_ref()
            .map(|latest| version.is_none_or(|version| version.eq_ignore_ascii_case(latest)));
        let is_pinned = match &machine.image {
            Reference::Marketplace(urn) => !urn.version.eq_ignore_ascii_case("latest"),
            Reference::Gallery(_, version) => version.is_some(),
            Reference::Managed(_) => true,
            Reference::None => false,
        };
        Ok(Usage {
            subscription_id: machine.subscription.clone(),
            machine: machine.id.clone(),
            name: machine.name.clone(),
            machine_kind: machine.kind,
            location: machine.location.clone(),
            image_kind: kind.map(str::to_owned),
            image,
            version: version.map(str::to_owned),
            is_pinned,
            finding: known.finding,
            ends_at: known.ends_at,
            is_latest,
            move_to: known.latest.filter(|_| is_latest == Some(false)),
        })
    }

    fn marketplace(&mut self, machine: &Machine, urn: &Urn, sku: &str) -> Result<Known> {
        if !self.covered.contains(&SourceName::Marketplace) {
            return Ok(Known::nothing(Finding::Unknown));
        }
        let place = (sku.to_ascii_lowercase(), machine.location.clone());
        let catalog = self.catalog;
        let latest = self.latest.entry(place).or_insert_with(|| {
            let here = std::slice::from_ref(&machine.location);
            let row = LatestQuestion::parse(sku, here, None).ok()?.answer(&catalog.index).ok()?;
            let version = catalog.index.row(row).version();
            Some(catalog.index.versions().get(version).to_owned())
        });
        let latest = latest.clone();
        let Some(version) = machine.version() else {
            let finding = if latest.is_some() { Finding::Current } else { Finding::Gone };
            return Ok(Known { finding, ends_at: None, latest });
        };
        let exact = Urn { version: version.to_owned(), ..urn.clone() };
        let Some(found) = self.catalog.find(&exact) else {
            return Ok(Known { finding: Finding::Gone, ends_at: None, latest });
        };
        let row: MarketplaceImage = self.catalog.read(found)?;
        let is_newest = latest.as_deref().is_some_and(|l| l.eq_ignore_ascii_case(version));
        let finding = Finding::of(row.status, is_newest);
        Ok(Known { finding, ends_at: row.scheduled_deprecation_at, latest })
    }

    fn gallery_image(&mut self, machine: &Machine, id: &str) -> Result<Known> {
        if !self.covered.contains(&SourceName::Gallery) {
            return Ok(Known::nothing(Finding::Unknown));
        }
        let place = (id.to_ascii_lowercase(), machine.location.clone());
        let gallery = self.gallery;
        let latest = self.latest.entry(place).or_insert_with(|| {
            let here = std::slice::from_ref(&machine.location);
            gallery.latest(id, here, None).ok()?.version
        });
        let latest = latest.clone();
        let Some(version) = machine.version() else {
            let is_there = latest.is_some() || self.gallery.find(id).is_some();
            let finding = if is_there { Finding::Current } else { Finding::Gone };
            return Ok(Known { finding, ends_at: None, latest });
        };
        let ids = [format!("{id}/versions/{version}"), format!("{id}/Versions/{version}")];
        let Some(row) = ids.iter().find_map(|id| self.gallery.find(id)) else {
            return Ok(Known { finding: Finding::Gone, ends_at: None, latest });
        };
        let row: GalleryImage = self.gallery.row(row)?;
        let is_newest = latest.as_deref().is_none_or(|l| l.eq_ignore_ascii_case(version));
        Ok(Known {
            finding: Finding::of(row.status, is_newest),
            ends_at: row.end_of_life_at,
            latest,
        })
    }

    /// A managed image has no versions: it is there, or it is gone.
    fn managed(&self, id: &str) -> Known {
        let finding = match (self.covered.contains(&SourceName::Gallery), self.gallery.find(id)) {
            (false, _) => Finding::Unknown,
            (true, None) => Finding::Gone,
            (true, Some(_)) => Finding::Current,
        };
        Known::nothing(finding)
    }
}

impl Known {
    fn nothing(finding: Finding) -> Self {
        Self { finding, ends_at: None, latest: None }
    }
}
