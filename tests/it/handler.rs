//! The packaged app behind a strict Functions host, with real queues and blobs.

use crate::support::azurite::Azurite;
use crate::support::host::TestHost;
use crate::support::{Azure, azimg, finish, json, read_json};
use arrow_array::Array;
use azimg::config::{Config, Flags};
use azimg::pipeline::snapshot;
use azimg::sim::{Scale, generate};
use azimg::store::{Key, SnapshotFile};
use azimg::work::SourceName;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn package(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    let packaged = json(&mut azimg(&["package", "--out", out.to_str().unwrap(), "-o", "json"]));
    let files: Vec<&str> =
        packaged["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert!(files.contains(&"host.json") && files.contains(&"crawl/function.json"), "{files:?}");
    assert_eq!(files.len(), 2 + 7);
    out.join("app")
}

fn settings(azure: &Azure) -> BTreeMap<String, String> {
    azure.variables()
}

/// The current snapshot in Azurite, file by file, in a folder.
async fn fetch(azurite: &Azurite, into: &Path) {
    let environment = HashMap::from([("AzimgStorage".to_owned(), azurite.connection())]);
    let flags = Flags { store: Some("azurite".into()), ..Flags::default() };
    let store = Config::from(environment, flags).unwrap().store().unwrap();
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

/// The text of a snapshot's files, with the run's name and its times taken out; of the Parquet
/// file, the text of its columns.
fn faceless(store: &Path) -> BTreeMap<String, String> {
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
            // Sizes and checksums follow from run ids and times.
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
            // Whatever is no text in it stays as long as it is, and does not name the run.
            "index.bin" => String::from_utf8_lossy(&bytes).into_owned(),
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

/// Every column of a Parquet file but the run's name and times.
fn columns(bytes: Vec<u8>) -> String {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let mut text = format!("{:?}", reader.schema().fields());
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if !["observed_at", "observed_run", "first_seen_at"].contains(&field.name().as_str()) {
                for row in 0..column.len() {
                    writeln!(text, "{:?}", column.slice(row, 1)).unwrap();
                }
            }
        }
    }
    text
}

/// What the embedded host makes of the same Azure.
fn embedded(azure: &Azure) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", store, "-o", "json"]));
    faceless(folder.path())
}

/// What lies in Azurite.
fn stored(runtime: &tokio::runtime::Runtime, azurite: &Azurite) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(fetch(azurite, folder.path()));
    faceless(folder.path())
}

fn assert_same(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert_eq!(one.len(), 17);
    for (name, text) in one {
        // Not assert_eq: a table is no message.
        assert!(*text == other[name], "{name} differs");
    }
}

async fn published(host: &TestHost) -> bool {
    host.get("/api/health").await.0 == 200
}

#[test]
fn a_timer_ends_in_the_snapshot_that_the_embedded_host_makes() {
    let azurite = Azurite::start();
    let azure = Azure::start(generate(Scale::Small, 31));
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite, settings(&azure));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        host.start().await;
        assert_eq!(host.get("/api/health").await.0, 503);
        host.fire("plan").await;
        host.serve_until(async || published(&host).await).await;
        let (status, listed) = host.get("/api/images?publisher=debian&top=1").await;
        assert_eq!((status, listed["value"].as_array().unwrap().len()), (200, 1));
        let (status, _) = host.get("/api/images?colour=red").await;
        assert_eq!(status, 400);
    });
    assert_eq!(*host.failed.lock().unwrap(), Vec::<String>::new());
    assert_same(&stored(&runtime, &azurite), &embedded(&azure));
}

#[test]
fn a_handler_killed_at_random_moments_ends_with_the_same_rows() {
    let azurite = Azurite::start();
    let azure = Azure::start_with(generate(Scale::Small, 32), Duration::from_millis(30), None);
    let folder = tempfile::tempdir().unwrap();
    let host = TestHost::new(&package(folder.path()), &azurite, settings(&azure));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let random = RefCell::new(StdRng::seed_from_u64(3));
    runtime.block_on(async {
        host.start().await;
        host.fire("plan").await;
        for _ in 0..8 {
            let wait = Duration::from_millis(random.borrow_mut().random_range(20..400));
            let killed = async {
                tokio::time::sleep(wait).await;
                host.kill();
            };
            futures::join!(killed, host.serve("crawl"));
            host.start().await;
        }
        // A message that was under way when the handler died stays hidden for its lease; the
        // sweeps send its item again.
        host.serve_until(async || {
            host.fire("sweep").await;
            published(&host).await
        })
        .await;
    });
    assert!(!host.failed.lock().unwrap().is_empty(), "the handler was never killed at work");
    let (stored, mut embedded) = (stored(&runtime, &azurite), embedded(&azure));
    // A redelivered item counts its deliveries in the coverage's attempts: rows are compared.
    embedded.insert("coverage.json".into(), stored["coverage.json"].clone());
    assert_same(&stored, &embedded);
}

#[test]
fn a_handler_without_its_settings_says_so_and_does_not_exit_with_zero() {
    let mut command = azimg(&["serve"]);
    let (code, _, stderr) = finish(&mut command);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("FUNCTIONS_CUSTOMHANDLER_PORT"), "{stderr}");
    let mut command = azimg(&["serve", "--port", "0", "--store", "https://nowhere.example/a/b"]);
    let (code, stdout, stderr) = finish(&mut command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stdout.contains("is no store"), "{stdout}");
}
