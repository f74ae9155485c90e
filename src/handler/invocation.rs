//! What is an invocation: that which the Functions host sends, and nothing else. Whoever can reach the port can send
//! something; a page in a browser cannot send this.
//!
//! `DefaultHttpWorkerService` and `HttpScriptInvocationContextExtensions` in the host's source: a POST to
//! `http://127.0.0.1:PORT/FUNCTION` (older hosts say `localhost`) whose body the JSON formatter wrote, with an id in
//! `X-Azure-Functions-InvocationId`, and nothing of whoever sent the request that is told of in the body. What is
//! forwarded or proxied as it came goes to the lookups and is no invocation.

use crate::web;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

/// The header with the host's name for an invocation.
const ID: &str = "x-azure-functions-invocationid";
/// A GUID has 36 characters; a longer text is no name.
const LONGEST_ID: usize = 64;

/// Why something is no invocation.
#[derive(Debug)]
pub(super) struct InvalidInvocation {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) text: &'static str,
}

const fn refused(status: StatusCode, code: &'static str, text: &'static str) -> InvalidInvocation {
    InvalidInvocation { status, code, text }
}

/// The invocation's name, of what has the headers of one.
pub(super) fn check(headers: &HeaderMap) -> Result<&str, InvalidInvocation> {
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        let text = "functions are invoked by the Functions host, and by no page in a browser";
        return Err(refused(StatusCode::FORBIDDEN, "OriginNotAllowed", text));
    }
    if !web::host(headers).is_some_and(|host| web::is_loopback(host.host())) {
        let text = "functions are invoked at 127.0.0.1, and not by another name of this machine";
        return Err(refused(StatusCode::MISDIRECTED_REQUEST, "HostNotServed", text));
    }
    if !web::only(headers, CONTENT_TYPE.as_str()).is_some_and(web::is_json) {
        let text = "an invocation is JSON, and says so: Content-Type: application/json";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let named = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain);
    web::only(headers, ID).filter(named).ok_or_else(|| {
        let text = "an invocation has a name, in the header X-Azure-Functions-InvocationId";
        refused(StatusCode::BAD_REQUEST, "InvalidInvocation", text)
    })
}

/// The envelope in an invocation's body.
pub(super) fn envelope(body: &[u8]) -> Result<Value, InvalidInvocation> {
    let envelope = serde_json::from_slice::<Value>(body).ok();
    let whole = |value: &Value| value["Data"].is_object() && value["Metadata"].is_object();
    envelope.filter(whole).ok_or_else(|| {
        let text = "the invocation's body is not JSON with the objects Data and Metadata";
        refused(StatusCode::BAD_REQUEST, "InvalidInvocation", text)
    })
}
