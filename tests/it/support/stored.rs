//! The results of a run, compared file by file, whatever the host, the store and the faults.

use super::azurite::Azurite;
use super::{Azure, azimg, json, read_json};
use azimg::testing::config::{Config, Flags};
use azimg::testing::format::index::Index;
use azimg::testing::pipeline::snapshot;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::SourceName;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;

pub fn package(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    let packaged = json(&mut azimg(&["package", "--out", out.to_str().unwrap(), "-o", "json"]));
    let files: Vec<&str> =
        packaged["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.contains(&"host.json") && files.contains(&"crawl/function.json"), "{files:?}");
    // The executable, its bill of materials, `host.json`, and the functions.
    assert_eq!(files.len(), 3 + azimg::testing::functions::FUNCTIONS.len());
    out.join("app")
}

/// Downloads each file of the current snapshot from Azurite to a folder.
async fn fetch(azurite: &Azurite, into: &Path) {
    let store = store(azurite);
    let manifest = snapshot::current(store.as_ref()).await.unwrap().unwrap();
    let folder = into.join("snapshots").join(manifest.run.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let tables = SourceName::ALL
        .iter()
        .flat_map(|table| [SnapshotFile::Parquet(*table), SnapshotFile::Ndjson(*table)]);
    let schemas = ["marketplace", "gallery", "registry", "changes", "coverage", "manifest"];
    let files = [
        SnapshotFile::Changes,
        SnapshotFile::Coverage,
        SnapshotFile::Index,
        SnapshotFile::Manifest,
        SnapshotFile::Success,
    ];
    let files = files.into_iter().chain(tables);
    for file in files.chain(schemas.map(SnapshotFile::Schema)) {
        let key = Key::Snapshot(manifest.run, file);
        assert!(store.download(&key, &folder.join(file.to_string())).await.unwrap(), "{key}");
    }
    let current = into.join("current.json");
    assert!(store.download(&Key::Current, &current).await.unwrap());
}

/// The text of a snapshot's files, without the id of the run and its times. For a Parquet file, the
/// text of its columns.
pub fn faceless(store: &Path) -> BTreeMap<String, String> {
    let current = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    let folder = store.join("snapshots").join(run);
    let manifest = read_json(&folder.join("manifest.json"));
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let text = match name.as_str() {
            name if name.ends_with(".parquet") => columns(bytes),
            // Sizes and checksums depend on run ids and times.
            "manifest.json" => {
                let mut manifest = manifest.clone();
                for file in manifest["files"].as_array_mut().unwrap() {
                    for member in ["bytes", "sha256"] {
                        assert!(file.as_object_mut().unwrap().remove(member).is_some());
                    }
                }
                manifest.to_string()
            }
            name if name.ends_with(".ndjson.zst") => {
                String::from_utf8(zstd::decode_all(bytes.as_slice()).unwrap()).unwrap()
            }
            "index.bin" => indexed(bytes),
            _ => String::from_utf8(bytes).unwrap(),
        };
        let mut text = text.replace(run, "RUN");
        for moment in ["startedAt", "publishedAt"] {
            text = text.replace(manifest[moment].as_str().unwrap(), "MOMENT");
        }
        texts.insert(name, text);
    }
    texts
}

/// The rows of an index.
fn indexed(bytes: Vec<u8>) -> String {
    let index = Index::open(bytes.into()).unwrap();
    let mut text = Vec::new();
    for at in 0..index.len() {
        index.write_json(at, index.path_of(at), OffsetDateTime::UNIX_EPOCH, &mut text);
        text.push(b'\n');
    }
    String::from_utf8(text).unwrap()
}

/// All columns of a Parquet file except the id of the run and its times.
fn columns(bytes: Vec<u8>) -> String {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr().root_schema().clone();
    let mut text = format!("{schema:?}");
    for row in reader.get_row_iter(None).unwrap() {
        for (name, field) in row.unwrap().get_column_iter() {
            if !["observed_at", "observed_run", "first_seen_at"].contains(&name.as_str()) {
                writeln!(text, "{name}: {field}").unwrap();
            }
        }
    }
    text
}

/// The snapshot that the embedded host makes of the same Azure.
pub fn embedded(azure: &Azure) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    faceless(folder.path())
}

/// The snapshot in Azurite.
pub fn stored(runtime: &tokio::runtime::Runtime, azurite: &Azurite) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(fetch(azurite, folder.path()));
    faceless(folder.path())
}

pub fn assert_same(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert_eq!(one.len(), 17);
    for (name, text) in one {
        // Not `assert_eq`: its message would contain a whole table.
        if *text != other[name] {
            let both = text.bytes().zip(other[name].bytes());
            let at = both.take_while(|(one, other)| one == other).count();
            let near = |text: &str| {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                text[from..text.ceil_char_boundary((at + 300).min(text.len()))].to_owned()
            };
            panic!("{name} differs:\n{}\n\n{}", near(text), near(&other[name]));
        }
    }
}

/// The store in Azurite, without any proxy of a test.
pub fn store(azurite: &Azurite) -> Arc<dyn Store> {
    let environment = HashMap::from([("AzimgStorage".to_owned(), azurite.connection())]);
    let flags = Flags { store: Some("azurite".into()), ..Flags::default() };
    Config::from(environment, flags).unwrap().store().unwrap()
}
