//! Rows of a registry's lists, read member by member.
//!
//! A member of an unexpected type is dropped on its own, and so is a row without a valid name;
//! neither fails the page. Both are reported. A member that decides whether something may be
//! deleted must not be taken for absent, so a row records which of its members could not be read.

use super::reference::{is_digest, is_repository};
use crate::client::lenient;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The members that decide what may be deleted or untagged.
const DECIDING: [&str; 10] = [
    "changeableAttributes",
    "deleteEnabled",
    "writeEnabled",
    "listEnabled",
    "readEnabled",
    "createdTime",
    "lastUpdateTime",
    "tags",
    "manifestCount",
    "tagCount",
];

/// The members of a row that had an unexpected type, each with what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MalformedMembers(Vec<(&'static str, String)>);

impl MalformedMembers {
    fn add(&mut self, member: &'static str, found: &Value, wanted: &str) {
        self.0.push((member, format!("{} instead of {wanted}", kind(found))));
    }

    /// Describes a member that a deletion must not take for absent; `None` if all of those could be
    /// read.
    pub fn deciding(&self) -> Option<String> {
        let found = self.0.iter().find(|(member, _)| DECIDING.contains(member));
        found.map(|(member, why)| format!("{member} cannot be read ({why})"))
    }
}

/// The JSON type of a value, without its content.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.as_f64().is_some_and(f64::is_sign_negative) => {
            "a negative number"
        }
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The members of a row. An absent or null member is `None`. A member of an unexpected type is
/// `None`, too, and is recorded in `odd`.
pub(super) struct Members<'a> {
    of: &'a Map<String, Value>,
    pub(super) malformed: MalformedMembers,
}

impl<'a> Members<'a> {
    pub(super) fn of(row: &'a Value) -> Result<Self, String> {
        match row {
            Value::Object(of) => Ok(Self { of, malformed: MalformedMembers::default() }),
            other => Err(format!("{} instead of an object", kind(other))),
        }
    }

    fn read<T>(
        &mut self,
        member: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let found = self.of.get(member).filter(|found| !found.is_null())?;
        let value = read(found);
        if value.is_none() {
            self.malformed.add(member, found, wanted);
        }
        value
    }

    pub(super) fn text(&mut self, member: &'static str) -> Option<String> {
        self.read(member, "a string", Value::as_str).map(str::to_owned)
    }

    pub(super) fn count(&mut self, member: &'static str) -> Option<u64> {
        self.read(member, "a count", Value::as_u64)
    }

    /// A time in RFC 3339 form, as the registry wrote it.
    pub(super) fn time(&mut self, member: &'static str) -> Option<String> {
        let is_time = |text: &&str| OffsetDateTime::parse(text, &Rfc3339).is_ok();
        self.read(member, "a time", |found| found.as_str().filter(is_time)).map(str::to_owned)
    }

    /// A boolean member. It may be absent, but null is an unexpected type.
    pub(super) fn flag(&mut self, member: &'static str) -> Option<bool> {
        let found = self.of.get(member)?;
        if !found.is_boolean() {
            self.malformed.add(member, found, "a boolean");
        }
        found.as_bool()
    }

    /// The elements of a list. Only elements of an unexpected type are dropped.
    pub(super) fn each<T>(
        &mut self,
        member: &'static str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Vec<T> {
        let found = self.read(member, "a list", Value::as_array);
        let mut all = Vec::new();
        for element in found.into_iter().flatten() {
            match read(element) {
                Some(value) => all.push(value),
                None => self.malformed.add(member, element, wanted),
            }
        }
        all
    }

    /// The members of an inner object. It may be absent, but null is an unexpected type.
    pub(super) fn inner(&mut self, member: &'static str) -> Option<Self> {
        let found = self.of.get(member)?;
        match found {
            Value::Object(of) => Some(Self { of, malformed: MalformedMembers::default() }),
            other => {
                self.malformed.add(member, other, "an object");
                None
            }
        }
    }

    /// Adds the unexpected members of an inner object.
    pub(super) fn join(&mut self, inner: MalformedMembers) {
        self.malformed.0.extend(inner.0);
    }

    /// The name of a row. A row without one is not read.
    pub(super) fn name(
        &self,
        member: &str,
        is_name: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        match self.of.get(member) {
            Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
            Some(Value::String(_)) => Err(format!("{member}: not a valid name")),
            Some(other) => Err(format!("{member}: {} instead of a string", kind(other))),
            None => Err(format!("{member} is missing")),
        }
    }

    pub(super) fn digest(&self) -> Result<String, String> {
        self.name("digest", is_digest)
    }
}

/// A row that can be read from JSON.
pub(super) trait Row: Sized {
    /// Reads a row. The error says why it has no valid name.
    fn read(row: &Value) -> Result<Self, String>;

    /// The members that had an unexpected type.
    fn malformed(&self) -> &MalformedMembers;
}

/// A row of a list.
pub(super) trait ListRow: Row {
    /// The member of a page that contains the rows.
    const LIST: &'static str;
    /// Whether that member may be missing if there are no rows (azure-rest §7).
    const MAY_LACK: bool = true;
}

/// Implements `Deserialize` for a row.
pub(super) fn deserialize<'de, T: Row, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::read(&Value::deserialize(from)?).map_err(D::Error::custom)
}

