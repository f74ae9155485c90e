//! Who signs in to a registry, and the tokens that came of it: kept here, asked for elsewhere.

use super::trust::Recipient;
use azure_core::credentials::Secret;
use reqwest::header::HeaderValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// So many tokens are kept for a registry.
const MOST_TOKENS: usize = 256;

/// Who signs in.
#[derive(Clone)]
pub enum Login {
    /// An Entra identity, at the one host that may have a token of it.
    Entra(Recipient),
    /// The admin user, or a token of the registry with its password.
    Password(String, Secret),
    /// Nobody.
    Anonymous,
}

/// A token and when it ends; whoever asks for it meanwhile waits for the same.
type Slot = tokio::sync::Mutex<Option<(HeaderValue, Instant)>>;

/// The tokens of one registry.
pub(super) struct Tokens {
    pub(super) login: Login,
    pub(super) service: String,
    pub(super) refresh: tokio::sync::Mutex<Option<(String, Instant)>>,
    access: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Tokens {
    pub(super) fn new(login: Login, service: String) -> Self {
        Self { login, service, refresh: tokio::sync::Mutex::default(), access: Mutex::default() }
    }

    /// Where the token of a scope is kept; of registries with thousands of repositories, only as many
    /// as are in use.
    pub(super) fn slot(&self, scope: &str) -> Arc<Slot> {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if access.len() >= MOST_TOKENS && !access.contains_key(scope) {
            access.clear();
        }
        Arc::clone(access.entry(scope.to_owned()).or_default())
    }
}
