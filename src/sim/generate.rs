//! Generation of a catalog that resembles the real one: with the distributions of offers, SKUs and
//! versions in recorded responses, with empty publishers, and with publishers and offers that are
//! in lists and get a 404.

use super::organisation::OrganisationSize;
use super::world::{Image, LocationSet, Offer, PHYSICAL, Publisher, Sku, World};
use crate::image::Status;
use crate::source::locations::short_name;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashSet};
use time::{Duration, OffsetDateTime};

/// The size of a generated catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scale {
    /// About 50 publishers in three locations.
    Small,
    /// One region in its current size: 2,640 publishers, about 116,000 versions.
    Region,
    /// 60 locations with small differences.
    World,
}

/// A Zipf distribution, P(k) ∝ k^-s for k from 1 up to a maximum: offers of a publisher, SKUs of an
/// offer, versions of a SKU. It holds the cumulated weights.
struct Zipf(Vec<f64>);

impl Zipf {
    /// A distribution with exponent `s` and greatest value `max`.
    fn new(s: f64, max: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=max).map(|k| {
            sum += f64::from(k).powf(-s);
            sum
        });
        Self(cumulated.collect())
    }

    /// A random value.
    fn sample(&self, random: &mut StdRng) -> usize {
        let total = self.0.last().copied().unwrap_or(1.0);
        let at = random.random::<f64>() * total;
        self.0.partition_point(|cumulated| *cumulated < at) + 1
    }
}

/// The state of a generation.
struct Generator {
    random: StdRng,
    everywhere: LocationSet,
    offers: Zipf,
    skus: Zipf,
    versions: Zipf,
    epoch: OffsetDateTime,
}

/// Generated publishers, in `locations` locations; the same `seed` and `epoch` give the same ones.
pub(super) fn generated_publishers(
    count: usize,
    locations: usize,
    epoch: OffsetDateTime,
    seed: u64,
) -> Vec<Publisher> {
    let mut all = Vec::new();
    Generator::new(locations, epoch, seed).add(count, &mut all);
    all
}

/// A generated catalog; the same `seed` gives the same one.
pub fn generate(scale: Scale, seed: u64) -> World {
    let (publishers, locations) = match scale {
        Scale::Small => (50, 3),
        Scale::Region => (2_640, 1),
        Scale::World => (2_640, PHYSICAL.len()),
    };
    let locations: Vec<String> = PHYSICAL.iter().take(locations).map(|n| short_name(n)).collect();
    // A fixed time, so that a catalog depends on its seed alone.
    let epoch =
        OffsetDateTime::from_unix_timestamp(1_793_491_200).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut generator = Generator::new(locations.len(), epoch, seed);
    let mut all = generator.known();
    generator.add(publishers, &mut all);
    // The list of publishers has had no order since 2023.
    for i in (1..all.len()).rev() {
        all.swap(i, generator.random.random_range(0..=i));
    }
    World::new(locations, all)
        .with_generated_organisation(OrganisationSize::FEW, seed)
        .with_registries(2, 12, seed)
}

/// Words of generated names.
const WORDS: &[&str] = &[
    "acme", "alpine", "apex", "atlas", "aurora", "azimuth", "basalt", "beacon", "birch", "blue",
    "bright", "cedar", "cirrus", "clear", "cobalt", "copper", "coral", "crest", "data", "delta",
    "ember", "fabric", "falcon", "fjord", "forge", "gamma", "glacier", "granite", "harbor",
    "helix", "hollow", "iris", "juniper", "kestrel", "lattice", "linden", "lumen", "maple",
    "meridian", "nimbus", "north", "onyx", "orbit", "osprey", "pine", "quartz", "raven", "ridge",
    "sable", "sierra", "slate", "solar", "stone", "summit", "tidal", "timber", "vector", "willow",
];
/// Ends of publishers' names.
const KINDS: &[&str] = &[
    "soft",
    "systems",
    "labs",
    "cloud",
    "security",
    "networks",
    "analytics",
    "tech",
    "ware",
    "works",
    "gmbh",
    "inc",
    "llc",
    "group",
    "solutions",
    "io",
];
/// Words of offers' names.
const PRODUCTS: &[&str] = &[
    "firewall",
    "gateway",
    "server",
    "appliance",
    "vpn",
    "desktop",
    "database",
    "backup",
    "monitor",
    "proxy",
    "lamp",
    "jenkins",
    "gitlab",
    "docker",
    "hpc",
    "edge",
    "vm",
    "controller",
];

