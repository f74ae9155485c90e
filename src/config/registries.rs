//! Configuration of registries: which are crawled, which hosts may be sent a token of an identity,
//! and which user signs in.

use super::{Config, GuardedSetting, PlainSetting, words};
use crate::error::{Error, Result};
use crate::registry::{Login, Registry, Trust, TrustSource};
use crate::source::registry::Open;
use azure_core::credentials::Secret;
use std::sync::Arc;

/// Domain suffix of registries in the demo, in tests and in the public cloud.
const PUBLIC: &str = "azurecr.io";

/// Who signs in to a registry.
#[derive(Debug, Clone, Copy)]
pub enum RegistryUser<'a> {
    /// The identity, if the registry may be sent its token: because of where its name comes from,
    /// or because the operator trusts it for this command.
    Identity {
        /// Where the registry's name comes from.
        said: TrustSource,
        /// Login servers that are trusted in addition to `AZIMG_REGISTRIES`.
        trusted: &'a [String],
    },
    /// A user of the registry, with the password in `AZIMG_REGISTRY_PASSWORD`.
    User(&'a str),
    /// A user of the registry that is copied from, with the password in
    /// `AZIMG_FROM_REGISTRY_PASSWORD`.
    FromUser(&'a str),
    /// Anonymous access.
    Nobody,
}

impl Config {
    /// The login servers of the registries to crawl; empty for all that the identity can see.
    pub fn named(&self) -> Result<Vec<String>> {
        let named = words(self.variable(PlainSetting::REGISTRIES).unwrap_or_default());
        // A login server can contain more than the registry's name, so it cannot be derived from
        // it.
        if let Some(name) = named.iter().find(|name| !name.contains(['.', ':'])) {
            return Err(Error::invalid(format!(
                "AZIMG_REGISTRIES: '{name}' is not a login server: give one such as {name}.azurecr.io"
            )));
        }
        let form = Trust::of_cloud(None).naming(&named);
        form.map(|_| named).map_err(|error| error.context("AZIMG_REGISTRIES"))
    }

    /// Files that list images in use, which every purge takes into account.
    pub fn in_use(&self) -> Vec<String> {
        words(self.variable(PlainSetting::IN_USE).unwrap_or_default())
    }

    /// The hosts that may be sent a token of an identity, including those trusted for this command.
    pub fn trust(&self, trusted: &[String]) -> Result<Trust> {
        let (suffix, resource_manager) = if let Some((arm, _)) = &self.arm {
            // The Resource Manager of this process stands in for the public cloud's, whatever cloud
            // is configured.
            (Some(PUBLIC), arm.clone())
        } else {
            let cloud = self.cloud()?;
            (cloud.registries, cloud.endpoint)
        };
        let trust = Trust::of_cloud(suffix).listed_by(&resource_manager);
        let trust = trust.naming(trusted).map_err(|error| error.context("--trust"))?;
        trust.naming(&self.named()?)
    }

    /// How a crawl opens registries: with the identity, or as `AZIMG_REGISTRY_USERNAME` for the
    /// registries in `AZIMG_REGISTRIES` if that is set.
    pub(super) fn registries(&self) -> Open {
        let config = self.clone();
        Arc::new(move |login_server| config.crawled_registry(login_server))
    }

    /// Opens a registry for a crawl: a configured one, or one that the Resource Manager lists.
    pub fn crawled_registry(&self, login_server: &str) -> Result<Registry> {
        let is_named = self.named()?.iter().any(|named| named.eq_ignore_ascii_case(login_server));
        let user = self.variable(PlainSetting::REGISTRY_USERNAME).filter(|_| is_named);
        let identity = RegistryUser::Identity { said: TrustSource::ResourceManager, trusted: &[] };
        self.registry(login_server, user.map_or(identity, RegistryUser::User))
    }

    /// The login of the user that `flag` names, with the password in `setting`.
    fn password(&self, flag: &str, username: &str, setting: GuardedSetting) -> Result<Login> {
        let password = self.guarded(setting).ok_or_else(|| {
            Error::invalid(format!("{flag}: set {} to its password", setting.name()))
        })?;
        Ok(Login::Password(username.to_owned(), Secret::new(password.to_owned())))
    }

    /// The registry at `login_server`, signed in to as `sign_in` says.
    pub fn registry(&self, login_server: &str, sign_in: RegistryUser<'_>) -> Result<Registry> {
        let login = match sign_in {
            RegistryUser::Nobody => Login::Anonymous,
            RegistryUser::User(username) => {
                self.password("--username", username, GuardedSetting::REGISTRY_PASSWORD)?
            }
            RegistryUser::FromUser(username) => {
                self.password("--from-username", username, GuardedSetting::FROM_REGISTRY_PASSWORD)?
            }
            RegistryUser::Identity { said, trusted } => {
                let trust = self.trust(trusted)?;
                Login::Entra(trust.recipient(self.identity()?, login_server, said)?)
            }
        };
        match &self.wire {
            Some(wire) => Registry::over(Arc::clone(wire), login_server, login),
            None => Registry::new(login_server, login),
        }
    }
}
