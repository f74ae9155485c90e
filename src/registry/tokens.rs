//! The login of a registry and the tokens obtained with it. This module stores them; it does not
//! request them.

use super::trust::Recipient;
use azure_core::credentials::Secret;
use reqwest::header::HeaderValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The most access tokens that are kept for one registry.
const MOST_TOKENS: usize = 256;

/// How to sign in to a registry.
#[derive(Clone)]
pub enum Login {
    /// An Entra identity, at the one host that may receive its token.
    Entra(Recipient),
    /// The admin user, or a token of the registry with its password.
    Password(String, Secret),
    /// No credentials.
    Anonymous,
}

/// A token and its expiry. Concurrent callers wait on the lock for the same token.
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

    /// The slot of the token of `scope`. All slots are dropped at `MOST_TOKENS`, so that a registry
    /// with thousands of repositories keeps only those in use.
    pub(super) fn slot(&self, scope: &str) -> Arc<Slot> {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if access.len() >= MOST_TOKENS && !access.contains_key(scope) {
            access.clear();
        }
        Arc::clone(access.entry(scope.to_owned()).or_default())
    }
}
