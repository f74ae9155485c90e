//! The files of a snapshot, first on this machine, then in the store.

use crate::error::{Error, Result};
use crate::format::ndjson;
use crate::format::parquet::MarketplaceWriter;
use crate::pipeline::coverage::Coverage;
use crate::pipeline::snapshot::{File, measure};
use crate::pipeline::to_json;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Plan, SourceName};
use tempfile::TempDir;

/// Files that are being written.
pub(super) struct Files {
    folder: TempDir,
    pub(super) ndjson: ndjson::Writer,
    pub(super) parquet: MarketplaceWriter,
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
            changes: ndjson::Writer::create(&path(SnapshotFile::Changes))?,
            folder,
        })
    }

    /// Ends all files and uploads them with the coverage; what the manifest says of them.
    pub(super) async fn store(
        self,
        store: &dyn Store,
        plan: &Plan,
        coverage: &Coverage,
    ) -> Result<Vec<File>> {
        let Self { folder, ndjson, parquet, changes } = self;
        let coverage_path = folder.path().join(SnapshotFile::Coverage.to_string());
        std::fs::write(&coverage_path, to_json(coverage)?)
            .map_err(|e| Error::io("writing coverage.json", e))?;
        let written = [
            (SnapshotFile::Parquet(TABLE), parquet.finish()?, "marketplace"),
            (SnapshotFile::Ndjson(TABLE), ndjson.finish()?, "marketplace"),
            (SnapshotFile::Changes, changes.finish()?, "changes"),
            (SnapshotFile::Coverage, 0, "coverage"),
        ];
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
