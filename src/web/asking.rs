//! Properties of a request that are decided before routing: the host it addresses, the media type
//! of its body, and whether it causes an action. They are in one place so that every check agrees.

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};

/// Host names of the loopback interface.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// Returns the host that a request addresses. `None` if it names no host, several, or an invalid
/// one.
pub(crate) fn host(headers: &HeaderMap) -> Option<Authority> {
    let host: Authority = only(headers, HOST.as_str())?.parse().ok()?;
    // User information in front of the host is not part of a `Host` header.
    (!host.as_str().contains('@')).then_some(host)
}

/// Returns the value of a header that occurs exactly once, as text.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a host name, without its port, refers to the loopback interface.
pub(crate) fn is_loopback(name: &str) -> bool {
    LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a media type is JSON. A page of another origin cannot send JSON without a CORS
/// preflight; the types that a form or a simple request can send are never JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffix = essence.strip_prefix("application/").and_then(|rest| rest.strip_suffix("+json"));
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    essence == "application/json" || suffix.is_some_and(|name| !name.is_empty() && plain(name))
}

/// Whether a request causes an action: it starts a run, or queries Azure with azimg's identity and
/// quota. True of every method except reads and `OPTIONS`, and of reads that Azure answers.
pub(crate) fn acts(method: &Method, uri: &Uri) -> bool {
    match *method {
        Method::OPTIONS => false,
        Method::GET | Method::HEAD => asks_azure(uri),
        _ => true,
    }
}

/// Whether Azure answers the lookup rather than the snapshot.
fn asks_azure(uri: &Uri) -> bool {
    match uri.path() {
        "/api/images/usage" => true,
        "/api/images" => {
            pairs(uri).any(|(name, value)| name == "live" && !value.eq_ignore_ascii_case("false"))
        }
        _ => false,
    }
}

/// Returns the key of a request from where the Functions host expects it: the header
/// `x-functions-key`, or else the query parameter `code`.
pub(crate) fn shown_key(headers: &HeaderMap, uri: &Uri) -> Option<Vec<u8>> {
    if let Some(value) = headers.get("x-functions-key") {
        return Some(value.as_bytes().to_vec());
    }
    let mut pairs = pairs(uri).filter(|(name, _)| name.eq_ignore_ascii_case("code"));
    pairs.next().map(|(_, value)| value.into_owned().into_bytes())
}

type Pair<'a> = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>);

fn pairs(uri: &Uri) -> impl Iterator<Item = Pair<'_>> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_allowed_without_preflight_is_not_json() {
        for json in [
            "application/json",
            "APPLICATION/JSON",
            "application/json; charset=utf-8",
            "application/merge-patch+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "text/plain",
            "text/plain; application/json",
            "text/plain;charset=application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "application/json, text/plain",
            "text/json",
            "application/+json",
            "application/x www+json",
            "application/jsonp",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn requests_beyond_reading_a_snapshot_count_as_actions() {
        let acts = |method: &str, uri: &str| {
            acts(&method.parse().unwrap_or_default(), &uri.parse().unwrap_or_default())
        };
        for read in
            ["/api/images", "/api/images?live=false", "/api/runs", "/api/images/a:b:c:d", "/"]
        {
            assert!(!acts("GET", read) && !acts("HEAD", read) && !acts("OPTIONS", read), "{read}");
            assert!(acts("POST", read) && acts("PUT", read) && acts("ODD", read), "{read}");
        }
        for asks in [
            "/api/images/usage",
            "/api/images/usage?top=1",
            "/api/images?live=true",
            "/api/images?top=1&live=TRUE",
            "/api/images?%6cive=%74rue",
            "/api/images?live=false&live=true",
            "/api/images?live=",
        ] {
            assert!(acts("GET", asks) && acts("HEAD", asks) && !acts("OPTIONS", asks), "{asks}");
        }
    }
}
