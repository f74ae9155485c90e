//! The Functions host's handling of a handler's outputs, with its pitfalls
//! (`HttpScriptInvocationResult`, `GetBindingValue`, `AsyncCollectorBindingProvider` in its
//! source).

use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Decodes a string in an envelope: valid base64 is always taken for bytes.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    azure_core::base64::decode(&bare).ok().filter(|_| bare.len().is_multiple_of(4))
}

/// JSON as indented by Json.NET.
fn indented(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut to = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"  "));
    serde::Serialize::serialize(value, &mut to).unwrap();
    bytes
}

fn is_date(text: &str) -> bool {
    let shape: String =
        text.chars().take(11).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T"
}

/// The messages made from a value of a queue output.
pub fn messages(value: &Value) -> Result<Vec<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(elements) => Ok(elements.iter().map(element).collect()),
        Value::Object(_) => Ok(vec![indented(value)]),
        Value::String(text) => of_text(text),
        other => Ok(vec![element(other)]),
    }
}

/// An element of an array. A string is kept unchanged.
fn element(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Bool(true) => b"True".to_vec(),
        Value::Bool(false) => b"False".to_vec(),
        Value::Null => Vec::new(),
        Value::Number(number) => number.to_string().into_bytes(),
        value => indented(value),
    }
}

fn of_text(text: &str) -> Result<Vec<Vec<u8>>, String> {
    if let Some(bytes) = bytes_of(text) {
        return Ok(vec![bytes]);
    }
    if is_date(text) {
        return Err(format!("'{text}' is taken for a date and written in the host's culture"));
    }
    let parsed = || serde_json::from_str::<Value>(text).map_err(|e| format!("no JSON: {e}"));
    if text.starts_with('{') && text.ends_with('}') {
        return Ok(vec![indented(&parsed()?)]);
    }
    if text.starts_with('[') && text.ends_with(']') {
        let Value::Array(elements) = parsed()? else { return Err("no array".into()) };
        return Ok(elements.iter().map(element).collect());
    }
    Ok(vec![text.as_bytes().to_vec()])
}

/// The response to an HTTP caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl HttpAnswer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The response made from an HTTP output: an object, or a string that contains one. 200 and `{}`
/// without an output.
pub fn http(outputs: &Map<String, Value>, name: &str) -> Result<HttpAnswer, String> {
    let output = match outputs.get(name) {
        None => Value::Object(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|e| e.to_string())?,
        Some(output) => output.clone(),
    };
    let Value::Object(output) = output else { return Err(format!("{name} is no object")) };
    let member = |name: &str| output.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let status = match member("statusCode").map(|(_, value)| value) {
        None => 200,
        Some(Value::Number(number)) => u16::try_from(number.as_u64().unwrap_or(0)).unwrap_or(0),
        Some(value) => value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0),
    };
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    if let Some((_, Value::Object(given))) = member("headers") {
        for (name, value) in given {
            let text = value.as_str().ok_or_else(|| format!("the header {name} is no text"))?;
            headers.insert(name.to_ascii_lowercase(), text.to_owned());
        }
    }
    let body = match member("body").map(|(_, value)| value) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(value) => indented(value),
    };
    headers.entry("content-type".into()).or_insert_with(|| "text/plain; charset=utf-8".into());
    if !(100..600).contains(&status) {
        return Err(format!("{name} has no status"));
    }
    Ok(HttpAnswer { status, headers, body })
}

#[test]
fn only_arrays_of_strings_pass_unchanged() {
    use serde_json::json;
    let one = |value: Value| String::from_utf8(messages(&value).unwrap().remove(0)).unwrap();
    let text = r#"{"v":1,"when":"2026-03-01T03:00:00Z"}"#;
    assert_eq!(one(json!([text])), text);
    assert_eq!(one(json!(["abcd"])), "abcd");
    assert_eq!(messages(&json!([])).unwrap(), Vec::<Vec<u8>>::new());
    // The pitfalls: indented, split, decoded, taken for a date.
    assert_eq!(one(json!(text)).lines().count(), 4);
    assert_eq!(one(json!({"v": 1})), "{\n  \"v\": 1\n}");
    assert_eq!(messages(&json!("[1,2]")).unwrap(), [b"1", b"2"]);
    assert_ne!(messages(&json!("linux123")).unwrap(), [b"linux123"]);
    assert_eq!(one(json!("linux12")), "linux12");
    assert!(messages(&json!("{no json}")).is_err());
    assert!(messages(&json!("2026-03-01T03:00:00Z")).is_err());
    assert_eq!(one(json!([true])), "True");
    let answer = |value: Value| http(json!({"res": value}).as_object().unwrap(), "res").unwrap();
    assert_eq!(answer(json!({"statusCode": "202", "body": "{}"})).status, 202);
    assert_eq!(answer(json!({"status": 404, "body": "x"})).status, 200);
    assert_eq!(answer(json!({"body": {"a": 1}})).body, b"{\n  \"a\": 1\n}");
    assert_eq!(answer(json!({"body": "x"})).headers["content-type"], "text/plain; charset=utf-8");
}
