//! The world of the demo: it follows from the day alone, and looks like the marketplace.

use crate::tests;
use azimg::testing::catalog::aliases::ALIASES;
use azimg::testing::sim::{World, demo_world};
use std::collections::BTreeSet;
use time::{Date, Month};

tests![
    a_demo_follows_from_its_day,
    a_demo_of_the_next_day_has_news_and_keeps_the_rest,
    aliases_of_the_azure_cli_are_in_the_demo,
    locations_of_the_demo_differ,
];

fn day(number: u8) -> Date {
    Date::from_calendar_date(2026, Month::November, number).unwrap()
}

/// The URNs of a world with the number of locations of each.
fn urns(world: &World) -> BTreeSet<(String, u32)> {
    let mut all = BTreeSet::new();
    for publisher in &world.publishers {
        for offer in &publisher.offers {
            for sku in &offer.skus {
                for image in &sku.versions {
                    let names = [&publisher.name, &offer.name, &sku.name, &image.version];
                    let urn = names.map(String::as_str).join(":");
                    all.insert((urn, image.locations.count_ones()));
                }
            }
        }
    }
    all
}

fn a_demo_follows_from_its_day() {
    // Another process resumes a demo, so nothing may depend on the order of a map.
    let [one, other] = [demo_world(day(20)), demo_world(day(20))];
    assert_eq!(format!("{:?}", one.publishers), format!("{:?}", other.publishers));
    assert_eq!(format!("{:?}", one.organisation), format!("{:?}", other.organisation));
    assert_eq!(format!("{:?}", one.registries), format!("{:?}", other.registries));
    assert!(urns(&one).len() > 10_000, "{}", urns(&one).len());
    assert!(one.organisation.machines.len() > 30);
}

fn a_demo_of_the_next_day_has_news_and_keeps_the_rest() {
    let names = |number| -> BTreeSet<String> {
        let known = |urn: &String| urn.starts_with("Canonical:") || urn.starts_with("Debian:");
        urns(&demo_world(day(number))).into_iter().map(|(urn, _)| urn).filter(known).collect()
    };
    let (today, tomorrow) = (names(20), names(21));
    let (new, gone) = (tomorrow.difference(&today).count(), today.difference(&tomorrow).count());
    assert!((5..today.len() / 10).contains(&new), "{new} of {} are new", today.len());
    assert!(gone < today.len() / 10, "{gone} of {} are gone", today.len());
}

fn aliases_of_the_azure_cli_are_in_the_demo() {
    let all = urns(&demo_world(day(20)));
    let missing = ALIASES.iter().filter(|alias| {
        let of = alias.sku.join(":").to_lowercase() + ":";
        !all.iter().any(|(urn, _)| urn.to_lowercase().starts_with(&of))
    });
    let missing: Vec<&str> = missing.map(|alias| alias.name).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

fn locations_of_the_demo_differ() {
    let all = urns(&demo_world(day(20)));
    let few = all.iter().filter(|(_, locations)| *locations < 8).count();
    assert!((all.len() / 100..all.len() / 2).contains(&few), "{few} of {}", all.len());
    assert!(all.iter().all(|(_, locations)| *locations > 0));
}
