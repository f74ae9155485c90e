//! The shape of answers: lists, errors, validators, request ids.

use crate::error::{Error, ErrorKind};
use crate::work::RunId;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// A JSON answer of `status`.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(ulid::Ulid::generate().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// An answer from a snapshot: 304 when the caller has it already.
pub(super) fn cached(
    run: RunId,
    published: OffsetDateTime,
    asked: &HeaderMap,
    value: &impl Serialize,
) -> Response<Body> {
    let tag = format!("\"{run}\"");
    let known =
        asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            value
                .split(',')
                .any(|one| matches!(one.trim().trim_start_matches("W/"), t if t == tag || t == "*"))
        });
    let mut response = json(StatusCode::OK, value);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
    }
    let headers = response.headers_mut();
    let date = published.to_offset(time::UtcOffset::UTC).format(format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    ));
    for (name, value) in [
        (ETAG, tag),
        (CACHE_CONTROL, "private, max-age=60".to_owned()),
        (LAST_MODIFIED, date.unwrap_or_default()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The status and the code that a kind of error is answered with.
pub(crate) fn status_of(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "InvalidParameter"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
        ErrorKind::Denied => (StatusCode::FORBIDDEN, "AuthorizationFailed"),
        ErrorKind::Unauthenticated => (StatusCode::BAD_GATEWAY, "NoCredential"),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "Conflict"),
        ErrorKind::Transient => (StatusCode::SERVICE_UNAVAILABLE, "ServerBusy"),
        ErrorKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "SnapshotDamaged"),
        ErrorKind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    }
}

/// The answer that an error means.
pub(super) fn error(error: &Error) -> Response<Body> {
    let (status, code) = status_of(error.kind());
    if status.is_server_error() {
        tracing::error!(%error, "a lookup failed");
    }
    let mut response =
        json(status, &json!({"error": {"code": code, "message": error.to_string()}}));
    response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(code));
    response
}
