//! Writes tables as Parquet: zstd, dictionaries for repeated values, and row groups that let a
//! reader skip data. Texts are plain strings to every reader: the file has no metadata about any
//! library's in-memory types.

mod columns;
mod gallery;
mod leaf;
mod marketplace;
mod registry;

use crate::error::{Error, Result};
use crate::files;
use columns::Columns;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Maximum number of rows in a row group. Small enough to skip by publisher and large enough to
/// compress: the table of one location has three groups, that of all locations eight.
const ROW_GROUP_ROWS: usize = 32_768;

/// Maximum size of a row group in memory, in bytes. Rows with many locations, tags or long texts
/// reach it before [`ROW_GROUP_ROWS`].
const ROW_GROUP_BYTES: usize = 32 << 20;

/// A row of a table.
pub trait TableRow: Sized {
    /// The column by which readers look rows up, and the maximum number of its distinct values in a
    /// row group. Tables are sorted without case and statistics are case-sensitive: many min/max
    /// ranges include names that their groups do not have. A Bloom filter on this column rules
    /// these groups out.
    const SOUGHT: (&'static str, u64);

    /// Adds the columns, in order.
    fn columns(columns: &mut Columns<Self>);
}

/// Writes rows to a Parquet file.
pub struct TableWriter<R> {
    out: SerializedFileWriter<File>,
    columns: Columns<R>,
    name: String,
    /// Number of rows that are not written yet.
    waiting: usize,
    rows: u64,
}

/// Converts an error. Failures of the encoder are bugs; failures of the file below it are I/O
/// errors.
fn failed(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = format!("writing {name}: {error}");
    let bug = Error::bug(text).with_source(error);
    match bug.io_kind() {
        Some(kind) => Error::io(format!("writing {name}"), kind.into()),
        None => bug,
    }
}

impl<R: TableRow> TableWriter<R> {
    /// Creates the file. `run` is recorded in its metadata.
    pub fn create(path: &Path, run: &str) -> Result<Self> {
        let name = path.display().to_string();
        let file = files::create(path).map_err(|e| Error::io(format!("writing {name}"), e))?;
        let mut columns = Columns::new();
        R::columns(&mut columns);
        let schema = parse_message_type(&columns.schema()).map_err(|e| failed(&name, e))?;
        let (sought, values) = R::SOUGHT;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(
                ZstdLevel::try_new(3).map_err(|e| failed(&name, e))?,
            ))
            .set_column_bloom_filter_enabled(ColumnPath::from(sought), true)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(sought), values)
            .set_created_by(format!("azimg {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(vec![KeyValue::new(
                "azimg.run".to_owned(),
                run.to_owned(),
            )]))
            .build();
        let out = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        let out = out.map_err(|e| failed(&name, e))?;
        Ok(Self { out, columns, name, waiting: 0, rows: 0 })
    }

    /// Adds one row.
    pub fn write(&mut self, row: &R) -> Result<()> {
        self.columns.add(row);
        self.rows += 1;
        self.waiting += 1;
        if self.waiting == ROW_GROUP_ROWS || self.columns.waiting() >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Completes the file and returns the number of rows.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.out.close().map_err(|e| failed(&self.name, e))?;
        Ok(self.rows)
    }

    /// Writes the pending rows as a row group.
    fn flush(&mut self) -> Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        let Self { out, columns, name, .. } = self;
        let mut write = || {
            let mut group = out.next_row_group()?;
            for leaf in columns.leaves() {
                let Some(mut column) = group.next_column()? else { break };
                leaf.write(column.untyped())?;
                column.close()?;
            }
            group.close().map(|_| ())
        };
        write().map_err(|e| failed(name, e))?;
        self.waiting = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_os = "linux")]
    use crate::error::ErrorKind;

    struct Row(String);

    impl TableRow for Row {
        const SOUGHT: (&'static str, u64) = ("name", 100);

        fn columns(columns: &mut Columns<Self>) {
            columns.text("name", |row| &row.0);
        }
    }

    #[test]
    fn buffered_row_group_is_bounded_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = TableWriter::create(&folder.path().join("table.parquet"), "RUN").unwrap();
        let row = Row("x".repeat(64 << 10));
        for _ in 0..2_048 {
            table.write(&row).unwrap();
            assert!(table.columns.waiting() < ROW_GROUP_BYTES, "{} rows wait", table.waiting);
        }
        assert_eq!(table.finish().unwrap(), 2_048);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_reported_and_not_retried() {
        let full = Path::new("/dev/full");
        let written = TableWriter::create(full, "RUN").and_then(|mut table| {
            for number in 0..2 * ROW_GROUP_ROWS {
                table.write(&Row(number.to_string()))?;
            }
            table.finish()
        });
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("/dev/full"), "{error}");
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
    }
}
