//! Azure Blob and Queue storage, through the official SDK.
//!
//! There are three ways to authenticate: an Entra credential over https, a SAS in the URL, or the
//! account key of an emulator on a loopback address. Account keys of real accounts are not
//! accepted.

mod blobs;
mod queues;
mod shared_key;
mod tracing_policy;
mod transport;

pub use blobs::AzureStore;
pub use queues::AzureQueues;

use crate::client::causes;
use crate::error::{Error, ErrorKind, Result};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Url};
use shared_key::SharedKey;
use std::sync::Arc;
use time::Duration;
use tracing_policy::TracingPolicy;

/// The address of a storage service, and how to authenticate.
#[derive(Clone)]
pub struct Endpoint {
    /// The service's address, including the account. May contain a SAS.
    pub url: Url,
    /// How to authenticate.
    pub access: Access,
}

/// How to authenticate to storage.
#[derive(Clone)]
pub enum Access {
    /// With a token from this credential.
    Entra(Arc<dyn TokenCredential>),
    /// With the SAS in the URL.
    Sas,
    /// With an emulator's account name and key.
    Emulator(String, Secret),
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(bare(&self.url).as_str())
    }
}

/// An address that is safe to show: without its query, which may contain a signature, and without
/// user information.
fn bare(address: &Url) -> Url {
    let mut url = address.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail for addresses that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

impl Endpoint {
    /// The URL of `name` (a container or a queue) at this endpoint.
    fn join(&self, name: &str) -> Result<Url> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| Error::invalid(format!("{self:?} is not a storage URL")))?
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

    fn client_options(&self) -> Result<ClientOptions> {
        // Retries are short: a message that fails is delivered again, and an interactive user waits
        // for a store that does not exist.
        let retry = ExponentialRetryOptions {
            max_retries: 5,
            max_total_elapsed: Duration::seconds(8),
            ..ExponentialRetryOptions::default()
        };
        let mut options = ClientOptions {
            retry: RetryOptions::exponential(retry),
            transport: Some(transport::transport()?),
            ..ClientOptions::default()
        };
        options.per_try_policies.push(Arc::new(TracingPolicy));
        if let Access::Emulator(account, key) = &self.access {
            options.per_try_policies.push(Arc::new(SharedKey::new(account, key)));
        }
        Ok(options)
    }
}

pub(super) fn status(error: &azure_core::Error) -> Option<u16> {
    error.http_status().map(u16::from)
}

/// Finds the error of [`transport`] among the sources of an SDK error. The SDK wraps errors that it
/// does not retry.
fn ours(error: &azure_core::Error) -> Option<&Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        cause = error.source();
    }
    None
}

/// Describes a failed storage request by its status and error code, never by a body or a query
/// string.
pub(super) fn storage_error(what: &impl std::fmt::Display, error: &azure_core::Error) -> Error {
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
                _ => (ErrorKind::BadAnswer, format!("storage answered {status} {code}")),
            }
        }
        Core::Credential => {
            (ErrorKind::Unauthenticated, format!("no token for storage: {}", causes(error)))
        }
        Core::Io | Core::Connection => {
            (ErrorKind::Transient, format!("cannot be reached: {}", causes(error)))
        }
        _ => match ours(error) {
            Some(ours) => (ErrorKind::Transient, format!("cannot be reached: {ours}")),
            None => (ErrorKind::Bug, causes(error)),
        },
    };
    Error::new(kind, format!("{what}: {text}"))
}
