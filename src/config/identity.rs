//! Who azimg is in Azure: credentials from what the environment says, for the Resource Manager, the
//! store and registries.

use super::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{Login, Registry};
use azure_core::cloud::CloudConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::ClientOptions;
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use std::sync::Arc;

impl Config {
    /// The registry of a login server: signed in to with the identity, as `username` with the password
    /// in `AZIMG_REGISTRY_PASSWORD`, or as nobody.
    pub fn registry(
        &self,
        login_server: &str,
        username: Option<&str>,
        anonymous: bool,
    ) -> Result<Registry> {
        let login = match (username, anonymous) {
            (_, true) => Login::Anonymous,
            (Some(username), false) => {
                let password = self.variable("AZIMG_REGISTRY_PASSWORD").ok_or_else(|| {
                    Error::invalid("--username: set AZIMG_REGISTRY_PASSWORD to its password")
                })?;
                Login::Password(username.to_owned(), Secret::new(password.to_owned()))
            }
            (None, false) => {
                let (_, _, cloud) = self.cloud()?;
                let credential = match &self.arm {
                    Some((_, credential)) => Arc::clone(credential),
                    None => self.credentials(&cloud)?.swap_remove(0),
                };
                Login::Entra(credential)
            }
        };
        match &self.wire {
            Some(wire) => Registry::over(Arc::clone(wire), login_server, login),
            None => Registry::new(login_server, login),
        }
    }

    /// A credential for each client id in `AZURE_CLIENT_ID`: each is a principal with its own quota.
    pub(super) fn credentials(
        &self,
        cloud: &CloudConfiguration,
    ) -> Result<Vec<Arc<dyn TokenCredential>>> {
        let ids = self.variable("AZURE_CLIENT_ID").unwrap_or_default();
        let ids: Vec<&str> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        match ids[..] {
            [] | [_] => Ok(vec![self.credential(cloud.clone(), ids.first().copied())?]),
            _ if self.variable("IDENTITY_ENDPOINT").is_none()
                && self.variable("AZURE_FEDERATED_TOKEN_FILE").is_none() =>
            {
                Err(Error::invalid(
                    "AZURE_CLIENT_ID: several client ids need managed or workload identities",
                ))
            }
            _ => ids.into_iter().map(|id| self.credential(cloud.clone(), Some(id))).collect(),
        }
    }

    /// The credential: managed identity where there is one, workload identity, a client secret,
    /// and developer tools on a desk. The metadata address of virtual machines is never probed
    /// blindly: outside Azure that takes more than a minute to fail (measured: 81 s).
    fn credential(
        &self,
        cloud: CloudConfiguration,
        id: Option<&str>,
    ) -> Result<Arc<dyn TokenCredential>> {
        let client_options =
            ClientOptions { cloud: Some(Arc::new(cloud)), ..ClientOptions::default() };
        let failed = |e: azure_core::Error| {
            Error::new(ErrorKind::Unauthenticated, format!("no credential for Azure: {e}"))
        };
        if self.variable("IDENTITY_ENDPOINT").is_some() {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: id.map(|id| UserAssignedId::ClientId(id.to_owned())),
                client_options,
            };
            return Ok(ManagedIdentityCredential::new(Some(options)).map_err(failed)?);
        }
        if self.variable("AZURE_FEDERATED_TOKEN_FILE").is_some() {
            let mut options = WorkloadIdentityCredentialOptions {
                client_id: id.map(str::to_owned),
                ..WorkloadIdentityCredentialOptions::default()
            };
            options.credential_options.client_options = client_options;
            return Ok(WorkloadIdentityCredential::new(Some(options)).map_err(failed)?);
        }
        if let (Some(secret), Some(tenant), Some(id)) =
            (self.variable("AZURE_CLIENT_SECRET"), self.variable("AZURE_TENANT_ID"), id)
        {
            let secret = Secret::new(secret.to_owned());
            let options = ClientSecretCredentialOptions { client_options };
            let credential =
                ClientSecretCredential::new(tenant, id.to_owned(), secret, Some(options));
            return Ok(credential.map_err(failed)?);
        }
        if self.variable("AZURE_CLIENT_CERTIFICATE_PATH").is_some() {
            // The SDK's certificate credential needs OpenSSL, which is kept out.
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "AZURE_CLIENT_CERTIFICATE_PATH: certificates are not taken; use a managed or \
                 workload identity, or AZURE_CLIENT_SECRET",
            ));
        }
        let tools = DeveloperToolsCredential::new(None).map_err(failed)?;
        Ok(Arc::new(Signed(tools)))
    }
}

/// Developer tools, with advice when none of them is signed in.
#[derive(Debug)]
struct Signed(Arc<DeveloperToolsCredential>);

#[async_trait::async_trait]
impl TokenCredential for Signed {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<azure_core::credentials::TokenRequestOptions<'_>>,
    ) -> azure_core::Result<azure_core::credentials::AccessToken> {
        self.0.get_token(scopes, options).await.map_err(|e| {
            let kind = azure_core::error::ErrorKind::Credential;
            azure_core::Error::with_error(
                kind,
                e,
                "nobody is signed in. Run 'az login', or set AZURE_TENANT_ID, AZURE_CLIENT_ID and \
                 AZURE_CLIENT_SECRET; or try 'azimg crawl --demo', which needs no account",
            )
        })
    }
}
