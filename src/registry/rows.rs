//! The rows of a registry's lists, read member by member.
//!
//! One member that is of another form costs itself, and a row that has no name costs itself: never the page
//! that it is on. Either is told. What decides whether something may go must not be taken for absent, so a row
//! keeps which of its members could not be read.

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

/// Members by which it is decided what may be deleted or untagged.
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

/// The members of a row that were of another form, each with what it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OddMembers(Vec<(&'static str, String)>);

impl OddMembers {
    fn add(&mut self, member: &'static str, found: &Value, wanted: &str) {
        self.0.push((member, format!("{} in place of {wanted}", kind(found))));
    }

    /// Those that may not be taken for absent by who deletes; none if all of them could be read.
    pub fn deciding(&self) -> Option<String> {
        let found = self.0.iter().find(|(member, _)| DECIDING.contains(member));
        found.map(|(member, why)| format!("its {member} cannot be read ({why})"))
    }
}

/// What a value is, without what is in it.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.as_f64().is_some_and(f64::is_sign_negative) => {
            "a negative number"
        }
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The members of a row. What is absent or null is none; what is of another form is none, too, and noted.
pub(super) struct Members<'a> {
    of: &'a Map<String, Value>,
    pub(super) odd: OddMembers,
}

impl<'a> Members<'a> {
    pub(super) fn of(row: &'a Value) -> Result<Self, String> {
        match row {
            Value::Object(of) => Ok(Self { of, odd: OddMembers::default() }),
            other => Err(format!("{} in place of an object", kind(other))),
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
            self.odd.add(member, found, wanted);
        }
        value
    }

    pub(super) fn text(&mut self, member: &'static str) -> Option<String> {
        self.read(member, "a text", Value::as_str).map(str::to_owned)
    }

    pub(super) fn count(&mut self, member: &'static str) -> Option<u64> {
        self.read(member, "a count", Value::as_u64)
    }

    /// A moment, as the registry writes it.
    pub(super) fn time(&mut self, member: &'static str) -> Option<String> {
        let is_time = |text: &&str| OffsetDateTime::parse(text, &Rfc3339).is_ok();
        self.read(member, "a time", |found| found.as_str().filter(is_time)).map(str::to_owned)
    }

    /// A member that is always true or false where it is there at all.
    pub(super) fn flag(&mut self, member: &'static str) -> Option<bool> {
        let found = self.of.get(member)?;
        if !found.is_boolean() {
            self.odd.add(member, found, "true or false");
        }
        found.as_bool()
    }

    /// The elements of a list; one of another form costs itself.
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
                None => self.odd.add(member, element, wanted),
            }
        }
        all
    }

    /// The members of an object that is always one where it is there at all.
    pub(super) fn inner(&mut self, member: &'static str) -> Option<Self> {
        let found = self.of.get(member)?;
        match found {
            Value::Object(of) => Some(Self { of, odd: OddMembers::default() }),
            other => {
                self.odd.add(member, other, "an object");
                None
            }
        }
    }

    /// Takes over what of an inner object was of another form.
    pub(super) fn join(&mut self, inner: OddMembers) {
        self.odd.0.extend(inner.0);
    }

    /// A name, without which a row is none.
    pub(super) fn name(
        &self,
        member: &str,
        is_name: impl Fn(&str) -> bool,
    ) -> Result<String, String> {
        match self.of.get(member) {
            Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
            Some(Value::String(_)) => Err(format!("{member}: a text that is none")),
            Some(other) => Err(format!("{member}: {} in place of a text", kind(other))),
            None => Err(format!("{member} is missing")),
        }
    }

    pub(super) fn digest(&self) -> Result<String, String> {
        self.name("digest", is_digest)
    }
}

/// What can be read of a row.
pub(super) trait Row: Sized {
    /// Reads it; else why it has no name.
    fn read(row: &Value) -> Result<Self, String>;

    /// Members of it that were of another form.
    fn odd(&self) -> &OddMembers;
}

/// A row of a list.
pub(super) trait ListRow: Row {
    /// The member of a page that its rows are in.
    const LIST: &'static str;
    /// Whether that member may be missing where there are no rows (azure-rest §7).
    const MAY_LACK: bool = true;
}

/// For `Deserialize` of a row.
pub(super) fn deserialize<'de, T: Row, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::read(&Value::deserialize(from)?).map_err(D::Error::custom)
}

/// What a list has, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Why rows have no name that can be read, and how many.
    pub lost: UnreadableRows,
}

/// How many rows have no name that can be read, by what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnreadableRows(BTreeMap<String, u64>);

impl UnreadableRows {
    /// Adds those of another page or list.
    pub fn join(&mut self, more: Self) {
        for (why, times) in more.0 {
            *self.0.entry(why).or_default() += times;
        }
    }

    /// How many `rows` were lost, and why the first of them; none if none were.
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

/// A page with more rows than this is not read: a registry that does not page sends up to 16 MiB.
pub(super) const MOST_IN_PAGE: usize = 100_000;

/// A page of a list. It is read row by row: the rows of a page that was made to be large take a multiple of it
/// when they are all held as JSON.
pub(super) struct Page<T> {
    pub(super) listed: Listed<T>,
    /// Whether it has more rows than are read.
    pub(super) is_cut: bool,
}

/// What stands in place of a list of rows.
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
        // An answer of another shape is no empty list.
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
    /// Tells what of it could not be read; `list` is the list's path.
    pub(super) fn tell(&self, list: &str) {
        let mut faults: BTreeMap<String, u64> = BTreeMap::new();
        let members = self.listed.rows.iter().flat_map(|row| &row.odd().0);
        for fault in members.map(|(member, why)| format!("{member}: {why}")) {
            *faults.entry(fault).or_default() += 1;
        }
        let nameless = self.listed.lost.0.iter();
        faults.extend(nameless.map(|(why, times)| (format!("a row is lost: {why}"), *times)));
        let list = list.trim_start_matches("/acr/v1/");
        lenient::tell(list, &faults.into_iter().collect());
    }
}

/// The name of a repository.
pub(super) struct Named(pub(super) String, pub(super) OddMembers);

impl Row for Named {
    fn read(row: &Value) -> Result<Self, String> {
        match row {
            Value::String(name) if is_repository(name) => {
                Ok(Self(name.clone(), OddMembers::default()))
            }
            Value::String(_) => Err("a text that names no repository".to_owned()),
            other => Err(format!("{} in place of a repository's name", kind(other))),
        }
    }

    fn odd(&self) -> &OddMembers {
        &self.1
    }
}

impl ListRow for Named {
    const LIST: &'static str = "repositories";
    const MAY_LACK: bool = false;
}
