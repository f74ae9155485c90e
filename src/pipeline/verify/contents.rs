//! Checks the contents of a snapshot's files. A file may have the published bytes and still be
//! unreadable.

use crate::error::{Error, Result};
use crate::format::index::Index;
use crate::format::ndjson;
use crate::image::gallery::GalleryImage;
use crate::image::marketplace::MarketplaceImage;
use crate::image::registry::RegistryImage;
use crate::pipeline::changes::ChangeRow;
use crate::pipeline::coverage::Coverage;
use crate::pipeline::snapshot::{self, Completeness, Manifest};
use crate::store::SnapshotFile;
use crate::work::SourceName;
use parquet::file::metadata::ParquetMetaDataReader;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// Checks that the contents of a file are readable and agree with the manifest.
pub(super) fn check(
    path: &Path,
    file: SnapshotFile,
    manifest: &Manifest,
    expected: &snapshot::File,
) -> Result<()> {
    let name = &expected.name;
    let found = match file {
        SnapshotFile::Ndjson(SourceName::Marketplace) => rows::<MarketplaceImage>(path, name)?,
        SnapshotFile::Ndjson(SourceName::Gallery) => rows::<GalleryImage>(path, name)?,
        SnapshotFile::Ndjson(SourceName::Registry) => rows::<RegistryImage>(path, name)?,
        SnapshotFile::Changes => rows::<ChangeRow>(path, name)?,
        SnapshotFile::Parquet(_) => parquet_rows(path, name)?,
        SnapshotFile::Coverage => return coverage(path, name, manifest),
        SnapshotFile::Index => return index(path, name, manifest),
        SnapshotFile::Schema(_) => return json::<Value>(path, name).map(drop),
        SnapshotFile::Manifest | SnapshotFile::Success => return Ok(()),
    };
    counted(name, found, expected.rows)
}

fn counted(name: &str, found: u64, expected: u64) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::corrupt(format!("{name}: has {found} rows, but its manifest states {expected}")))
}

fn rows<T: DeserializeOwned>(path: &Path, name: &str) -> Result<u64> {
    let file = File::open(path).map_err(|e| Error::io(name, e))?;
    let mut count = 0;
    for row in ndjson::Reader::<_, T>::new(file, name)? {
        row?;
        count += 1;
    }
    Ok(count)
}

fn parquet_rows(path: &Path, name: &str) -> Result<u64> {
    let file = File::open(path).map_err(|e| Error::io(name, e))?;
    let read = ParquetMetaDataReader::new().parse_and_finish(&file);
    let read = read.map_err(|e| Error::corrupt(format!("{name}: {e}")))?;
    Ok(u64::try_from(read.file_metadata().num_rows()).unwrap_or(0))
}

fn json<T: DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(name, e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::corrupt(format!("{name}: cannot be read ({e})")))
}

/// Checks that the coverage agrees with the manifest. Nothing else confirms these members of the
/// manifest.
fn coverage(path: &Path, name: &str, manifest: &Manifest) -> Result<()> {
    let coverage: Coverage = json(path, name)?;
    let is_complete = manifest.state == Completeness::Complete;
    let same = coverage.totals == manifest.coverage
        && coverage.run == manifest.run.to_string()
        && (coverage.totals.is_complete() || !is_complete);
    if same {
        return Ok(());
    }
    Err(Error::corrupt(format!("{name}: its manifest states another end of the run")))
}

fn index(path: &Path, name: &str, manifest: &Manifest) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(name, e))?;
    let index = Index::open(bytes.into())?;
    let table = manifest.file(SnapshotFile::Parquet(SourceName::Marketplace));
    counted(name, u64::from(index.len()), table.map_or(0, |table| table.rows))
}
