//! Claims of the tokens of simulated registries, and the scopes that they grant.

use crate::sim::identity;
use axum::http::{HeaderMap, header};
use serde_json::Value;
use time::OffsetDateTime;

/// A scope that a token must grant: type, name, and actions separated by commas.
pub(super) type Scope = (&'static str, String, &'static str);

/// Whether a token has expired, or has no expiry.
pub(super) fn is_expired(claims: &Value) -> bool {
    claims["exp"].as_i64().is_none_or(|exp| exp < OffsetDateTime::now_utc().unix_timestamp())
}

/// The claims of a request's bearer token; null without one.
pub(super) fn bearer_claims(headers: &HeaderMap) -> Value {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    identity::claims(token).unwrap_or_default()
}
