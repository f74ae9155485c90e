//! The files of a snapshot, first on this machine, then in the store.

use crate::error::{Error, Result};
use crate::format::index::IndexWriter;
use crate::format::ndjson;
use crate::format::parquet::MarketplaceWriter;
use crate::image::marketplace::MarketplaceImage;
use crate::pipeline::coverage::Coverage;
use crate::pipeline::schema;
use crate::pipeline::snapshot::{File, measure};
use crate::pipeline::to_json;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Plan, SourceName};
use tempfile::TempDir;

/// Files that are being written.
pub(super) struct Files {
    folder: TempDir,
    ndjson: ndjson::Writer,
    parquet: MarketplaceWriter,
    index: IndexWriter,
    pub(super) changes: ndjson::Writer,
}

const TABLE: SourceName = SourceName::Marketplace;

impl Files {
    pub(super) fn create(plan: &Plan) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("azimg-")
            .tempdir()
            .map_err(|e| Error::io("making a temporary folder", e))?;
        let path = |file: SnapshotFile| folder.path().join(file.to_string());
        let run = plan.run.to_string();
        Ok(Self {
            ndjson: ndjson::Writer::create(&path(SnapshotFile::Ndjson(TABLE)))?,
            parquet: MarketplaceWriter::create(&path(SnapshotFile::Parquet(TABLE)), &run)?,
            index: IndexWriter::default(),
            changes: ndjson::Writer::create(&path(SnapshotFile::Changes))?,
            folder,
        })
    }

    /// Adds the row that follows in the table's order.
    pub(super) fn write(&mut self, row: MarketplaceImage) -> Result<()> {
        self.ndjson.write(&row)?;
        self.index.write(&row)?;
        self.parquet.write(row)
    }

    /// Ends all files and uploads them with the coverage; what the manifest says of them.
    pub(super) async fn store(
        self,
        store: &dyn Store,
        plan: &Plan,
        coverage: &Coverage,
    ) -> Result<Vec<File>> {
        let Self { folder, ndjson, parquet, index, changes } = self;
        let write = |file: SnapshotFile, bytes: Vec<u8>| {
            std::fs::write(folder.path().join(file.to_string()), bytes)
                .map_err(|e| Error::io(format!("writing {file}"), e))
        };
        write(SnapshotFile::Coverage, to_json(coverage)?)?;
        write(SnapshotFile::Index, index.finish(&plan.run.to_string())?)?;
        let mut written = vec![
            (SnapshotFile::Parquet(TABLE), parquet.finish()?, "marketplace"),
            (SnapshotFile::Ndjson(TABLE), ndjson.finish()?, "marketplace"),
            (SnapshotFile::Changes, changes.finish()?, "changes"),
            (SnapshotFile::Coverage, 0, "coverage"),
            (SnapshotFile::Index, 0, "index"),
        ];
        for name in schema::STORED {
            let text = schema::schema(name).map(|schema| to_json(&schema)).transpose()?;
            write(SnapshotFile::Schema(name), text.unwrap_or_default())?;
            written.push((SnapshotFile::Schema(name), 0, "schema"));
        }
        let mut files = Vec::new();
        for (file, rows, schema) in written {
            let path = folder.path().join(file.to_string());
            let (bytes, sha256) = measure(&path)?;
            store.upload(&Key::Snapshot(plan.run, file), &path).await?;
            files.push(File {
                name: file.to_string(),
                bytes,
                sha256,
                rows,
                schema: schema.to_owned(),
            });
        }
        Ok(files)
    }
}
