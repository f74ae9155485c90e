//! Envelopes as the Functions host writes and reads them, including double encoding.

use crate::error::{Error, Result};
use crate::functions::{Declaration, Function};
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Encodes a string as a JSON string that contains a JSON string literal.
fn twice(text: &str) -> Value {
    Value::String(Value::String(text.to_owned()).to_string())
}

/// Formats a time, truncated to whole seconds.
fn moment(at: OffsetDateTime) -> Value {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    Value::String(at.format(&Rfc3339).unwrap_or_default().replace('Z', "+00:00"))
}

fn sys(name: &str) -> Value {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    json!({"MethodName": name, "UtcNow": now, "RandGuid": ulid::Ulid::generate().to_string()})
}

/// The invocation for a queue message.
pub(super) fn queue(declared: &Declaration, text: &str, delivery: u32) -> Result<Value> {
    let trigger = declared.trigger()?;
    let now = OffsetDateTime::now_utc();
    let mut metadata = Map::new();
    metadata.insert("DequeueCount".into(), json!(delivery.to_string()));
    metadata.insert("Id".into(), twice(&ulid::Ulid::generate().to_string()));
    metadata.insert("PopReceipt".into(), twice("embedded"));
    metadata.insert("InsertionTime".into(), moment(now));
    metadata.insert("NextVisibleTime".into(), moment(now + time::Duration::minutes(10)));
    metadata.insert("ExpirationTime".into(), moment(now + time::Duration::days(7)));
    // The members of a message that is an object are merged into the metadata, except arrays.
    if let Ok(Value::Object(members)) = serde_json::from_str(text) {
        for (name, value) in members {
            match value {
                Value::Array(_) => {}
                object @ Value::Object(_) => drop(metadata.insert(name, object)),
                Value::String(text) => drop(metadata.insert(name, twice(&text))),
                Value::Bool(flag) => {
                    drop(metadata.insert(name, twice(if flag { "True" } else { "False" })));
                }
                other => drop(metadata.insert(name, twice(&other.to_string()))),
            }
        }
    }
    metadata.insert("sys".into(), sys(&trigger.name));
    Ok(json!({"Data": {trigger.name.as_str(): twice(text)}, "Metadata": metadata}))
}

/// The invocation for a timer. With a retry policy, `retry` is the number of the retry and the
/// maximum.
pub(super) fn timer(function: &Function, retry: Option<(u32, i64)>) -> Result<Value> {
    let trigger = function.declared()?.trigger()?.name.clone();
    let now = OffsetDateTime::now_utc();
    let mut invocation = json!({
        "Data": {trigger: {
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {"Last": moment(now), "Next": moment(now), "LastUpdated": moment(now)},
            "IsPastDue": false,
        }},
        "Metadata": {"sys": sys(function.name)},
    });
    if let Some((count, most)) = retry {
        invocation["Metadata"]["RetryContext"] =
            json!({"RetryCount": count, "MaxRetryCount": most});
    }
    Ok(invocation)
}

/// The invocation for an HTTP function in JSON mode, with the headers of its caller.
pub(super) fn http(function: &Function, headers: &HeaderMap, body: &str) -> Result<Value> {
    let trigger = function.declared()?.trigger()?.name.clone();
    let mut header_map = Map::new();
    for name in headers.keys() {
        let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        header_map.insert(name.to_string(), all.collect());
    }
    let mut request = json!({
        "Url": "http://localhost/api/runs", "Method": "POST", "Query": {},
        "Headers": header_map, "Params": {},
        "Identities": [{"AuthenticationType": null}],
    });
    // The embedded host always has the body, whichever way it was transferred.
    request["Body"] = body.into();
    Ok(json!({"Data": {trigger: request}, "Metadata": {"sys": sys(function.name)}}))
}

/// Extracts the messages of a response's queue outputs, with their queues.
pub(super) fn outputs(declared: &Declaration, answer: &Value) -> Result<Vec<(String, String)>> {
    let mut messages = Vec::new();
    for binding in declared.bindings.iter().filter(|b| b.kind == "queue") {
        let queue = binding.queue_name.clone().unwrap_or_default();
        match &answer["Outputs"][&binding.name] {
            Value::Null => {}
            Value::Array(texts) => {
                for text in texts {
                    let text = text.as_str().ok_or_else(|| {
                        Error::bug(format!(
                            "the output {} contains a value that is not a string",
                            binding.name
                        ))
                    })?;
                    messages.push((queue.clone(), text.to_owned()));
                }
            }
            _ => {
                return Err(Error::bug(format!(
                    "the output {} is not an array: the host would corrupt it",
                    binding.name
                )));
            }
        }
    }
    Ok(messages)
}
