//! What the access token of a request to a simulated registry claims, and what is to be granted.

use crate::sim::identity;
use axum::http::{HeaderMap, header};
use serde_json::Value;
use time::OffsetDateTime;

/// What a token must grant: kind, name and actions with commas between them.
pub(super) type Scope = (&'static str, String, &'static str);

pub(super) fn is_expired(claims: &Value) -> bool {
    claims["exp"].as_i64().is_none_or(|exp| exp < OffsetDateTime::now_utc().unix_timestamp())
}

pub(super) fn bearer_claims(headers: &HeaderMap) -> Value {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    identity::claims(token).unwrap_or_default()
}
