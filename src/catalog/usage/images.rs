//! Lookup of machines' images in the catalog.

use crate::catalog::rows::RowTable;
use crate::catalog::{Catalog, LatestQuestion};
use crate::error::Result;
use crate::image::gallery::{GalleryImage, Kind};
use crate::image::machine::{Machine, MachineImage};
use crate::image::marketplace::MarketplaceImage;
use crate::image::resource_id::part;
use crate::image::{Status, Urn, version};
use crate::pipeline::answered::AskedScope;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use time::OffsetDateTime;

/// One version in the catalog.
#[derive(Debug, Clone)]
pub(super) struct CatalogVersion {
    pub(super) version: String,
    /// The status now. `None` when the value that Azure returned was not recognized.
    pub(super) status: Option<Status>,
    pub(super) ends_at: Option<OffsetDateTime>,
    /// Whether the version is, or is to be replicated, where the machine runs.
    pub(super) is_here: bool,
    /// Whether its replica there failed, so that it cannot be deployed there.
    pub(super) has_failed_here: bool,
}

/// What the catalog knows about the image of one machine.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Kind of image.
    pub(super) kind: Option<&'static str>,
    /// The image that the machine refers to, without the version.
    pub(super) name: Option<String>,
    /// Publisher, offer and SKU.
    pub(super) names: [Option<String>; 3],
    /// The machine's version.
    pub(super) own_version: Option<CatalogVersion>,
    /// The version that Azure treats as the latest where the machine runs.
    pub(super) latest: Option<CatalogVersion>,
    /// The newest version where the machine runs, whether or not it may be the latest.
    pub(super) present: Option<CatalogVersion>,
    /// The newest version that the machine can move to.
    pub(super) move_to: Option<String>,
    /// The scopes in which a crawl would find the image. The first that was ever queried is
    /// decisive.
    pub(super) scopes: Vec<AskedScope>,
}

/// Lookup of the images of many machines, which often have the same image.
pub(super) struct Images<'a> {
    catalog: &'a Catalog,
    gallery: &'a RowTable,
    now: OffsetDateTime,
    /// Rows of a SKU in a location, by both: the deployable ones, and the newest of all.
    skus: HashMap<(String, String), Arc<Sku>>,
    /// A definition and its versions, by its id in lower case.
    definitions: HashMap<String, Arc<Vec<GalleryImage>>>,
}

#[derive(Default)]
struct Sku {
    deployable: Vec<u32>,
    newest: Option<u32>,
}

impl<'a> Images<'a> {
    pub(super) fn new(catalog: &'a Catalog, gallery: &'a RowTable, now: OffsetDateTime) -> Self {
        let (skus, definitions) = (HashMap::new(), HashMap::new());
        Self { catalog, gallery, now, skus, definitions }
    }

    /// Returns what the catalog knows about a machine's image.
    pub(super) fn of(&mut self, machine: &Machine) -> Result<Image> {
        match &machine.image {
            MachineImage::Marketplace(urn) => self.marketplace(machine, urn),
            MachineImage::Gallery(id, _) => self.gallery_image(machine, id),
            MachineImage::Managed(id) => self.managed(id),
            MachineImage::None => Ok(Image::default()),
        }
    }

    fn marketplace(&mut self, machine: &Machine, urn: &Urn) -> Result<Image> {
        let sku = format!("{}:{}:{}", urn.publisher, urn.offer, urn.sku);
        let own = match machine.version() {
            Some(version) => {
                let exact = Urn { version: version.to_owned(), ..urn.clone() };
                let found = self.catalog.find(&exact);
                found
                    .map(|found| self.catalog.read::<MarketplaceImage>(found, self.now))
                    .transpose()?
            }
            None => None,
        };
        let here = self.sku(&sku, &machine.location);
        let latest = here.deployable.first().map(|row| self.row(*row)).transpose()?;
        let present = here.newest.map(|row| self.row(row)).transpose()?;
        let mut move_to = None;
        if let (Some(version), Some(_)) = (machine.version(), &latest) {
            for row in &here.deployable {
                let row = self.row(*row)?;
                if version::compare(version, &row.version) != Ordering::Less {
                    break;
                }
                if own.as_ref().is_none_or(|own| boots_alike(own, &row)) {
                    move_to = Some(row.id);
                    break;
                }
            }
        }
        let to_entry = |row: MarketplaceImage| catalog_version_of(row, &machine.location);
        let sku_scope =
            [&machine.location, &urn.publisher, &urn.offer, &urn.sku].map(String::clone);
        Ok(Image {
            kind: Some("marketplace"),
            name: Some(sku),
            names: [&urn.publisher, &urn.offer, &urn.sku].map(|name| Some(name.clone())),
            own_version: own.map(to_entry),
            latest: latest.map(to_entry),
            present: present.map(to_entry),
            move_to,
            scopes: vec![AskedScope::Sku(sku_scope)],
        })
    }

