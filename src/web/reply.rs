//! The shape of answers: lists, errors, validators, request ids.

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
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use tower_http::compression::CompressionBody;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// Where runs are listed, and started: by another function, which answers before these routes are asked.
const RUNS: &str = "/api/runs";

/// What a resource can be asked with.
fn allowed(path: &str) -> &'static str {
    if path == RUNS { "GET,HEAD,OPTIONS,POST" } else { "GET,HEAD,OPTIONS" }
}

/// A method that the resource at `path` cannot be asked with.
pub(super) fn not_allowed(method: &Method, path: &str) -> Response<Body> {
    let allowed = allowed(path);
    let text = format!("{path} cannot be asked with {method}, but with {allowed}");
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An answer as it leaves: in place of one that the caller's `Accept-Encoding` excludes, words that say so. They
/// are not encoded, since nothing that the caller takes is left.
pub(super) fn acceptable(response: Response<CompressionBody<Body>>) -> Response<Body> {
    if response.status() != StatusCode::NOT_ACCEPTABLE {
        return response.map(Body::new);
    }
    let text = "nothing is left that Accept-Encoding allows: there are gzip, zstd and identity";
    refusal(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", text)
}

/// Which methods a resource can be asked with. Whether a page of another origin may is for the host to say: the
/// Functions platform does in Azure, and the embedded host on one machine.
pub(super) fn methods(path: &str) -> Response<Body> {
    let mut response = bytes(StatusCode::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.remove(CONTENT_LENGTH);
    headers.insert(ALLOW, HeaderValue::from_static(allowed(path)));
    response
}

/// A date as HTTP writes it (RFC 9110 §5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// A JSON answer of `status`.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    bytes(status, serde_json::to_vec(value).unwrap_or_default().into())
}

/// An answer whose body is JSON already.
fn bytes(status: StatusCode, body: Bytes) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(9);
    // Names that strangers gave are text, whatever a browser makes of them.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Of every answer, a 304 too (RFC 9110 §15.4.5), though only long ones are compressed.
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if status != StatusCode::NOT_MODIFIED {
        // Said, so that HEAD says it too.
        headers.insert(CONTENT_LENGTH, length);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(id) = HeaderValue::try_from(ulid::Ulid::generate().to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// What tells a caller whether what it has is still current: the same for all answers from one
/// snapshot, until something in it ends. The tag is weak, since bodies may travel compressed.
#[derive(Debug, Clone)]
pub(super) struct Validators {
    tag: HeaderValue,
    modified: HeaderValue,
    changed: OffsetDateTime,
}

impl Validators {
    /// Those of answers from a snapshot in which something ended at `ended`, after its run began.
    pub(super) fn new(manifest: &Manifest, ended: Option<OffsetDateTime>) -> Self {
        let changed = manifest.published_at.max(ended.unwrap_or(manifest.published_at));
        let changed = changed.to_offset(UtcOffset::UTC);
        let header = |text: String| HeaderValue::try_from(text).unwrap_or(EMPTY);
        let run = manifest.run;
        let tag = match ended {
            Some(ended) => format!("W/\"{run}.{}\"", ended.unix_timestamp_nanos()),
            None => format!("W/\"{run}\""),
        };
        Self {
            tag: header(tag),
            modified: header(changed.format(HTTP_DATE).unwrap_or_default()),
            changed,
        }
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
const FRESH: HeaderValue = HeaderValue::from_static("private, max-age=60");

/// An answer from a snapshot: 304 when the caller has it already.
pub(super) fn cached(validators: &Validators, asked: &HeaderMap, body: Bytes) -> Response<Body> {
    let tag = validators.tag.to_str().unwrap_or_default();
    let known = is_known(asked, tag, validators.changed);
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

/// Whether the caller has what is `tag` now: by tag if it names any, or else by date.
fn is_known(asked: &HeaderMap, tag: &str, changed: OffsetDateTime) -> bool {
    let opaque = tag.trim_start_matches("W/");
    let text = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    match (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE)) {
        (Some(tags), _) => tags
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"))
            .any(|one| one == opaque || one == "*"),
        (None, Some(since)) => PrimitiveDateTime::parse(since, HTTP_DATE)
            .is_ok_and(|since| changed.unix_timestamp() <= since.assume_utc().unix_timestamp()),
        (None, None) => false,
    }
}

/// The status and the code that a kind of error is answered with.
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

/// The answer that an error means.
pub(super) fn error(error: &Error) -> Response<Body> {
    let (status, code) = status_of(error.kind());
    let body = error_body(code, &without_paths(&error.to_string()), error.target());
    let mut response = refused(status, code, &body);
    if status.is_server_error() {
        // Whoever was answered can name it.
        let request_id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
        tracing::error!(%error, request_id, "a lookup failed");
    }
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// A text without the paths of this machine: whoever asks from outside has no use for them. Paths of
/// Azure's resources and of this API stay.
pub(crate) fn without_paths(text: &str) -> String {
    const ROOTS: [&str; 3] = ["/subscriptions", "/providers", "/api"];
    let local = |word: &str| {
        let word = word.trim_start_matches(['\'', '"', '(']);
        word.starts_with('/') && word.len() > 1 && !ROOTS.iter().any(|root| word.starts_with(root))
    };
    let words = text.split(' ').map(|word| if local(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A refusal, in the shape of Azure's errors.
pub(crate) fn refusal(status: StatusCode, code: &'static str, message: &str) -> Response<Body> {
    refused(status, code, &error_body(code, message, None))
}

/// The shape of Azure's errors; `target` names the part of the input that is wrong.
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
