//! HTTP responses: JSON bodies, errors, cache validators and request ids.

use crate::error::{Error, ErrorKind};
use crate::pipeline::snapshot::Manifest;
use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, Response, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tower_http::compression::CompressionBody;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// The path that lists runs, and starts them. Another function serves `POST`, ahead of these
/// routes.
const RUNS: &str = "/api/runs";

/// The methods that the resource at `path` supports.
fn allowed(path: &str) -> &'static str {
    if path == RUNS { "GET,HEAD,OPTIONS,POST" } else { "GET,HEAD,OPTIONS" }
}

/// The response to a method that the resource at `path` does not support.
pub(super) fn not_allowed(method: &Method, path: &str) -> Response<Body> {
    let allowed = allowed(path);
    let text = format!("{path} does not support {method}; it supports {allowed}");
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Replaces a 406 response of the compression layer by an error. Its body is not encoded, because
/// the caller's `Accept-Encoding` allows no encoding that is available.
pub(super) fn acceptable(response: Response<CompressionBody<Body>>) -> Response<Body> {
    if response.status() != StatusCode::NOT_ACCEPTABLE {
        return response.map(Body::new);
    }
    let text = "Accept-Encoding allows none of the supported encodings: gzip, zstd and identity";
    refusal(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", text)
}

/// The response to `OPTIONS`: the supported methods. Cross-origin access is decided by the host:
/// the Functions platform in Azure, the embedded host locally.
pub(super) fn methods(path: &str) -> Response<Body> {
    let mut response = bytes(StatusCode::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    headers.insert(ALLOW, HeaderValue::from_static(allowed(path)));
    response
}

/// A response of `status` with a JSON body.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

/// A response whose body is already JSON.
fn bytes(status: StatusCode, body: Bytes) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(9);
    // Prevents browsers from sniffing names supplied by third parties as another content type.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Set on every response, including 304 (RFC 9110 §15.4.5), although only long bodies are
    // compressed.
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if status != StatusCode::NOT_MODIFIED {
        // Set explicitly so that responses to HEAD have it too.
        headers.insert(CONTENT_LENGTH, length);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(ulid::Ulid::generate().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Cache validators. They are the same for all answers from one snapshot until an image in it
/// reaches its end. The tag is weak, because bodies may be compressed.
#[derive(Debug, Clone)]
pub(super) struct Validators {
    tag: HeaderValue,
    modified: HeaderValue,
    changed: OffsetDateTime,
}

impl Validators {
    /// Validators of a snapshot in which an image reached its end at `ended`, after the run began.
    pub(super) fn new(manifest: &Manifest, ended: Option<OffsetDateTime>) -> Self {
        let changed = manifest.published_at.max(ended.unwrap_or(manifest.published_at));
        // `httpdate` panics before 1970, and after 9999, which `OffsetDateTime` cannot be.
        let changed = changed.max(OffsetDateTime::UNIX_EPOCH);
        let header = |text: String| HeaderValue::try_from(text).unwrap_or(EMPTY);
        let run = manifest.run;
        let tag = match ended {
            Some(ended) => format!("W/\"{run}.{}\"", ended.unix_timestamp_nanos()),
            None => format!("W/\"{run}\""),
        };
        Self {
            tag: header(tag),
            modified: header(httpdate::fmt_http_date(changed.into())),
            changed,
        }
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
const FRESH: HeaderValue = HeaderValue::from_static("private, max-age=60");

/// A response from a snapshot, or 304 if the caller already has it.
pub(super) fn cached(
    validators: &Validators,
    request_headers: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let tag = validators.tag.to_str().unwrap_or_default();
    let known = is_known(request_headers, tag, validators.changed);
    let mut response = if known {
        let mut response = bytes(StatusCode::NOT_MODIFIED, Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        bytes(StatusCode::OK, body)
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, validators.tag.clone());
    headers.insert(CACHE_CONTROL, FRESH);
    headers.insert(LAST_MODIFIED, validators.modified.clone());
    response
}

/// Whether the caller has the current answer: by `If-None-Match` if present, otherwise by
/// `If-Modified-Since`.
fn is_known(request_headers: &HeaderMap, tag: &str, changed: OffsetDateTime) -> bool {
    let opaque = tag.trim_start_matches("W/");
    let text = |name: HeaderName| request_headers.get(name).and_then(|value| value.to_str().ok());
    match (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE)) {
        (Some(tags), _) => tags
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == opaque || one == "*"),
        (None, Some(since)) => httpdate::parse_http_date(since).is_ok_and(|since| {
            changed.unix_timestamp() <= OffsetDateTime::from(since).unix_timestamp()
        }),
        (None, None) => false,
    }
}

/// The status and the error code for a kind of error.
pub(crate) fn status_of(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "InvalidParameter"),
        ErrorKind::BadAnswer => (StatusCode::BAD_GATEWAY, "BadGateway"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
        ErrorKind::Gone => (StatusCode::GONE, "SnapshotGone"),
        ErrorKind::Denied => (StatusCode::FORBIDDEN, "AuthorizationFailed"),
        ErrorKind::SignedOut | ErrorKind::Unauthenticated => {
            (StatusCode::BAD_GATEWAY, "NoCredential")
        }
        ErrorKind::Conflict => (StatusCode::CONFLICT, "Conflict"),
        ErrorKind::Transient => (StatusCode::SERVICE_UNAVAILABLE, "ServerBusy"),
        ErrorKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "SnapshotDamaged"),
        ErrorKind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    }
}

/// The response for an error.
pub(super) fn error(error: &Error) -> Response<Body> {
    let (status, code) = status_of(error.kind());
    let body = error_body(code, &without_paths(&error.to_string()), error.target());
    let mut response = refused(status, code, &body);
    if status.is_server_error() {
        // The request id lets a caller refer to this log entry.
        let request_id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
        tracing::error!(%error, request_id, "a lookup failed");
    }
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// Replaces local file system paths in a text, which are of no use to remote callers. Paths of
/// Azure resources and of this API are kept.
pub(crate) fn without_paths(text: &str) -> String {
    const ROOTS: [&str; 3] = ["/subscriptions", "/providers", "/api"];
    let local = |word: &str| {
        let word = word.trim_start_matches(['\'', '"', '(']);
        word.starts_with('/') && word.len() > 1 && !ROOTS.iter().any(|root| word.starts_with(root))
    };
    let words = text.split(' ').map(|word| if local(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// An error response in Azure's format.
pub(crate) fn refusal(status: StatusCode, code: &'static str, message: &str) -> Response<Body> {
    refused(status, code, &error_body(code, message, None))
}

/// An error body in Azure's format. `target` names the invalid part of the input.
pub(crate) fn error_body(code: &str, message: &str, target: Option<&str>) -> Value {
    let mut error = json!({"code": code, "message": message});
    if let Some(target) = target {
        error["target"] = target.into();
    }
    json!({"error": error})
}

fn refused(status: StatusCode, code: &'static str, body: &Value) -> Response<Body> {
    let mut response = json(status, body);
    response.headers_mut().insert(ERROR_CODE, HeaderValue::from_static(code));
    response
}