    fn row(&self, row: u32) -> Result<MarketplaceImage> {
        self.catalog.read(self.catalog.at(row), self.now)
    }

    fn sku(&mut self, sku: &str, location: &str) -> Arc<Sku> {
        let (catalog, now) = (self.catalog, self.now);
        let key = (sku.to_ascii_lowercase(), location.to_owned());
        let found = self.skus.entry(key).or_insert_with(|| {
            let here = [location.to_owned()];
            let Ok(question) = LatestQuestion::parse(sku, &here, None) else {
                return Arc::default();
            };
            let deployable = question.fitting(&catalog.index, now).collect();
            let newest = question.present(&catalog.index).next();
            Arc::new(Sku { deployable, newest })
        });
        Arc::clone(found)
    }

    fn gallery_image(&mut self, machine: &Machine, id: &str) -> Result<Image> {
        let (known, scopes) = self.gallery.definitions()?.found(id, &machine.location);
        let rows = self.versions(known.as_deref().unwrap_or(id))?;
        let here = |row: &&GalleryImage| row.is_eligible_in(&machine.location);
        let newest = |rows: &mut dyn Iterator<Item = &GalleryImage>| {
            rows.max_by(|a, b| version::compare(number(a), number(b))).cloned()
        };
        let versions = || rows.iter().filter(|row| row.kind == Kind::GalleryVersion);
        let latest = newest(&mut versions().filter(here));
        let present = newest(&mut versions().filter(|row| row.is_in(&machine.location)));
        let same = |version: &str| versions().find(|row| version::is_same(number(row), version));
        let own = machine.version().and_then(same).cloned();
        let lives = |row: &&GalleryImage| row.may_be_latest_in(&machine.location);
        let best = newest(&mut versions().filter(lives));
        let is_newer = |row: &GalleryImage| {
            machine.version().is_some_and(|own| version::compare(own, number(row)).is_lt())
        };
        let names =
            rows.first().map(|row| [&row.publisher, &row.offer, &row.sku].map(Clone::clone));
        let to_entry = |row: GalleryImage| CatalogVersion {
            is_here: row.locations.contains(&machine.location),
            has_failed_here: row.has_failed_in(&machine.location),
            status: Some(row.status),
            ends_at: row.end_of_life_at,
            version: row.version.unwrap_or_default(),
        };
        Ok(Image {
            kind: Some("gallery-version"),
            name: Some(id.to_owned()),
            names: names.unwrap_or_default(),
            own_version: own.map(to_entry),
            latest: latest.map(to_entry),
            present: present.map(to_entry),
            move_to: best.filter(is_newer).map(|row| row.id),
            scopes,
        })
    }

    fn versions(&mut self, id: &str) -> Result<Arc<Vec<GalleryImage>>> {
        if let Some(known) = self.definitions.get(&id.to_ascii_lowercase()) {
            return Ok(Arc::clone(known));
        }
        let rows = Arc::new(self.gallery.below(id, self.now)?);
        self.definitions.insert(id.to_ascii_lowercase(), Arc::clone(&rows));
        Ok(rows)
    }

    /// Looks up a managed image. It has no versions: it exists or it was deleted.
    fn managed(&self, id: &str) -> Result<Image> {
        let found = self.gallery.find(id).map(|row| self.gallery.row::<GalleryImage>(row));
        let own_version = found.transpose()?.map(|row| CatalogVersion {
            version: String::new(),
            status: Some(row.status),
            ends_at: None,
            is_here: true,
            has_failed_here: false,
        });
        let subscription = part(id, "subscriptions").map(str::to_owned);
        Ok(Image {
            kind: Some("managed-image"),
            name: Some(id.to_owned()),
            own_version,
            scopes: subscription.map(AskedScope::ManagedImages).into_iter().collect(),
            ..Image::default()
        })
    }
}

fn number(row: &GalleryImage) -> &str {
    row.version.as_deref().unwrap_or_default()
}

/// The version of a row that was read as of the query's time, as seen from `location`.
fn catalog_version_of(row: MarketplaceImage, location: &str) -> CatalogVersion {
    CatalogVersion {
        is_here: row.locations.iter().any(|name| name == location),
        has_failed_here: false,
        status: row.status,
        version: row.version,
        ends_at: row.scheduled_deprecation_at,
    }
}

/// Whether a machine that boots from one image can boot from the other, as far as is known.
fn boots_alike(one: &MarketplaceImage, other: &MarketplaceImage) -> bool {
    let alike = |one: &Option<String>, other: &Option<String>| match (one, other) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => true,
    };
    alike(&one.architecture, &other.architecture)
        && alike(&one.hyper_v_generation, &other.hyper_v_generation)
}
