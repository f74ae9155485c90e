//! Notes on rules before they are applied: a pattern that matches nothing may be mistyped.

use super::graph::names_digest;
use super::rules::{Pattern, Rules};
use super::state::RepositoryState;
use crate::image::names::nearest;
use std::collections::BTreeSet;

/// The most names that are compared with a mistyped one. More take longer than they help.
const MOST: usize = 100_000;

/// Notes on the rules whose patterns match nothing, with the most similar names. `names` are all
/// repositories of the registry, and `states` those that some rule matches.
pub fn notes(rules: &Rules, names: &[String], states: &[&RepositoryState]) -> Vec<String> {
    let mut notes = Vec::new();
    for (number, rule) in (1..).zip(&rules.rules) {
        let of = &rule.repositories;
        if !names.iter().any(|name| of.fits(name)) {
            let near = near(of, names.iter().map(String::as_str));
            notes.push(format!("rule {number}: no repository matches '{of}'{near}"));
            continue;
        }
        let of_it = states.iter().filter(|state| of.fits(&state.name));
        let tags: BTreeSet<&str> = of_it
            .flat_map(|state| &state.tags)
            .filter(|tag| !names_digest(tag))
            .map(|tag| tag.name.as_str())
            .collect();
        let fits_none = |pattern: &&Pattern| !tags.iter().any(|tag| pattern.fits(tag));
        if let Some(pattern) = rule.tags.as_ref().filter(fits_none) {
            let near = near(pattern, tags.iter().copied());
            notes.push(format!("rule {number}: no tag matches '{pattern}'{near}"));
        }
        for pattern in rule.keep_tags.iter().filter(fits_none) {
            let near = near(pattern, tags.iter().copied());
            notes.push(format!("rule {number}: keep-tags '{pattern}' protects nothing{near}"));
        }
    }
    notes
}

/// The names most similar to the literal characters of a pattern.
fn near<'a>(pattern: &Pattern, names: impl Iterator<Item = &'a str>) -> String {
    let words: String = pattern.to_string().trim_start_matches("regex:").to_owned();
    let words = words.replace(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)), "");
    match nearest(&words, names.take(MOST)).join(", ") {
        near if near.is_empty() => String::new(),
        near => format!("; the nearest: {near}"),
    }
}
