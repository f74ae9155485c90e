//! Sign-in to a registry: an Entra token is exchanged for a refresh token, and that for an access
//! token of the least scope. Each is cached until it expires. All requests go to the registry's own
//! `/oauth2/…`; a realm named by an answer is never followed.

use super::Registry;
use super::tokens::Login;
use crate::client::Tokens as Identity;
use crate::error::{Error, ErrorKind, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// The audience of Entra tokens for registries, in all clouds (azure-rest §0).
const AUDIENCE: &str = "https://containerregistry.azure.net/.default";
/// A token is renewed this long before it expires.
const BEFORE_END: Duration = Duration::from_mins(1);
/// The lifetime assumed for a token that does not give one.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// The longest lifetime that is assumed for a token, whatever it says.
const LONGEST: Duration = Duration::from_hours(24);
/// In bytes. The limit for the answer to a token request.
pub(super) const LARGEST_TOKEN: usize = 1 << 20;

#[derive(Deserialize)]
struct Refreshed {
    refresh_token: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

/// When a token expires, by its own claim. The signature is not verified: the claim only decides
/// when to renew.
fn ends(token: &str) -> Instant {
    let claims = || {
        let payload =
            URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
        serde_json::from_slice::<Claims>(&payload).ok()
    };
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let left = claims().map(|claims| claims.exp.saturating_sub(now));
    let left = left
        .and_then(|left| u64::try_from(left).ok())
        .map_or(DEFAULT_LIFETIME, Duration::from_secs);
    Instant::now() + left.min(LONGEST).saturating_sub(BEFORE_END)
}

fn sensitive(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Error::new(ErrorKind::Unauthenticated, "the token is not valid in a header")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Registry {
    /// Returns the authorization for `scope`: one scope, or several separated by spaces.
    pub(super) async fn authorization(&self, scope: &str) -> Result<HeaderValue> {
        if let Login::Password(user, password) = &self.tokens.login {
            let text = STANDARD.encode(format!("{user}:{}", password.secret()));
            return sensitive(format!("Basic {text}"));
        }
        let slot = self.tokens.slot(scope);
        let mut kept = slot.lock().await;
        if let Some((header, _)) = kept.as_ref().filter(|(_, until)| *until > Instant::now()) {
            return Ok(header.clone());
        }
        let service = self.tokens.service.as_str();
        let mut form = vec![("service", service)];
        form.extend(scope.split(' ').map(|scope| ("scope", scope)));
        let refresh = self.refresh().await?;
        match &refresh {
            Some(refresh) => {
                form.extend([("grant_type", "refresh_token"), ("refresh_token", refresh)]);
            }
            None => form.push(("grant_type", "password")),
        }
        let granted: Granted = self.token_request("token", &form).await?;
        let until = ends(&granted.access_token);
        let header = sensitive(format!("Bearer {}", granted.access_token))?;
        *kept = Some((header.clone(), until));
        Ok(header)
    }

    /// Drops the cached tokens of `scope`, and the refresh token, after a refusal.
    pub(super) async fn forget(&self, scope: &str) {
        *self.tokens.slot(scope).lock().await = None;
        *self.tokens.refresh.lock().await = None;
    }

    /// Whether a new token can be obtained. A password cannot be renewed.
    pub(super) fn can_renew(&self) -> bool {
        !matches!(self.tokens.login, Login::Password(..))
    }

    async fn refresh(&self) -> Result<Option<String>> {
        let Login::Entra(recipient) = &self.tokens.login else { return Ok(None) };
        let identity = recipient.identity();
        let mut refresh = self.tokens.refresh.lock().await;
        if let Some((token, _)) = refresh.as_ref().filter(|(_, until)| *until > Instant::now()) {
            return Ok(Some(token.clone()));
        }
        let bearer = entra(identity).await?;
        let refreshed = match self.exchange(&bearer).await {
            Err(error)
                if error.kind() == ErrorKind::Unauthenticated
                    && identity.refused(AUDIENCE, &bearer) =>
            {
                self.exchange(&entra(identity).await?).await?
            }
            result => result?,
        };
        let until = ends(&refreshed.refresh_token);
        *refresh = Some((refreshed.refresh_token.clone(), until));
        Ok(Some(refreshed.refresh_token))
    }

    async fn exchange(&self, bearer: &HeaderValue) -> Result<Refreshed> {
        let token = bearer.to_str().unwrap_or_default().trim_start_matches("Bearer ");
        let form = [
            ("grant_type", "access_token"),
            ("service", self.tokens.service.as_str()),
            ("access_token", token),
        ];
        self.token_request("exchange", &form).await
    }
}

/// Returns the Entra token for registries. An identity that is refused this token may still get
/// others, so that is not "signed out" unless the identity has no token at all.
async fn entra(identity: &Identity) -> Result<HeaderValue> {
    identity.bearer(AUDIENCE).await.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::SignedOut if identity.is_signed_in() => ErrorKind::Unauthenticated,
            kind => kind,
        };
        error.with_kind(kind).context("no token for registries")
    })
}
