//! What an answer is made of: the paths of its members with their JSON types.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Types by path. Elements of a list are one (`[]`), and so are members that have no fixed name (`*`).
pub type Shape = BTreeMap<String, BTreeSet<&'static str>>;

/// Members whose names are data.
const OPEN: [&str; 3] = [".tags", ".artifactTags", ".annotations"];

/// Adds what `value` is made of.
pub fn observe(value: &Value, at: &str, into: &mut Shape) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    into.entry(at.to_owned()).or_default().insert(kind);
    match value {
        Value::Array(all) => all.iter().for_each(|one| observe(one, &format!("{at}[]"), into)),
        Value::Object(all) => {
            let open = OPEN.iter().any(|name| at.ends_with(name));
            for (name, member) in all {
                observe(member, &format!("{at}.{}", if open { "*" } else { name }), into);
            }
        }
        _ => {}
    }
}

/// The path of what `path` is a member of.
fn parent(path: &str) -> &str {
    match path.strip_suffix("[]") {
        Some(list) => list,
        None => path.rsplit_once('.').map_or("", |(parent, _)| parent),
    }
}

/// Whether `path` is among `known`; what lies below `.**` may be anything.
fn is_known(path: &str, known: &Shape) -> bool {
    let mut at = path;
    while !at.is_empty() {
        at = parent(at);
        if known.contains_key(&format!("{at}.**")) {
            return true;
        }
    }
    known.contains_key(path)
}

/// Where `shown` differs from what it should show (`wanted`), and from all that it may (`known`). Of what lies
/// below a member that differs nothing more is said.
pub fn differences(wanted: &Shape, shown: &Shape, known: &Shape) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, types) in wanted.iter().filter(|(path, _)| !path.is_empty()) {
        let Some(ours) = shown.get(path) else {
            // An empty list says nothing of its elements.
            if shown.contains_key(parent(path)) && !path.ends_with("[]") {
                found.insert(format!("lacks {path}"));
            }
            continue;
        };
        let theirs = |name: &&&str| !types.contains("null") && !types.contains(**name);
        for odd in ours.iter().filter(theirs).filter(|name| **name != "null") {
            let types: Vec<&str> = types.iter().copied().collect();
            found.insert(format!("has {path} as {odd}, not {}", types.join(" or ")));
        }
    }
    for path in shown.keys().filter(|path| !path.is_empty()) {
        if !is_known(path, known) && (parent(path).is_empty() || is_known(parent(path), known)) {
            found.insert(format!("adds {path}"));
        }
    }
    found
}
