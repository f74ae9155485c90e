//! One contract, every store.

use crate::support::azurite::Azurite;
use crate::support::{threads, wait_until};
use crate::tests;
use azimg::testing::config::{Config, Flags};
use azimg::testing::store::local::LocalStore;
use azimg::testing::store::memory::MemoryStore;
use azimg::testing::store::{Key, SnapshotFile, Store};
use azimg::testing::work::{RunId, SourceName};
use std::collections::HashMap;
use std::sync::Arc;
use time::OffsetDateTime;

tests![
    memory_keeps_the_contract,
    a_folder_keeps_the_contract,
    azure_blobs_keep_the_contract needs [Azurite],
    leftovers_of_a_killed_writer_are_deleted_by_the_next,
];

async fn contract(store: Arc<dyn Store>) {
    store.prepare().await.unwrap();
    store.prepare().await.unwrap();
    create_once(store.as_ref()).await;
    compare_and_swap(store.as_ref()).await;
    list(store.as_ref()).await;
    stream(store.as_ref()).await;
    let claim = store.claim().await.unwrap();
    let refused = store.claim().await.map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("another crawl"), "{refused}");
    drop(claim);
    // Giving back may take a moment where it is a request.
    wait_until("the claim that was given back", async || store.claim().await.is_ok()).await;
}

async fn create_once(store: &dyn Store) {
    let key = Key::Plan(RunId::new(OffsetDateTime::now_utc()));
    assert!(store.get(&key).await.unwrap().is_none());
    let contenders = (0..8).map(|i| store.create(&key, format!("{i}").into()));
    let won: Vec<bool> = futures::future::try_join_all(contenders).await.unwrap();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    let winner = won.iter().position(|won| *won).unwrap();
    let object = store.get(&key).await.unwrap().unwrap();
    assert_eq!(object.bytes, winner.to_string().as_bytes());
    store.delete(&key.to_string()).await.unwrap();
    store.delete(&key.to_string()).await.unwrap();
    assert!(store.get(&key).await.unwrap().is_none());
    assert!(store.create(&key, bytes::Bytes::new()).await.unwrap());
    assert!(store.get(&key).await.unwrap().unwrap().bytes.is_empty());
}

async fn compare_and_swap(store: &dyn Store) {
    let key = Key::Current;
    assert!(store.swap(&key, "one".into(), None).await.unwrap());
    assert!(!store.swap(&key, "two".into(), None).await.unwrap());
    let first = store.get(&key).await.unwrap().unwrap().tag;
    let contenders = (0..6).map(|i| store.swap(&key, format!("{i}").into(), Some(&first)));
    let won: Vec<bool> = futures::future::try_join_all(contenders).await.unwrap();
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    assert!(!store.swap(&key, "late".into(), Some(&first)).await.unwrap());
}

async fn list(store: &dyn Store) {
    let run = RunId::new(OffsetDateTime::now_utc());
    let other = RunId::new(OffsetDateTime::UNIX_EPOCH);
    let shard = |run, item: &str| Key::Shard {
        run,
        source: SourceName::Marketplace,
        item: item.to_owned(),
    };
    let items = ["eastus/a", "eastus/b%20c", "eastus2/a", "westus/a"];
    for item in items {
        assert!(store.create(&shard(run, item), "x".into()).await.unwrap());
    }
    store.create(&shard(other, "eastus/a"), "x".into()).await.unwrap();
    let prefix = Key::shards_prefix(run, SourceName::Marketplace);
    let found = store.list(&prefix).await.unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|entry| Key::parse_shard(&entry.name, run, SourceName::Marketplace).unwrap())
        .collect();
    assert_eq!(names, items);
    assert_eq!(found[0].bytes, 1);
    assert_eq!(store.list(&format!("{prefix}eastus/")).await.unwrap().len(), 2);
    assert_eq!(store.list("nothing/").await.unwrap(), []);
    let runs = store.list_level("runs/").await.unwrap();
    assert!(runs.contains(&run.to_string()) && runs.contains(&other.to_string()), "{runs:?}");
    let object = store.get(&shard(run, "eastus/b%20c")).await.unwrap().unwrap();
    assert_eq!(object.bytes, "x".as_bytes());
}

async fn stream(store: &dyn Store) {
    let folder = tempfile::tempdir().unwrap();
    let (from, into) = (folder.path().join("from"), folder.path().join("into"));
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&from, &bytes).unwrap();
    let run = RunId::new(OffsetDateTime::now_utc());
    let key = Key::Snapshot(run, SnapshotFile::Coverage);
    assert!(!store.download(&key, &into).await.unwrap());
    store.upload(&key, &from).await.unwrap();
    store.upload(&key, &from).await.unwrap();
    assert!(store.download(&key, &into).await.unwrap());
    assert_eq!(std::fs::read(&into).unwrap(), bytes);
    assert_eq!(store.get(&key).await.unwrap().unwrap().bytes, bytes);
}

fn memory_keeps_the_contract() {
    threads(async {
        contract(Arc::new(MemoryStore::default())).await;
    });
}

fn a_folder_keeps_the_contract() {
    threads(async {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("new");
        contract(Arc::new(LocalStore::new(&store))).await;
        // Whoever may read the folder may read what is published in it, as far as the umask goes, and nobody else
        // may write.
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        let mode = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap())
        };
        assert_eq!(mode(&store.join("current.json")), mode(&plain) & !0o022);
    });
}

fn leftovers_of_a_killed_writer_are_deleted_by_the_next() {
    threads(async {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path());
        let key = Key::Snapshot(RunId::new(OffsetDateTime::now_utc()), SnapshotFile::Coverage);
        assert!(store.create(&key, "{}".into()).await.unwrap());
        let object = folder.path().join(key.to_string());
        let part = |name: &str, hours: u64| {
            let path = object.with_file_name(name);
            let file = std::fs::File::create(&path).unwrap();
            let age = std::time::Duration::from_hours(hours);
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
            path
        };
        let (left, new) = (part(".part-aB3dEf", 50), part(".part-xY1z2w", 1));
        let (foreign, old) = (part(".other", 5_000), part("a table", 5_000));
        let claim = store.claim().await.unwrap();
        assert!(!left.exists(), "nobody goes on with it");
        assert!(new.exists(), "somebody may be at work on it");
        assert!(foreign.exists() && old.exists() && object.exists());
        // Whoever is refused removes nothing.
        let left = part(".part-aB3dEf", 50);
        assert!(store.claim().await.is_err() && left.exists());
        drop(claim);
    });
}

fn azure_blobs_keep_the_contract() {
    threads(async {
        let azurite = tokio::task::spawn_blocking(Azurite::start).await.unwrap();
        let environment = HashMap::from([("AzimgStorage".to_owned(), azurite.connection())]);
        let flags = Flags { store: Some("azurite".into()), ..Flags::default() };
        let store = Config::from(environment, flags).unwrap().store().unwrap();
        contract(store).await;
    });
}
