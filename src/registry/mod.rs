//! One container registry: its listings, its attributes, its content.
//!
//! Invariants: a credential goes to the registry's own origin and nowhere else, whatever an answer says
//! of realms, links and redirects; every body is bounded; a list is whole or it is an error.

mod blob;
mod content;
mod listing;
mod login;
mod pace;
pub mod purge;
mod reference;
mod request;
mod rows;
pub mod transfer;

pub use content::{Content, Descriptor, pull_scope};
pub use listing::{Attributes, Deleted, Manifest, ManifestPages, Part, Repository, Tag};
pub use login::Login;
pub use reference::{Name, Reference, is_tag};
pub use rows::{Listed, Lost, Odd};

use crate::client::{Http, Traffic, Wire, is_loopback};
use crate::error::{Error, Result};
use login::Tokens;
use pace::{Pace, Tries};
use std::sync::{Arc, OnceLock};
use url::Url;

/// A registry.
pub struct Registry {
    /// Where it is reached; the one place that its credentials go to.
    origin: Url,
    /// Its name, such as `example.azurecr.io`.
    login_server: String,
    wire: Arc<dyn Wire>,
    tokens: Tokens,
    pace: Pace,
    traffic: Arc<Traffic>,
    /// What carries blobs, which are streams.
    streams: OnceLock<reqwest::Client>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("login_server", &self.login_server).finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry of that login server: over https, or over http if it is on this machine.
    pub fn new(login_server: &str, login: Login) -> Result<Self> {
        Self::over(Arc::new(Http::new()?), login_server, login)
    }

    /// The same over another wire.
    pub fn over(wire: Arc<dyn Wire>, login_server: &str, login: Login) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "'{login_server}' is no login server: give one such as example.azurecr.io"
            ))
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if login_server.is_empty() || !login_server.chars().all(plain) {
            return Err(bad());
        }
        let local = Url::parse(&format!("http://{login_server}")).map_err(|_| bad())?;
        let origin = if is_loopback(&local) {
            local
        } else {
            Url::parse(&format!("https://{login_server}")).map_err(|_| bad())?
        };
        let pace = Pace::new(is_loopback(&origin));
        let login_server = login_server.to_ascii_lowercase();
        let tokens = Tokens::new(login, login_server.clone());
        Ok(Self {
            origin,
            login_server,
            wire,
            tokens,
            pace,
            traffic: Arc::default(),
            streams: OnceLock::new(),
        })
    }

    /// Counts its requests there, too.
    #[must_use]
    pub fn counted_in(mut self, traffic: &Arc<Traffic>) -> Self {
        self.traffic = Arc::clone(traffic);
        self
    }

    /// The attempts of one request.
    fn tries(&self, url: &Url) -> Tries<'_> {
        Tries::new(&self.pace, &self.traffic, url)
    }

    /// Whether it is on this machine.
    fn is_local(&self) -> bool {
        is_loopback(&self.origin)
    }

    /// Its login server.
    pub fn login_server(&self) -> &str {
        &self.login_server
    }
}
