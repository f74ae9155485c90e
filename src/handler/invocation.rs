//! Validation that a request is an invocation by the Functions host. Any process that can reach the
//! port can forge one; a page in a browser cannot.
//!
//! According to `DefaultHttpWorkerService` and `HttpScriptInvocationContextExtensions` in the
//! host's source, an invocation is a POST to `http://127.0.0.1:PORT/FUNCTION` (`localhost` in older
//! hosts), with a body written by the JSON formatter and an id in `X-Azure-Functions-InvocationId`.
//! The caller's own headers are only inside the body. Requests that the host forwards or proxies
//! unchanged go to the lookups and are not invocations.

use crate::web;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

/// The header with the host's id of an invocation.
const ID: &str = "x-azure-functions-invocationid";
/// Maximum length of an invocation id. A GUID has 36 characters.
const LONGEST_ID: usize = 64;

/// Why a request is not an invocation.
#[derive(Debug)]
pub(super) struct InvalidInvocation {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) text: &'static str,
}

const fn refused(status: StatusCode, code: &'static str, text: &'static str) -> InvalidInvocation {
    InvalidInvocation { status, code, text }
}

/// Checks the headers of an invocation and returns its id.
pub(super) fn check(headers: &HeaderMap) -> Result<&str, InvalidInvocation> {
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        let text = "functions are invoked by the Functions host; requests from a browser page are \
                    not accepted";
        return Err(refused(StatusCode::FORBIDDEN, "OriginNotAllowed", text));
    }
    if !web::host(headers).is_some_and(|host| web::is_loopback(host.host())) {
        let text = "functions are invoked at 127.0.0.1, not at another host name";
        return Err(refused(StatusCode::MISDIRECTED_REQUEST, "HostNotServed", text));
    }
    if !web::only(headers, CONTENT_TYPE.as_str()).is_some_and(web::is_json) {
        let text = "an invocation must be JSON with Content-Type: application/json";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let named = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain);
    web::only(headers, ID).filter(named).ok_or_else(|| {
        let text = "the header X-Azure-Functions-InvocationId is missing or not valid";
        refused(StatusCode::BAD_REQUEST, "InvalidInvocation", text)
    })
}

/// Parses the body of an invocation.
pub(super) fn envelope(body: &[u8]) -> Result<Value, InvalidInvocation> {
    let envelope = serde_json::from_slice::<Value>(body).ok();
    let is_complete = |value: &Value| value["Data"].is_object() && value["Metadata"].is_object();
    envelope.filter(is_complete).ok_or_else(|| {
        let text = "the invocation body must be JSON with the objects Data and Metadata";
        refused(StatusCode::BAD_REQUEST, "InvalidInvocation", text)
    })
}
