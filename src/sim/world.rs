//! The simulated marketplace: publishers, offers, SKUs and versions, each with its locations.

use super::organisation::{Organisation, OrganisationSize};
use super::registries::{SimRegistry, generate_registry};
use crate::error::{Error, Result};
use crate::image::Status;
use crate::source::locations::short_name;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use time::OffsetDateTime;

/// The display names of the physical locations of the public cloud.
pub(super) const PHYSICAL: &[&str] = &[
    "East US",
    "South Central US",
    "West US 2",
    "West US 3",
    "Australia East",
    "Southeast Asia",
    "North Europe",
    "Sweden Central",
    "UK South",
    "West Europe",
    "Central US",
    "South Africa North",
    "Central India",
    "East Asia",
    "Japan East",
    "Korea Central",
    "New Zealand North",
    "Canada Central",
    "France Central",
    "Germany West Central",
    "Italy North",
    "Norway East",
    "Poland Central",
    "Spain Central",
    "Switzerland North",
    "Mexico Central",
    "UAE North",
    "Brazil South",
    "Israel Central",
    "Qatar Central",
    "East US 2",
    "North Central US",
    "West US",
    "Japan West",
    "Jio India West",
    "West Central US",
    "South Africa West",
    "Australia Central",
    "Australia Central 2",
    "Australia Southeast",
    "Jio India Central",
    "Korea South",
    "South India",
    "West India",
    "Canada East",
    "France South",
    "Germany North",
    "Norway West",
    "Switzerland West",
    "UK West",
    "UAE Central",
    "Brazil Southeast",
    "Austria East",
    "Belgium Central",
    "Chile Central",
    "Denmark East",
    "Indonesia Central",
    "Malaysia West",
    "Taiwan North",
    "East US 3",
];

/// The display names of logical locations, which have no images.
pub(super) const LOGICAL: &[&str] =
    &["Asia", "Europe", "Global", "United States", "East US Stage", "West US Stage"];

/// A set of at most 64 locations, one bit each.
pub(super) type LocationSet = u64;

/// An image version.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its name.
    pub version: String,
    /// The locations that have it.
    pub locations: LocationSet,
    /// `x64` or `Arm64`.
    pub architecture: Option<String>,
    /// `V1` or `V2`.
    pub hyper_v_generation: Option<String>,
    /// Its status.
    pub status: Option<Status>,
    /// The time of its scheduled deprecation.
    pub scheduled_deprecation_at: Option<OffsetDateTime>,
    /// Its alternative, as `type:value`.
    pub alternative: Option<String>,
    /// `Linux` or `Windows`.
    pub os: Option<String>,
    /// Its plan: publisher, product, name.
    pub plan: Option<(String, String, String)>,
    /// Its features by name.
    pub features: BTreeMap<String, String>,
}

/// A SKU.
#[derive(Debug, Clone, Default)]
pub struct Sku {
    /// Its name.
    pub name: String,
    /// The locations that list it, with or without versions.
    pub locations: LocationSet,
    /// Its versions, in ordinal order.
    pub versions: Vec<Image>,
}

/// An offer.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// The locations that list it.
    pub locations: LocationSet,
    /// Whether a request for its SKUs gets a 404.
    pub vanishes: bool,
    /// Its SKUs, sorted.
    pub skus: Vec<Sku>,
}

/// A publisher.
#[derive(Debug, Clone, Default)]
pub struct Publisher {
    /// Its name.
    pub name: String,
    /// The locations that list it.
    pub locations: LocationSet,
    /// Whether a request for its offers gets a 404.
    pub vanishes: bool,
    /// Its offers, sorted.
    pub offers: Vec<Offer>,
}

/// The content of a simulated Azure.
#[derive(Debug, Default)]
pub struct World {
    /// Short names of the locations that list images; the index is the bit in a `LocationSet`.
    pub locations: Vec<String>,
    /// Publishers in the order of their list, which is arbitrary.
    pub publishers: Vec<Publisher>,
    /// The organisation of the caller, and what others share with it.
    pub organisation: Organisation,
    /// Its container registries.
    pub registries: Vec<SimRegistry>,
    /// Indexes of publishers by name in lower case.
    by_name: HashMap<String, usize>,
}

