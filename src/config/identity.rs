//! The identity of azimg in Azure: selects credentials from the environment, for the Resource
//! Manager, the store and registries.
//!
//! Credentials set for a program take precedence over those of a machine: a client secret, a
//! federated token (workload identity), the managed identity of App Service, then developer tools.
//! The identity endpoint of a virtual machine is not probed unless requested: outside Azure that
//! takes more than a minute to fail (measured: 81 s). `AZURE_TOKEN_CREDENTIALS` selects it, or any
//! other credential by name, as in the SDKs.

use super::endpoint::TokenHttp;
use super::tools::DeveloperTools;
use super::{Config, GuardedSetting, PlainSetting, plain_address};
use crate::client::Tokens;
use crate::error::{Error, ErrorKind, Result};
use azure_core::cloud::CloudConfiguration;
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use std::sync::Arc;

/// A kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CredentialKind {
    /// A client secret of a service principal.
    Secret,
    /// A federated token, as in Kubernetes.
    Workload,
    /// The managed identity of a function app or a virtual machine.
    Managed,
    /// `az`.
    Azure,
    /// `azd`.
    AzureDeveloper,
    /// `az`, else `azd`.
    Tools,
}

/// The values of `AZURE_TOKEN_CREDENTIALS`, in lower case and without their `Credential` suffix
/// (learn.microsoft.com, "Customize the `DefaultAzureCredential`").
const NAMED: [(&str, CredentialKind); 6] = [
    ("environment", CredentialKind::Secret),
    ("workloadidentity", CredentialKind::Workload),
    ("managedidentity", CredentialKind::Managed),
    ("azurecli", CredentialKind::Azure),
    ("azuredevelopercli", CredentialKind::AzureDeveloper),
    ("dev", CredentialKind::Tools),
];

impl Config {
    /// The first identity, which is used for registries and storage.
    pub(super) fn identity(&self) -> Result<Tokens> {
        Ok(self.identities()?.swap_remove(0))
    }

    /// One identity per client id in `AZURE_CLIENT_ID`: each is a principal with its own quota.
    /// They are created once, so that all clients share their tokens.
    pub(super) fn identities(&self) -> Result<Vec<Tokens>> {
        if let Some((_, tokens)) = &self.arm {
            return Ok(vec![tokens.clone()]);
        }
        if let Some(made) = self.identities.get() {
            return Ok(made.clone());
        }
        let kind = self.kind()?;
        let ids = self.variable(PlainSetting::CLIENT_ID).unwrap_or_default();
        let ids: Vec<&str> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
        if ids.len() > 1 && !matches!(kind, CredentialKind::Managed | CredentialKind::Workload) {
            return Err(Error::invalid(
                "AZURE_CLIENT_ID: several client ids need managed or workload identities",
            ));
        }
        let made = match ids[..] {
            [] => vec![self.tokens(kind, None)?],
            _ => ids.iter().map(|id| self.tokens(kind, Some(id))).collect::<Result<_>>()?,
        };
        Ok(self.identities.get_or_init(|| made).clone())
    }

    fn tokens(&self, kind: CredentialKind, id: Option<&str>) -> Result<Tokens> {
        // The identities are stored in the configuration; without this they would hold a reference
        // cycle to it.
        let config = Self { identities: Arc::default(), ..self.clone() };
        let id = id.map(str::to_owned);
        Tokens::new(move || config.credential(kind, id.as_deref()))
    }

    /// The kind of credential that the environment selects.
    fn kind(&self) -> Result<CredentialKind> {
        let has_secret = self.guarded(GuardedSetting::CLIENT_SECRET).is_some();
        let has_token = self.variable(PlainSetting::FEDERATED_TOKEN_FILE).is_some();
        let asked = self.variable(PlainSetting::TOKEN_CREDENTIALS).map(str::to_ascii_lowercase);
        match asked.as_deref() {
            None => {}
            // `prod` means a deployed credential: one of the first two if set, else the managed
            // identity.
            Some("prod") if has_secret => return Ok(CredentialKind::Secret),
            Some("prod") if has_token => return Ok(CredentialKind::Workload),
            Some("prod") => return Ok(CredentialKind::Managed),
            Some(asked) => {
                let name = asked.strip_suffix("credential").unwrap_or(asked);
                let known = NAMED.iter().find(|(known, _)| *known == name);
                return known.map(|(_, kind)| *kind).ok_or_else(|| {
                    Error::invalid(format!(
                        "AZURE_TOKEN_CREDENTIALS: '{asked}' is not supported; there are prod, dev, \
                         EnvironmentCredential (a client secret), WorkloadIdentityCredential, \
                         ManagedIdentityCredential, AzureCliCredential, AzureDeveloperCliCredential"
                    ))
                });
            }
        }
        Ok(if has_secret {
            CredentialKind::Secret
        } else if has_token {
            CredentialKind::Workload
        } else if self.variable(PlainSetting::CLIENT_CERTIFICATE_PATH).is_some() {
            // The SDK's certificate credential needs OpenSSL, which is not a dependency.
            return Err(signed_out(
                "AZURE_CLIENT_CERTIFICATE_PATH: certificates are not supported; use a managed or \
                 workload identity, or AZURE_CLIENT_SECRET",
            ));
        } else if self.guarded(GuardedSetting::IDENTITY_ENDPOINT).is_some() && !self.is_arc() {
            CredentialKind::Managed
        } else {
            CredentialKind::Tools
        })
    }