/// Names of offers, each with the names of its SKUs.
type Offers = &'static [(&'static str, &'static [&'static str])];
/// Well-known publishers: the name, whether their images are of Windows, their offers.
const KNOWN: &[(&str, bool, Offers)] = &[
    (
        "Canonical",
        false,
        &[
            ("0001-com-ubuntu-server-jammy", &["22_04-lts", "22_04-lts-arm64", "22_04-lts-gen2"]),
            ("0001-com-ubuntu-server-noble-daily", &["24_04-daily-lts", "24_04-daily-lts-gen2"]),
            (
                "ubuntu-24_04-lts",
                &["minimal", "server", "server-arm64", "server-gen1", "ubuntu-pro"],
            ),
            ("ubuntu-26_04-lts", &["server", "server-arm64"]),
        ],
    ),
    (
        "Debian",
        false,
        &[
            ("debian-12", &["12", "12-arm64", "12-gen2"]),
            ("debian-13", &["13", "13-arm64", "13-gen2"]),
            ("debian-13-daily", &["13", "13-arm64", "13-gen2"]),
        ],
    ),
    (
        "RedHat",
        false,
        &[
            ("RHEL", &["8-lvm-gen2", "810-gen2", "9-lvm-gen2", "95_gen2", "10-lvm-gen2"]),
            ("rhel-arm64", &["9_5-arm64"]),
        ],
    ),
    (
        "MicrosoftWindowsServer",
        true,
        &[(
            "WindowsServer",
            &[
                "2019-datacenter",
                "2019-datacenter-gensecond",
                "2022-datacenter-azure-edition",
                "2022-datacenter-g2",
                "2025-datacenter-g2",
            ],
        )],
    ),
    ("MicrosoftWindowsDesktop", true, &[("windows-11", &["win11-24h2-ent", "win11-25h2-pro"])]),
    ("SUSE", false, &[("sles-15-sp6", &["gen1", "gen2"]), ("sles-16-0-x86-64", &["gen2"])]),
    ("almalinux", false, &[("almalinux-x86_64", &["8-gen2", "9-gen2", "10-gen2"])]),
    ("Oracle", false, &[("Oracle-Linux", &["ol810-lvm-gen2", "ol95-lvm-gen2"])]),
];

