//! The well-known publishers with their versions, in the locations that have received them.

use super::offers::{DAILY, Form, KnownOffer, SYSTEMS};
use super::products::PRODUCTS;
use super::{before, choice};
use crate::image::Status;
use crate::sim::world::{Image, LocationSet, Offer, Publisher, Sku};
use std::collections::BTreeMap;
use time::{Date, Duration, OffsetDateTime};

/// Days after which a version is in each location, in the order of the locations.
const LAGS: [i64; 8] = [0, 1, 0, 1, 2, 1, 2, 5];
/// The location that has few of the special SKUs.
const YOUNG: usize = 7;
/// Days from the build of a daily image to its deprecation (recorded: 123 in 1,179 of 1,504).
const DAILY_LIFE: i64 = 123;
/// The day on which the number of Debian's images was 1966 (recorded).
const DEBIAN: (i32, u16, i64) = (2024, 354, 1966);

/// The Julian day from which versions of products are counted: 2023-01-01.
const FIRST: i64 = 2_459_946;

/// The name of the version that was built on this day.
fn version(form: Form, sku: &str, built: OffsetDateTime, number: i64) -> String {
    let (year, month, day) = (built.year(), u8::from(built.month()), built.day());
    let hash = choice(sku);
    match form {
        Form::Build(release) => {
            let release = if sku.starts_with("16") { "16.04" } else { release };
            format!("{release}.{year}{month:02}{day:02}0")
        }
        Form::Hour(release) => {
            let hour = hash.wrapping_add(u64::from(day)) % 24;
            format!("{}.{year}{month:02}{day:02}{hour:02}", release_of(sku, release))
        }
        Form::Debian => {
            let base = Date::from_ordinal_date(DEBIAN.0, DEBIAN.1).unwrap_or(Date::MIN);
            let days = (built.date() - base).whole_days();
            format!("0.{year}{month:02}{day:02}.{}", DEBIAN.2 + days)
        }
        Form::Day => format!("{year}.{month:02}.{day:02}"),
        Form::Windows(kernel) => {
            let months = i64::from(year - 2020) * 12 + i64::from(month);
            format!("{kernel}.{}.{:02}{month:02}{day:02}", 60 * months + 12, year % 100)
        }
        Form::Product(major) => format!("{major}.{}.{}", number / 4, number % 4 + 1),
    }
}

/// The release that a SKU of Red Hat's kind names, such as 9.4 in `94sapha-gen2`.
fn release_of<'a>(sku: &str, other: &'a str) -> &'a str {
    match sku.as_bytes() {
        [b'1', b'0', ..] => "10.0",
        [b'8', b'8', ..] => "8.8",
        [b'9', b'4', ..] => "9.4",
        [b'8', b'_', b'5', ..] => "8.5",
        [b'8', ..] => "8.10",
        _ => other,
    }
}

/// Whether a SKU is of Arm64, and its generation.
fn machine(offer: &KnownOffer, sku: &str) -> (bool, &'static str) {
    let is_arm = sku.contains("arm") || offer.offer.contains("arm");
    let has = |part: &str| sku.contains(part);
    let named = has("gen2") || has("g2") || has("gensecond") || has("azure-edition") || has("cvm");
    let first =
        has("gen1") || sku == "stable" || sku == "22_04-lts" || offer.offer == "UbuntuServer";
    let young = ["24_04", "26_04", "azurelinux", "windows-11", "office-365", "-2404"];
    let is_second =
        is_arm || named || (!first && young.iter().any(|part| offer.offer.contains(part)));
    (is_arm, if is_second { "V2" } else { "V1" })
}