/// A row of a catalog: the four names and any columns of the marketplace table, spelled as in its
/// NDJSON or its Parquet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    publisher: String,
    offer: String,
    sku: String,
    version: String,
    #[serde(default)]
    locations: Option<Vec<String>>,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default, alias = "hyper_v_generation")]
    hyper_v_generation: Option<String>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default, alias = "scheduled_deprecation_at", with = "time::serde::rfc3339::option")]
    scheduled_deprecation_at: Option<OffsetDateTime>,
    #[serde(default)]
    alternative: Option<String>,
    #[serde(default)]
    os: Option<String>,
    #[serde(default, alias = "plan_publisher")]
    plan_publisher: Option<String>,
    #[serde(default, alias = "plan_product")]
    plan_product: Option<String>,
    #[serde(default, alias = "plan_name")]
    plan_name: Option<String>,
    #[serde(default)]
    features: Option<BTreeMap<String, String>>,
}

impl Row {
    /// The version of the row, in these locations.
    fn image(self, locations: LocationSet) -> Image {
        let plan = match (self.plan_publisher, self.plan_product, self.plan_name) {
            (None, None, None) => None,
            (publisher, product, name) => Some((
                publisher.unwrap_or_default(),
                product.unwrap_or_default(),
                name.unwrap_or_default(),
            )),
        };
        Image {
            version: self.version,
            locations,
            architecture: self.architecture,
            hyper_v_generation: self.hyper_v_generation,
            status: self.status,
            scheduled_deprecation_at: self.scheduled_deprecation_at,
            alternative: self.alternative,
            os: self.os,
            plan,
            features: self.features.unwrap_or_default(),
        }
    }
}

impl World {
    /// A world of `publishers` in `locations`.
    pub fn new(locations: Vec<String>, publishers: Vec<Publisher>) -> Self {
        let by_name = publishers
            .iter()
            .enumerate()
            .map(|(i, publisher)| (publisher.name.to_ascii_lowercase(), i))
            .collect();
        let organisation = Organisation::default();
        Self { locations, publishers, organisation, registries: Vec::new(), by_name }
    }

    /// The world with generated registries of `repositories` repositories each; the same `seed`
    /// gives the same ones.
    #[must_use]
    pub fn with_registries(mut self, registries: usize, repositories: usize, seed: u64) -> Self {
        let generate = |number| generate_registry(number, repositories, seed);
        self.registries = (0..registries).map(generate).collect();
        self
    }

    /// The world with another organisation.
    #[must_use]
    pub fn with_organisation(mut self, organisation: Organisation) -> Self {
        self.organisation = organisation;
        self
    }

    /// The world with a generated organisation of a size, in the locations of the world; the same
    /// `seed` gives the same one.
    #[must_use]
    pub fn with_generated_organisation(self, size: OrganisationSize, seed: u64) -> Self {
        let short = |name: &&&str| self.locations.contains(&short_name(name));
        let known = PHYSICAL.iter().filter(short).map(|name| (*name).to_owned());
        let organisation = Organisation::generate(size, &known.collect::<Vec<_>>(), seed);
        self.with_organisation(organisation)
    }

    /// Reads catalogs: NDJSON, plain, or compressed with gzip (`.gz`) or zstd (`.zst`).
    pub fn load(files: &[impl AsRef<Path>]) -> Result<Self> {
        let mut builder = Builder::default();
        for file in files {
            let file = file.as_ref();
            for (number, line) in open(file)?.lines().enumerate() {
                let line = line.map_err(|e| Error::io(file.display(), e))?;
                if line.trim().is_empty() {
                    continue;
                }
                let row: Row = serde_json::from_str(&line).map_err(|e| {
                    Error::invalid(format!("{}:{}: {e}", file.display(), number + 1))
                })?;
                builder.add(row)?;
            }
        }
        Ok(builder.finish())
    }

