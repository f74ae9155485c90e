//! Registries as configuration has them: which are crawled, which hosts may have a token of an identity, and who
//! signs in.

use super::{Config, GuardedSetting, PlainSetting, words};
use crate::error::{Error, Result};
use crate::registry::{Login, Registry, Trust, TrustSource};
use crate::source::registry::Open;
use azure_core::credentials::Secret;
use std::sync::Arc;

/// What registries of the demo, of tests and of the public cloud end with.
const PUBLIC: &str = "azurecr.io";

/// Who signs in to a registry.
#[derive(Debug, Clone, Copy)]
pub enum RegistryUser<'a> {
    /// The identity, if the registry may have a token of it: by who says that it is one, or because it is among those
    /// that the operator trusts for this once.
    Identity {
        /// Who says that it is a registry.
        said: TrustSource,
        /// Login servers that are trusted beside those in `AZIMG_REGISTRIES`.
        trusted: &'a [String],
    },
    /// A user of the registry, with the password in `AZIMG_REGISTRY_PASSWORD`.
    User(&'a str),
    /// The same of the registry that is copied from, with the password in `AZIMG_FROM_REGISTRY_PASSWORD`.
    FromUser(&'a str),
    /// Nobody.
    Nobody,
}

impl Config {
    /// The login servers of the registries that are crawled; none for all that can be seen.
    pub fn named(&self) -> Result<Vec<String>> {
        let named = words(self.variable(PlainSetting::REGISTRIES).unwrap_or_default());
        // A login server may have more in it than the registry's name.
        if let Some(name) = named.iter().find(|name| !name.contains(['.', ':'])) {
            return Err(Error::invalid(format!(
                "AZIMG_REGISTRIES: '{name}' is no login server: give one such as {name}.azurecr.io"
            )));
        }
        let form = Trust::of_cloud(None).naming(&named);
        form.map(|_| named).map_err(|error| error.context("AZIMG_REGISTRIES"))
    }

    /// The files that say what runs on images of registries, whatever else is asked of a purge.
    pub fn in_use(&self) -> Vec<String> {
        words(self.variable(PlainSetting::IN_USE).unwrap_or_default())
    }

    /// Which hosts may have a token of an identity, with those that are trusted for once.
    pub fn trust(&self, trusted: &[String]) -> Result<Trust> {
        let (suffix, resource_manager) = if let Some((arm, _)) = &self.arm {
            // One of this process, which is a public cloud whatever else is configured.
            (Some(PUBLIC), arm.clone())
        } else {
            let cloud = self.cloud()?;
            (cloud.registries, cloud.endpoint)
        };
        let trust = Trust::of_cloud(suffix).listed_by(&resource_manager);
        let trust = trust.naming(trusted).map_err(|error| error.context("--trust"))?;
        trust.naming(&self.named()?)
    }

    /// How the registries of a crawl are opened: with the identity; those that are named also as
    /// `AZIMG_REGISTRY_USERNAME`, if that is set.
    pub(super) fn registries(&self) -> Open {
        let config = self.clone();
        Arc::new(move |login_server| config.crawled_registry(login_server))
    }

    /// A registry as a crawl opens it: one that is named, or that the Resource Manager lists.
    pub fn crawled_registry(&self, login_server: &str) -> Result<Registry> {
        let is_named = self.named()?.iter().any(|named| named.eq_ignore_ascii_case(login_server));
        let user = self.variable(PlainSetting::REGISTRY_USERNAME).filter(|_| is_named);
        let identity =
            RegistryUser::Identity { said: TrustSource::ByResourceManager, trusted: &[] };
        self.registry(login_server, user.map_or(identity, RegistryUser::User))
    }

    /// A user that `flag` names, with the password in `setting`.
    fn password(&self, flag: &str, username: &str, setting: GuardedSetting) -> Result<Login> {
        let password = self.guarded(setting).ok_or_else(|| {
            Error::invalid(format!("{flag}: set {} to its password", setting.name()))
        })?;
        Ok(Login::Password(username.to_owned(), Secret::new(password.to_owned())))
    }

    /// The registry of a login server, signed in to as said.
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
