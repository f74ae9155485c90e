//! Azure Blob and Queue storage, through the official SDK.
//!
//! Three ways in: an Entra credential over https, a SAS in the URL, or the account key of an
//! emulator on a loopback address. Account keys of real accounts are not taken.

use super::{Claim, Entry, Key, Object, Store};
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::headers::Headers;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{ClientOptions, Context, Etag, Method, Request, RequestContent, Url};
use azure_storage_blob::models::{BlobClientUploadOptions, BlobContainerClientListBlobsOptions};
use azure_storage_blob::stream::tokio::FileStream;
use azure_storage_blob::{BlobClient, BlobContainerClient, BlobContainerClientOptions};
use azure_storage_queue::models::{QueueClientSendMessageOptions, QueueMessage};
use azure_storage_queue::{QueueClient, QueueClientOptions};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Where storage is, and how to get in.
#[derive(Clone)]
pub struct Endpoint {
    /// The service's address, with the account in it; may carry a SAS.
    pub url: Url,
    /// How to get in.
    pub access: Access,
}

/// How to get into storage.
#[derive(Clone)]
pub enum Access {
    /// With a token of this credential.
    Entra(Arc<dyn TokenCredential>),
    /// With the SAS in the URL.
    Sas,
    /// With an emulator's account name and key.
    Emulator(String, Secret),
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        f.write_str(url.as_str())
    }
}

impl Endpoint {
    /// `name` (a container or a queue) at this endpoint.
    fn join(&self, name: &str) -> Result<Url> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::invalid(format!("{self:?} is no storage address")))?
            .pop_if_empty()
            .extend(name.split('/'));
        Ok(url)
    }

    fn credential(&self) -> Option<Arc<dyn TokenCredential>> {
        match &self.access {
            Access::Entra(credential) => Some(Arc::clone(credential)),
            Access::Sas | Access::Emulator(..) => None,
        }
    }

    fn client_options(&self) -> ClientOptions {
        let mut options = ClientOptions::default();
        if let Access::Emulator(account, key) = &self.access {
            options
                .per_try_policies
                .push(Arc::new(SharedKey { account: account.clone(), key: key.clone() }));
        }
        options
    }
}

/// A store in one container.
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
    /// The store in `container` of `endpoint`.
    pub fn new(endpoint: &Endpoint, container: &str) -> Result<Self> {
        let url = endpoint.join(container)?;
        let mut address = url.clone();
        address.set_query(None);
        let mut options = BlobContainerClientOptions::default();
        options.client_options = endpoint.client_options();
        let container = BlobContainerClient::new(url, endpoint.credential(), Some(options))
            .map_err(|e| storage_error(&address, e))?;
        Ok(Self { container, address: address.to_string() })
    }

    fn blob(&self, name: &str) -> BlobClient {
        self.container.blob_client(name)
    }

    fn error(&self, name: &str, error: azure_core::Error) -> Error {
        storage_error(&format!("{}/{name}", self.address), error)
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
            Err(e) => Err(self.error(&key.to_string(), e)),
        }
    }
}

fn status(error: &azure_core::Error) -> Option<u16> {
    error.http_status().map(u16::from)
}

/// Says what storage answered by its code; never a body, never a query string.
fn storage_error(what: &impl std::fmt::Display, error: azure_core::Error) -> Error {
    use azure_core::error::ErrorKind as Core;
    let (kind, text) = match error.kind() {
        Core::HttpResponse { status, error_code, .. } => {
            let status = u16::from(*status);
            let code = error_code.clone().unwrap_or_default();
            match status {
                401 => (ErrorKind::Unauthenticated, format!("refused ({code})")),
                403 => (
                    ErrorKind::Denied,
                    format!(
                        "refused ({code}); the identity needs the role Storage Blob Data \
                         Contributor, and Storage Queue Data Contributor for queues"
                    ),
                ),
                404 => (ErrorKind::NotFound, format!("not found ({code})")),
                408 | 429 | 500..=599 => {
                    (ErrorKind::Transient, format!("storage answered {status} {code}"))
                }
                _ => (ErrorKind::Invalid, format!("storage answered {status} {code}")),
            }
        }
        Core::Credential => (ErrorKind::Unauthenticated, first_line(&error)),
        Core::Io | Core::Connection => {
            (ErrorKind::Transient, format!("cannot be reached: {}", first_line(&error)))
        }
        _ => (ErrorKind::Bug, first_line(&error)),
    };
    Error::new(kind, format!("{what}: {text}"))
}

