//! The files of a snapshot, first on this machine, then in the store.

use crate::error::{Error, Result};
use crate::format::index::IndexWriter;
use crate::format::ndjson;
use crate::format::parquet::{Table, TableWriter};
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::registry::RegistryImage;
use crate::pipeline::coverage::Coverage;
use crate::pipeline::schema;
use crate::pipeline::snapshot::{File, measure};
use crate::pipeline::to_json;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Plan, SourceName};
use serde::Serialize;
use tempfile::TempDir;

/// One table, in both its forms.
struct TableFiles<R> {
    source: SourceName,
    ndjson: ndjson::Writer,
    parquet: TableWriter<R>,
}

impl<R: Table + Serialize> TableFiles<R> {
    fn create(folder: &TempDir, source: SourceName, run: &str) -> Result<Self> {
        let path = |file: SnapshotFile| folder.path().join(file.to_string());
        Ok(Self {
            source,
            ndjson: ndjson::Writer::create(&path(SnapshotFile::Ndjson(source)))?,
            parquet: TableWriter::create(&path(SnapshotFile::Parquet(source)), run)?,
        })
    }

    fn write(&mut self, row: R) -> Result<()> {
        self.ndjson.write(&row)?;
        self.parquet.write(row)
    }

    fn finish(self) -> Result<[(SnapshotFile, u64, &'static str); 2]> {
        let Self { source, ndjson, parquet } = self;
        Ok([
            (SnapshotFile::Parquet(source), parquet.finish()?, source.as_str()),
            (SnapshotFile::Ndjson(source), ndjson.finish()?, source.as_str()),
        ])
    }
}

/// Files that are being written.
pub(super) struct Files {
    folder: TempDir,
    marketplace: Option<TableFiles<MarketplaceImage>>,
    gallery: Option<TableFiles<GalleryImage>>,
    registry: Option<TableFiles<RegistryImage>>,
    index: IndexWriter,
    pub(super) changes: ndjson::Writer,
}

impl Files {
    /// Files for the tables of `sources`.
    pub(super) fn create(plan: &Plan, sources: &[SourceName]) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("azimg-")
            .tempdir()
            .map_err(|e| Error::io("making a temporary folder", e))?;
        let run = plan.run.to_string();
        let has = |source: SourceName| sources.contains(&source).then_some(source);
        let marketplace = has(SourceName::Marketplace);
        let gallery = has(SourceName::Gallery);
        let registry = has(SourceName::Registry);
        Ok(Self {
            marketplace: marketplace.map(|s| TableFiles::create(&folder, s, &run)).transpose()?,
            gallery: gallery.map(|s| TableFiles::create(&folder, s, &run)).transpose()?,
            registry: registry.map(|s| TableFiles::create(&folder, s, &run)).transpose()?,
            index: IndexWriter::default(),
            changes: ndjson::Writer::create(
                &folder.path().join(SnapshotFile::Changes.to_string()),
            )?,
            folder,
        })
    }

    /// Adds the marketplace row that follows in the table's order.
    pub(super) fn write(&mut self, row: MarketplaceImage) -> Result<()> {
        self.index.write(&row)?;
        self.marketplace.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Adds the gallery row that follows in the table's order.
    pub(super) fn write_gallery(&mut self, row: GalleryImage) -> Result<()> {
        self.gallery.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Adds the registry row that follows in the table's order.
    pub(super) fn write_registry(&mut self, row: RegistryImage) -> Result<()> {
        self.registry.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Ends all files and uploads them with the coverage; what the manifest says of them.
    pub(super) async fn store(
        self,
        store: &dyn Store,
        plan: &Plan,
        coverage: &Coverage,
    ) -> Result<Vec<File>> {
        let Self { folder, marketplace, gallery, registry, index, changes } = self;
        let write = |file: SnapshotFile, bytes: Vec<u8>| {
            std::fs::write(folder.path().join(file.to_string()), bytes)
                .map_err(|e| Error::io(format!("writing {file}"), e))
        };
        write(SnapshotFile::Coverage, to_json(coverage)?)?;
        write(SnapshotFile::Index, index.finish(&plan.run.to_string())?)?;
        let mut written = Vec::new();
        let mut records = Vec::new();
        if let Some(table) = marketplace {
            written.extend(table.finish()?);
        }
        if let Some(table) = gallery {
            written.extend(table.finish()?);
        }
        if let Some(table) = registry {
            written.extend(table.finish()?);
        }
        records.extend(written.iter().step_by(2).map(|(_, _, table)| *table));
        written.extend([
            (SnapshotFile::Changes, changes.finish()?, "changes"),
            (SnapshotFile::Coverage, 0, "coverage"),
            (SnapshotFile::Index, 0, "index"),
        ]);
        records.extend(schema::STORED);
        for name in records {
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
