//! The evaluation of a query's functions.

use super::found::{Found, compared, shown, whole};
use super::function::Function;
use super::tree::Tree;
use crate::error::{Error, Result};
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::fmt::Write;

impl Function {
    fn refused(self, takes: &str, given: &Found<'_>) -> Error {
        let (name, ..) = self.described();
        let kind = match given.kind() {
            "null" => "null",
            "array" => "a list",
            "object" => "an object",
            "string" => "a string",
            "number" => "a number",
            "boolean" => "true or false",
            _ => "an expression",
        };
        Error::invalid(format!("--query: {name}() takes {takes}, but was given {kind}"))
    }

    /// Evaluates the arguments against `value`, and returns the result of the function.
    pub(super) fn call<'a>(self, arguments: &'a [Tree], value: &Found<'a>) -> Result<Found<'a>> {
        let mut found = Vec::with_capacity(arguments.len());
        for argument in arguments {
            found.push(argument.search(value)?);
        }
        match self {
            Self::Merge => return self.merge(found),
            Self::NotNull => {
                return Ok(found.into_iter().find(|one| !one.is_null()).unwrap_or(Found::NULL));
            }
            _ => {}
        }
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or(Found::NULL);
        let first = next();
        match self {
            Self::Abs | Self::Ceil | Self::Floor | Self::ToNumber => self.of_number(first),
            Self::Avg | Self::Sum | Self::Max | Self::Min | Self::Sort => self.of_list(first),
            Self::Map | Self::MaxBy | Self::MinBy | Self::SortBy => self.by(first, next()),
            Self::Contains | Self::EndsWith | Self::StartsWith | Self::Join => {
                self.of_two(first, &next())
            }
            _ => self.of_any(first),
        }
    }