    /// The publisher of a name, compared without case, if `location` has it.
    pub fn publisher(&self, name: &str, location: LocationSet) -> Option<&Publisher> {
        let publisher = &self.publishers[*self.by_name.get(&name.to_ascii_lowercase())?];
        (publisher.locations & location != 0).then_some(publisher)
    }

    /// The bit of a location, by its short name.
    pub fn location(&self, name: &str) -> Option<LocationSet> {
        let name = short_name(name);
        self.locations.iter().position(|location| *location == name).map(|bit| 1 << bit)
    }

    /// Number of versions; one in several locations counts once.
    pub fn versions(&self) -> usize {
        let skus = self.publishers.iter().flat_map(|p| &p.offers).flat_map(|o| &o.skus);
        skus.map(|sku| sku.versions.len()).sum()
    }
}

/// Opens a catalog, uncompressed.
fn open(file: &Path) -> Result<BufReader<Box<dyn Read>>> {
    let io = |e| Error::io(format!("reading {}", file.display()), e);
    let raw = std::fs::File::open(file).map_err(io)?;
    let bytes: Box<dyn Read> = match file.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(raw)),
        Some("zst") => Box::new(zstd::Decoder::new(raw).map_err(io)?),
        _ => Box::new(raw),
    };
    Ok(BufReader::new(bytes))
}

/// A world while its catalogs are read.
#[derive(Default)]
struct Builder {
    locations: Vec<String>,
    publishers: Vec<Publisher>,
    index: HashMap<String, usize>,
    offers: HashMap<(usize, String), usize>,
    skus: HashMap<(usize, usize, String), usize>,
}

impl Builder {
    /// The set of locations with these names; unknown ones are added.
    fn set(&mut self, names: &[String]) -> Result<LocationSet> {
        let mut set = 0;
        for name in names {
            let name = short_name(name);
            let bit = self.locations.iter().position(|known| *known == name).unwrap_or_else(|| {
                self.locations.push(name);
                self.locations.len() - 1
            });
            if bit >= 64 {
                return Err(Error::invalid("a catalog may have at most 64 locations"));
            }
            set |= 1 << bit;
        }
        Ok(set)
    }

    /// Adds a row.
    fn add(&mut self, row: Row) -> Result<()> {
        let places = row.locations.clone().or(row.location.clone().map(|name| vec![name]));
        let locations = self.set(&places.unwrap_or_else(|| vec!["eastus".to_owned()]))?;
        let publishers = &mut self.publishers;
        let at = *self.index.entry(row.publisher.to_ascii_lowercase()).or_insert_with(|| {
            publishers.push(Publisher { name: row.publisher.clone(), ..Publisher::default() });
            publishers.len() - 1
        });
        let publisher = &mut publishers[at];
        publisher.locations |= locations;
        let offers = &mut publisher.offers;
        let below = *self.offers.entry((at, row.offer.to_ascii_lowercase())).or_insert_with(|| {
            offers.push(Offer { name: row.offer.clone(), ..Offer::default() });
            offers.len() - 1
        });
        let offer = &mut offers[below];
        offer.locations |= locations;
        let skus = &mut offer.skus;
        let last =
            *self.skus.entry((at, below, row.sku.to_ascii_lowercase())).or_insert_with(|| {
                skus.push(Sku { name: row.sku.clone(), ..Sku::default() });
                skus.len() - 1
            });
        let sku = &mut skus[last];
        sku.locations |= locations;
        sku.versions.push(row.image(locations));
        Ok(())
    }

    /// The world, with offers, SKUs and versions in order.
    fn finish(mut self) -> World {
        for publisher in &mut self.publishers {
            publisher.offers.sort_by_key(|offer| offer.name.to_ascii_lowercase());
            for offer in &mut publisher.offers {
                offer.skus.sort_by_key(|sku| sku.name.to_ascii_lowercase());
                for sku in &mut offer.skus {
                    sku.versions.sort_by(|a, b| a.version.cmp(&b.version));
                }
            }
        }
        World::new(self.locations, self.publishers)
    }
}
