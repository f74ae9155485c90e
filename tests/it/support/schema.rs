//! Validates values against the schemas of an `OpenAPI` document. Stricter than JSON Schema: a
//! member that no schema names is an error, and so is an unsupported keyword, which would otherwise
//! pass unchecked.

use regex::Regex;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Keywords that restrict nothing.
const WORDS: [&str; 5] = ["description", "title", "default", "discriminator", "$schema"];

type Fits = Result<(), String>;

/// A document with its schemas.
pub struct Document(pub Value);

impl Document {
    /// The schema of that name.
    pub fn schema(&self, name: &str) -> &Value {
        &self.0["components"]["schemas"][name]
    }

    /// Follows the reference in a schema, if it is one.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => {
                let found = self.0.pointer(name.strip_prefix('#').unwrap());
                found.unwrap_or_else(|| panic!("{name} is nowhere"))
            }
            None => schema,
        }
    }

    /// Returns why `value` does not match `schema`, if it does not.
    pub fn fits(&self, schema: &Value, value: &Value) -> Fits {
        let schema = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(schema) => schema,
            other => panic!("{other} is no schema"),
        };
        for (keyword, wanted) in schema {
            self.keyword(schema, keyword, wanted, value)
                .map_err(|why| format!("{why} ({keyword}) of {}", short(value)))?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        wanted: &Value,
        value: &Value,
    ) -> Fits {
        match keyword {
            "$ref" => self.fits(self.resolve(&Value::Object(schema.clone())), value),
            "type" => check(is_of(wanted, value), || format!("it is no {wanted}")),
            "const" => check(value == wanted, || format!("it is not {wanted}")),
            "enum" => check(wanted.as_array().unwrap().contains(value), || {
                format!("it is none of {wanted}")
            }),
            "required" => {
                let is_missing = |name: &&Value| value.get(name.as_str().unwrap()).is_none();
                match wanted.as_array().unwrap().iter().find(is_missing) {
                    Some(name) if value.is_object() => Err(format!("{name} is not there")),
                    _ => Ok(()),
                }
            }
            "properties" => self.members(schema, value),
            "additionalProperties" if schema.contains_key("properties") => Ok(()),
            "additionalProperties" => {
                let mut members = value.as_object().into_iter().flatten();
                members.try_for_each(|(_, member)| self.fits(wanted, member))
            }
            "items" => {
                let mut items = value.as_array().into_iter().flatten();
                items.try_for_each(|item| self.fits(wanted, item))
            }
            "anyOf" | "oneOf" => self.choice(keyword, wanted.as_array().unwrap(), value),
            "pattern" => {
                let fits =
                    |text: &str| Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text);
                check(value.as_str().is_none_or(fits), || format!("it is not like {wanted}"))
            }
            "format" => {
                check(is_format(wanted.as_str().unwrap(), value), || format!("it is no {wanted}"))
            }
            "minimum" => {
                check(value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap()), || {
                    format!("it is below {wanted}")
                })
            }
            "maximum" => {
                check(value.as_f64().is_none_or(|n| n <= wanted.as_f64().unwrap()), || {
                    format!("it is above {wanted}")
                })
            }
            word => {
                assert!(WORDS.contains(&word), "the keyword {word} is not known here");
                Ok(())
            }
        }
    }

    fn members(&self, schema: &Map<String, Value>, value: &Value) -> Fits {
        let Value::Object(members) = value else { return Ok(()) };
        for (name, member) in members {
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                    self.fits(schema, member).map_err(|why| format!("{name}: {why}"))?;
                }
                _ => return Err(format!("no schema names {name}")),
            }
        }
        Ok(())
    }

    fn choice(&self, keyword: &str, choice: &[Value], value: &Value) -> Fits {
        let all: Vec<Fits> = choice.iter().map(|schema| self.fits(schema, value)).collect();
        let count = all.iter().filter(|fits| fits.is_ok()).count();
        match (keyword, count) {
            ("oneOf", 1) | ("anyOf", 1..) => Ok(()),
            _ => Err(format!("{count} fit, of {all:?}")),
        }
    }
}

fn check(holds: bool, why: impl FnOnce() -> String) -> Fits {
    if holds { Ok(()) } else { Err(why()) }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| is_of(kind, value)),
        kind => match kind.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("there is no type {other}"),
        },
    }
}

/// Whether a text has a format. Formats of numbers only state their range.
fn is_format(format: &str, value: &Value) -> bool {
    let Some(text) = value.as_str() else { return true };
    match format {
        "date-time" => OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        "date" => OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339).is_ok(),
        other => panic!("no text has the format {other}: {text}"),
    }
}
