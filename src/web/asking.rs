//! What a request says of itself: the host that it is for, the type of its body, and whether it makes azimg do
//! something. One place, for whoever decides on it before the routes are asked.

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};

/// The names that every machine has for itself.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The host that a request is for; none when it names none, more than one, or what is no host.
pub(crate) fn host(headers: &HeaderMap) -> Option<Authority> {
    let host: Authority = only(headers, HOST.as_str())?.parse().ok()?;
    // A name in front of the host is no part of it.
    (!host.as_str().contains('@')).then_some(host)
}

/// A header that is there once, as text.
pub(crate) fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut told = headers.get_all(name).iter();
    match (told.next(), told.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether a host's name, without its port, is one of this machine's own for itself.
pub(crate) fn is_loopback(name: &str) -> bool {
    LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a media type is JSON. A page of another origin cannot send it without asking first; what a form or a
/// simple request can send never is.
pub(crate) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffix = essence.strip_prefix("application/").and_then(|rest| rest.strip_suffix("+json"));
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    essence == "application/json" || suffix.is_some_and(|name| !name.is_empty() && plain(name))
}

/// Whether a request makes azimg do something: begin a run, or ask Azure with its identity and quota. Everything
/// does but a read, and of reads those that Azure answers.
pub(crate) fn acts(method: &Method, uri: &Uri) -> bool {
    match *method {
        Method::OPTIONS => false,
        Method::GET | Method::HEAD => asks_azure(uri),
        _ => true,
    }
}

/// Whether a lookup is answered by Azure instead of from the snapshot.
fn asks_azure(uri: &Uri) -> bool {
    match uri.path() {
        "/api/images/usage" => true,
        "/api/images" => {
            pairs(uri).any(|(name, value)| name == "live" && !value.eq_ignore_ascii_case("false"))
        }
        _ => false,
    }
}

/// The key that a request shows, where the Functions host looks for one: in its header, or else in its address.
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
    fn what_a_page_can_send_without_asking_is_no_json() {
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
    fn whatever_is_no_read_of_a_snapshot_does_something() {
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
