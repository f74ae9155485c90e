//! The marketplace table as Parquet: zstd, dictionaries where values repeat, row groups that let a
//! reader skip by publisher.

use crate::error::{Error, Result};
use crate::image::marketplace::MarketplaceImage;
use arrow_array::builder::{
    BooleanBuilder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder, StringDictionaryBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;

/// Rows are handed to the encoder in batches of this many.
const BATCH_ROWS: usize = 8_192;
/// Small enough to skip by publisher, large enough to compress: a region has three, a world eight.
const ROW_GROUP_ROWS: usize = 32_768;
/// A row group has at most this many publishers. The table's order is without case, statistics are
/// not, so that many ranges hold a name that their groups do not: a Bloom filter tells.
const PUBLISHERS: u64 = 2_048;

type Dictionary = StringDictionaryBuilder<Int32Type>;

/// Writes marketplace rows into a Parquet file.
pub struct MarketplaceWriter {
    out: ArrowWriter<File>,
    schema: Arc<Schema>,
    batch: Vec<MarketplaceImage>,
    rows: u64,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    // The encoder's own failures are bugs; those of the file below it are not.
    let text = format!("writing Parquet: {error}");
    Error::transient(text).with_source(error)
}

impl MarketplaceWriter {
    /// Starts a file; `run` goes into its metadata.
    pub fn create(path: &Path, run: &str) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path.display(), e))?;
        let schema = Arc::new(schema());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(failed)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_column_bloom_filter_enabled(ColumnPath::from("publisher"), true)
            .set_column_bloom_filter_max_ndv(ColumnPath::from("publisher"), PUBLISHERS)
            .set_created_by(format!("azimg {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "azimg.run".to_owned(),
                run.to_owned(),
            )]))
            .build();
        let out =
            ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        Ok(Self { out, schema, batch: Vec::with_capacity(BATCH_ROWS), rows: 0 })
    }

    /// Adds one row.
    pub fn write(&mut self, row: MarketplaceImage) -> Result<()> {
        self.batch.push(row);
        self.rows += 1;
        if self.batch.len() == BATCH_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the file; the number of its rows.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.out.close().map_err(failed)?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let columns = columns(&self.batch);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        self.out.write(&batch).map_err(failed)?;
        self.batch.clear();
        Ok(())
    }
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn map_names() -> MapFieldNames {
    MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() }
}

fn schema() -> Schema {
    let entries = Field::new(
        "key_value",
        DataType::Struct(
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", DataType::Utf8, true),
            ]
            .into(),
        ),
        false,
    );
    Schema::new(vec![
        Field::new("kind", dictionary(), false),
        Field::new("id", DataType::Utf8, false),
        Field::new("status", dictionary(), false),
        Field::new("is_latest", DataType::Boolean, false),
        Field::new("observed_at", timestamp(), false),
        Field::new("observed_run", dictionary(), false),
        Field::new("stale", DataType::Boolean, false),
        Field::new("publisher", dictionary(), false),
        Field::new("offer", dictionary(), false),
        Field::new("sku", dictionary(), false),
        Field::new("version", DataType::Utf8, false),
        Field::new(
            "locations",
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            false,
        ),
        Field::new("os", dictionary(), true),
        Field::new("architecture", dictionary(), true),
        Field::new("hyper_v_generation", dictionary(), true),
        Field::new("plan_publisher", dictionary(), true),
        Field::new("plan_product", dictionary(), true),
        Field::new("plan_name", dictionary(), true),
        Field::new("scheduled_deprecation_at", timestamp(), true),
        Field::new("alternative", dictionary(), true),
        Field::new("features", DataType::Map(Arc::new(entries), false), false),
        Field::new("first_seen_at", timestamp(), false),
    ])
}

fn columns(rows: &[MarketplaceImage]) -> Vec<ArrayRef> {
    type Row = MarketplaceImage;
    let text = |of: fn(&Row) -> Option<&str>| -> ArrayRef {
        let mut column = Dictionary::new();
        for row in rows {
            column.append_option(of(row));
        }
        Arc::new(column.finish())
    };
    let plain = |of: fn(&Row) -> &str| -> ArrayRef {
        let mut column = StringBuilder::new();
        for row in rows {
            column.append_value(of(row));
        }
        Arc::new(column.finish())
    };
    let flag = |of: fn(&Row) -> bool| -> ArrayRef {
        let mut column = BooleanBuilder::new();
        for row in rows {
            column.append_value(of(row));
        }
        Arc::new(column.finish())
    };
    let time = |of: fn(&Row) -> Option<OffsetDateTime>| -> ArrayRef {
        let mut column = TimestampMillisecondBuilder::new().with_timezone("UTC");
        for row in rows {
            column.append_option(of(row).map(millis));
        }
        Arc::new(column.finish())
    };
    vec![
        text(|r| Some(&r.kind)),
        plain(|r| &r.id),
        text(|r| Some(r.status.as_str())),
        flag(|r| r.is_latest),
        time(|r| Some(r.observed_at)),
        text(|r| Some(&r.observed_run)),
        flag(|r| r.stale),
        text(|r| Some(&r.publisher)),
        text(|r| Some(&r.offer)),
        text(|r| Some(&r.sku)),
        plain(|r| &r.version),
        locations(rows),
        text(|r| r.os.as_deref()),
        text(|r| r.architecture.as_deref()),
        text(|r| r.hyper_v_generation.as_deref()),
        text(|r| r.plan_publisher.as_deref()),
        text(|r| r.plan_product.as_deref()),
        text(|r| r.plan_name.as_deref()),
        time(|r| r.scheduled_deprecation_at),
        text(|r| r.alternative.as_deref()),
        features(rows),
        time(|r| Some(r.first_seen_at)),
    ]
}

fn locations(rows: &[MarketplaceImage]) -> ArrayRef {
    let mut column = ListBuilder::new(StringBuilder::new());
    for row in rows {
        for location in &row.locations {
            column.values().append_value(location);
        }
        column.append(true);
    }
    Arc::new(column.finish())
}

fn features(rows: &[MarketplaceImage]) -> ArrayRef {
    let mut column = MapBuilder::new(Some(map_names()), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (name, value) in &row.features {
            column.keys().append_value(name);
            column.values().append_value(value);
        }
        // Both builders were fed in step, so the map is well formed by construction.
        let _ = column.append(true);
    }
    Arc::new(column.finish())
}

fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}
