//! What the host sends, read leniently: values come encoded once, twice, or not at all, depending
//! on their .NET type and on the host's version.

use crate::error::{Error, Result};
use crate::functions::{Binding, Trigger};
use serde_json::Value;

/// Reads the trigger's value out of an invocation.
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
        "httpTrigger" => Ok(Trigger::Http {
            body: match &data["Body"] {
                Value::String(body) => body.clone(),
                Value::Null => String::new(),
                body => body.to_string(),
            },
        }),
        kind => Err(Error::bug(format!("a trigger of type {kind} is not served"))),
    }
}

/// A message's text: a JSON string whose content is again a JSON string, a plain string, or the
/// message's own JSON.
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

/// A number, or a string of one, encoded any number of times.
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
    fn messages_are_read_however_often_they_were_encoded() {
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
