//! A store that does something before and after each of its steps.

use async_trait::async_trait;
use azimg::error::Result;
use azimg::store::{Claim, Entry, Key, Object, Store};
use bytes::Bytes;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// What happens around a step; an error ends it.
#[async_trait]
pub trait Around: Debug + Send + Sync {
    /// Before the step on `name`; what it answers is given to [`Around::after`].
    async fn before(&self, name: &str) -> Result<usize>;
    /// After the step has been done.
    async fn after(&self, step: usize) -> Result<()>;
}

/// A store whose every step has something around it.
#[derive(Debug)]
pub struct Stepped<A> {
    pub inner: Arc<dyn Store>,
    pub around: A,
}

impl<A: Around> Stepped<A> {
    async fn step<T>(&self, name: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let step = self.around.before(name).await?;
        let result = work.await;
        self.around.after(step).await?;
        result
    }
}

#[async_trait]
impl<A: Around> Store for Stepped<A> {
    fn address(&self) -> String {
        self.inner.address()
    }
    async fn prepare(&self) -> Result<()> {
        self.step("", self.inner.prepare()).await
    }
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.step(&key.to_string(), self.inner.get(key)).await
    }
    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        self.step(&key.to_string(), self.inner.download(key, into)).await
    }
    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        self.step(&key.to_string(), self.inner.create(key, bytes)).await
    }
    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        self.step(&key.to_string(), self.inner.swap(key, bytes, expected)).await
    }
    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        self.step(&key.to_string(), self.inner.upload(key, from)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.step(prefix, self.inner.list(prefix)).await
    }
    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        self.step(prefix, self.inner.list_level(prefix)).await
    }
    async fn delete(&self, name: &str) -> Result<()> {
        self.step(name, self.inner.delete(name)).await
    }
    async fn claim(&self) -> Result<Claim> {
        self.inner.claim().await
    }
}
