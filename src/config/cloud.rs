//! Which Azure: the addresses that differ between its clouds (azure-cli, `azure/cli/core/cloud.py`).

use super::Config;
use crate::error::{Error, Result};
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use url::Url;

/// The addresses of a cloud.
pub(super) struct Cloud {
    /// The Resource Manager.
    pub(super) endpoint: Url,
    /// Whom tokens for the Resource Manager are made out to.
    pub(super) audience: String,
    /// Where Entra is; `None` where nobody has said.
    pub(super) authority: Option<CloudConfiguration>,
    /// What addresses of storage accounts end with; `None` where nobody knows.
    pub(super) storage: Option<&'static str>,
}

impl Config {
    /// The cloud that `AZIMG_CLOUD` names, with what is set otherwise.
    pub(super) fn cloud(&self) -> Result<Cloud> {
        let name = self.variable("AZIMG_CLOUD").unwrap_or("AzureCloud");
        let given = self.variable("AZIMG_ARM_ENDPOINT");
        let (endpoint, audience, authority, storage) = match name {
            "AzureCloud" => (
                "https://management.azure.com",
                "https://management.azure.com",
                Some(CloudConfiguration::AzurePublic),
                Some("core.windows.net"),
            ),
            "AzureUSGovernment" => (
                "https://management.usgovcloudapi.net",
                "https://management.core.usgovcloudapi.net",
                Some(CloudConfiguration::AzureGovernment),
                Some("core.usgovcloudapi.net"),
            ),
            "AzureChinaCloud" => (
                "https://management.chinacloudapi.cn",
                "https://management.core.chinacloudapi.cn",
                Some(CloudConfiguration::AzureChina),
                Some("core.chinacloudapi.cn"),
            ),
            "custom" => {
                let given = given
                    .ok_or_else(|| Error::invalid("AZIMG_CLOUD=custom needs AZIMG_ARM_ENDPOINT"))?;
                (given, given, None, None)
            }
            other => {
                return Err(Error::invalid(format!(
                    "AZIMG_CLOUD: '{other}' is none of AzureCloud, AzureUSGovernment, \
                     AzureChinaCloud, custom"
                )));
            }
        };
        let text = given.unwrap_or(endpoint);
        let endpoint = Url::parse(text)
            .map_err(|_| Error::invalid(format!("AZIMG_ARM_ENDPOINT: '{text}' is no address")))?;
        let audience = self.variable("AZIMG_ARM_AUDIENCE").unwrap_or(audience).to_owned();
        let authority = self.authority()?.or(authority);
        Ok(Cloud { endpoint, audience, authority, storage })
    }

    /// Where tokens are asked of, if that is set: as in the SDKs, `AZURE_AUTHORITY_HOST`.
    fn authority(&self) -> Result<Option<CloudConfiguration>> {
        let Some(host) = self.variable("AZURE_AUTHORITY_HOST") else { return Ok(None) };
        // Some write it without a scheme.
        let address =
            if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        if !Url::parse(&address).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
            return Err(Error::invalid(format!(
                "AZURE_AUTHORITY_HOST: '{host}' is no https address, such as \
                 https://login.microsoftonline.us"
            )));
        }
        let mut custom = CustomConfiguration::default();
        custom.authority_host = address;
        Ok(Some(custom.into()))
    }
}
