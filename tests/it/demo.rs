//! The world of the demo: it follows from the day alone, and looks like the marketplace.

use crate::support::{azimg, debian, finish, wait_for};
use crate::tests;
use azimg::testing::catalog::aliases::ALIASES;
use azimg::testing::sim::{World, demo_world};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use time::{Date, Month};

tests![
    a_demo_follows_from_its_day,
    a_demo_of_the_next_day_has_news_and_keeps_the_rest,
    aliases_of_the_azure_cli_are_in_the_demo,
    locations_of_the_demo_differ,
    an_interrupted_demo_resumes_in_another_process,
    a_demo_that_midnight_interrupts_is_resumed needs [Faketime],
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

/// Begins the demo, interrupts it once registries are known and their items wait in the store, and
/// returns the arguments that it says to resume with.
fn interrupted(folder: &Path, begin: impl FnOnce(&[&str]) -> Command) -> Vec<String> {
    let sources = ["--source", "registry", "--source", "marketplace", "--details", "none"];
    let store = ["crawl", "--demo", "--store", folder.to_str().unwrap()];
    let mut command = begin(&[&store[..], &sources[..]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("an outcome", || {
        let runs = std::fs::read_dir(folder.join("runs")).ok()?;
        let mut outcomes = runs.map(|run| run.unwrap().path().join("outcomes/registry"));
        outcomes.any(|outcomes| outcomes.exists()).then_some(())
    });
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let (_, next) = stderr.split_once("Resume with: azimg ").expect("how to go on");
    let next: Vec<String> = next.split_whitespace().map(str::to_owned).collect();
    assert_eq!(next[..3], ["crawl", "--demo", "--resume"]);
    next
}

fn an_interrupted_demo_resumes_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let next = interrupted(folder.path(), azimg);
    let next: Vec<&str> = next.iter().map(String::as_str).collect();
    let (code, _, stderr) = finish(&mut azimg(&next));
    assert_eq!(code, 0, "{stderr}");
}

/// The world of the next day lacks some of what the plan names and has what it does not.
fn a_demo_that_midnight_interrupts_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |time: &str, arguments: &[&str]| {
        let mut command = azimg(arguments);
        command.env("LD_PRELOAD", debian::faketime()).env("DONT_FAKE_MONOTONIC", "1");
        command.env("FAKETIME", format!("@{time}")).env("TZ", "UTC");
        command
    };
    let next = interrupted(folder.path(), |arguments| at("2026-11-20 23:59:00", arguments));
    let next: Vec<&str> = next.iter().map(String::as_str).collect();
    let (code, _, stderr) = finish(&mut at("2026-11-21 00:05:00", &next));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("(complete)"), "{stderr}");
}