fn features(sku: &str, generation: &str, is_windows: bool) -> BTreeMap<String, String> {
    let mut features = vec![("IsAcceleratedNetworkSupported", "True")];
    if generation == "V2" {
        features.push(("DiskControllerTypes", "SCSI, NVMe"));
        let security = if sku.contains("cvm") {
            "ConfidentialVM"
        } else if is_windows {
            "TrustedLaunchAndConfidentialVmSupported"
        } else {
            "TrustedLaunchSupported"
        };
        features.push(("SecurityType", security));
    }
    if is_windows {
        features.push(("IsHibernateSupported", "True"));
    }
    features.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The locations that list a SKU: the young one has few of those that are bought or for Arm64, and
/// every other one lacks some products.
fn sku_locations(offer: &KnownOffer, sku: &str, is_arm: bool, locations: usize) -> LocationSet {
    (0..locations).fold(0, |set, at| {
        let hash = choice(&format!("{}:{}:{sku}:{at}", offer.publisher, offer.offer)) % 100;
        let is_special = offer.has_plan || is_arm || sku.contains("cvm");
        let missing = match (at == YOUNG, is_special) {
            (true, true) => 55,
            (true, false) => 6,
            (false, true) => 5,
            (false, false) => 0,
        };
        if hash < missing { set } else { set | 1 << at }
    })
}

/// The locations to which a version of this age in days has come. One in sixty versions
/// was withdrawn from a location.
fn version_locations(within: LocationSet, name: &str, age: i64, locations: usize) -> LocationSet {
    let there = |at: &usize| {
        let lag = LAGS.get(*at).copied().unwrap_or_default();
        let is_withdrawn = *at > 0 && choice(&format!("{name}:{at}")).is_multiple_of(60);
        age >= lag && !is_withdrawn
    };
    let set = (0..locations).filter(there).fold(0, |set, at| set | 1 << at);
    within & set
}

fn sku(offer: &KnownOffer, name: &str, today: Date, locations: usize) -> Sku {
    let (is_arm, generation) = machine(offer, name);
    let within = sku_locations(offer, name, is_arm, locations);
    let rhythm = offer.rhythm;
    let is_daily = rhythm.every == DAILY.every;
    // SKUs of an offer are built together, those of other offers on other days.
    let shift = choice(offer.offer) % u64::try_from(rhythm.every).unwrap_or(1).max(1);
    let shift = i64::try_from(shift).unwrap_or_default();
    let first = before(today, 0).date().to_julian_day();
    // Builds stand on a fixed calendar, so that tomorrow's demo has today's versions.
    let phase = (i64::from(first) + shift) % rhythm.every.max(1);
    let plan = offer
        .has_plan
        .then(|| (offer.publisher.to_owned(), offer.offer.to_owned(), name.to_owned()));
    let versions = (0..rhythm.kept).map(|at| {
        let age = rhythm.silent + phase + at * rhythm.every;
        let built = before(today, age);
        let serial =
            (i64::from(built.date().to_julian_day()) - FIRST + shift) / rhythm.every.max(1);
        let version = version(offer.form, name, built, serial.max(0));
        let ends_at = offer.ends.map(|(days, _)| before(today, -days));
        let daily = is_daily.then(|| built.saturating_add(Duration::days(DAILY_LIFE)));
        let ends_at = ends_at.or(daily);
        Image {
            locations: version_locations(within, &format!("{name}:{version}"), age, locations),
            version,
            architecture: Some(if is_arm { "Arm64" } else { "x64" }.to_owned()),
            hyper_v_generation: Some(generation.to_owned()),
            status: Some(if ends_at.is_some() { Status::Scheduled } else { Status::Active }),
            scheduled_deprecation_at: ends_at,
            alternative: offer.ends.map(|(_, alternative)| alternative.to_owned()),
            os: Some(if offer.is_windows { "Windows" } else { "Linux" }.to_owned()),
            plan: plan.clone(),
            features: features(name, generation, offer.is_windows),
        }
    });
    let mut versions: Vec<Image> = versions.filter(|image| image.locations != 0).collect();
    versions.sort_by(|a, b| a.version.cmp(&b.version));
    versions.dedup_by(|a, b| a.version == b.version);
    Sku { name: name.to_owned(), locations: within, versions }
}

/// The well-known publishers as they stand on this day.
pub(super) fn publishers(today: Date, locations: usize) -> Vec<Publisher> {
    let everywhere = LocationSet::MAX >> (64 - locations);
    let mut offers: BTreeMap<(&str, &str), Vec<Sku>> = BTreeMap::new();
    for offer in SYSTEMS.iter().chain(PRODUCTS) {
        let skus = offer.skus.iter().map(|name| sku(offer, name, today, locations));
        offers.entry((offer.publisher, offer.offer)).or_default().extend(skus);
    }
    let mut publishers: BTreeMap<&str, Vec<Offer>> = BTreeMap::new();
    for ((publisher, name), mut skus) in offers {
        skus.sort_by_key(|sku| sku.name.to_ascii_lowercase());
        let locations = skus.iter().fold(0, |set, sku| set | sku.locations);
        let offer = Offer { name: name.to_owned(), locations, vanishes: false, skus };
        publishers.entry(publisher).or_default().push(offer);
    }
    let publisher = |(name, mut offers): (&str, Vec<Offer>)| {
        offers.sort_by_key(|offer| offer.name.to_ascii_lowercase());
        Publisher { name: name.to_owned(), locations: everywhere, vanishes: false, offers }
    };
    publishers.into_iter().map(publisher).collect()
}
