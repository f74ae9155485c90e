//! The token service of a simulated registry: an Entra token for a refresh token, that for an access
//! token of what its scopes grant.

use super::{At, Wanted, error};
use crate::sim::identity;
use crate::sim::registries::SimRegistry;
use crate::sim::state::json as answer;
use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

impl At {
    pub(super) fn exchange(&self, form: &[(String, String)]) -> Response<Body> {
        let of = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        let registries = self.sim.registries();
        let service = &registries[self.number].login_server;
        let known = identity::claims(of("access_token"));
        let audience = known.and_then(|claims| Some(claims["aud"].as_str()?.to_owned()));
        let is_for_us = audience.is_some_and(|audience| audience.contains("containerregistry"));
        if of("grant_type") != "access_token" || of("service") != service || !is_for_us {
            let text = "authentication required, visit https://aka.ms/acr/authorization";
            return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", text);
        }
        let claims = json!({"aud": service, "grant_type": "refresh_token"});
        answer(StatusCode::OK, &json!({ "refresh_token": mint(claims, 10_800) }))
    }

    pub(super) fn token(&self, form: &[(String, String)]) -> Response<Body> {
        let of = |name: &str| form.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str());
        let registries = self.sim.registries();
        let registry = &registries[self.number];
        let refused = || error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        if of("service") != registry.login_server {
            return refused();
        }
        let anonymous = match of("grant_type") {
            "refresh_token" => {
                let claims = identity::claims(of("refresh_token")).unwrap_or_default();
                if claims["aud"] != registry.login_server.as_str() || is_over(&claims) {
                    return refused();
                }
                false
            }
            "password" if registry.anonymous => true,
            _ => return refused(),
        };
        let scopes = form.iter().filter(|(name, _)| name == "scope");
        let access: Vec<Value> = scopes.filter_map(|(_, scope)| grant(scope, anonymous)).collect();
        let claims = json!({"aud": registry.login_server, "access": access});
        answer(StatusCode::OK, &json!({ "access_token": mint(claims, 4_500) }))
    }
}

/// The refusal that names what would be enough, where not any token is (recorded for `/v2/`).
pub(super) fn challenge(
    registry: &SimRegistry,
    wanted: &Wanted,
    method: &Method,
) -> Response<Body> {
    let scope = wanted.scope(method);
    let detail =
        scope.map(|(kind, name, action)| json!([{"Type": kind, "Name": name, "Action": action}]));
    let mut refused = answer(
        StatusCode::UNAUTHORIZED,
        &json!({"errors": [{"code": "UNAUTHORIZED",
            "message": "authentication required, visit https://aka.ms/acr/authorization for \
                        more information.",
            "detail": detail}]}),
    );
    let server = &registry.login_server;
    let scope = scope.map(|(kind, name, action)| format!(",scope=\"{kind}:{name}:{action}\""));
    let text = format!(
        "Bearer realm=\"http://{server}/oauth2/token\",service=\"{server}\"{}",
        scope.unwrap_or_default()
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    refused
}

/// What one scope grants: everything to those who signed in, reading to the others.
fn grant(scope: &str, anonymous: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| !anonymous || matches!(*action, "pull" | "metadata_read"))
        .collect();
    (!actions.is_empty()).then(|| json!({"type": kind, "name": name, "actions": actions}))
}

pub(super) fn is_over(claims: &Value) -> bool {
    claims["exp"].as_i64().is_none_or(|exp| exp < OffsetDateTime::now_utc().unix_timestamp())
}

fn mint(mut claims: Value, seconds: i64) -> String {
    claims["exp"] = (OffsetDateTime::now_utc().unix_timestamp() + seconds).into();
    let part = |value: &Value| azure_core::base64::encode_url_safe(value.to_string());
    format!("{}.{}.c2ltdWxhdGVk", part(&json!({"alg": "none", "typ": "JWT"})), part(&claims))
}

pub(super) fn claims(headers: &header::HeaderMap) -> Value {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    identity::claims(token).unwrap_or_default()
}
