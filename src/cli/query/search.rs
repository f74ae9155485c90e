//! The evaluation of a query.

use super::found::{Found, compared};
use super::tree::{Comparison, Tree};
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::sync::Arc;

impl Tree {
    /// Evaluates the tree against `value`.
    pub(super) fn search<'a>(&'a self, value: &Found<'a>) -> Result<Found<'a>> {
        match self {
            Self::Current => Ok(value.clone()),
            Self::Literal(literal) => Ok(Found::Of(literal)),
            Self::Field(name) => Ok(value.field(name)),
            Self::Index(index) => Ok(at(value, *index)),
            Self::Slice(parts) => Ok(value
                .clone()
                .items()
                .map_or(Found::NULL, |items| Found::List(slice(&items, *parts)))),
            Self::Chain(parts) | Self::Places(parts) => chained(parts, value),
            Self::Pipe(both) => chained(&both[..], value),
            Self::Flatten(inner) => {
                let Some(items) = inner.search(value)?.items() else { return Ok(Found::NULL) };
                Ok(Found::List(items.into_iter().flat_map(flat).collect()))
            }
            Self::Projection(both) => projected(&both[0], &both[1], None, value),
            Self::Filter(parts) => projected(&parts[0], &parts[1], Some(&parts[2]), value),
            Self::Values(both) => {
                let Some(members) = both[0].search(value)?.members() else {
                    return Ok(Found::NULL);
                };
                let values = members.into_iter().map(|(_, value)| value);
                each(values, &both[1], None)
            }
            Self::Compare(comparison, both) => {
                let (left, right) = (both[0].search(value)?, both[1].search(value)?);
                compare(*comparison, &left, &right)
            }
            Self::Or(both) => {
                let left = both[0].search(value)?;
                if left.is_false() { both[1].search(value) } else { Ok(left) }
            }
            Self::And(both) => {
                let left = both[0].search(value)?;
                if left.is_false() { Ok(left) } else { both[1].search(value) }
            }
            Self::Not(inner) => Ok(Found::Made(inner.search(value)?.is_false().into())),
            Self::List(_) | Self::Object(_) if value.is_null() => Ok(Found::NULL),
            Self::List(items) => {
                items.iter().map(|item| item.search(value)).collect::<Result<_>>().map(Found::List)
            }
            Self::Object(members) => {
                let member = |(name, tree): &'a (Arc<str>, Self)| {
                    Ok((Arc::clone(name), tree.search(value)?))
                };
                members.iter().map(member).collect::<Result<_>>().map(Found::Object)
            }
            Self::Call(function, arguments) => function.call(arguments, value),
            Self::Reference(inner) => Ok(Found::Reference(inner)),
        }
    }
}

fn chained<'a>(parts: &'a [Tree], value: &Found<'a>) -> Result<Found<'a>> {
    let Some((first, rest)) = parts.split_first() else { return Ok(value.clone()) };
    let mut found = first.search(value)?;
    for part in rest {
        found = part.search(&found)?;
    }
    Ok(found)
}

/// The elements of a list. Any other value is a single element.
pub(super) fn flat(found: Found<'_>) -> Vec<Found<'_>> {
    if found.kind() == "array" { found.items().unwrap_or_default() } else { vec![found] }
}

fn projected<'a>(
    base: &'a Tree,
    tree: &'a Tree,
    condition: Option<&'a Tree>,
    value: &Found<'a>,
) -> Result<Found<'a>> {
    match base.search(value)?.items() {
        Some(items) => each(items.into_iter(), tree, condition),
        None => Ok(Found::NULL),
    }
}

/// Evaluates `tree` for each element that meets the condition. Null results are left out.
fn each<'a>(
    items: impl Iterator<Item = Found<'a>>,
    tree: &'a Tree,
    condition: Option<&'a Tree>,
) -> Result<Found<'a>> {
    let mut all = Vec::new();
    for item in items {
        all.extend(one(item, tree, condition)?);
    }
    Ok(Found::List(all))
}

/// Evaluates `tree` for an element, if it meets the condition. `None` if the result is null.
pub(super) fn one<'a>(
    item: Found<'a>,
    tree: &'a Tree,
    condition: Option<&'a Tree>,
) -> Result<Option<Found<'a>>> {
    if let Some(condition) = condition
        && condition.search(&item)?.is_false()
    {
        return Ok(None);
    }
    let found = if matches!(tree, Tree::Current) { item } else { tree.search(&item)? };
    Ok(if found.is_null() { None } else { Some(found) })
}

fn at<'a>(value: &Found<'a>, index: i64) -> Found<'a> {
    let place = |length: usize| {
        let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
        if index < 0 { length.checked_sub(from_end) } else { Some(from_end) }
    };
    match value {
        Found::List(items) => place(items.len()).and_then(|at| items.get(at)).cloned(),
        Found::Of(serde_json::Value::Array(items)) => {
            place(items.len()).and_then(|at| items.get(at)).map(Found::Of)
        }
        Found::Made(serde_json::Value::Array(items)) => {
            place(items.len()).and_then(|at| items.get(at)).cloned().map(Found::Made)
        }
        _ => None,
    }
    .unwrap_or(Found::NULL)
}

/// A slice with the semantics of Python. The step is never zero.
fn slice<T: Clone>(items: &[T], [from, until, step]: [Option<i64>; 3]) -> Vec<T> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let step = step.unwrap_or(1);
    let (low, high) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let bound = |place: i64| {
        let place = if place < 0 { place.saturating_add(length) } else { place };
        place.clamp(low, high)
    };
    let (first, last) = if step < 0 { (high, low) } else { (low, high) };
    let mut at = from.map_or(first, bound);
    let end = until.map_or(last, bound);
    let mut cut = Vec::new();
    while if step < 0 { at > end } else { at < end } {
        cut.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
        at = at.saturating_add(step);
    }
    cut
}

fn compare<'a>(comparison: Comparison, left: &Found<'a>, right: &Found<'a>) -> Result<Found<'a>> {
    let fits: fn(Ordering) -> bool = match comparison {
        Comparison::Equal => return Ok(Found::Made(left.equals(right).into())),
        Comparison::NotEqual => return Ok(Found::Made((!left.equals(right)).into())),
        Comparison::Less => Ordering::is_lt,
        Comparison::LessOrEqual => Ordering::is_le,
        Comparison::Greater => Ordering::is_gt,
        Comparison::GreaterOrEqual => Ordering::is_ge,
    };
    let order = match (left.text(), right.text(), left.number(), right.number()) {
        (Some(left), Some(right), ..) => left.cmp(right),
        (.., Some(left), Some(right)) => compared(left, right),
        (Some(text), _, _, Some(number)) | (_, Some(text), Some(number), _) => {
            return Err(Error::invalid(format!(
                "--query: '{text}' is a string and {number} is a number, which < and > do not compare; \
                 write a number in backticks: `{number}`"
            )));
        }
        _ => return Ok(Found::NULL),
    };
    Ok(Found::Made(fits(order).into()))
}
