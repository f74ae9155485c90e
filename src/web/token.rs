//! The tokens of next pages: which snapshot, which list of it, and where its next part begins.
//!
//! A list that was begun in one snapshot is ended in it, for as long as that snapshot is kept.

use super::parameters::is_of_the_host;
use crate::error::{Error, Result};
use crate::work::RunId;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header::HOST;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// The first byte of every token of this form.
const VERSION: u8 = 1;
const BYTES: usize = 1 + 16 + 4 + 4;

/// Where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The snapshot.
    pub run: RunId,
    /// The place in the list.
    pub at: u32,
}

impl Token {
    /// The token as text; it belongs to the list that `uri` asks for.
    pub fn write(self, uri: &Uri) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.run.0.to_bytes());
        bytes.extend(self.at.to_be_bytes());
        bytes.extend(list(uri));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token of the list that `uri` asks for.
    pub fn read(text: &str, uri: &Uri) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("parameter 'skipToken': {why}")).with_target("skipToken")
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| bad("no token of a nextLink"))?;
        if bytes[0] != VERSION {
            return Err(bad("a token of another azimg; begin the list anew"));
        }
        if bytes[21..] != list(uri) {
            return Err(bad("it belongs to another list; follow nextLink as it is"));
        }
        let mut run = [0; 16];
        run.copy_from_slice(&bytes[1..17]);
        let mut at = [0; 4];
        at.copy_from_slice(&bytes[17..21]);
        Ok(Self { run: RunId(Ulid::from_bytes(run)), at: u32::from_be_bytes(at) })
    }
}

/// What tells lists apart: path and query, without the page.
fn list(uri: &Uri) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(uri.path().as_bytes());
    for (name, value) in kept(uri).filter(|(name, _)| name != "top") {
        hash.update([0]);
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
    }
    let digest = hash.finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

type Pair<'a> = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>);

/// What a next page's address has in common with this one's. A key is no part of it: answers are kept,
/// logged and passed on, and a caller shows the key again as it did the first time.
fn kept(uri: &Uri) -> impl Iterator<Item = Pair<'_>> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name != "skipToken" && !is_of_the_host(name))
}

/// This host as the caller sees it, with its scheme.
pub(super) fn origin(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
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
    format!("{scheme}://{host}")
}

/// The address of the next page.
pub(super) fn next_link(uri: &Uri, origin: &str, token: Token) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept(uri))
        .append_pair("skipToken", &token.write(uri))
        .finish();
    format!("{origin}{}?{query}", uri.path())
}
