//! Lenient parsing of the host's envelopes. Values are JSON-encoded once, twice or not at all,
//! depending on their .NET type and on the host's version.

use crate::error::{Error, Result};
use crate::functions::{Binding, Trigger};
use crate::web;
use serde_json::Value;

/// Extracts the trigger's value from an invocation.
pub(super) fn trigger(binding: &Binding, envelope: &Value) -> Result<Trigger> {
    let data = &envelope["Data"][&binding.name];
    match binding.kind.as_str() {
        "timerTrigger" => Ok(Trigger::Timer),
        "queueTrigger" => Ok(Trigger::Queue {
            text: text(data).ok_or_else(|| {
                Error::invalid(format!("the invocation has no Data.{}", binding.name))
            })?,
            delivery: number(&envelope["Metadata"]["DequeueCount"]).unwrap_or(1),
        }),
        "httpTrigger" => Ok(Trigger::Http { body: body(&binding.name, data)? }),
        kind => Err(Error::bug(format!("triggers of type {kind} are not supported"))),
    }
}

/// Returns the body of a request. The host omits a body that is sent without its length
/// (`HttpRequestExtensions` in its source). A body that was sent and did not arrive must not be
/// taken for an empty one.
fn body(name: &str, request: &Value) -> Result<String> {
    if !request.is_object() {
        return Err(Error::invalid(format!("the invocation has no Data.{name}")));
    }
    match &request["Body"] {
        Value::String(body) => return Ok(body.clone()),
        Value::Null => {}
        body => return Ok(body.to_string()),
    }
    let length = header(request, "Content-Length");
    let is_empty = length.as_deref().is_none_or(|length| length.trim() == "0");
    if !is_empty || header(request, "Transfer-Encoding").is_some() {
        let text = "the request body was not received: send it with Content-Length, not in chunks; \
                    for a run of everything, send {} or no body";
        return Err(Error::invalid(text).with_target("Content-Length"));
    }
    Ok(String::new())
}

/// Whether the request's body is JSON by its media type, or empty. More than one media type is
/// invalid.
pub(super) fn is_json(binding: &Binding, envelope: &Value) -> bool {
    let request = &envelope["Data"][&binding.name];
    let types = headers(request, "Content-Type");
    match types.as_slice() {
        [] => matches!(&request["Body"], Value::Null) || request["Body"] == "",
        [one] => web::is_json(one),
        _ => false,
    }
}

/// Returns the first value of a request's header.
fn header(request: &Value, name: &str) -> Option<String> {
    headers(request, name).into_iter().next()
}

/// Returns the values of a request's header, which the host writes as a list.
fn headers(request: &Value, name: &str) -> Vec<String> {
    let all = request["Headers"].as_object().into_iter().flatten();
    let mut named = all.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((_, value)) = named.next() else { return Vec::new() };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().map_or_else(|| vec![text(value)], |values| values.iter().map(text).collect())
}

/// Returns the path in front of `/api` that proxies removed.
pub(super) fn prefix(binding: &Binding, envelope: &Value) -> String {
    let prefixes = headers(&envelope["Data"][&binding.name], "X-Forwarded-Prefix");
    web::prefix(prefixes.iter().map(String::as_str))
}

/// Returns a message's text, which is a JSON string that contains another JSON string, a plain
/// string, or the message's own JSON.
fn text(value: &Value) -> Option<String> {
    let mut text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => return Some(other.to_string()),
    };
    while let Ok(Value::String(inner)) = serde_json::from_str(&text) {
        text = inner;
    }
    Some(text)
}

/// Parses a number, or a string with a number, JSON-encoded any number of times.
fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
        Value::String(text) => match serde_json::from_str(text).ok()? {
            Value::Number(number) => u32::try_from(number.as_u64()?).ok(),
            inner @ Value::String(_) => number(&inner),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_body_is_not_an_empty_body() {
        let request_with = |headers: Value| json!({"Method": "POST", "Headers": headers});
        for (headers, arrived) in [
            (json!({}), true),
            (json!({"Content-Length": ["0"]}), true),
            (json!({"content-length": ["17"]}), false),
            (json!({"Content-Length": 17}), false),
            (json!({"transfer-encoding": ["chunked"]}), false),
            (json!({"Transfer-Encoding": "chunked"}), false),
        ] {
            assert_eq!(body("req", &request_with(headers.clone())).is_ok(), arrived, "{headers}");
            let mut with = request_with(headers);
            with["Body"] = "{}".into();
            assert_eq!(body("req", &with).unwrap(), "{}");
        }
        for none in [Value::Null, json!("")] {
            assert!(body("req", &none).is_err());
        }
    }

    #[test]
    fn messages_are_decoded_at_every_encoding_depth() {
        let message = r#"{"v":1}"#;
        let once = json!(message);
        let twice = json!(json!(message).to_string());
        for value in [json!({"v": 1}), once, twice] {
            assert_eq!(text(&value).as_deref(), Some(message), "{value}");
        }
        assert_eq!(text(&json!("\"abc\"")).as_deref(), Some("abc"));
        assert_eq!(text(&Value::Null), None);
        for value in [json!(3), json!("3"), json!("\"3\"")] {
            assert_eq!(number(&value), Some(3), "{value}");
        }
        assert_eq!(number(&json!("x")), None);
    }
}
