//! A store in memory, for tests that need no other backend.

use super::{Entry, Key, Object, Store, StoreClaim};
use crate::error::{Error, Result};
use crate::files;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// A store that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, (u64, Bytes)>>,
    claimed: Arc<tokio::sync::Mutex<()>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (u64, Bytes)>> {
        self.objects.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All objects by name.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        let objects = self.objects();
        objects.iter().map(|(name, (_, bytes))| (name.clone(), bytes.clone())).collect()
    }

    /// Removes the object called `name`.
    pub fn remove(&self, name: &str) {
        self.objects().remove(name);
    }

    /// Overwrites the object called `name`, bypassing [`Key`].
    pub fn put(&self, name: &str, bytes: Bytes) {
        let mut objects = self.objects();
        let version = objects.get(name).map_or(0, |(version, _)| *version);
        objects.insert(name.to_owned(), (version + 1, bytes));
    }
}

impl Clone for MemoryStore {
    /// An independent store with the same objects. The claim is not copied.
    fn clone(&self) -> Self {
        Self { objects: Mutex::new(self.objects().clone()), claimed: Arc::default() }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn address(&self) -> String {
        "memory".into()
    }

    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        Ok(self
            .objects()
            .get(&key.to_string())
            .map(|(version, bytes)| Object { bytes: bytes.clone(), tag: version.to_string() }))
    }

    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        let Some(object) = self.get(key).await? else { return Ok(false) };
        let written = files::create(into).and_then(|mut file| file.write_all(&object.bytes));
        written.map_err(|e| Error::io(into.display(), e))?;
        Ok(true)
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.swap(key, bytes, None).await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        let mut objects = self.objects();
        let name = key.to_string();
        let version = objects.get(&name).map(|(version, _)| *version);
        if version.map(|v| v.to_string()).as_deref() != expected {
            return Ok(false);
        }
        objects.insert(name, (version.unwrap_or(0) + 1, bytes));
        Ok(true)
    }

    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        let bytes = std::fs::read(from).map_err(|e| Error::io(from.display(), e))?;
        let mut objects = self.objects();
        let version = objects.get(&key.to_string()).map_or(0, |(version, _)| *version);
        objects.insert(key.to_string(), (version + 1, bytes.into()));
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        Ok(self
            .objects()
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, (_, bytes))| Entry { name: name.clone(), bytes: bytes.len() as u64 })
            .collect())
    }

    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        let entries = self.list(prefix).await?;
        let names: BTreeSet<_> = entries
            .iter()
            .filter_map(|entry| entry.name[prefix.len()..].split('/').next())
            .map(str::to_owned)
            .collect();
        Ok(names.into_iter().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.objects().remove(name);
        Ok(())
    }

    async fn claim(&self) -> Result<StoreClaim> {
        match Arc::clone(&self.claimed).try_lock_owned() {
            Ok(guard) => Ok(Box::new(guard)),
            Err(_) => Err(super::local::claimed(&self.address())),
        }
    }
}
