//! Parses responses in which single members do not have the expected form.
//!
//! Azure's responses are large and come from many providers: a null, a string in place of a number
//! or an unknown enum value in one member must not make the whole page unreadable. Such a member is
//! treated as absent, a malformed element below a row is removed, and both are reported. A row
//! itself is never removed: a row without a name, for example, would be missing silently, so the
//! whole response is refused instead.

use serde::de::DeserializeOwned;
use serde_json::{Error, Value};
use serde_path_to_error::{Path, Segment};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Distinct faults that are repaired in one response, at most.
const MOST_FAULTS: usize = 64;
/// Distinct faults that are logged in the lifetime of a process, at most.
const MOST_LOGGED: usize = 1_000;

/// Members treated as absent with their counts, each as a path and a reason:
/// `value[].properties.size: invalid type: string …`.
pub(crate) type MalformedCounts = Vec<(String, u64)>;

tokio::task_local! {
    /// Malformed members found while a work item is processed, with their counts.
    static COUNTED: RefCell<BTreeMap<String, u64>>;
}

/// Runs `work`, and returns the malformed members found during it, with their counts.
pub(crate) async fn counted<T>(work: impl Future<Output = T>) -> (T, BTreeMap<String, u64>) {
    let counted = async {
        let done = work.await;
        (done, COUNTED.with(RefCell::take))
    };
    COUNTED.scope(RefCell::default(), counted).await
}

/// Parses `bytes`; an error when they are not JSON, or when more than single members are malformed.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, MalformedCounts), Error> {
    match serde_json::from_slice(bytes) {
        Ok(read) => Ok((read, Vec::new())),
        Err(error) if error.is_data() => mended(serde_json::from_slice(bytes)?),
        Err(error) => Err(error),
    }
}

/// Deserializes `value` in the same way.
pub(crate) fn of_value<T: DeserializeOwned>(value: &Value) -> Result<(T, MalformedCounts), Error> {
    match T::deserialize(value) {
        Ok(read) => Ok((read, Vec::new())),
        Err(_) => mended(value.clone()),
    }
}

/// Logs the members treated as absent in a response of `operation`, each distinct fault once.
pub(crate) fn log_malformed(operation: &str, malformed: &MalformedCounts) {
    static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    for (fault, times) in malformed {
        let fault = format!("{operation}: {}", super::one_line(fault));
        // Outside a work item nothing is counted.
        let _ = COUNTED.try_with(|counted| {
            *counted.borrow_mut().entry(fault.clone()).or_default() += times;
        });
        let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MOST_LOGGED && !logged.contains(&fault) {
            tracing::warn!(
                "a response has a member of an unexpected type, which is treated as absent: {fault}"
            );
            logged.insert(fault);
        }
    }
}

fn mended<T: DeserializeOwned>(mut value: Value) -> Result<(T, MalformedCounts), Error> {
    let mut malformed = Vec::new();
    loop {
        let failed = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(read) => return Ok((read, malformed)),
            Err(failed) => failed,
        };
        let path: Vec<PathStep> = steps(failed.path());
        let Some(odd) = at(&value, &path).cloned() else { return Err(failed.into_inner()) };
        if malformed.len() >= MOST_FAULTS || is_row(&path) || decides(&path) {
            return Err(failed.into_inner());
        }
        // The same fault in other rows is repaired with it, so that the work does not grow with the
        // number of rows.
        let times = remove(&mut value, &path, &odd);
        malformed.push((format!("{}: {}", pattern(&path), failed.into_inner()), times));
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Member(String),
    Element(usize),
}

fn steps(path: &Path) -> Vec<PathStep> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(PathStep::Element(*index)),
            Segment::Map { key } => Some(PathStep::Member(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Whether a path leads to a row (an element of the outermost list), to the whole value, or to the
/// list of rows.
fn is_row(path: &[PathStep]) -> bool {
    let first = path.iter().position(|step| matches!(step, PathStep::Element(_)));
    match first {
        Some(first) => first + 1 == path.len(),
        None => path.is_empty(),
    }
}

/// Whether the meaning of other data depends on a member: without its link a list would be read as
/// complete, and a version not known to be excluded or deleted would be read as the latest.
fn decides(path: &[PathStep]) -> bool {
    const DECIDING: [&str; 6] = [
        "nextLink",
        "$skipToken",
        "resultTruncated",
        "totalRecords",
        "excludeFromLatest",
        "imageState",
    ];
    match path {
        // A marketplace image's scheduled deprecation; nothing else depends on it.
        [.., PathStep::Member(of), PathStep::Member(_)] if of == "imageDeprecationStatus" => false,
        [.., PathStep::Member(name)] => DECIDING.contains(&name.as_str()),
        _ => false,
    }
}

fn at<'a>(value: &'a Value, path: &[PathStep]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        PathStep::Member(name) => value.get(name),
        PathStep::Element(index) => value.get(index),
    })
}

