//! Responses that operations of simulated registries share, and errors in their format.

use crate::sim::response::{SimResponse, json_response};
use axum::body::Body;
use axum::http::{Response, StatusCode};
use serde_json::json;

/// An error in the format of the data plane.
pub(super) fn registry_error(status: StatusCode, code: &str, message: &str) -> SimResponse {
    json_response(status, &json!({"errors": [{"code": code, "message": message}]}))
}

/// A 404 in that format.
pub(super) fn not_found(code: &str, message: &str) -> SimResponse {
    registry_error(StatusCode::NOT_FOUND, code, message)
}

/// Refuses a query parameter that is not in `known`.
pub(super) fn unknown_parameter(query: &[(String, String)], known: &[&str]) -> Option<SimResponse> {
    let (name, _) = query.iter().find(|(name, _)| !known.contains(&name.as_str()))?;
    let text = format!("the parameter '{name}' is not known here");
    Some(registry_error(StatusCode::BAD_REQUEST, "UNSUPPORTED", &text))
}

/// The refusal of an unknown repository.
pub(super) fn name_unknown() -> SimResponse {
    not_found("NAME_UNKNOWN", "repository name not known to registry")
}

/// A 202 without a body.
pub(super) fn accepted() -> SimResponse {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// The refusal of a change of something locked.
pub(super) fn locked_response() -> SimResponse {
    let text = "The operation is disallowed on this registry, repository or image.";
    registry_error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", text)
}
