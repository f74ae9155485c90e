//! Tables of what is missing from a run: the scopes that did not succeed, grouped by reason.

use crate::cli::output::{self, Output};
use crate::error::Result;
use crate::pipeline::coverage::CoverageLine;
use crate::work::{SourceName, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Up to this many scopes with the same outcome are listed individually. Larger groups are counted.
const SHOWN_EACH: usize = 5;
/// The number of scopes named as examples of a counted group.
const NAMED: usize = 3;

/// Prints the scopes that did not succeed, by source, and the malformed parts of responses.
pub(super) fn print(scopes: &[CoverageLine], output: &Output) -> Result<()> {
    let (each, counted) = grouped(scopes);
    let of = |source: SourceName| {
        let lines = each.iter().filter(|line| line.source == source);
        lines.map(|line| json!(line)).collect::<Vec<Value>>()
    };
    let odd = scopes.iter().flat_map(|line| {
        let malformed = line.malformed.kinds();
        malformed.map(move |(what, times)| {
            json!({"source": line.source, "about": about(line), "malformed": what, "times": times})
        })
    });
    let tables: [(Vec<Value>, &[&str]); 5] = [
        (counted, &["source", "state", "scopes", "reason", "such as"]),
        (
            of(SourceName::Marketplace),
            &["state", "location", "publisher", "offer", "sku", "version", "reason"],
        ),
        (
            of(SourceName::Gallery),
            &["state", "location", "subscription", "gallery", "definition", "reason"],
        ),
        (
            of(SourceName::Registry),
            &["state", "subscription", "registry", "repository", "digest", "reason"],
        ),
        (odd.collect(), &["source", "about", "malformed", "times"]),
    ];
    for (rows, columns) in tables {
        if !rows.is_empty() {
            output::text("\n")?;
            output.list(rows, columns)?;
        }
    }
    Ok(())
}

/// The scopes that did not succeed: those listed individually, and a row for each counted group.
fn grouped(scopes: &[CoverageLine]) -> (Vec<&CoverageLine>, Vec<Value>) {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&CoverageLine>> = BTreeMap::new();
    for line in scopes.iter().filter(|line| !matches!(line.state, State::Done | State::Empty)) {
        let how = (line.source.as_str(), line.state.as_str(), line.reason.as_str());
        groups.entry(how).or_default().push(line);
    }
    let (mut each, mut counted) = (Vec::new(), Vec::new());
    for ((source, state, reason), lines) in groups {
        if lines.len() <= SHOWN_EACH {
            each.extend(lines);
            continue;
        }
        let such: Vec<String> = lines.iter().take(NAMED).map(|line| line.name()).collect();
        counted.push(json!({"source": source, "state": state, "scopes": lines.len(),
            "reason": reason, "such as": such.join(", ")}));
    }
    counted.sort_by_key(|row| std::cmp::Reverse(row["scopes"].as_u64()));
    (each, counted)
}

/// A single name for a scope: that of its registry, gallery, publisher, subscription or location.
fn about(line: &CoverageLine) -> &str {
    let about = line.registry.as_ref().or(line.gallery.as_ref()).or(line.publisher.as_ref());
    about.or(line.subscription.as_ref()).unwrap_or(&line.location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_with_one_reason_are_counted_and_few_are_shown() {
        let line = |publisher: usize, reason: &str| CoverageLine {
            state: State::Failed,
            reason: reason.to_owned(),
            location: "eastus".to_owned(),
            publisher: Some(format!("p{publisher}")),
            ..CoverageLine::new(SourceName::Marketplace)
        };
        let mut scopes: Vec<CoverageLine> =
            (0..500).map(|number| line(number, "no network")).collect();
        scopes.push(line(900, "odd"));
        scopes.push(CoverageLine::new(SourceName::Marketplace));
        let (each, counted) = grouped(&scopes);
        assert_eq!(each.len(), 1);
        assert_eq!(counted.len(), 1);
        assert_eq!(
            (&counted[0]["scopes"], &counted[0]["reason"]),
            (&json!(500), &json!("no network"))
        );
        assert_eq!(counted[0]["such as"], "eastus/p0, eastus/p1, eastus/p2");
    }
}