fn first_line(error: &azure_core::Error) -> String {
    let text = crate::client::redact(&error.to_string());
    text.lines().next().unwrap_or_default().to_owned()
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
            // An identity may be allowed to write blobs and not to make containers.
            Err(e) if status(&e) == Some(403) && self.container.exists().await.unwrap_or(false) => {
                Ok(())
            }
            Err(e) => Err(self.error("", e)),
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let name = key.to_string();
        let result = match self.blob(&name).download(None).await {
            Ok(result) => result,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(self.error(&name, e)),
        };
        let tag = result.properties.etag.map(|etag| etag.to_string()).unwrap_or_default();
        let bytes = result.body.collect().await.map_err(|e| self.error(&name, e))?;
        Ok(Some(Object { bytes, tag }))
    }

    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        let name = key.to_string();
        let mut result = match self.blob(&name).download(None).await {
            Ok(result) => result,
            Err(e) if status(&e) == Some(404) => return Ok(false),
            Err(e) => return Err(self.error(&name, e)),
        };
        let io = |e| Error::io(format!("writing {}", into.display()), e);
        let mut file = tokio::fs::File::create(into).await.map_err(io)?;
        while let Some(chunk) = result.body.next().await {
            let chunk = chunk.map_err(|e| self.error(&name, e))?;
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
        let stream =
            FileStream::builder(file).build().await.map_err(|e| self.error(&key.to_string(), e))?;
        let body: azure_core::http::Body = stream.into();
        if self.write(key, body.into(), BlobClientUploadOptions::default()).await? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("{}/{key}: somebody else is writing it", self.address),
        ))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(prefix.to_owned()),
            ..Default::default()
        };
        let pager = self.container.list_blobs(Some(options)).map_err(|e| self.error(prefix, e))?;
        let items: Vec<_> = pager.try_collect().await.map_err(|e| self.error(prefix, e))?;
        let mut entries: Vec<_> = items
            .into_iter()
            .filter_map(|item| {
                let bytes = item.properties.and_then(|p| p.content_length).unwrap_or(0);
                Some(Entry { name: item.name?, bytes })
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        // The SDK's stable release has no delimiter listing; names are folded here.
        let entries = self.list(prefix).await?;
        let mut names: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.name.strip_prefix(prefix)?.split('/').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        match self.blob(name).delete(None).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(e) => Err(self.error(name, e)),
        }
    }

    async fn claim(&self) -> Result<Claim> {
        const NAME: &str = ".crawl.lock";
        let blob = self.blob(NAME);
        let options = BlobClientUploadOptions::default().if_not_exists();
        match blob.upload(RequestContent::from(Vec::new()), Some(options)).await {
            Ok(_) => {}
            Err(e) if matches!(status(&e), Some(409 | 412)) => {}
            Err(e) => return Err(self.error(NAME, e)),
        }
        let lease = match blob.acquire_lease(LEASE_SECONDS, None).await {
            Ok(response) => response,
            Err(e) if status(&e) == Some(409) => {
                return Err(super::local::claimed(&self.address));
            }
            Err(e) => return Err(self.error(NAME, e)),
        };
        let id = lease
            .headers()
            .get_optional_str(&"x-ms-lease-id".into())
            .unwrap_or_default()
            .to_owned();
        Ok(Box::new(Lease::keep(blob, id)))
    }
}