    fn merge(self, found: Vec<Found<'_>>) -> Result<Found<'_>> {
        let mut merged = Map::new();
        for one in found {
            let refused = self.refused("objects", &one);
            for (name, value) in one.members().ok_or(refused)? {
                let value = value.into_value().unwrap_or_default();
                merged.insert(name, value);
            }
        }
        Ok(Found::Made(merged.into()))
    }

    fn of_number(self, first: Found<'_>) -> Result<Found<'_>> {
        let Some(number) = first.number() else {
            return match self {
                Self::ToNumber => Ok(first.text().and_then(to_number).map_or(Found::NULL, made)),
                _ => Err(self.refused("a number", &first)),
            };
        };
        let float = number.as_f64().unwrap_or_default();
        Ok(match (self, whole(number)) {
            (Self::Abs, Some(whole)) => made(from_whole(whole.abs())),
            (Self::Abs, None) => Found::Made(float.abs().into()),
            (Self::Ceil, None) => made(rounded(float.ceil())),
            (Self::Floor, None) => made(rounded(float.floor())),
            _ => first,
        })
    }

    /// The elements of a list that must all be numbers, or all strings.
    fn alike(self, found: Found<'_>, texts: bool) -> Result<Vec<Found<'_>>> {
        let takes = match (self, texts) {
            (Self::Join, _) => "a list of strings",
            (_, true) => "a list of numbers or of strings",
            (_, false) => "a list of numbers",
        };
        let refused = self.refused(takes, &found);
        let items = found.items().ok_or(refused)?;
        let wanted = match items.first().map(Found::kind) {
            _ if self == Self::Join => "string",
            Some("string") if texts => "string",
            _ => "number",
        };
        match items.iter().find(|item| item.kind() != wanted) {
            Some(other) => {
                let (name, ..) = self.described();
                let other = other.kind();
                Err(Error::invalid(format!(
                    "--query: {name}() takes {takes}, but was given a list that contains {other}"
                )))
            }
            None => Ok(items),
        }
    }

    fn of_list(self, first: Found<'_>) -> Result<Found<'_>> {
        let is_order = matches!(self, Self::Max | Self::Min | Self::Sort);
        let mut items = self.alike(first, is_order)?;
        match self {
            Self::Sort => {
                items.sort_by(order);
                Ok(Found::List(items))
            }
            Self::Max => {
                Ok(items.into_iter().reduce(|a, b| if order(&b, &a).is_gt() { b } else { a }))
                    .map(|found| found.unwrap_or(Found::NULL))
            }
            Self::Min => {
                Ok(items.into_iter().reduce(|a, b| if order(&b, &a).is_lt() { b } else { a }))
                    .map(|found| found.unwrap_or(Found::NULL))
            }
            Self::Avg if items.is_empty() => Ok(Found::NULL),
            _ => {
                let count = items.len();
                let sum = sum(items.iter().filter_map(Found::number));
                if self == Self::Sum {
                    return Ok(made(sum));
                }
                Ok(Found::Made((sum.as_f64().unwrap_or_default() / count as f64).into()))
            }
        }
    }

    /// The functions that evaluate an expression for each element: their second argument, or the
    /// first of `map`.
    fn by<'a>(self, first: Found<'a>, second: Found<'a>) -> Result<Found<'a>> {
        let (list, tree) = if self == Self::Map { (second, first) } else { (first, second) };
        let Found::Reference(tree) = tree else {
            return Err(self.refused("an expression that begins with '&'", &tree));
        };
        let refused = self.refused("a list", &list);
        let items = list.items().ok_or(refused)?;
        if self == Self::Map {
            let found = items.iter().map(|item| tree.search(item)).collect::<Result<_>>();
            return found.map(Found::List);
        }
        let mut keyed = Vec::with_capacity(items.len());
        let mut kind = None;
        for item in items {
            let key = tree.search(&item)?;
            let is_key = matches!(key.kind(), "string" | "number");
            if !is_key || *kind.get_or_insert(key.kind()) != key.kind() {
                return Err(self.refused(
                    "a list for whose elements the expression gives only numbers or only strings",
                    &key,
                ));
            }
            keyed.push((key, item));
        }
        let gives =
            |found: Option<(Found<'a>, Found<'a>)>| found.map_or(Found::NULL, |(_, item)| item);
        Ok(match self {
            Self::MaxBy => gives(
                keyed.into_iter().reduce(|a, b| if order(&b.0, &a.0).is_gt() { b } else { a }),
            ),
            Self::MinBy => gives(
                keyed.into_iter().reduce(|a, b| if order(&b.0, &a.0).is_lt() { b } else { a }),
            ),
            _ => {
                keyed.sort_by(|a, b| order(&a.0, &b.0));
                Found::List(keyed.into_iter().map(|(_, item)| item).collect())
            }
        })
    }

    fn of_two<'a>(self, first: Found<'a>, second: &Found<'a>) -> Result<Found<'a>> {
        if self == Self::Contains && first.text().is_none() {
            let refused = self.refused("a list or a string", &first);
            let items = first.items().ok_or(refused)?;
            return Ok(Found::Made(items.iter().any(|item| item.is_same(second)).into()));
        }
        let Some(text) = first.text() else { return Err(self.refused("a string", &first)) };
        if self == Self::Join {
            let items = self.alike(second.clone(), true)?;
            let texts: Vec<&str> = items.iter().filter_map(Found::text).collect();
            return Ok(Found::Made(texts.join(text).into()));
        }
        let Some(part) = second.text() else {
            return Err(self.refused("a string to look for in a string", second));
        };
        let has = match self {
            Self::EndsWith => text.ends_with(part),
            Self::StartsWith => text.starts_with(part),
            _ => text.contains(part),
        };
        Ok(Found::Made(has.into()))
    }

    fn of_any(self, first: Found<'_>) -> Result<Found<'_>> {
        let kind = first.kind();
        Ok(match (self, kind) {
            (Self::ToArray, "array") | (Self::ToString, "string") => first,
            (Self::ToArray, _) => Found::List(vec![first]),
            (Self::ToString, _) => Found::Made(json(first).into()),
            (Self::Type, _) => Found::Made(kind.into()),
            (Self::Reverse | Self::Length, "string") => {
                let text = first.text().unwrap_or_default();
                Found::Made(match self {
                    Self::Length => text.chars().count().into(),
                    _ => text.chars().rev().collect::<String>().into(),
                })
            }
            (Self::Length, "object") => {
                Found::Made(first.members().map_or(0, |members| members.len()).into())
            }
            (Self::Reverse | Self::Length, "array") => {
                let mut items = first.items().unwrap_or_default();
                if self == Self::Length {
                    return Ok(Found::Made(items.len().into()));
                }
                items.reverse();
                Found::List(items)
            }
            (Self::Keys | Self::Values, "object") => {
                let members = first.members().unwrap_or_default().into_iter();
                Found::List(match self {
                    Self::Keys => members.map(|(name, _)| Found::Made(name.into())).collect(),
                    _ => members.map(|(_, value)| value).collect(),
                })
            }
            (Self::Keys | Self::Values, _) => return Err(self.refused("an object", &first)),
            (Self::Reverse, _) => return Err(self.refused("a list or a string", &first)),
            _ => return Err(self.refused("a list, a string or an object", &first)),
        })
    }
}

fn made<'a>(number: Number) -> Found<'a> {
    Found::Made(number.into())
}

/// Compares numbers, or strings.
fn order(a: &Found<'_>, b: &Found<'_>) -> Ordering {
    match (a.number(), b.number()) {
        (Some(a), Some(b)) => compared(a, b),
        _ => a.text().cmp(&b.text()),
    }
}

/// Converts an integer. One outside the range of a JSON integer becomes the nearest float.
fn from_whole(whole: i128) -> Number {
    let small =
        i64::try_from(whole).map(Number::from).or_else(|_| u64::try_from(whole).map(Number::from));
    small.unwrap_or_else(|_| Number::from_f64(whole as f64).unwrap_or_else(|| 0.into()))
}

/// Converts a float without a fraction to an integer.
fn rounded(float: f64) -> Number {
    let text = format!("{float:.0}");
    text.parse().map_or_else(|_| Number::from_f64(float).unwrap_or_else(|| 0.into()), from_whole)
}

/// The sum of numbers. The sum of integers is an integer.
fn sum<'a>(numbers: impl Iterator<Item = &'a Number>) -> Number {
    let (mut exact, mut float) = (Some(0_i128), 0.0);
    for number in numbers {
        exact = exact.zip(whole(number)).and_then(|(sum, number)| sum.checked_add(number));
        float += number.as_f64().unwrap_or_default();
    }
    match exact {
        Some(sum) => from_whole(sum),
        None => Number::from_f64(float).unwrap_or_else(|| 0.into()),
    }
}

/// Parses a number as Python does.
fn to_number(text: &str) -> Option<Number> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let apart = |(at, byte): (usize, &u8)| {
        *byte != b'_' || (digit(at.checked_sub(1)) && digit(Some(at + 1)))
    };
    if !bytes.iter().enumerate().all(apart) {
        return None;
    }
    let text = text.replace('_', "");
    text.parse().map(from_whole).ok().or_else(|| text.parse().ok().and_then(Number::from_f64))
}

/// Formats a value as JSON like Python: without blanks, and in ASCII only.
fn json(found: Found<'_>) -> String {
    let mut text = String::new();
    write_json(&found.into_value().unwrap_or_default(), &mut text);
    text
}

fn write_json(value: &Value, into: &mut String) {
    match value {
        Value::Number(number) => into.push_str(&shown(number)),
        Value::String(text) => write_text(text, into),
        Value::Array(items) => {
            into.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    into.push(',');
                }
                write_json(item, into);
            }
            into.push(']');
        }
        Value::Object(members) => {
            into.push('{');
            for (number, (name, value)) in members.iter().enumerate() {
                if number > 0 {
                    into.push(',');
                }
                write_text(name, into);
                into.push(':');
                write_json(value, into);
            }
            into.push('}');
        }
        other => into.push_str(&other.to_string()),
    }
}

fn write_text(text: &str, into: &mut String) {
    let quoted = Value::from(text).to_string();
    for c in quoted.chars() {
        if c <= '~' {
            into.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            // Writing to a `String` does not fail.
            let _ = write!(into, "\\u{unit:04x}");
        }
    }
}
