//! A store in one blob container.

use super::{Endpoint, bare, status, storage_error};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::store::{Entry, Key, Object, Store, StoreClaim, local};
use async_trait::async_trait;
use azure_core::http::{Etag, RequestContent};
use azure_storage_blob::models::{BlobClientUploadOptions, BlobContainerClientListBlobsOptions};
use azure_storage_blob::stream::tokio::FileStream;
use azure_storage_blob::{BlobClient, BlobContainerClient, BlobContainerClientOptions};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A store in one blob container.
pub struct AzureStore {
    container: BlobContainerClient,
    address: String,
}

impl std::fmt::Debug for AzureStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address)
    }
}

impl AzureStore {
    /// Creates a store in `container` of `endpoint`.
    pub fn new(endpoint: &Endpoint, container: &str) -> Result<Self> {
        let url = endpoint.join(container)?;
        let address = bare(&url);
        let options = BlobContainerClientOptions {
            client_options: endpoint.client_options()?,
            ..BlobContainerClientOptions::default()
        };
        let container = BlobContainerClient::new(url, endpoint.credential(), Some(options))
            .map_err(|e| storage_error(&address, &e))?;
        Ok(Self { container, address: address.to_string() })
    }

    fn blob(&self, name: &str) -> BlobClient {
        self.container.blob_client(name)
    }

    fn error(&self, name: &str, error: &azure_core::Error) -> Error {
        storage_error(&format!("{}/{name}", self.address), error)
    }

    /// Calls `take` for each blob under `prefix`, in the order of the listing.
    async fn each(&self, prefix: &str, mut take: impl FnMut(Entry) + Send) -> Result<()> {
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            ..Default::default()
        };
        let pager = self.container.list_blobs(Some(options));
        let mut pager = pager.map_err(|e| self.error(prefix, &e))?;
        while let Some(item) = pager.try_next().await.map_err(|e| self.error(prefix, &e))? {
            let bytes = item.properties.and_then(|p| p.content_length).unwrap_or(0);
            if let Some(name) = item.name {
                take(Entry { name, bytes });
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        key: &Key,
        content: RequestContent<Bytes, azure_core::http::NoFormat>,
        mut options: BlobClientUploadOptions<'_>,
    ) -> Result<bool> {
        options.blob_content_type = Some(key.content_type().into());
        match self.blob(&key.to_string()).upload(content, Some(options)).await {
            Ok(_) => Ok(true),
            // 409 BlobAlreadyExists for create, 412 ConditionNotMet for swap (measured).
            Err(e) if matches!(status(&e), Some(409 | 412)) => Ok(false),
            Err(e) => Err(self.error(&key.to_string(), &e)),
        }
    }
}

#[async_trait]
impl Store for AzureStore {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn prepare(&self) -> Result<()> {
        match self.container.create(None).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(409) => Ok(()),
            // An identity may have the right to write blobs but not to create containers.
            Err(e) if status(&e) == Some(403) && self.container.exists().await.unwrap_or(false) => {
                Ok(())
            }
            Err(e) => Err(self.error("", &e)),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let name = key.to_string();
        let result = match self.blob(&name).download(None).await {
            Ok(result) => result,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(self.error(&name, &e)),
        };
        let tag = result.properties.etag.map(|etag| etag.to_string()).unwrap_or_default();
        let bytes = result.body.collect().await.map_err(|e| self.error(&name, &e))?;
        Ok(Some(Object { bytes, tag }))
    }

    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        let name = key.to_string();
        let mut result = match self.blob(&name).download(None).await {
            Ok(result) => result,
            Err(e) if status(&e) == Some(404) => return Ok(false),
            Err(e) => return Err(self.error(&name, &e)),
        };
        let io = |e| Error::io(format!("writing {}", into.display()), e);
        let mut file = tokio::fs::File::from_std(files::create(into).map_err(io)?);
        while let Some(chunk) = result.body.next().await {
            let chunk = chunk.map_err(|e| self.error(&name, &e))?;
            file.write_all(&chunk).await.map_err(io)?;
        }
        file.flush().await.map_err(io)?;
        Ok(true)
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let options = BlobClientUploadOptions::default().if_not_exists();
        self.write(key, RequestContent::from(bytes.to_vec()), options).await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        let options = match expected {
            None => BlobClientUploadOptions::default().if_not_exists(),
            Some(tag) => BlobClientUploadOptions {
                if_match: Some(Etag::from(tag.to_owned())),
                ..Default::default()
            },
        };
        self.write(key, RequestContent::from(bytes.to_vec()), options).await
    }

    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        let io = |e| Error::io(format!("reading {}", from.display()), e);
        let file = tokio::fs::File::open(from).await.map_err(io)?;
        let stream = FileStream::builder(file)
            .build()
            .await
            .map_err(|e| self.error(&key.to_string(), &e))?;
        let body: azure_core::http::Body = stream.into();
        if self.write(key, body.into(), BlobClientUploadOptions::default()).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("{}/{key}: another process is writing it", self.address),
        ))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.each(prefix, |entry| entries.push(entry)).await?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        // The SDK's stable release cannot list with a delimiter. Names are reduced while they
        // stream in, because the retained runs of a crawl of all locations have more than a
        // million.
        let mut names = BTreeSet::new();
        let fold = |entry: Entry| {
            let name = entry.name.strip_prefix(prefix).and_then(|rest| rest.split('/').next());
            if let Some(name) = name.filter(|name| !names.contains(*name)) {
                names.insert(name.to_owned());
            }
        };
        self.each(prefix, fold).await?;
        Ok(names.into_iter().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        match self.blob(name).delete(None).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(e) => Err(self.error(name, &e)),
        }
    }

    async fn claim(&self) -> Result<StoreClaim> {
        const NAME: &str = ".crawl.lock";
        let blob = self.blob(NAME);
        let options = BlobClientUploadOptions::default().if_not_exists();
        match blob.upload(RequestContent::from(Vec::new()), Some(options)).await {
            Ok(_) => {}
            Err(e) if matches!(status(&e), Some(409 | 412)) => {}
            Err(e) => return Err(self.error(NAME, &e)),
        }
        let lease = match blob.acquire_lease(LEASE_SECONDS, None).await {
            Ok(response) => response,
            Err(e) if status(&e) == Some(409) => {
                return Err(local::claimed(&self.address));
            }
            Err(e) => return Err(self.error(NAME, &e)),
        };
        let id = lease
            .headers()
            .get_optional_str(&"x-ms-lease-id".into())
            .unwrap_or_default()
            .to_owned();
        Ok(Box::new(Lease::keep(blob, id)))
    }
}

/// Lifetime of a lease whose holder died, in seconds. It is renewed three times in that time.
const LEASE_SECONDS: i32 = 60;

struct Lease {
    renewal: tokio::task::JoinHandle<()>,
    release: Option<(Arc<BlobClient>, String)>,
}

impl Lease {
    fn keep(blob: BlobClient, id: String) -> Self {
        let blob = Arc::new(blob);
        let (renewed, lease) = (Arc::clone(&blob), id.clone());
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                if let Err(error) = renewed.renew_lease(lease.clone(), None).await {
                    let error = storage_error(&"the lease on the store", &error);
                    tracing::warn!(%error, "the lease on the store was not renewed");
                }
            }
        });
        Self { renewal, release: Some((blob, id)) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
        if let (Some((blob, id)), Ok(runtime)) =
            (self.release.take(), tokio::runtime::Handle::try_current())
        {
            // Best effort: a lease that is not released expires.
            runtime.spawn(async move { blob.release_lease(id, None).await.is_ok() });
        }
    }
}
