//! Sends storage requests through azimg's own HTTP client, so that an unreachable service is
//! reported with the same messages and within the same time as elsewhere.

use crate::client::{Reachability, send_failure, storage_client};
use crate::error::{Error, Result};
use crate::telemetry::awaited;
use async_trait::async_trait;
use azure_core::error::ErrorKind as Core;
use azure_core::http::{AsyncRawResponse, HttpClient, Request, Transport};
use std::error::Error as _;
use std::sync::{Arc, LazyLock};
use tokio::time::Instant;

/// The HTTP client, with the servers that it reached so far.
#[derive(Debug)]
struct StorageHttp {
    client: reqwest::Client,
    reached: Reachability,
}

/// The transport of all storage requests. There is one, so that they share connections.
pub(super) fn transport() -> Result<Transport> {
    static CLIENT: LazyLock<Result<Arc<StorageHttp>>> = LazyLock::new(|| {
        let client = storage_client()?;
        Ok(Arc::new(StorageHttp { client, reached: Reachability::default() }))
    });
    let client = CLIENT.as_ref().map_err(Error::again)?;
    Ok(Transport::new(Arc::clone(client) as Arc<dyn HttpClient>))
}

#[async_trait]
impl HttpClient for StorageHttp {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let _wait = awaited::wait_for(request.url().host_str().unwrap_or_default().to_owned());
        let began = Instant::now();
        let error = match self.client.execute_request(request).await {
            Ok(answer) => {
                self.reached.record_reached(request.url());
                return Ok(answer);
            }
            Err(error) => error,
        };
        let cause = error.source().and_then(|cause| cause.downcast_ref::<reqwest::Error>());
        let Some(cause) = cause else { return Err(error) };
        let ours = send_failure(request.url().host_str().unwrap_or_default(), cause);
        let is_final = if matches!(error.kind(), Core::Connection) {
            self.reached.failed(request.url(), began, &ours)
        } else {
            self.reached.record_reached(request.url());
            false
        };
        let text = ours.to_string();
        // The SDK retries connection failures and no others.
        let kind = if is_final { Core::Other } else { error.kind().clone() };
        Err(azure_core::Error::with_error(kind, ours, text))
    }
}