impl Generator {
    fn new(locations: usize, epoch: OffsetDateTime, seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            everywhere: LocationSet::MAX >> (64 - locations),
            offers: Zipf::new(1.85, 700),
            skus: Zipf::new(2.05, 180),
            versions: Zipf::new(2.25, 200),
            epoch,
        }
    }

    /// Adds random publishers until there are `count`.
    fn add(&mut self, count: usize, all: &mut Vec<Publisher>) {
        let mut names: HashSet<String> =
            all.iter().map(|publisher| publisher.name.to_ascii_lowercase()).collect();
        while all.len() < count {
            let name = self.publisher_name();
            if names.insert(name.to_ascii_lowercase()) {
                all.push(self.publisher(name));
            }
        }
    }

    /// A random element.
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.random_range(0..of.len())]
    }

    /// True with probability `share`.
    fn chance(&mut self, share: f64) -> bool {
        self.random.random::<f64>() < share
    }

    /// The locations in `within`, each left out with probability `missing`; all of them when none
    /// would be left.
    fn most_of(&mut self, within: LocationSet, missing: f64) -> LocationSet {
        let mut set = within;
        for bit in 0..self.everywhere.count_ones() {
            if self.everywhere.count_ones() > 1 && self.chance(missing) {
                set &= !(1 << bit);
            }
        }
        if set == 0 { within } else { set }
    }

    /// A name of a publisher: 21.7 % have dots (publishers of extensions), a quarter have 13 digits
    /// at the end.
    fn publisher_name(&mut self) -> String {
        let roll: f64 = self.random.random();
        let number = self.random.random_range(1_500_000_000_000_u64..1_790_000_000_000);
        let (a, b) = (self.pick(WORDS), self.pick(KINDS));
        if roll < 0.217 {
            let middle = self.pick(WORDS);
            return format!("Microsoft.Azure.{a}.{middle}{}", number % 100_000);
        }
        let c = self.pick(WORDS);
        let name = match self.random.random_range(0..4) {
            0 => format!("{a}{b}"),
            1 => format!("{a}-{c}"),
            2 => format!("{}{c}{b}", a[..1].to_ascii_uppercase() + &a[1..]),
            _ => format!("{a}{c}{b}"),
        };
        match roll {
            r if r < 0.45 => format!("{name}{number}"),
            r if r < 0.465 => number.to_string(),
            _ => name,
        }
    }

    /// A random publisher.
    fn publisher(&mut self, name: String) -> Publisher {
        let locations = self.most_of(self.everywhere, 0.005);
        let empty = name.contains('.') || self.chance(0.06);
        let vanishes = self.chance(0.002);
        let count = if empty { 0 } else { self.offers.sample(&mut self.random) };
        let mut offers: Vec<Offer> = (0..count).map(|i| self.offer(&name, i, locations)).collect();
        offers.sort_by_key(|offer| offer.name.to_ascii_lowercase());
        Publisher { name, locations, vanishes, offers }
    }

    /// A random offer, in some of the locations `within`.
    fn offer(&mut self, publisher: &str, index: usize, within: LocationSet) -> Offer {
        let locations = self.most_of(within, 0.01);
        let daily = self.chance(0.006);
        let (word, product) = (self.pick(WORDS), self.pick(PRODUCTS));
        let suffix = if daily { "-daily" } else { "" };
        let name = format!("{word}-{product}-{index}{suffix}");
        let paid = self.chance(0.5);
        let windows = self.chance(0.25);
        let count = self.skus.sample(&mut self.random);
        let skus = (0..count).map(|i| {
            let base = ["standard", "basic", "pro", "byol", "enterprise", "small", "large"];
            let form = ["", "-gen2", "-arm64"][i % 3];
            let sku = format!(
                "{}{}{form}",
                base[(i / 3) % base.len()],
                match i / 21 {
                    0 => String::new(),
                    n => n.to_string(),
                }
            );
            let plan = paid.then(|| (publisher.to_owned(), name.clone(), sku.clone()));
            self.sku(sku, daily, windows, plan.as_ref(), locations)
        });
        let mut skus: Vec<Sku> = skus.collect();
        skus.sort_by_key(|sku| sku.name.to_ascii_lowercase());
        let vanishes = self.chance(0.001);
        Offer { name, locations, vanishes, skus }
    }

    /// A random SKU with its versions, in some of the locations `within`.
    fn sku(
        &mut self,
        name: String,
        daily: bool,
        windows: bool,
        plan: Option<&(String, String, String)>,
        within: LocationSet,
    ) -> Sku {
        let locations = self.most_of(within, 0.01);
        let count = match daily {
            _ if self.chance(0.15) => 0,
            true => self.random.random_range(40..=150),
            false => self.versions.sample(&mut self.random),
        };
        let arm = name.contains("arm64");
        let generation = if arm || name.contains("gen2") { "V2" } else { "V1" };
        let unknown = self.chance(0.02);
        let major = self.random.random_range(1..24);
        let mut versions: Vec<Image> = (0..count)
            .map(|i| {
                let built = self.epoch - Duration::days(i64::try_from(count - i).unwrap_or(0));
                let version = if daily {
                    format!(
                        "{major}.04.{}{:02}{:02}0",
                        built.year(),
                        u8::from(built.month()),
                        built.day()
                    )
                } else {
                    format!("{major}.{}.{}", i / 7 + 8, i % 7 + 9)
                };
                Image {
                    version,
                    locations: self.most_of(locations, 0.02),
                    architecture: Some(if arm { "Arm64" } else { "x64" }.to_owned()),
                    hyper_v_generation: (!unknown).then(|| generation.to_owned()),
                    status: Some(if daily { Status::Scheduled } else { Status::Active }),
                    scheduled_deprecation_at: daily
                        .then(|| (built + Duration::days(123)).truncate_to_day()),
                    alternative: None,
                    os: Some(if windows { "Windows" } else { "Linux" }.to_owned()),
                    plan: plan.cloned(),
                    features: features(generation),
                }
            })
            .collect();
        versions.sort_by(|a, b| a.version.cmp(&b.version));
        versions.dedup_by(|a, b| a.version == b.version);
        Sku { name, locations, versions }
    }

    /// The well-known publishers.
    fn known(&mut self) -> Vec<Publisher> {
        let everywhere = self.everywhere;
        let known = KNOWN.iter().map(|(publisher, windows, offers)| {
            let offers = offers.iter().map(|(offer, skus)| {
                let skus = skus.iter().map(|sku| {
                    let daily = offer.ends_with("daily");
                    let mut sku = self.sku((*sku).to_owned(), daily, *windows, None, everywhere);
                    sku.locations = everywhere;
                    if sku.versions.is_empty() {
                        sku.versions =
                            (8..=11).map(|minor| known_image(minor, *windows, &sku.name)).collect();
                        sku.versions.sort_by(|a, b| a.version.cmp(&b.version));
                    }
                    for image in &mut sku.versions {
                        image.locations = everywhere;
                    }
                    sku
                });
                let (name, skus) = ((*offer).to_owned(), skus.collect());
                Offer { name, locations: everywhere, vanishes: false, skus }
            });
            let (name, offers) = ((*publisher).to_owned(), offers.collect());
            Publisher { name, locations: everywhere, vanishes: false, offers }
        });
        known.collect()
    }
}

/// A version of a well-known SKU for which none was generated.
fn known_image(minor: u32, windows: bool, sku: &str) -> Image {
    let generation = if sku.contains("gen1") { "V1" } else { "V2" };
    Image {
        version: format!("24.{minor}.20260901"),
        locations: 0,
        architecture: Some(if sku.contains("arm64") { "Arm64" } else { "x64" }.to_owned()),
        hyper_v_generation: Some(generation.to_owned()),
        status: Some(Status::Active),
        os: Some(if windows { "Windows" } else { "Linux" }.to_owned()),
        features: features(generation),
        ..Image::default()
    }
}

/// The features of images of a Hyper-V generation.
fn features(generation: &str) -> BTreeMap<String, String> {
    let mut features = BTreeMap::new();
    features.insert("IsAcceleratedNetworkSupported".to_owned(), "True".to_owned());
    if generation == "V2" {
        features.insert("DiskControllerTypes".to_owned(), "SCSI, NVMe".to_owned());
        features.insert("SecurityType".to_owned(), "TrustedLaunchSupported".to_owned());
    }
    features
}