    /// Whether this is an Azure Arc machine: there these variables are set for all programs, and do
    /// not select an identity for azimg (`azure_identity`, `get_source`).
    fn is_arc(&self) -> bool {
        let set = |setting| self.guarded(setting).is_some();
        set(GuardedSetting::IDENTITY_ENDPOINT)
            && set(GuardedSetting::IMDS_ENDPOINT)
            && !set(GuardedSetting::IDENTITY_HEADER)
    }

    fn credential(
        &self,
        kind: CredentialKind,
        id: Option<&str>,
    ) -> Result<Arc<dyn TokenCredential>> {
        let failed = |e: azure_core::Error| signed_out(&format!("no credential for Azure: {e}"));
        match kind {
            CredentialKind::Secret => self.secret(id),
            CredentialKind::Workload => {
                let mut options = WorkloadIdentityCredentialOptions {
                    client_id: id.map(str::to_owned),
                    ..WorkloadIdentityCredentialOptions::default()
                };
                options.credential_options.client_options = self.client_options(true)?;
                Ok(WorkloadIdentityCredential::new(Some(options)).map_err(failed)?)
            }
            CredentialKind::Managed if self.is_arc() => Err(signed_out(
                "the identity of an Azure Arc machine is not supported; set AZURE_TENANT_ID, \
                 AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or use az login",
            )),
            CredentialKind::Managed => {
                // The SDK's error messages contain the endpoint's URL.
                let given = self.guarded(GuardedSetting::IDENTITY_ENDPOINT);
                if given.is_some_and(|text| plain_address(text).is_none()) {
                    return Err(GuardedSetting::IDENTITY_ENDPOINT
                        .wrong("it is not the URL of a token endpoint, such as App Service sets"));
                }
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: id.map(|id| UserAssignedId::ClientId(id.to_owned())),
                    client_options: self.client_options(false)?,
                };
                Ok(ManagedIdentityCredential::new(Some(options)).map_err(failed)?)
            }
            CredentialKind::Azure | CredentialKind::AzureDeveloper | CredentialKind::Tools => {
                let tenant = self.variable(PlainSetting::TENANT_ID);
                let tools = match kind {
                    CredentialKind::Azure => DeveloperTools::azure(tenant),
                    CredentialKind::AzureDeveloper => DeveloperTools::azure_developer(tenant),
                    _ => DeveloperTools::any(tenant),
                };
                Ok(Arc::new(tools.map_err(failed)?))
            }
        }
    }

    /// A service principal with a client secret. The error names the variables that are not set.
    fn secret(&self, id: Option<&str>) -> Result<Arc<dyn TokenCredential>> {
        let tenant = self.variable(PlainSetting::TENANT_ID);
        let secret = self.guarded(GuardedSetting::CLIENT_SECRET);
        let (Some(tenant), Some(id), Some(secret)) = (tenant, id, secret) else {
            let variables = [
                ("AZURE_TENANT_ID", tenant.is_some()),
                ("AZURE_CLIENT_ID", id.is_some()),
                ("AZURE_CLIENT_SECRET", secret.is_some()),
            ];
            let missing = variables.iter().filter(|(_, is_set)| !is_set).map(|(name, _)| *name);
            let missing: Vec<&str> = missing.collect();
            return Err(signed_out(&format!(
                "a service principal needs AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; \
                 {} missing",
                match missing[..] {
                    [one] => format!("{one} is"),
                    _ => format!("{} are", missing.join(" and ")),
                }
            )));
        };
        let options = ClientSecretCredentialOptions { client_options: self.client_options(true)? };
        let secret = Secret::new(secret.to_owned());
        let made = ClientSecretCredential::new(tenant, id.to_owned(), secret, Some(options));
        Ok(made.map_err(|e| signed_out(&format!("no credential for Azure: {e}")))?)
    }

    /// Client options for the SDK's credentials; `to_entra` for those that send a credential to the
    /// cloud's authority.
    fn client_options(&self, to_entra: bool) -> Result<ClientOptions> {
        let cloud = self.cloud()?.authority;
        if to_entra && cloud.is_none() {
            // A credential for a private cloud must not be sent to the public one.
            return Err(Error::invalid(
                "AZIMG_CLOUD=custom: set AZURE_AUTHORITY_HOST to the https URL of the authority that \
                 issues tokens",
            ));
        }
        Ok(ClientOptions {
            cloud: Some(Arc::new(cloud.unwrap_or(CloudConfiguration::AzurePublic))),
            // `Tokens` does the retries, since it knows whether a caller waits.
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(TokenHttp::new()?))),
            ..ClientOptions::default()
        })
    }
}

fn signed_out(text: &str) -> Error {
    Error::new(ErrorKind::SignedOut, text)
}
