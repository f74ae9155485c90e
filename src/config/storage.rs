//! Where blobs and queues are, and how to sign in there: a real account by its address, Azurite by
//! its connection string.

use super::settings::GuardedSetting;
use super::store_location::StoreLocation;
use super::{Config, address, plain_address};
use crate::error::{Error, Result};
use crate::store::azure::{Access, AzureQueues, Endpoint};
use azure_core::credentials::Secret;
use std::collections::HashMap;
use std::sync::Arc;
use url::Url;

/// The development account of Azurite and of its predecessors; a public constant.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The queue endpoint of the account that a container is in, if the container's URL names the
/// account.
fn queues_beside(container: &Url) -> Option<Url> {
    let host = container.host_str().filter(|host| host.contains(".blob."))?;
    Url::parse(&format!("https://{}", host.replacen(".blob.", ".queue.", 1))).ok()
}

impl Config {
    /// An endpoint of a real account: with the SAS in its URL, or with the identity.
    pub(super) fn storage_endpoint(&self, url: Url) -> Result<Endpoint> {
        let access = if url.query_pairs().any(|(name, _)| name == "sig") {
            Access::Sas
        } else {
            Access::Entra(Arc::new(self.identity()?))
        };
        Ok(Endpoint { url, access })
    }

    /// Whether there are queues outside this process.
    pub fn has_queues(&self) -> bool {
        let named = [
            GuardedSetting::STORAGE,
            GuardedSetting::STORAGE_QUEUES,
            GuardedSetting::STORAGE_ACCOUNT,
        ];
        let beside = match self.store_location() {
            Ok(StoreLocation::Emulator) => true,
            Ok(StoreLocation::Container(url, _)) => queues_beside(&url).is_some(),
            _ => false,
        };
        beside || named.into_iter().any(|setting| self.guarded(setting).is_some())
    }

    /// The queues of the Functions host, for messages with a delay.
    pub fn queues(&self) -> Result<AzureQueues> {
        let place = self.store_location();
        if self.guarded(GuardedSetting::STORAGE).is_some()
            || matches!(place, Ok(StoreLocation::Emulator))
        {
            return Ok(AzureQueues::new(self.emulator()?.1));
        }
        let url = if let Some(uri) = self.guarded(GuardedSetting::STORAGE_QUEUES) {
            address(uri).ok_or_else(|| {
                GuardedSetting::STORAGE_QUEUES
                    .wrong("it is not the URL of a queue service, https://…")
            })?
        } else if let Some(account) = self.guarded(GuardedSetting::STORAGE_ACCOUNT) {
            self.queues_of(account)?
        } else {
            match place? {
                StoreLocation::Container(url, _) => queues_beside(&url).ok_or_else(|| {
                    Error::invalid(
                        "the queues are not known: set AzimgStorage__queueServiceUri (in Azure) or \
                         AzimgStorage (a connection string of Azurite)",
                    )
                })?,
                // A folder as store means a host on this machine, which uses an emulator's queues.
                StoreLocation::Folder(_) | StoreLocation::Emulator => {
                    return Ok(AzureQueues::new(self.emulator()?.1));
                }
            }
        };
        Ok(AzureQueues::new(self.storage_endpoint(url)?))
    }

    /// The queue endpoint of a storage account in the configured cloud.
    fn queues_of(&self, account: &str) -> Result<Url> {
        let suffix = self.cloud()?.storage.ok_or_else(|| {
            GuardedSetting::STORAGE_ACCOUNT.wrong(
                "the storage domain of a custom cloud is not known; set \
                 AzimgStorage__queueServiceUri",
            )
        })?;
        let is_name = account.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        plain_address(&format!("https://{account}.queue.{suffix}")).filter(|_| is_name).ok_or_else(
            || {
                GuardedSetting::STORAGE_ACCOUNT
                    .wrong("it is not the name of a storage account (a-z and 0-9)")
            },
        )
    }

    /// Blob and queue endpoints of the emulator that the connection string `AzimgStorage` names.
    pub(super) fn emulator(&self) -> Result<(Endpoint, Endpoint)> {
        let text = self.guarded(GuardedSetting::STORAGE).unwrap_or("UseDevelopmentStorage=true");
        let parts: HashMap<&str, &str> =
            text.split(';').filter_map(|part| part.trim().split_once('=')).collect();
        let account = parts.get("AccountName").copied().unwrap_or(EMULATOR_ACCOUNT);
        let key = parts.get("AccountKey").copied().unwrap_or(EMULATOR_KEY);
        let endpoint = |name: &str, port: u16| {
            // Without addresses it is the emulator's, or that of a real account, whose key stays here.
            let is_emulators =
                parts.contains_key("UseDevelopmentStorage") || parts.contains_key("AccountName");
            let is_named = parts.contains_key(name);
            let default = format!("http://127.0.0.1:{port}/{account}");
            let url = Url::parse(parts.get(name).unwrap_or(&default.as_str()))
                .map_err(|_| Error::invalid(format!("AzimgStorage: its {name} is not a URL")))?;
            let local = crate::client::is_loopback(&url);
            let is_known = is_named || (is_emulators && account == EMULATOR_ACCOUNT);
            if !local || !is_known {
                return Err(Error::invalid(
                    "AzimgStorage: account keys are accepted for an emulator on this machine only; \
                     for a real account set AzimgStorage__queueServiceUri and use its identity",
                ));
            }
            let access = Access::Emulator(account.to_owned(), Secret::new(key.to_owned()));
            Ok(Endpoint { url, access })
        };
        Ok((endpoint("BlobEndpoint", 10_000)?, endpoint("QueueEndpoint", 10_001)?))
    }
}
