//! The addresses that differ between Azure's clouds (azure-cli, `azure/cli/core/cloud.py`).

use super::{Config, GuardedSetting, PlainSetting, plain_address};
use crate::error::{Error, Result};
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use url::Url;

/// The addresses of a cloud.
pub(super) struct Cloud {
    /// Resource Manager endpoint.
    pub(super) endpoint: Url,
    /// Audience of tokens for the Resource Manager.
    pub(super) audience: String,
    /// Entra authority; `None` if unknown.
    pub(super) authority: Option<CloudConfiguration>,
    /// Domain suffix of storage accounts; `None` if unknown.
    pub(super) storage: Option<&'static str>,
    /// Domain suffix of registries' login servers; `None` if unknown.
    pub(super) registries: Option<&'static str>,
}

impl Config {
    /// The cloud that `AZIMG_CLOUD` names, with the addresses that other settings override.
    pub(super) fn cloud(&self) -> Result<Cloud> {
        let name = self.variable(PlainSetting::CLOUD).unwrap_or("AzureCloud");
        let given = self.guarded(GuardedSetting::ARM_ENDPOINT);
        let (endpoint, audience, authority, storage, registries) = match name {
            "AzureCloud" => (
                "https://management.azure.com",
                "https://management.azure.com",
                Some(CloudConfiguration::AzurePublic),
                Some("core.windows.net"),
                Some("azurecr.io"),
            ),
            "AzureUSGovernment" => (
                "https://management.usgovcloudapi.net",
                "https://management.core.usgovcloudapi.net",
                Some(CloudConfiguration::AzureGovernment),
                Some("core.usgovcloudapi.net"),
                Some("azurecr.us"),
            ),
            "AzureChinaCloud" => (
                "https://management.chinacloudapi.cn",
                "https://management.core.chinacloudapi.cn",
                Some(CloudConfiguration::AzureChina),
                Some("core.chinacloudapi.cn"),
                Some("azurecr.cn"),
            ),
            "custom" => {
                let given = given
                    .ok_or_else(|| Error::invalid("AZIMG_CLOUD=custom needs AZIMG_ARM_ENDPOINT"))?;
                (given, given, None, None, None)
            }
            other => {
                return Err(PlainSetting::CLOUD.wrong(format!(
                    "'{other}' is none of AzureCloud, AzureUSGovernment, AzureChinaCloud, custom"
                )));
            }
        };
        let text = given.unwrap_or(endpoint);
        let endpoint = plain_address(text).ok_or_else(|| {
            GuardedSetting::ARM_ENDPOINT.wrong("it is not a URL such as https://HOST")
        })?;
        let audience = self.variable(PlainSetting::ARM_AUDIENCE).unwrap_or(audience).to_owned();
        let authority = self.authority()?.or(authority);
        Ok(Cloud { endpoint, audience, authority, storage, registries })
    }

    /// The authority that issues tokens, if set: `AZURE_AUTHORITY_HOST`, as in the SDKs.
    fn authority(&self) -> Result<Option<CloudConfiguration>> {
        let Some(host) = self.guarded(GuardedSetting::AUTHORITY_HOST) else { return Ok(None) };
        // Some users write it without a scheme.
        let address =
            if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        let bare =
            |url: &Url| url.scheme() == "https" && url.query().is_none() && url.path() == "/";
        if !plain_address(&address).is_some_and(|url| bare(&url)) {
            return Err(GuardedSetting::AUTHORITY_HOST
                .wrong("it is not an https URL such as https://login.microsoftonline.us"));
        }
        let mut custom = CustomConfiguration::default();
        custom.authority_host = address;
        Ok(Some(custom.into()))
    }
}
