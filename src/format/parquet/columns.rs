//! Table columns. Each is declared once, with its name, its type and the source of its values.

use super::leaf::{Leaf, Values};
use std::collections::BTreeMap;
use std::fmt::Write;
use time::OffsetDateTime;

/// How to get a column's value from a row.
enum ColumnSource<R> {
    Text(fn(&R) -> &str),
    TextOrNull(fn(&R) -> Option<&str>),
    Flag(fn(&R) -> bool),
    FlagOrNull(fn(&R) -> Option<bool>),
    CountOrNull(fn(&R) -> Option<u32>),
    SizeOrNull(fn(&R) -> Option<u64>),
    Time(fn(&R) -> OffsetDateTime),
    TimeOrNull(fn(&R) -> Option<OffsetDateTime>),
    List(fn(&R) -> &[String]),
    Map(fn(&R) -> &BTreeMap<String, String>),
    Counts(fn(&R) -> &BTreeMap<String, u32>),
    Sizes(fn(&R) -> &BTreeMap<String, u64>),
}

/// A column of a table. It is one column of the file, or two if it is a map.
struct Column<R> {
    source: ColumnSource<R>,
    leaves: Vec<Leaf>,
}

/// The columns of a table, with the values that are not written yet.
pub struct Columns<R> {
    columns: Vec<Column<R>>,
    schema: String,
}

impl<R> Columns<R> {
    /// Creates an empty set of columns.
    pub(super) fn new() -> Self {
        Self { columns: Vec::new(), schema: String::new() }
    }

    /// The schema of the file, in Parquet's schema language.
    pub(super) fn schema(&self) -> String {
        format!("message azimg {{\n{}}}", self.schema)
    }

    /// The columns of the file, in file order.
    pub(super) fn leaves(&mut self) -> impl Iterator<Item = &mut Leaf> {
        self.columns.iter_mut().flat_map(|column| &mut column.leaves)
    }

    /// Size of the values that are not written yet, in bytes.
    pub(super) fn waiting(&self) -> usize {
        self.columns.iter().flat_map(|column| &column.leaves).map(Leaf::bytes).sum()
    }

    /// Adds the values of one row.
    pub(super) fn add(&mut self, row: &R) {
        for column in &mut self.columns {
            column.add(row);
        }
    }

    fn column(
        &mut self,
        declaration: &str,
        source: ColumnSource<R>,
        leaves: Vec<Leaf>,
    ) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = writeln!(self.schema, "  {declaration}");
        self.columns.push(Column { source, leaves });
        self
    }

    fn single(&mut self, declaration: &str, source: ColumnSource<R>, values: Values) -> &mut Self {
        let leaf = Leaf::single(values, declaration.starts_with("optional"));
        self.column(declaration, source, vec![leaf])
    }

    /// A column of text.
    pub(super) fn text(&mut self, name: &str, of: fn(&R) -> &str) -> &mut Self {
        let declaration = format!("required binary {name} (STRING);");
        self.single(&declaration, ColumnSource::Text(of), Values::texts())
    }

    /// A column of optional text.
    pub(super) fn text_or_null(&mut self, name: &str, of: fn(&R) -> Option<&str>) -> &mut Self {
        let declaration = format!("optional binary {name} (STRING);");
        self.single(&declaration, ColumnSource::TextOrNull(of), Values::texts())
    }

    pub(super) fn flag(&mut self, name: &str, of: fn(&R) -> bool) -> &mut Self {
        let declaration = format!("required boolean {name};");
        self.single(&declaration, ColumnSource::Flag(of), Values::Flags(Vec::new()))
    }

    pub(super) fn flag_or_null(&mut self, name: &str, of: fn(&R) -> Option<bool>) -> &mut Self {
        let declaration = format!("optional boolean {name};");
        self.single(&declaration, ColumnSource::FlagOrNull(of), Values::Flags(Vec::new()))
    }

    pub(super) fn count_or_null(&mut self, name: &str, of: fn(&R) -> Option<u32>) -> &mut Self {
        let declaration = format!("optional int32 {name} (INTEGER(32,false));");
        self.single(&declaration, ColumnSource::CountOrNull(of), Values::Halves(Vec::new()))
    }

    /// A column of optional sizes in bytes.
    pub(super) fn size_or_null(&mut self, name: &str, of: fn(&R) -> Option<u64>) -> &mut Self {
        let declaration = format!("optional int64 {name} (INTEGER(64,false));");
        self.single(&declaration, ColumnSource::SizeOrNull(of), Values::Longs(Vec::new()))
    }

    pub(super) fn time(&mut self, name: &str, of: fn(&R) -> OffsetDateTime) -> &mut Self {
        let declaration = format!("required int64 {name} (TIMESTAMP(MILLIS,true));");
        self.single(&declaration, ColumnSource::Time(of), Values::Longs(Vec::new()))
    }

    pub(super) fn time_or_null(
        &mut self,
        name: &str,
        of: fn(&R) -> Option<OffsetDateTime>,
    ) -> &mut Self {
        let declaration = format!("optional int64 {name} (TIMESTAMP(MILLIS,true));");
        self.single(&declaration, ColumnSource::TimeOrNull(of), Values::Longs(Vec::new()))
    }

    pub(super) fn list(&mut self, name: &str, of: fn(&R) -> &[String]) -> &mut Self {
        let declaration = format!(
            "required group {name} (LIST) {{ repeated group list {{ optional binary item (STRING); }} }}"
        );
        let leaf = Leaf::repeated(Values::texts(), true);
        self.column(&declaration, ColumnSource::List(of), vec![leaf])
    }

    fn mapped(
        &mut self,
        name: &str,
        value: &str,
        source: ColumnSource<R>,
        values: Values,
    ) -> &mut Self {
        let declaration = format!(
            "required group {name} (MAP) {{ repeated group key_value {{ required binary key (STRING); \
             optional {value}; }} }}"
        );
        let keys = Leaf::repeated(Values::texts(), false);
        self.column(&declaration, source, vec![keys, Leaf::repeated(values, true)])
    }

    pub(super) fn map(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, String>) -> &mut Self {
        self.mapped(name, "binary value (STRING)", ColumnSource::Map(of), Values::texts())
    }

    pub(super) fn counts(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, u32>) -> &mut Self {
        let value = "int32 value (INTEGER(32,false))";
        self.mapped(name, value, ColumnSource::Counts(of), Values::Halves(Vec::new()))
    }

    /// A column of maps from name to size in bytes.
    pub(super) fn sizes(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, u64>) -> &mut Self {
        let value = "int64 value (INTEGER(64,false))";
        self.mapped(name, value, ColumnSource::Sizes(of), Values::Longs(Vec::new()))
    }
}

