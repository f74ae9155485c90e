//! The world of `azimg crawl --demo`: a part of the marketplace in eight locations, and an
//! organisation with galleries, machines and registries, as they may stand on a given day.
//!
//! Publishers, offers, SKUs and forms of versions are those of the marketplace (complete lists of
//! 2019 to 2024 from recorded answers, and the aliases that Azure CLI ships); the dates, the number
//! of versions and all other publishers are generated. Everything follows from the day alone, so
//! that a demo can be resumed by another process, and a demo of the next day has news.

mod marketplace;
mod offers;
mod organisation;
mod products;
mod registries;

use super::generate::generated_publishers;
use super::ids::subscription_id;
use super::world::World;
use time::{Date, Duration, OffsetDateTime, Time};

/// The locations: old and large ones, and young ones to which versions come later.
const LOCATIONS: [&str; 8] = [
    "East US",
    "West US 3",
    "West Europe",
    "North Europe",
    "Sweden Central",
    "UK South",
    "Southeast Asia",
    "Qatar Central",
];
/// Publishers beside the well-known ones: a tenth of the real number, so that a demo takes seconds.
const PUBLISHERS: usize = 260;
/// The seed of all that is generated.
const SEED: u64 = 7;

/// The subscriptions of the organisation.
fn subscription() -> String {
    subscription_id(1)
}

/// The beginning of a day in UTC, some days before `today`.
fn before(today: Date, days: i64) -> OffsetDateTime {
    OffsetDateTime::new_utc(today, Time::MIDNIGHT).saturating_sub(Duration::days(days))
}

/// A number that depends on nothing but the text: the order of a demo's random choices is no part
/// of its result.
fn choice(text: &str) -> u64 {
    // FNV-1a, with the final mix of MurmurHash3: its high bits are even for short texts.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The world as it stands on this day.
pub fn demo_world(today: Date) -> World {
    let locations: Vec<String> =
        LOCATIONS.iter().map(|name| crate::source::locations::short_name(name)).collect();
    let epoch = before(today, 0);
    let mut publishers = marketplace::publishers(today, locations.len());
    publishers.extend(generated_publishers(PUBLISHERS, locations.len(), epoch, SEED));
    // The list of publishers has had no order since 2023.
    publishers.sort_by_cached_key(|publisher| choice(&publisher.name));
    let organisation = organisation::contoso(today, &publishers);
    let mut world = World::new(locations, publishers).with_organisation(organisation);
    world.registries = registries::contoso(today);
    world
}
