//! The token service of a simulated registry: it exchanges an Entra token for a refresh token, and
//! that for an access token with the requested scopes.

use super::claims::{Scope, is_expired};
use super::response::registry_error;
use super::server::SimRegistryServer;
use crate::sim::identity;
use crate::sim::registries::SimRegistry;
use crate::sim::response::{SimResponse, json_response};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// The name of the user whose password is a refresh token.
const NAMELESS_USER: &str = "00000000-0000-0000-0000-000000000000";

impl SimRegistryServer {
    /// Exchanges an Entra token for a refresh token.
    pub(super) fn exchange(&self, form: &[(String, String)]) -> SimResponse {
        let field =
            |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        let registries = self.sim.registries();
        let service = &registries[self.number].login_server;
        let known = identity::claims(field("access_token"));
        let audience = known.and_then(|claims| Some(claims["aud"].as_str()?.to_owned()));
        let is_for_us = audience.is_some_and(|audience| audience.contains("containerregistry"));
        if field("grant_type") != "access_token" || field("service") != service || !is_for_us {
            let text = "authentication required, visit https://aka.ms/acr/authorization";
            return registry_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text);
        }
        let claims = json!({"aud": service, "grant_type": "refresh_token"});
        json_response(StatusCode::OK, &json!({ "refresh_token": mint(claims, 10_800) }))
    }

    /// Issues an access token.
    pub(super) fn token(&self, form: &[(String, String)]) -> SimResponse {
        let field =
            |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        let registries = self.sim.registries();
        let registry = &registries[self.number];
        let refused =
            || registry_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        if field("service") != registry.login_server {
            return refused();
        }
        let is_refresh = |token: &str| {
            let claims = identity::claims(token).unwrap_or_default();
            claims["aud"] == registry.login_server.as_str() && !is_expired(&claims)
        };
        let is_named = !field("username").is_empty() || !field("password").is_empty();
        let anonymous = match field("grant_type") {
            "refresh_token" if is_refresh(field("refresh_token")) => false,
            "password" if field("username") == NAMELESS_USER && is_refresh(field("password")) => {
                false
            }
            "password" if registry.anonymous && !is_named => true,
            _ => return refused(),
        };
        let scopes = form.iter().filter(|(name, _)| name == "scope");
        let scopes = scopes.flat_map(|(_, scopes)| scopes.split(' '));
        let access: Vec<Value> = scopes.filter_map(|scope| grant(scope, anonymous)).collect();
        let claims = json!({"aud": registry.login_server, "access": access});
        json_response(StatusCode::OK, &json!({ "access_token": mint(claims, 4_500) }))
    }

    /// Issues an access token for Docker's form of the request: with the refresh token as the
    /// password of the nameless user, or without a credential.
    pub(super) fn token_for(&self, query: &[(String, String)], headers: &HeaderMap) -> SimResponse {
        let mut form = query.to_vec();
        form.retain(|(name, _)| matches!(name.as_str(), "service" | "scope"));
        form.push(("grant_type".to_owned(), "password".to_owned()));
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let (user, password) = basic(given).unwrap_or_else(|| (" ".to_owned(), String::new()));
            form.extend([("username".to_owned(), user), ("password".to_owned(), password)]);
        }
        self.token(&form)
    }
}

/// The user and the password of a header with basic authentication.
fn basic(header: &HeaderValue) -> Option<(String, String)> {
    let text = azure_core::base64::decode(header.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(text).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// The refusal of a token. It names the scopes that would be enough, unless any token is (recorded
/// for `/v2/`).
pub(super) fn challenge(registry: &SimRegistry, scopes: &[Scope]) -> SimResponse {
    let rows = scopes
        .iter()
        .map(|(kind, name, action)| json!({"Type": kind, "Name": name, "Action": action}));
    let detail = (!scopes.is_empty()).then(|| rows.collect::<Vec<Value>>());
    let mut refused = json_response(
        StatusCode::UNAUTHORIZED,
        &json!({"errors": [{"code": "UNAUTHORIZED",
            "message": "authentication required, visit https://aka.ms/acr/authorization for \
                        more information.",
            "detail": detail}]}),
    );
    let server = &registry.login_server;
    let texts = scopes.iter().map(|(kind, name, action)| format!("{kind}:{name}:{action}"));
    let texts = texts.collect::<Vec<_>>().join(" ");
    let scope = (!scopes.is_empty()).then(|| format!(",scope=\"{texts}\""));
    let text = format!(
        "Bearer realm=\"http://{server}/oauth2/token\",service=\"{server}\"{}",
        scope.unwrap_or_default()
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    refused
}

/// The access that a scope grants: all its actions to a signed-in caller, only reads to an
/// anonymous one.
fn grant(scope: &str, anonymous: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| !anonymous || matches!(*action, "pull" | "metadata_read"))
        .collect();
    (!actions.is_empty()).then(|| json!({"type": kind, "name": name, "actions": actions}))
}

/// A token with these claims that expires after `seconds`.
fn mint(mut claims: Value, seconds: i64) -> String {
    claims["exp"] = (OffsetDateTime::now_utc().unix_timestamp() + seconds).into();
    let part = |value: &Value| azure_core::base64::encode_url_safe(value.to_string());
    format!("{}.{}.c2ltdWxhdGVk", part(&json!({"alg": "none", "typ": "JWT"})), part(&claims))
}