impl<R> Column<R> {
    fn add(&mut self, row: &R) {
        match (&self.source, &mut self.leaves[..]) {
            (ColumnSource::Text(of), [leaf]) => one(leaf, Some(of(row)), Values::text),
            (ColumnSource::TextOrNull(of), [leaf]) => one(leaf, of(row), Values::text),
            (ColumnSource::Flag(of), [leaf]) => one(leaf, Some(of(row)), Values::flag),
            (ColumnSource::FlagOrNull(of), [leaf]) => one(leaf, of(row), Values::flag),
            (ColumnSource::CountOrNull(of), [leaf]) => one(leaf, of(row), Values::count),
            (ColumnSource::SizeOrNull(of), [leaf]) => {
                one(leaf, of(row).map(u64::cast_signed), Values::long);
            }
            (ColumnSource::Time(of), [leaf]) => one(leaf, Some(millis(of(row))), Values::long),
            (ColumnSource::TimeOrNull(of), [leaf]) => one(leaf, of(row).map(millis), Values::long),
            (ColumnSource::List(of), [leaf]) => {
                let values = of(row);
                for value in values {
                    leaf.values.text(value);
                }
                leaf.note_all(values.len());
            }
            (ColumnSource::Map(of), [keys, values]) => {
                all(keys, values, of(row), |values, value| values.text(value));
            }
            (ColumnSource::Counts(of), [keys, values]) => {
                all(keys, values, of(row), |values, value| values.count(*value));
            }
            (ColumnSource::Sizes(of), [keys, values]) => {
                all(keys, values, of(row), |values, value| values.long(value.cast_signed()));
            }
            // Unreachable: `Columns` creates two leaves for a map and one for any other column.
            _ => {}
        }
    }
}

fn one<T>(leaf: &mut Leaf, value: Option<T>, add: impl Fn(&mut Values, T)) {
    leaf.note(value.is_some());
    if let Some(value) = value {
        add(&mut leaf.values, value);
    }
}

fn all<T>(
    keys: &mut Leaf,
    values: &mut Leaf,
    of: &BTreeMap<String, T>,
    add: impl Fn(&mut Values, &T),
) {
    for (key, value) in of {
        keys.values.text(key);
        add(&mut values.values, value);
    }
    keys.note_all(of.len());
    values.note_all(of.len());
}

fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