/// The readable part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The rows without a readable name, counted by reason.
    pub lost: UnreadableRows,
}

/// The number of rows without a readable name, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnreadableRows(BTreeMap<String, u64>);

impl UnreadableRows {
    /// Adds the rows of another page or list.
    pub fn join(&mut self, more: Self) {
        for (why, times) in more.0 {
            *self.0.entry(why).or_default() += times;
        }
    }

    /// Describes the lost `rows`: their number and the first reason. `None` if no row was lost.
    pub fn why(&self, rows: &str) -> Option<String> {
        let (first, _) = self.0.first_key_value()?;
        let count: u64 = self.0.values().sum();
        Some(format!("{count} of its {rows} cannot be read ({first})"))
    }
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), lost: UnreadableRows::default() }
    }
}

impl<T> Listed<T> {
    /// Adds another page.
    pub(super) fn extend(&mut self, page: Self) {
        self.rows.extend(page.rows);
        self.lost.join(page.lost);
    }
}

/// A page with more rows is refused. A registry that does not page sends up to 16 MiB.
pub(super) const MOST_IN_PAGE: usize = 100_000;

/// A page of a list, parsed row by row: as JSON values, the rows of a page crafted to be large
/// would take a multiple of its size in memory.
pub(super) struct Page<T> {
    pub(super) listed: Listed<T>,
    /// Whether the page has more than [`MOST_IN_PAGE`] rows.
    pub(super) is_cut: bool,
}

/// The value of the list member.
enum List<T> {
    Rows(Page<T>),
    Null,
    Other,
}

impl<'de, T: ListRow> Deserialize<'de> for Page<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PageOf(PhantomData))
    }
}

struct PageOf<T>(PhantomData<T>);

impl<'de, T: ListRow> Visitor<'de> for PageOf<T> {
    type Value = Page<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a page with a list of {}", T::LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Page<T>, A::Error> {
        let (mut is_of_repository, mut list) = (false, None);
        while let Some(member) = members.next_key::<Cow<'de, str>>()? {
            match member.as_ref() {
                "imageName" => is_of_repository = members.next_value::<Value>()?.is_string(),
                name if name == T::LIST => list = Some(members.next_value::<List<T>>()?),
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        // An answer of another form is not an empty list.
        let empty = Page { listed: Listed::default(), is_cut: false };
        match list {
            Some(List::Rows(page)) => Ok(page),
            Some(List::Null) if is_of_repository || !T::MAY_LACK => Ok(empty),
            None if is_of_repository && T::MAY_LACK => Ok(empty),
            _ => Err(A::Error::custom(format!("no list of {}", T::LIST))),
        }
    }
}

impl<'de, T: ListRow> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ListOf(PhantomData))
    }
}

struct ListOf<T>(PhantomData<T>);

impl<'de, T: ListRow> Visitor<'de> for ListOf<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", T::LIST)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<List<T>, A::Error> {
        let mut listed = Listed::default();
        for _ in 0..MOST_IN_PAGE {
            let Some(row) = rows.next_element::<Value>()? else {
                return Ok(List::Rows(Page { listed, is_cut: false }));
            };
            match T::read(&row) {
                Ok(row) => listed.rows.push(row),
                Err(why) => *listed.lost.0.entry(why).or_default() += 1,
            }
        }
        let is_cut = rows.next_element::<IgnoredAny>()?.is_some();
        while rows.next_element::<IgnoredAny>()?.is_some() {}
        Ok(List::Rows(Page { listed, is_cut }))
    }

    fn visit_unit<E>(self) -> Result<List<T>, E> {
        Ok(List::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<List<T>, E> {
        Ok(List::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<List<T>, E> {
        Ok(List::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<List<T>, E> {
        Ok(List::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<List<T>, E> {
        Ok(List::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<List<T>, E> {
        Ok(List::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<List<T>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(List::Other)
    }
}

impl<T: ListRow> Page<T> {
    /// Reports what could not be read. `list` is the path of the list.
    pub(super) fn log_malformed(&self, list: &str) {
        let mut faults: BTreeMap<String, u64> = BTreeMap::new();
        let members = self.listed.rows.iter().flat_map(|row| &row.malformed().0);
        for fault in members.map(|(member, why)| format!("{member}: {why}")) {
            *faults.entry(fault).or_default() += 1;
        }
        let nameless = self.listed.lost.0.iter();
        faults
            .extend(nameless.map(|(why, times)| (format!("a row cannot be read: {why}"), *times)));
        let list = list.trim_start_matches("/acr/v1/");
        lenient::log_malformed(list, &faults.into_iter().collect());
    }
}

/// The name of a repository in the catalog.
pub(super) struct Named(pub(super) String, pub(super) MalformedMembers);

impl Row for Named {
    fn read(row: &Value) -> Result<Self, String> {
        match row {
            Value::String(name) if is_repository(name) => {
                Ok(Self(name.clone(), MalformedMembers::default()))
            }
            Value::String(_) => Err("not a valid repository name".to_owned()),
            other => Err(format!("{} instead of a repository name", kind(other))),
        }
    }

    fn malformed(&self) -> &MalformedMembers {
        &self.1
    }
}

impl ListRow for Named {
    const LIST: &'static str = "repositories";
    const MAY_LACK: bool = false;
}
