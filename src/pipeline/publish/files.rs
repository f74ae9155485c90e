//! The files of a snapshot, written locally first and then uploaded to the store.

use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::format::index::IndexWriter;
use crate::format::ndjson;
use crate::format::parquet::{TableRow, TableWriter};
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::registry::RegistryImage;
use crate::pipeline::changes::{self, ChangedRow};
use crate::pipeline::coverage::Coverage;
use crate::pipeline::schema;
use crate::pipeline::snapshot::{File, measure};
use crate::pipeline::to_json;
use crate::scratch::Scratch;
use crate::store::{Key, SnapshotFile, Store};
use crate::work::{Plan, RunId, SourceName};
use serde::Serialize;
use time::OffsetDateTime;

/// A table in both of its formats.
struct TableFiles<R> {
    source: SourceName,
    ndjson: ndjson::Writer,
    parquet: TableWriter<R>,
}

impl<R: TableRow + Serialize> TableFiles<R> {
    fn create(folder: &Scratch, source: SourceName, run: &str) -> Result<Self> {
        let path = |file: SnapshotFile| folder.path().join(file.to_string());
        Ok(Self {
            source,
            ndjson: ndjson::Writer::create(&path(SnapshotFile::Ndjson(source)))?,
            parquet: TableWriter::create(&path(SnapshotFile::Parquet(source)), run)?,
        })
    }

    fn write(&mut self, row: &R) -> Result<()> {
        self.ndjson.write(row)?;
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

/// The files of a snapshot while they are written.
pub(super) struct SnapshotFiles {
    folder: Scratch,
    marketplace: Option<TableFiles<MarketplaceImage>>,
    gallery: Option<TableFiles<GalleryImage>>,
    registry: Option<TableFiles<RegistryImage>>,
    index: IndexWriter,
    changes: ndjson::Writer,
}

impl SnapshotFiles {
    /// Creates the files, with tables for `sources`.
    pub(super) fn create(plan: &Plan, sources: &[SourceName]) -> Result<Self> {
        let folder = Scratch::new()?;
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

    /// Adds the next marketplace row in the table's order.
    pub(super) fn write(&mut self, row: &MarketplaceImage) -> Result<()> {
        self.index.write(row)?;
        self.marketplace.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Adds the next gallery row in the table's order.
    pub(super) fn write_gallery(&mut self, row: &GalleryImage) -> Result<()> {
        self.gallery.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Adds the next registry row in the table's order.
    pub(super) fn write_registry(&mut self, row: &RegistryImage) -> Result<()> {
        self.registry.as_mut().map_or(Ok(()), |table| table.write(row))
    }

    /// Adds the changes of rows since the run's base to the feed, if there is a base.
    pub(super) fn changed<R: ChangedRow>(
        &mut self,
        (before, after): (&[R], &[R]),
        run: (RunId, OffsetDateTime),
        previous_run: Option<RunId>,
    ) -> Result<()> {
        let Some(previous_run) = previous_run else { return Ok(()) };
        let changes = changes::between(before, after, run, previous_run);
        changes.iter().try_for_each(|change| self.changes.write(change))
    }

    /// Adds advice to a write error if the folder's disk is full.
    pub(super) fn explain(&self, error: Error) -> Error {
        self.folder.explain(error)
    }

    /// Completes all files and uploads them with the coverage. Returns their manifest entries.
    pub(super) async fn store(
        self,
        store: &dyn Store,
        plan: &Plan,
        coverage: &Coverage,
    ) -> Result<Vec<File>> {
        let (run, coverage) = (plan.run.to_string(), to_json(coverage)?);
        let end = move || self.finish(&run, &coverage);
        let (folder, files) = blocking("ending the files of a snapshot", end).await?;
        for (file, _) in &files {
            let path = folder.path().join(file.to_string());
            store.upload(&Key::Snapshot(plan.run, *file), &path).await?;
        }
        Ok(files.into_iter().map(|(_, file)| file).collect())
    }

    /// Completes all files. Returns their folder and their manifest entries.
    fn finish(self, run: &str, coverage: &[u8]) -> Result<(Scratch, Vec<(SnapshotFile, File)>)> {
        let Self { folder, marketplace, gallery, registry, index, changes } = self;
        let write = |file: SnapshotFile, bytes: &[u8]| {
            folder
                .write(&file.to_string(), bytes)
                .map_err(|e| folder.explain(Error::io(format!("writing {file}"), e)))
        };
        write(SnapshotFile::Coverage, coverage)?;
        write(SnapshotFile::Index, &index.finish(run)?)?;
        let mut written = Vec::new();
        let mut records = Vec::new();
        if let Some(table) = marketplace {
            written.extend(table.finish().map_err(|e| folder.explain(e))?);
        }
        if let Some(table) = gallery {
            written.extend(table.finish().map_err(|e| folder.explain(e))?);
        }
        if let Some(table) = registry {
            written.extend(table.finish().map_err(|e| folder.explain(e))?);
        }
        records.extend(written.iter().step_by(2).map(|(_, _, table)| *table));
        written.extend([
            (SnapshotFile::Changes, changes.finish().map_err(|e| folder.explain(e))?, "changes"),
            (SnapshotFile::Coverage, 0, "coverage"),
            (SnapshotFile::Index, 0, "index"),
        ]);
        records.extend(schema::STORED);
        for name in records {
            let text = schema::schema(name).map(|schema| to_json(&schema)).transpose()?;
            write(SnapshotFile::Schema(name), &text.unwrap_or_default())?;
            written.push((SnapshotFile::Schema(name), 0, "schema"));
        }
        let mut files = Vec::new();
        for (file, rows, schema) in written {
            let path = folder.path().join(file.to_string());
            let (bytes, sha256) = measure(&path)?;
            let (name, schema) = (file.to_string(), schema.to_owned());
            files.push((file, File { name, bytes, sha256, rows, schema }));
        }
        Ok((folder, files))
    }
}
