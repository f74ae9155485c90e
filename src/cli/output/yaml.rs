//! YAML output. Text with characters that act on a terminal is double-quoted, where these can be
//! written as escapes.

use crate::sink;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use serde_saphyr::DoubleQuoted;

/// Formats a value as a YAML document.
pub(super) fn text(value: &Value) -> std::io::Result<String> {
    serde_saphyr::to_string(&Yaml(value)).map_err(|e| std::io::Error::other(e.to_string()))
}

struct Yaml<'a>(&'a Value);

impl Serialize for Yaml<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) => Quoted(text).serialize(to),
            Value::Array(items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Yaml(item)))?;
                list.end()
            }
            Value::Object(members) => {
                let mut map = to.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| {
                    map.serialize_entry(&Quoted(name), &Yaml(value))
                })?;
                map.end()
            }
            other => other.serialize(to),
        }
    }
}

struct Quoted<'a>(&'a str);

impl Serialize for Quoted<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let acts = self.0.contains(|c| sink::acts(c) && c != '\n');
        if acts { DoubleQuoted(self.0).serialize(to) } else { to.serialize_str(self.0) }
    }
}
