//! What `docs/security.md` claims: each test that it names is there, and each attacker is weighed against each asset.

use crate::support::root;
use crate::tests;
use regex::Regex;
use std::collections::BTreeSet;
use std::process::Command;

tests![
    every_test_named_in_the_threat_model_exists,
    the_threat_model_covers_each_attacker_and_asset,
];

const ASSETS: [&str; 5] =
    ["tokens", "the catalog", "registry contents", "the storage account", "the machine"];

const ATTACKERS: [&str; 10] = [
    "a web page",
    "a registry",
    "an image's author",
    "a gallery's author in another tenant",
    "a writer to the queue",
    "a writer to the container",
    "a writer to the folder",
    "a folder's author",
    "a caller with a function key",
    "a caller without one",
];

fn threats() -> String {
    std::fs::read_to_string(root().join("docs/security.md")).unwrap()
}

/// The names of all tests of this program, without their files.
fn tests() -> BTreeSet<String> {
    let own = std::env::current_exe().unwrap();
    let listed = Command::new(own).arg("--list").output().unwrap();
    let names: BTreeSet<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.strip_suffix(": test")?.rsplit("::").next()?.to_owned()))
        .collect();
    assert!(names.len() > 300, "{} tests", names.len());
    names
}

/// The rows of the table below a heading, each as its cells.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, below) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("docs/security.md has no part '{heading}'"));
    let table = below.lines().skip_while(|line| !line.starts_with('|'));
    let table = table.take_while(|line| line.starts_with('|')).skip(2);
    table.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn every_test_named_in_the_threat_model_exists() {
    let (text, tests) = (threats(), tests());
    // No setting, file or command is written like this.
    let named = Regex::new("`([a-z0-9]+(?:_[a-z0-9]+){2,})`").unwrap();
    let named: BTreeSet<&str> =
        named.captures_iter(&text).map(|found| found.extract::<1>().1[0]).collect();
    assert!(named.len() > 50, "{named:?}");
    let gone: Vec<_> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(gone.is_empty(), "docs/security.md names tests that are not there: {gone:#?}");
}

fn the_threat_model_covers_each_attacker_and_asset() {
    let (text, tests) = (threats(), tests());
    let first =
        |heading: &str| -> Vec<&str> { rows(&text, heading).iter().map(|row| row[0]).collect() };
    assert_eq!(first("## Assets"), ASSETS);
    assert_eq!(first("## Attackers"), ATTACKERS);
    let named = Regex::new("`([^`]+)`").unwrap();
    for attacker in ATTACKERS {
        let rows = rows(&text, &format!("### {attacker}"));
        let assets: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(assets, ASSETS, "{attacker}");
        for row in rows {
            let [asset, would, stops, held] = row[..] else { panic!("{attacker}: {row:?}") };
            let pair = format!("{attacker} and {asset}");
            assert!(would.len() > 3 && stops.len() > 3, "{pair}");
            let mut claimed = named.captures_iter(held).map(|found| found.extract::<1>().1[0]);
            let (is_open, is_held) = (held.contains("**open**"), claimed.next().is_some());
            assert!(is_open || is_held, "{pair}: neither a test nor marked open");
            // Nothing but names of tests and that mark.
            let rest = named.replace_all(held, "").replace("**open**", "");
            assert!(rest.chars().all(|c| ", ".contains(c)), "{pair}: {rest}");
            for claim in named.captures_iter(held) {
                assert!(tests.contains(&claim[1]), "{pair}: there is no test {}", &claim[1]);
            }
        }
    }
}
