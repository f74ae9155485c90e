//! Columns of rows: each is said once, with its name, its type and where its values come from.

use super::Table;
use arrow_array::ArrayRef;
use arrow_array::builder::{
    BooleanBuilder, ListBuilder, MapBuilder, MapFieldNames, PrimitiveBuilder, StringBuilder,
    StringDictionaryBuilder, TimestampMillisecondBuilder,
};
use arrow_array::types::{ArrowPrimitiveType, Int32Type, UInt32Type, UInt64Type};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;

/// Columns that are being made of rows.
pub struct Columns<'a, R> {
    rows: &'a [R],
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl<'a, R: Table> Columns<'a, R> {
    /// All columns of `rows`.
    pub(super) fn of(rows: &'a [R]) -> Self {
        let mut columns = Self { rows, fields: Vec::new(), arrays: Vec::new() };
        R::columns(&mut columns);
        columns
    }

    pub(super) fn schema(self) -> Schema {
        Schema::new(self.fields)
    }

    pub(super) fn into_arrays(self) -> Vec<ArrayRef> {
        self.arrays
    }

    fn add(&mut self, name: &str, kind: DataType, nullable: bool, array: ArrayRef) -> &mut Self {
        self.fields.push(Field::new(name, kind, nullable));
        self.arrays.push(array);
        self
    }

    fn dictionary(&mut self, name: &str, nullable: bool, of: impl Fn(&R) -> Option<&str>) {
        let mut column = StringDictionaryBuilder::<Int32Type>::new();
        for row in self.rows {
            column.append_option(of(row));
        }
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        self.add(name, kind, nullable, Arc::new(column.finish()));
    }

    /// Names that repeat.
    pub(super) fn name(&mut self, name: &str, of: fn(&R) -> &str) -> &mut Self {
        self.dictionary(name, false, |row| Some(of(row)));
        self
    }

    /// Names that repeat, or are missing.
    pub(super) fn name_or_null(&mut self, name: &str, of: fn(&R) -> Option<&str>) -> &mut Self {
        self.dictionary(name, true, of);
        self
    }

    /// Texts that do not repeat.
    pub(super) fn text(&mut self, name: &str, of: fn(&R) -> &str) -> &mut Self {
        let mut column = StringBuilder::new();
        for row in self.rows {
            column.append_value(of(row));
        }
        self.add(name, DataType::Utf8, false, Arc::new(column.finish()))
    }

    /// Texts that do not repeat, or are missing.
    pub(super) fn text_or_null(&mut self, name: &str, of: fn(&R) -> Option<&str>) -> &mut Self {
        let mut column = StringBuilder::new();
        for row in self.rows {
            column.append_option(of(row));
        }
        self.add(name, DataType::Utf8, true, Arc::new(column.finish()))
    }

    fn flags(&mut self, name: &str, nullable: bool, of: impl Fn(&R) -> Option<bool>) -> &mut Self {
        let mut column = BooleanBuilder::new();
        for row in self.rows {
            column.append_option(of(row));
        }
        self.add(name, DataType::Boolean, nullable, Arc::new(column.finish()))
    }

    pub(super) fn flag(&mut self, name: &str, of: fn(&R) -> bool) -> &mut Self {
        self.flags(name, false, |row| Some(of(row)))
    }

    pub(super) fn flag_or_null(&mut self, name: &str, of: fn(&R) -> Option<bool>) -> &mut Self {
        self.flags(name, true, of)
    }

    fn number<T: ArrowPrimitiveType>(
        &mut self,
        name: &str,
        of: fn(&R) -> Option<T::Native>,
    ) -> &mut Self {
        let mut column = PrimitiveBuilder::<T>::new();
        for row in self.rows {
            column.append_option(of(row));
        }
        self.add(name, T::DATA_TYPE, true, Arc::new(column.finish()))
    }

    pub(super) fn count_or_null(&mut self, name: &str, of: fn(&R) -> Option<u32>) -> &mut Self {
        self.number::<UInt32Type>(name, of)
    }

    /// Sizes in bytes, or none.
    pub(super) fn size_or_null(&mut self, name: &str, of: fn(&R) -> Option<u64>) -> &mut Self {
        self.number::<UInt64Type>(name, of)
    }

    fn times(&mut self, name: &str, nullable: bool, of: impl Fn(&R) -> Option<OffsetDateTime>) {
        let mut column = TimestampMillisecondBuilder::new().with_timezone("UTC");
        for row in self.rows {
            column.append_option(of(row).map(millis));
        }
        let kind = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        self.add(name, kind, nullable, Arc::new(column.finish()));
    }

    pub(super) fn time(&mut self, name: &str, of: fn(&R) -> OffsetDateTime) -> &mut Self {
        self.times(name, false, |row| Some(of(row)));
        self
    }

    pub(super) fn time_or_null(
        &mut self,
        name: &str,
        of: fn(&R) -> Option<OffsetDateTime>,
    ) -> &mut Self {
        self.times(name, true, of);
        self
    }

    pub(super) fn list(&mut self, name: &str, of: fn(&R) -> &[String]) -> &mut Self {
        let mut column = ListBuilder::new(StringBuilder::new());
        for row in self.rows {
            for value in of(row) {
                column.values().append_value(value);
            }
            column.append(true);
        }
        let kind = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        self.add(name, kind, false, Arc::new(column.finish()))
    }

    pub(super) fn map(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, String>) -> &mut Self {
        let mut column =
            MapBuilder::new(Some(map_names()), StringBuilder::new(), StringBuilder::new());
        for row in self.rows {
            for (key, value) in of(row) {
                column.keys().append_value(key);
                column.values().append_value(value);
            }
            // Both builders were fed in step, so the map is well formed by construction.
            let _ = column.append(true);
        }
        self.add(name, map_type(DataType::Utf8), false, Arc::new(column.finish()))
    }

    pub(super) fn counts(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, u32>) -> &mut Self {
        self.numbers::<UInt32Type>(name, of)
    }

    /// Sizes in bytes by name.
    pub(super) fn sizes(&mut self, name: &str, of: fn(&R) -> &BTreeMap<String, u64>) -> &mut Self {
        self.numbers::<UInt64Type>(name, of)
    }

    fn numbers<T: ArrowPrimitiveType>(
        &mut self,
        name: &str,
        of: fn(&R) -> &BTreeMap<String, T::Native>,
    ) -> &mut Self {
        let (keys, values) = (StringBuilder::new(), PrimitiveBuilder::<T>::new());
        let mut column = MapBuilder::new(Some(map_names()), keys, values);
        for row in self.rows {
            for (key, value) in of(row) {
                column.keys().append_value(key);
                column.values().append_value(*value);
            }
            let _ = column.append(true);
        }
        self.add(name, map_type(T::DATA_TYPE), false, Arc::new(column.finish()))
    }
}

fn map_names() -> MapFieldNames {
    MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() }
}

fn map_type(value: DataType) -> DataType {
    let parts = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    let entries = Field::new("key_value", DataType::Struct(parts.into()), false);
    DataType::Map(Arc::new(entries), false)
}

fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
