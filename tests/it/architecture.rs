//! House rules that a compiler does not know: who may use whom, how files begin, how long they get.

use crate::support::root;
use crate::tests;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

tests![
    modules_use_only_what_the_map_allows,
    every_file_says_what_it_is_and_stays_small,
    only_one_file_reads_the_environment,
    function_folders_and_the_function_table_agree,
    no_test_goes_by_the_clock,
];

/// The files below a folder of the project, with their texts.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    assert!(found.len() > 30);
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    files("src")
}

/// The module at the top that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The table in ARCHITECTURE.md: `| module | may use |`.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [name, uses, _] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let uses = uses.split([',', ' ']).map(|one| one.trim_matches('`').to_owned());
        Some((name.to_owned(), uses.filter(|one| !one.is_empty() && one != "–").collect()))
    });
    rows.collect()
}

fn modules_use_only_what_the_map_allows() {
    let table = table();
    for (path, text) in sources() {
        let own = module(&path);
        if own == "main" || own == "lib" {
            continue;
        }
        let allowed = table.get(&own).unwrap_or_else(|| panic!("{own} is not on the map"));
        for (number, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                if line.trim_start().starts_with("//") || line[..at].ends_with('$') {
                    continue;
                }
                let rest = &line[at + "crate::".len()..];
                let used: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fits = used == own || used.is_empty() || allowed.contains(&used);
                assert!(fits, "{}:{}: {own} may not use {used}", path.display(), number + 1);
            }
        }
    }
    for (name, uses) in &table {
        for used in uses {
            assert!(table.contains_key(used), "{name} may use {used}, which is not on the map");
            let back = table[used].contains(name);
            assert!(!back, "{name} and {used} may use each other");
        }
    }
}

fn every_file_says_what_it_is_and_stays_small() {
    for (path, text) in sources() {
        let name = path.display();
        let head = text.lines().next().unwrap_or_default();
        let documented = head.starts_with("//!") || head.starts_with("#![doc");
        assert!(documented, "{name} does not begin with what it is");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(code <= 500, "{name} has {code} lines; split it");
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            assert!(line.trim_end() == line, "{name}:{number}: space at the end of the line");
            assert!(!line.contains("todo!("), "{name}:{number}");
        }
    }
}

fn only_one_file_reads_the_environment() {
    for (path, text) in sources() {
        if !path.ends_with("config.rs") {
            for call in ["std::env::var", "env::var("] {
                assert!(!text.contains(call), "{}: {call}", path.display());
            }
        }
    }
}

fn function_folders_and_the_function_table_agree() {
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let table: BTreeSet<String> =
        azimg::functions::FUNCTIONS.iter().map(|function| function.name.to_owned()).collect();
    assert_eq!(folders, table);
}

/// A test that sleeps, or asks how long something took, fails on a slow machine or on a fast one. They wait for
/// what they need instead (`support::wait_for`), or run on a clock of their own.
fn no_test_goes_by_the_clock() {
    // The first three run under a paused clock, the fourth tells how long tests took.
    let exempt = ["simulation.rs", "graph.rs", "tokens.rs", "harness.rs", "architecture.rs"];
    for (path, text) in files("tests/it") {
        let support = path.components().any(|part| part.as_os_str() == "support");
        if support || exempt.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for call in ["sleep(", ".elapsed()", "Instant::now()", "timeout("] {
                assert!(!line.contains(call), "{}:{}: {call}", path.display(), number + 1);
            }
        }
    }
}
