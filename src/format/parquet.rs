//! Tables as Parquet: zstd, dictionaries where values repeat, row groups that let a reader skip.

mod columns;
mod gallery;
mod marketplace;
mod registry;

use crate::error::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use columns::Columns;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows are handed to the encoder in batches of this many.
const BATCH_ROWS: usize = 8_192;
/// Small enough to skip by publisher, large enough to compress: a region has three, a world eight.
const ROW_GROUP_ROWS: usize = 32_768;

/// A row of a table.
pub trait Table: Sized + Clone {
    /// The column that readers look rows up by, and how many values of it a row group has at most.
    /// The tables' order is without case, statistics are not, so that many ranges hold a name that
    /// their groups do not: a Bloom filter tells.
    const SOUGHT: (&'static str, u64);

    /// The columns, in order.
    fn columns(columns: &mut Columns<'_, Self>);
}

/// Writes rows into a Parquet file.
pub struct TableWriter<R> {
    out: ArrowWriter<File>,
    schema: Arc<Schema>,
    batch: Vec<R>,
    rows: u64,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    // The encoder's own failures are bugs; those of the file below it are not.
    let text = format!("writing Parquet: {error}");
    Error::transient(text).with_source(error)
}

impl<R: Table> TableWriter<R> {
    /// Starts a file; `run` goes into its metadata.
    pub fn create(path: &Path, run: &str) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path.display(), e))?;
        let schema = Arc::new(Columns::of(&[] as &[R]).schema());
        let (sought, values) = R::SOUGHT;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(failed)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_column_bloom_filter_enabled(ColumnPath::from(sought), true)
            .set_column_bloom_filter_max_ndv(ColumnPath::from(sought), values)
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
    pub fn write(&mut self, row: R) -> Result<()> {
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
        let columns = Columns::of(&self.batch).into_arrays();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        self.out.write(&batch).map_err(failed)?;
        self.batch.clear();
        Ok(())
    }
}