/// Removes the value at `path`, and every equal value at the same position in other elements.
/// Returns how many were removed.
fn remove(value: &mut Value, path: &[PathStep], odd: &Value) -> u64 {
    match (path, value) {
        ([PathStep::Member(name)], Value::Object(members)) => {
            let before = members.len();
            members.retain(|member, value| member != name || value != odd);
            (before - members.len()) as u64
        }
        ([PathStep::Element(_)], Value::Array(elements)) => {
            let before = elements.len();
            elements.retain(|element| element != odd);
            (before - elements.len()) as u64
        }
        ([PathStep::Member(name), rest @ ..], Value::Object(members)) => {
            members.get_mut(name).map_or(0, |value| remove(value, rest, odd))
        }
        ([PathStep::Element(_), rest @ ..], Value::Array(elements)) => {
            elements.iter_mut().map(|element| remove(element, rest, odd)).sum()
        }
        _ => 0,
    }
}

/// A path without element indexes.
fn pattern(path: &[PathStep]) -> String {
    path.iter().fold(String::new(), |mut text, step| {
        match step {
            PathStep::Member(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            PathStep::Element(_) => text.push_str("[]"),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        value: Vec<Row>,
        #[serde(default)]
        next_link: Option<String>,
    }

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    struct Row {
        name: String,
        #[serde(default)]
        size: Option<u64>,
        #[serde(default)]
        tags: BTreeMap<String, Option<String>>,
        #[serde(default)]
        parts: Vec<Self>,
    }

    fn page(rows: &Value) -> Result<(Page, MalformedCounts), Error> {
        read(json!({"value": rows}).to_string().as_bytes())
    }

    #[test]
    fn malformed_member_removes_only_itself() {
        let rows = json!([
            {"name": "a", "size": -1, "tags": {"x": 5, "y": "z"}, "parts": [{"name": "p"}, {"name": null}]},
            {"name": "b", "size": "7", "tags": null},
            {"name": "c", "size": 7, "parts": {}},
        ]);
        let (read, malformed) = page(&rows).unwrap();
        let (a, b, c) = (&read.value[0], &read.value[1], &read.value[2]);
        assert_eq!((a.size, a.tags.len(), a.parts.len()), (None, 1, 1));
        assert_eq!((b.size, c.size, c.parts.len()), (None, Some(7), 0));
        assert_eq!(malformed.len(), 7, "{malformed:?}");
        assert!(malformed.iter().any(|(text, _)| text.starts_with("value[].parts[].name: ")));
    }

    #[test]
    fn unreadable_row_fails_the_page() {
        for rows in [
            json!([{"name": "a"}, {"name": null}]),
            json!([{"name": "a"}, {}]),
            json!([{"name": "a"}, null]),
            json!([{"name": "a"}, 7]),
            json!({"name": "a"}),
            json!(null),
        ] {
            page(&rows).unwrap_err();
        }
        read::<Page>(b"[]").unwrap_err();
        // Without its link the list would be read as complete, and the rows on the next page as
        // deleted.
        read::<Page>(br#"{"value":[],"nextLink":7}"#).unwrap_err();
        read::<Page>(b"{\"value\":[").unwrap_err();
    }

    #[test]
    fn fault_of_every_row_is_removed_in_one_pass() {
        let rows: Vec<Value> = (0..5_000)
            .map(|at| json!({"name": at.to_string(), "size": null, "tags": []}))
            .collect();
        let (read, malformed) = page(&rows.into()).unwrap();
        assert_eq!((read.value.len(), malformed.len(), malformed[0].1), (5_000, 1, 5_000));
    }
}
