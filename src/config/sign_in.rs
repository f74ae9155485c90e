//! How callers of the function app authenticate, and whether that authentication is in place.

use super::{Config, PlainSetting};
use crate::error::{Error, Result};
use serde_json::Value;
use std::path::PathBuf;

/// How callers of the function app authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SignIn {
    /// With a function key.
    #[default]
    Keys,
    /// With Entra ID: App Service authentication in front admits only callers who have signed in.
    Entra,
}

impl Config {
    /// The configured authentication of callers.
    fn sign_in(&self) -> Result<SignIn> {
        match self.variable(PlainSetting::SIGN_IN) {
            None | Some("keys") => Ok(SignIn::Keys),
            Some("entra") => Ok(SignIn::Entra),
            Some(other) => {
                Err(Error::invalid(format!("AZIMG_SIGN_IN: '{other}' is neither keys nor entra")))
            }
        }
    }

    /// Why lookups must not be answered: the app was packaged to need no function key, and nothing
    /// in front of it authenticates callers. `None` if a key is required, if App Service
    /// authentication is in front, or if there is no packaged app.
    ///
    /// The package and the app settings are deployed one after the other, and each can be rolled
    /// back alone, so the two are compared at run time.
    pub fn nobody_asks(&self) -> Result<Option<&'static str>> {
        let sign_in = self.sign_in()?;
        let root = self.variable(PlainSetting::APP_ROOT).map_or_else(PathBuf::new, PathBuf::from);
        let declared = match std::fs::read(root.join("web/function.json")) {
            Ok(declared) => declared,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("reading web/function.json", e)),
        };
        let declared: Value = serde_json::from_slice(&declared)
            .map_err(|e| Error::invalid(format!("web/function.json: {e}")))?;
        let mut bindings = declared["bindings"].as_array().into_iter().flatten();
        let level =
            |binding: &Value| binding["authLevel"].as_str().unwrap_or_default().to_lowercase();
        if !bindings.any(|binding| level(binding) == "anonymous") {
            return Ok(None);
        }
        // Set by the platform; it may be missing.
        let is_off = self
            .variable(PlainSetting::AUTH_ENABLED)
            .is_some_and(|text| !text.eq_ignore_ascii_case("true"));
        Ok(match sign_in {
            SignIn::Keys => {
                Some("it was packaged for sign-in with Entra ID, and AZIMG_SIGN_IN is not entra")
            }
            SignIn::Entra if is_off => Some("App Service authentication is switched off"),
            SignIn::Entra => None,
        })
    }
}
