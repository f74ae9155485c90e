//! The values that a query finds in a document or makes from it. Nothing of the document is copied
//! before it is printed.

use super::tree::Tree;
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// A value that was found or made.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Found<'a> {
    /// A value in the document or in the query.
    Of(&'a Value),
    /// A string, number, boolean or null that was made, or an object that was merged.
    Made(Value),
    /// A list that was made.
    List(Vec<Self>),
    /// An object that was made, with members in the order of the query.
    Object(Vec<(Arc<str>, Self)>),
    /// An expression passed to a function.
    Reference(&'a Tree),
}

impl Found<'_> {
    pub(in crate::cli) const NULL: Self = Self::Made(Value::Null);

    /// The value, unless it is a list, object or reference that was made.
    fn value(&self) -> Option<&Value> {
        match self {
            Self::Of(value) => Some(value),
            Self::Made(value) => Some(value),
            _ => None,
        }
    }

    pub(in crate::cli) fn is_null(&self) -> bool {
        self.value().is_some_and(Value::is_null)
    }

    /// Whether it is falsy: false, null, or an empty string, list or object. Zero is not.
    pub(in crate::cli) fn is_false(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Object(members) => members.is_empty(),
            Self::Reference(_) => false,
            Self::Of(_) | Self::Made(_) => match self.value() {
                Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(members)) => members.is_empty(),
                _ => false,
            },
        }
    }

    pub(in crate::cli) fn text(&self) -> Option<&str> {
        self.value().and_then(Value::as_str)
    }

    pub(in crate::cli) fn number(&self) -> Option<&Number> {
        match self.value() {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub(in crate::cli) fn items(self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items),
            Self::Of(Value::Array(items)) => Some(items.iter().map(Self::Of).collect()),
            Self::Made(Value::Array(items)) => Some(items.into_iter().map(Self::Made).collect()),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub(in crate::cli) fn members(self) -> Option<Vec<(String, Self)>> {
        match self {
            Self::Object(members) => {
                let own = |(name, value): (Arc<str>, Self)| ((*name).to_owned(), value);
                Some(members.into_iter().map(own).collect())
            }
            Self::Of(Value::Object(members)) => {
                Some(members.iter().map(|(name, value)| (name.clone(), Self::Of(value))).collect())
            }
            Self::Made(Value::Object(members)) => {
                Some(members.into_iter().map(|(name, value)| (name, Self::Made(value))).collect())
            }
            _ => None,
        }
    }

    /// The member of that name, or null.
    pub(in crate::cli) fn field(&self, name: &str) -> Self {
        match self {
            Self::Of(value) => value.get(name).map_or(Self::NULL, Self::Of),
            Self::Made(value) => value.get(name).cloned().map_or(Self::NULL, Self::Made),
            Self::Object(members) => members
                .iter()
                .find(|(known, _)| **known == *name)
                .map_or(Self::NULL, |(_, value)| value.clone()),
            _ => Self::NULL,
        }
    }

    /// The name of its `JMESPath` type.
    pub(in crate::cli) fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "array",
            Self::Object(_) => "object",
            Self::Reference(_) => "expref",
            Self::Of(_) | Self::Made(_) => match self.value() {
                Some(Value::Null) | None => "null",
                Some(Value::Bool(_)) => "boolean",
                Some(Value::Number(_)) => "number",
                Some(Value::String(_)) => "string",
                Some(Value::Array(_)) => "array",
                Some(Value::Object(_)) => "object",
            },
        }
    }

    /// Converts it to an owned value. `None` if it is or contains a reference.
    pub(in crate::cli) fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Of(value) => value.clone(),
            Self::Made(value) => value,
            Self::List(items) => {
                Value::Array(items.into_iter().map(Self::into_value).collect::<Option<_>>()?)
            }
            Self::Object(members) => {
                let own = |(name, value): (Arc<str>, Self)| {
                    Some(((*name).to_owned(), value.into_value()?))
                };
                Value::Object(members.into_iter().map(own).collect::<Option<Map<_, _>>>()?)
            }
            Self::Reference(_) => return None,
        })
    }

    /// Whether `==` holds: equal values, except that zero and one do not equal a boolean.
    pub(in crate::cli) fn equals(&self, other: &Self) -> bool {
        let is_bit =
            |one: &Self| one.number().is_some_and(|n| matches!(n.as_f64(), Some(0.0 | 1.0)));
        let is_boolean = |one: &Self| one.kind() == "boolean";
        let differ = (is_bit(self) && is_boolean(other)) || (is_bit(other) && is_boolean(self));
        !differ && self.is_same(other)
    }

    /// Whether Python considers them equal: numbers by value, booleans as zero and one, objects in
    /// any order.
    pub(in crate::cli) fn is_same(&self, other: &Self) -> bool {
        match (self.clone().items(), other.clone().items()) {
            (Some(a), Some(b)) => {
                return a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.is_same(b));
            }
            (None, None) => {}
            _ => return false,
        }
        match (self.clone().members(), other.clone().members()) {
            (Some(a), Some(b)) => {
                let has = |(name, value): &(String, Self)| {
                    b.iter().any(|(other, found)| other == name && found.is_same(value))
                };
                return a.len() == b.len() && a.iter().all(has);
            }
            (None, None) => {}
            _ => return false,
        }
        let bit = |one: &Self| match one.value() {
            Some(Value::Bool(yes)) => Some(Number::from(u8::from(*yes))),
            Some(Value::Number(number)) => Some(number.clone()),
            _ => None,
        };
        match (bit(self), bit(other)) {
            (Some(a), Some(b)) => compared(&a, &b) == Ordering::Equal,
            (None, None) => match (self, other) {
                (Self::Reference(a), Self::Reference(b)) => std::ptr::eq(*a, *b),
                _ => self.text() == other.text() && self.is_null() == other.is_null(),
            },
            _ => false,
        }
    }
}

