//! Tokens of next pages: the identity of a list, and the position of the next page.
//!
//! A list that was begun in one snapshot continues in it for as long as the snapshot is kept. A
//! token contains a checksum, because a truncated or altered token would silently omit rows.

use super::parameters::is_of_the_host;
use crate::error::{Error, Result};
use crate::work::RunId;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header::HOST;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use ulid::Ulid;

/// First byte of a token with a numeric position and a time.
const NUMBERED: u8 = 4;
/// First byte of a token with the id of the last row of the previous page.
const BEHIND: u8 = 3;

/// Maximum length of the path in front of `/api`, in bytes. A longer one is ignored.
const LONGEST_PREFIX: usize = 256;

/// Position in a list from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The snapshot's run.
    pub run: RunId,
    /// The position in the list.
    pub at: u32,
    /// The time of the query, in nanoseconds since 1970. All pages of a list use the same time.
    pub moment: i64,
}

impl Token {
    /// The time of the list's first page.
    pub fn begun(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(self.moment.into()).ok()
    }

    /// Encodes the token for the list that `uri` requests.
    pub fn write(self, uri: &Uri) -> String {
        let mut payload = self.run.0.to_bytes().to_vec();
        payload.extend(self.at.to_be_bytes());
        payload.extend(self.moment.to_be_bytes());
        seal(NUMBERED, &payload, uri)
    }

    /// Decodes a token of the list that `uri` requests.
    pub fn read(text: &str, uri: &Uri) -> Result<Self> {
        let payload = open(NUMBERED, text, uri)?;
        let (run, at) = payload.split_first_chunk::<16>().ok_or_else(|| bad(ANOTHER))?;
        let (at, moment) = at.split_first_chunk::<4>().ok_or_else(|| bad(ANOTHER))?;
        let moment: [u8; 8] = moment.try_into().map_err(|_| bad(ANOTHER))?;
        let (run, at) = (RunId(Ulid::from_bytes(*run)), u32::from_be_bytes(*at));
        Ok(Self { run, at, moment: i64::from_be_bytes(moment) })
    }
}

/// Position in a list that is not from a snapshot, and that may have to be produced again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// The list's id.
    pub list: Ulid,
    /// The id of the last row of the previous page.
    pub id: String,
}

impl LiveToken {
    /// Encodes the token for the list that `uri` requests.
    pub fn write(&self, uri: &Uri) -> String {
        let mut payload = self.list.to_bytes().to_vec();
        payload.extend(self.id.as_bytes());
        seal(BEHIND, &payload, uri)
    }

    /// Decodes a token of the list that `uri` requests.
    pub fn read(text: &str, uri: &Uri) -> Result<Self> {
        let payload = open(BEHIND, text, uri)?;
        let (list, id) = payload.split_first_chunk::<16>().ok_or_else(|| bad(ANOTHER))?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| bad(ANOTHER))?;
        Ok(Self { list: Ulid::from_bytes(*list), id })
    }
}

const CHANGED: &str = "it was truncated or changed, or comes from another version of azimg; use \
                       nextLink unchanged, or start the list again";
const ANOTHER: &str = "it belongs to another list; use nextLink unchanged";

fn bad(why: &str) -> Error {
    Error::invalid(format!("parameter 'skipToken': {why}")).with_target("skipToken")
}

/// Encodes a token: its form, the position, the list's identity, and a checksum of all three.
fn seal(form: u8, payload: &[u8], uri: &Uri) -> String {
    let mut bytes = vec![form];
    bytes.extend(payload);
    bytes.extend(list(uri));
    bytes.extend(first(&Sha256::digest(&bytes)));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a token, checks its form, list and checksum, and returns the position.
fn open(form: u8, text: &str, uri: &Uri) -> Result<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad(CHANGED))?;
    let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| bad(CHANGED))?;
    if *sum != first(&Sha256::digest(bytes)) {
        return Err(bad(CHANGED));
    }
    let (bytes, named) = bytes.split_last_chunk::<4>().ok_or_else(|| bad(CHANGED))?;
    match bytes.split_first() {
        Some((known, payload)) if *known == form && *named == list(uri) => Ok(payload.to_vec()),
        _ => Err(bad(ANOTHER)),
    }
}

/// The first four bytes of a digest: enough to distinguish lists and tokens. Forging a token gains
/// nothing.
fn first(digest: &[u8]) -> [u8; 4] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// The identity of a list: a hash of its path and query, without the parameters of the page.
fn list(uri: &Uri) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(uri.path().as_bytes());
    for (name, value) in kept(uri).filter(|(name, _)| name != "top") {
        hash.update([0]);
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
    }
    first(&hash.finalize())
}

type Pair<'a> = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>);

/// The query parameters that a next page's link keeps. It omits keys, because answers are cached,
/// logged and passed on; the caller sends its key again.
fn kept(uri: &Uri) -> impl Iterator<Item = Pair<'_>> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name != "skipToken" && !is_of_the_host(name))
}

/// The base URL of this host as the caller sees it: scheme, host, and the path in front of `/api`
/// if a proxy adds one.
pub(super) fn origin(headers: &HeaderMap) -> String {
    // Each proxy appends its own value; the first is the one that the caller sees.
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    let plain = |host: &&str| {
        host.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'[' | b']'))
    };
    let host = text("x-forwarded-host").or_else(|| text(HOST.as_str())).filter(plain);
    let host = host.unwrap_or("localhost");
    let local = host.starts_with("127.0.0.1") || host.starts_with("localhost");
    let scheme = match text("x-forwarded-proto") {
        Some("http") => "http",
        Some("https") => "https",
        _ if local => "http",
        _ => "https",
    };
    format!("{scheme}://{host}{}", prefix_of(headers))
}

/// The path in front of `/api` that proxies removed, from `X-Forwarded-Prefix`.
pub(super) fn prefix_of(headers: &HeaderMap) -> String {
    let all = headers.get_all("x-forwarded-prefix");
    prefix(all.iter().filter_map(|value| value.to_str().ok()))
}

/// Joins the prefixes that proxies removed, the outermost first. If any is not a plain path,
/// returns an empty prefix, so that a link cannot lead to another host.
pub(crate) fn prefix<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut path = String::new();
    for part in values.flat_map(|value| value.split(',')) {
        let part = part.trim().trim_end_matches('/');
        if part.is_empty() {
            continue;
        }
        let plain = |name: &str| {
            !matches!(name, "" | "." | "..")
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
        };
        match part.strip_prefix('/') {
            Some(names) if names.split('/').all(plain) => path.push_str(part),
            _ => return String::new(),
        }
    }
    if path.len() > LONGEST_PREFIX { String::new() } else { path }
}

/// The URL of the next page.
pub(super) fn next_link(uri: &Uri, origin: &str, token: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept(uri))
        .append_pair("skipToken", token)
        .finish();
    format!("{origin}{}?{query}", uri.path())
}
