//! Response headers in the `OpenAPI` document.

use serde_json::{Map, Value, json};

/// A header: its name under `components`, its description, and its schema.
struct Header(&'static str, &'static str, fn() -> Value);

const HEADERS: &[(&str, Header)] = &[
    ("x-ms-request-id", Header("RequestId", "The id of the response in the log", text)),
    ("x-ms-error-code", Header("ErrorCode", "The error code, as in the body", text)),
    (
        "ETag",
        Header("ETag", "The snapshot that the response is read from; for If-None-Match", text),
    ),
    ("Last-Modified", Header("LastModified", "When that snapshot was published", text)),
    ("Cache-Control", Header("CacheControl", "How long the response may be cached", text)),
    ("Location", Header("Location", "The URL of the run", link)),
    ("Retry-After", Header("RetryAfter", "Seconds to wait before a retry, if known", seconds)),
    ("Allow", Header("Allow", "The methods that the resource supports", text)),
];

fn text() -> Value {
    json!({"type": "string"})
}

fn link() -> Value {
    json!({"type": "string", "format": "uri-reference"})
}

fn seconds() -> Value {
    json!({"type": "integer", "minimum": 1})
}

/// The headers as `components`, by name.
pub(super) fn components() -> Value {
    let described = HEADERS.iter().map(|(_, Header(called, meaning, schema))| {
        ((*called).to_owned(), json!({"description": meaning, "schema": schema()}))
    });
    described.collect::<Map<_, _>>().into()
}

/// Names of the headers in a response of `status`. `cached` if the operation is answered from one
/// snapshot.
fn of(status: &str, cached: bool) -> Vec<&'static str> {
    let mut names = vec!["x-ms-request-id"];
    match status {
        "200" | "304" if cached => names.extend(["ETag", "Last-Modified", "Cache-Control"]),
        "202" => names.push("Location"),
        "405" => names.extend(["x-ms-error-code", "Allow"]),
        "429" | "503" => names.extend(["x-ms-error-code", "Retry-After"]),
        status if status.starts_with(['4', '5']) => names.push("x-ms-error-code"),
        _ => {}
    }
    names
}

/// Adds the headers to each response of an operation.
pub(super) fn describe(answers: &mut Value) {
    let Value::Object(answers) = answers else { return };
    let cached = answers.contains_key("304");
    for (status, answer) in answers {
        let named = of(status, cached).into_iter().filter_map(|name| {
            let (_, Header(called, ..)) = HEADERS.iter().find(|(known, _)| *known == name)?;
            Some((name.to_owned(), json!({"$ref": format!("#/components/headers/{called}")})))
        });
        answer["headers"] = named.collect::<Map<_, _>>().into();
    }
}