/// A value that was found, independent of the document.
#[derive(Debug)]
pub(in crate::cli) enum Kept {
    Value(Value),
    List(Vec<Self>),
    Object(Vec<(Arc<str>, Self)>),
}

impl Found<'_> {
    /// Converts it to a [`Kept`]. `None` if it is or contains a reference.
    pub(in crate::cli) fn keep(self) -> Option<Kept> {
        Some(match self {
            Self::List(items) => {
                Kept::List(items.into_iter().map(Self::keep).collect::<Option<_>>()?)
            }
            Self::Object(members) => {
                let keep = |(name, value): (Arc<str>, Self)| Some((name, value.keep()?));
                Kept::Object(members.into_iter().map(keep).collect::<Option<_>>()?)
            }
            other => Kept::Value(other.into_value()?),
        })
    }

    /// A line of az's TSV without the line ending: the cells of a list or object, or a single cell.
    pub(in crate::cli) fn tsv(self, shown: fn(&str) -> String) -> String {
        let cells = match self {
            Self::Object(members) => members.into_iter().map(|(_, value)| value).collect(),
            other if other.kind() == "object" => {
                // Members of an object not made by the query are sorted by name.
                let mut members = other.members().unwrap_or_default();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                members.into_iter().map(|(_, value)| value).collect()
            }
            other if other.kind() == "array" => other.items().unwrap_or_default(),
            other if other.kind() == "boolean" => return other.cell(shown).to_lowercase(),
            other => return other.cell(shown),
        };
        cells.iter().map(|one| one.cell(shown)).collect::<Vec<_>>().join("\t")
    }

    /// A cell of az's TSV: Python's text of a value, the length of a list, and nothing for an
    /// object.
    fn cell(&self, shown: fn(&str) -> String) -> String {
        match (self.value(), self) {
            (Some(Value::Null), _) => "None".to_owned(),
            (Some(Value::Bool(true)), _) => "True".to_owned(),
            (Some(Value::Bool(false)), _) => "False".to_owned(),
            (Some(Value::Number(number)), _) => self::shown(number),
            (Some(Value::String(text)), _) => shown(text),
            (Some(Value::Array(items)), _) => items.len().to_string(),
            (_, Self::List(items)) => items.len().to_string(),
            _ => String::new(),
        }
    }
}

impl Kept {
    /// Borrows it as a value to search.
    pub(in crate::cli) fn found(&self) -> Found<'_> {
        match self {
            Self::Value(value) => Found::Of(value),
            Self::List(items) => Found::List(items.iter().map(Self::found).collect()),
            Self::Object(members) => Found::Object(
                members.iter().map(|(name, value)| (Arc::clone(name), value.found())).collect(),
            ),
        }
    }
}

/// The exact value of an integer. `None` for other numbers.
pub(in crate::cli) fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Compares numbers. Integers are compared exactly.
pub(in crate::cli) fn compared(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

/// Formats a number as Python does.
pub(in crate::cli) fn shown(number: &Number) -> String {
    let (None, Some(float)) = (whole(number), number.as_f64()) else { return number.to_string() };
    let text = format!("{float:?}");
    match text.split_once('e') {
        // Python writes 1e16 as 1e+16, and 1e-5 as 1e-05.
        Some((digits, power)) => {
            let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
            format!("{digits}e{sign}{power:0>2}")
        }
        None => text,
    }
}
