//! Envelopes as built by the Functions host (`ScriptInvocationContextExtensions` in its source):
//! .NET strings are encoded twice, numbers become text, objects stay objects.

use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

fn twice(text: &str) -> Value {
    json!(json!(text).to_string())
}

/// A `DateTimeOffset`, truncated to whole seconds.
fn moment(at: OffsetDateTime) -> Value {
    let at = at.replace_nanosecond(0).unwrap();
    json!(at.format(&Rfc3339).unwrap().replace('Z', "+00:00"))
}

fn sys(name: &str) -> Value {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    json!({"MethodName": name, "UtcNow": now, "RandGuid": uuid()})
}

/// A GUID in .NET's format.
pub fn uuid() -> String {
    let n = ulid::Ulid::generate().to_string().to_ascii_lowercase();
    format!("{}-{}-{}-{}-{}abcdef", &n[..8], &n[8..12], &n[12..16], &n[16..20], &n[20..26])
}

/// The envelope of a timer. A `monitored` one contains the status of its schedule.
pub fn timer(name: &str, binding: &str, monitored: bool) -> Value {
    let now = OffsetDateTime::now_utc();
    let status = json!({"Last": "0001-01-01T00:00:00", "Next": moment(now + Duration::minutes(10)),
                        "LastUpdated": moment(now)});
    let status = if monitored { status } else { Value::Null };
    let data = json!({binding: {"Schedule": {"AdjustForDST": true}, "ScheduleStatus": status,
                                "IsPastDue": false}});
    json!({"Data": data, "Metadata": {"sys": sys(name)}})
}

/// The envelope of a queue message.
pub fn queue(
    name: &str,
    binding: &str,
    text: &str,
    count: i64,
    (id, receipt): (&str, &str),
) -> Value {
    let now = OffsetDateTime::now_utc();
    let mut metadata = json!({
        "DequeueCount": count.to_string(), "Id": twice(id), "PopReceipt": twice(receipt),
        "InsertionTime": moment(now), "NextVisibleTime": moment(now + Duration::minutes(10)),
        "ExpirationTime": moment(now + Duration::days(7)), "sys": sys(name),
    });
    // Members of an object message override built-in ones of the same name, ignoring case.
    if let Ok(Value::Object(members)) = serde_json::from_str(text) {
        for (member, value) in members {
            let clash =
                metadata.as_object().unwrap().keys().any(|k| k.eq_ignore_ascii_case(&member));
            assert!(!clash, "a message's member {member} overrides the host's own");
            metadata[member] = match value {
                Value::Array(_) => continue,
                Value::Object(object) => object.into(),
                Value::String(text) => twice(&text),
                Value::Bool(flag) => twice(if flag { "True" } else { "False" }),
                other => twice(&other.to_string()),
            };
        }
    }
    // Metadata whose name ends in "trigger" is dropped.
    metadata.as_object_mut().unwrap().retain(|key, _| !key.to_lowercase().ends_with("trigger"));
    json!({"Data": {binding: twice(text)}, "Metadata": metadata})
}

/// The envelope of a request to a function that has more than one input and one output. A chunked
/// body without a length is left out (`HttpRequestExtensions` in the host's source).
pub fn http(
    name: &str,
    binding: &str,
    method: &str,
    url: &url::Url,
    (body, content_type, in_chunks): (&str, &str, bool),
) -> Value {
    let query: Map<String, Value> =
        url.query_pairs().map(|(name, value)| (name.into(), value.into_owned().into())).collect();
    let mut request = json!({
        "Url": url.as_str(), "Method": method, "Query": query,
        "Headers": {"Accept": ["application/json"], "Host": [url.authority()]},
        "Params": {}, "Identities": [{"AuthenticationType": null}],
    });
    if in_chunks {
        request["Headers"]["Transfer-Encoding"] = json!(["chunked"]);
    } else {
        request["Headers"]["Content-Length"] = json!([body.len().to_string()]);
    }
    if !body.is_empty() {
        request["Headers"]["Content-Type"] = json!([content_type]);
    }
    if !body.is_empty() && !in_chunks {
        // Always a single string.
        request["Body"] = body.into();
    }
    let mut metadata =
        json!({"Query": query, "Headers": {"Accept": "application/json"}, "sys": sys(name)});
    for (name, value) in &query {
        metadata[name] = twice(value.as_str().unwrap());
    }
    json!({"Data": {binding: request}, "Metadata": metadata})
}
