//! Client of one container registry: listings, attributes and content.
//!
//! Invariants:
//! - A credential is sent only to the registry's own origin, whatever an answer says in realms,
//!   links and redirects.
//! - A token of an Entra identity is sent only where [`Trust`] allows it.
//! - Every body is bounded.
//! - A list is complete, or it is an error.

mod blob;
mod content;
mod listing;
mod login;
mod platform;
mod rate;
mod reference;
mod request;
mod rows;
mod stream;
mod tokens;
mod trust;

pub(crate) use content::sha256;
pub use content::{Content, Descriptor, is_image_config, is_manifest, pull_scope};
pub use listing::{Attributes, Manifest, Repository, Tag};
pub use platform::Platform;
pub(crate) use reference::is_digest;
pub use reference::{Name, Reference, is_tag};
pub use rows::{Listed, MalformedMembers, UnreadableRows};
pub(crate) use stream::{ANSWERS_WITHIN, StreamRequest};
pub use tokens::Login;
pub use trust::{Trust, TrustSource};

use crate::client::{Http, Traffic, Wire, is_loopback};
use crate::error::{Error, Result};
use rate::{Attempts, RegistryRate};
use reference::origin_of;
use std::sync::{Arc, OnceLock};
use tokens::Tokens;
use url::Url;

/// A container registry.
pub struct Registry {
    /// The address of the registry. Credentials are sent only there.
    origin: Url,
    /// The login server, such as `example.azurecr.io`.
    login_server: String,
    wire: Arc<dyn Wire>,
    tokens: Tokens,
    pace: RegistryRate,
    traffic: Arc<Traffic>,
    /// The client for blobs, whose bodies are streams.
    streams: OnceLock<reqwest::Client>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("login_server", &self.login_server).finish_non_exhaustive()
    }
}

impl Registry {
    /// Creates a client for `login_server`, over https, or over http if it is on this machine.
    pub fn new(login_server: &str, login: Login) -> Result<Self> {
        Self::over(Arc::new(Http::new()?), login_server, login)
    }

    /// Creates the same client over another [`Wire`].
    pub fn over(wire: Arc<dyn Wire>, login_server: &str, login: Login) -> Result<Self> {
        let origin = origin_of(login_server)?;
        if let Login::Entra(recipient) = &login
            && !recipient.is_at(&origin)
        {
            let text = format!("{login_server}: the identity is for another registry");
            return Err(Error::bug(text));
        }
        let pace = RegistryRate::new(is_loopback(&origin));
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

    /// Also counts the requests of this registry in `traffic`.
    #[must_use]
    pub fn counted_in(mut self, traffic: &Arc<Traffic>) -> Self {
        self.traffic = Arc::clone(traffic);
        self
    }

    /// Whether `url` has the registry's own origin. Credentials are sent nowhere else.
    pub(crate) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.origin.origin()
    }

    /// Starts the attempts of one request.
    pub(crate) fn tries(&self, url: &Url) -> Attempts<'_> {
        Attempts::new(&self.pace, &self.traffic, url)
    }

    /// Whether the registry is on this machine.
    fn is_local(&self) -> bool {
        is_loopback(&self.origin)
    }

    /// Whether the registry may have ACR's own API in addition to the distribution API. Other
    /// registries answer requests of that API with arbitrary content.
    pub fn has_attributes(&self) -> bool {
        self.is_local() || self.login_server.contains(".azurecr.")
    }

    /// The login server.
    pub fn login_server(&self) -> &str {
        &self.login_server
    }
}
