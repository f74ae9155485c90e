//! Responses of the simulated Resource Manager: JSON, and errors in its format.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// A response of the simulated Azure.
pub(super) type SimResponse = Response<Body>;

/// A response with a JSON body.
pub(super) fn json_response(status: StatusCode, value: &Value) -> SimResponse {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// An error in the Resource Manager's format.
pub(super) fn error_response(status: StatusCode, code: &str, message: &str) -> SimResponse {
    let mut response = json_response(status, &json!({"error": {"code": code, "message": message}}));
    let cause = HeaderValue::from_static("gateway");
    response.headers_mut().insert("x-ms-failure-cause", cause);
    response
}

/// The refusal of a resource that does not exist.
pub(super) fn not_found(what: &str) -> SimResponse {
    let text = format!("The Resource '{what}' under resource group was not found.");
    error_response(StatusCode::NOT_FOUND, "ResourceNotFound", &text)
}

/// The refusal of a path that no operation has.
pub(super) fn no_such_path(path: &[String]) -> SimResponse {
    let text =
        format!("No HTTP resource was found that matches the request URI '/{}'.", path.join("/"));
    error_response(StatusCode::NOT_FOUND, "InvalidResourceType", &text)
}