/// A lease lasts this long when its holder dies; it is renewed thrice in that time.
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
                    let error = storage_error(&"the claim on the store", error);
                    tracing::warn!(%error, "the claim on the store was not renewed");
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
            // Best effort: a lease that is not given back lapses by itself.
            runtime.spawn(async move { blob.release_lease(id, None).await.is_ok() });
        }
    }
}

/// A storage queue that messages are sent to directly, with a delay.
#[derive(Debug, Clone)]
pub struct AzureQueues {
    endpoint: Endpoint,
}

impl AzureQueues {
    /// The queues at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// A client for the queue called `name`.
    pub fn queue(&self, name: &str) -> Result<QueueClient> {
        let url = self.endpoint.join(name)?;
        let mut options = QueueClientOptions::default();
        options.client_options = self.endpoint.client_options();
        QueueClient::new(url, self.endpoint.credential(), Some(options))
            .map_err(|e| storage_error(&name, e))
    }

    /// Sends `text`, base64-encoded as the host expects it, to be seen after `delay`.
    pub async fn send(&self, name: &str, text: &str, delay: Duration) -> Result<()> {
        let queue = self.queue(name)?;
        let message = QueueMessage { message_text: Some(azure_core::base64::encode(text)) };
        let seconds = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX).min(7 * 24 * 3600);
        for first in [true, false] {
            let content = message
                .clone()
                .try_into()
                .map_err(|e: azure_core::Error| storage_error(&name, e))?;
            let options = QueueClientSendMessageOptions {
                visibility_timeout: (seconds > 0).then_some(seconds),
                ..Default::default()
            };
            match queue.send_message(content, Some(options)).await {
                Ok(_) => return Ok(()),
                Err(e) if first && status(&e) == Some(404) => {
                    queue.create(None).await.map_err(|e| storage_error(&name, e))?;
                }
                Err(e) => return Err(storage_error(&name, e)),
            }
        }
        Err(Error::transient(format!("queue {name} was just made and is not there")))
    }
}

/// Signs requests with an account key ("Shared Key" of the storage services).
#[derive(Debug)]
struct SharedKey {
    account: String,
    key: Secret,
}

#[async_trait]
impl Policy for SharedKey {
    async fn send(
        &self,
        ctx: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let now = azure_core::time::to_rfc7231(&azure_core::time::OffsetDateTime::now_utc());
        request.insert_header("x-ms-date", now);
        let length = match request.body().len() {
            Some(0) | None => String::new(),
            Some(length) => length.to_string(),
        };
        let text = string_to_sign(
            request.method(),
            request.headers(),
            &length,
            &self.account,
            request.url(),
        );
        let signature = azure_core::hmac::hmac_sha256(&text, &self.key)?;
        request.insert_header("authorization", format!("SharedKey {}:{signature}", self.account));
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// "Authorize with Shared Key", learn.microsoft.com/rest/api/storageservices.
fn string_to_sign(
    method: Method,
    headers: &Headers,
    length: &str,
    account: &str,
    url: &Url,
) -> String {
    let header = |name: &'static str| headers.get_optional_str(&name.into()).unwrap_or_default();
    let mut text = format!("{}\n", method.as_str());
    for name in ["content-encoding", "content-language"] {
        text += &format!("{}\n", header(name));
    }
    text += &format!("{length}\n");
    for name in [
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        text += &format!("{}\n", header(name));
    }
    let own: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.as_str()))
        .filter(|(name, _)| name.starts_with("x-ms-"))
        .collect();
    for (name, value) in own {
        text += &format!("{name}:{}\n", value.trim());
    }
    text += &format!("/{account}{}", url.path());
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        query.entry(name.to_ascii_lowercase()).or_default().push(value.into_owned());
    }
    for (name, mut values) in query {
        values.sort();
        text += &format!("\n{name}:{}", values.join(","));
    }
    text
}
