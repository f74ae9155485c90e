//! Locations of blobs. A registry answers with a redirect to storage. The redirect is followed
//! once, without any credential, and only to hosts where ACR stores blobs.

use super::Registry;
use super::content::sha256;
use super::request::{RegistryRequest, RegistryResponse};
use crate::client::{WireRequest, is_loopback, refusal};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use reqwest::header::LOCATION;
use reqwest::{Method, StatusCode};
use url::Url;

/// In bytes. The smallest body limit, because a refusal of storage can be longer than a blob.
const SMALLEST: usize = 1 << 16;

impl Registry {
    /// The address of a blob.
    pub(crate) fn blob_url(&self, repository: &str, digest: &str) -> Url {
        self.url(&["v2", repository, "blobs", digest], &[])
    }

    /// Deletes a blob. Manifests that refer to it remain, and no longer work.
    pub async fn delete_blob(&self, repository: &str, digest: &str) -> Result<()> {
        let scope = format!("repository:{repository}:delete");
        let ask = RegistryRequest {
            method: Method::DELETE,
            ..RegistryRequest::get(self.blob_url(repository, digest), &scope)
        };
        self.ask(&ask, |_| Ok(())).await
    }

    /// Fetches a blob of `size` bytes and verifies its digest.
    pub(super) async fn small_blob(
        &self,
        repository: &str,
        digest: &str,
        size: usize,
        scope: &str,
    ) -> Result<Bytes> {
        let url = self.blob_url(repository, digest);
        let mut tries = self.tries(&url);
        loop {
            let error = match self.fetch_via_redirect(&url, scope, size).await? {
                Ok(bytes) if bytes.len() == size && sha256(&bytes) == digest => return Ok(bytes),
                Ok(_) => {
                    let at = self.login_server();
                    let text = format!(
                        "{at}/{repository}@{digest}: the content does not match the digest"
                    );
                    Error::corrupt(text)
                }
                Err(error) => error,
            };
            tries.after(error).await?;
        }
    }

    /// Makes one attempt to fetch a blob. The outer result is final: the registry refused. The
    /// inner result is that of the storage location, which may be retried.
    async fn fetch_via_redirect(
        &self,
        url: &Url,
        scope: &str,
        size: usize,
    ) -> Result<Result<Bytes>> {
        let largest = size.max(SMALLEST);
        let ask =
            RegistryRequest { accept: "*/*", largest, ..RegistryRequest::get(url.clone(), scope) };
        let (status, response) = self.ask_any(&ask).await?;
        if status.is_success() {
            return Ok(Ok(response.body));
        }
        let target = self.redirect_target(url, &response)?;
        let what = format!("GET {} (blob location)", target.host_str().unwrap_or_default());
        let request = WireRequest { accept: "*/*", largest, ..WireRequest::get(target) };
        Ok(match self.sent(&request, None).await {
            Ok((StatusCode::OK, response)) => Ok(response.body),
            Ok((status, response)) => {
                Err(refusal(&what, status, &response.headers, &response.body))
            }
            Err(error) => Err(error),
        })
    }

    /// The target of a redirect, if it is allowed.
    fn redirect_target(&self, url: &Url, response: &RegistryResponse) -> Result<Url> {
        let target = response.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        self.blob_redirect_target(url, target)
    }

    /// Like [`Self::redirect_target`], for the text of the `Location` header.
    pub(crate) fn blob_redirect_target(&self, url: &Url, target: Option<&str>) -> Result<Url> {
        let target = target.and_then(|text| url.join(text).ok()).ok_or_else(|| {
            Error::bad_answer(format!(
                "{}: a redirect without a valid location",
                self.login_server()
            ))
        })?;
        self.check_blob_host(&target)?;
        Ok(target)
    }

    /// Checks that a host stores blobs: the storage of the cloud, or a data endpoint of the
    /// registry. For a registry on this machine, also any host on this machine.
    pub(super) fn check_blob_host(&self, target: &Url) -> Result<()> {
        let host = target.host_str().unwrap_or_default();
        let name = self.login_server().split('.').next().unwrap_or_default();
        let stores =
            ["blob.core.windows.net", "blob.core.usgovcloudapi.net", "blob.core.chinacloudapi.cn"];
        let of_cloud = stores.iter().any(|store| host.ends_with(&format!(".{store}")));
        let data = ["data.azurecr.io", "data.azurecr.us", "data.azurecr.cn"];
        let of_registry = data
            .iter()
            .any(|end| host.starts_with(&format!("{name}.")) && host.ends_with(&format!(".{end}")));
        let known =
            target.scheme() == "https" && target.port().is_none() && (of_cloud || of_registry);
        if known || (is_loopback(target) && self.is_local()) {
            return Ok(());
        }
        let text = format!(
            "{}: a blob redirects to {host}, which is not an allowed blob location; the redirect \
             is not followed",
            self.login_server()
        );
        Err(Error::new(ErrorKind::Denied, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Login;

    #[test]
    fn blob_redirects_are_followed_only_to_acr_storage_hosts() {
        let registry = Registry::new("example.azurecr.io", Login::Anonymous).unwrap();
        let check = |url: &str| registry.check_blob_host(&url.parse().unwrap()).is_ok();
        assert!(check("https://eusmanaged1.blob.core.windows.net/x?sig=1"));
        assert!(check("https://example.eastus.data.azurecr.io/x"));
        for bad in [
            "http://eusmanaged1.blob.core.windows.net/x",
            "https://blob.core.windows.net.evil.example/x",
            "https://evilblob.core.windows.net/x",
            "https://other.eastus.data.azurecr.io/x",
            "https://example.evil/data.azurecr.io",
            "https://169.254.169.254/metadata",
            "http://127.0.0.1:80/x",
            "https://a.blob.core.windows.net:8443/x",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }
}
