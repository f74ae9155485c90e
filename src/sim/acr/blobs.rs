//! Blobs of a simulated registry: their sizes, redirects to their bytes, their deletion, and the
//! server that returns the bytes at a signed address.

use super::response::{accepted, locked_response, not_found, registry_error};
use super::server::SimRegistryServer;
use super::target::is_digest;
use crate::sim::registries::{Pieces, SimRegistry, SimRepository};
use crate::sim::response::SimResponse;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use futures::stream;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::convert::Infallible;

/// The signature in addresses of blobs.
const SIGNATURE: &str = "SIGNATURE";

/// The blobs of a manifest with their sizes, without those that it says are elsewhere, which need
/// not be in the registry.
pub(super) fn blobs_of(document: &Value) -> impl Iterator<Item = (&str, u64)> {
    let lists = ["layers", "blobs"].into_iter();
    let listed = lists.flat_map(|part| document[part].as_array().into_iter().flatten());
    listed
        .chain(Some(&document["config"]))
        .filter(|blob| !is_elsewhere(blob))
        .filter_map(|blob| Some((blob["digest"].as_str()?, blob["size"].as_u64()?)))
}

/// Whether a layer is one that registries do not store: an old base layer of Windows.
fn is_elsewhere(blob: &Value) -> bool {
    let kind = blob["mediaType"].as_str().unwrap_or_default();
    let kept_out = kind.contains("foreign") || kind.contains("nondistributable");
    kept_out && blob["urls"].as_array().is_some_and(|urls| !urls.is_empty())
}

impl SimRepository {
    /// The size of a blob, from a manifest of the repository that has it.
    pub(super) fn size_named(&self, digest: &str) -> Option<u64> {
        let texts = self.manifests.values().filter_map(|m| std::str::from_utf8(&m.content).ok());
        texts.filter(|text| text.contains(digest)).find_map(|text| {
            let document: Value = serde_json::from_str(text).ok()?;
            blobs_of(&document).find(|(named, _)| *named == digest).map(|(_, size)| size)
        })
    }
}

impl SimRegistry {
    /// The size of a blob of a repository: a pushed one, or one that a manifest of the repository
    /// has. Generated images have layers of which there are no bytes.
    pub(super) fn blob_size(&self, repository: &str, digest: &str) -> Option<u64> {
        if let Some(size) = self.pushed.size(repository, digest) {
            return Some(size);
        }
        if self.pushed.is_deleted(repository, digest) {
            return None;
        }
        self.repositories.get(repository)?.size_named(digest)
    }

    /// The bytes of a blob, pushed or generated.
    pub(super) fn blob_bytes(&self, digest: &str) -> Option<Pieces> {
        let pushed = self.pushed.bytes(digest).cloned();
        pushed.or_else(|| self.blobs.get(digest).map(|bytes| Pieces::one(bytes.clone())))
    }

    /// Answers a request for a blob: its description, a redirect to its bytes, or its deletion.
    pub(super) fn blob(&mut self, repository: &str, digest: &str, method: &Method) -> SimResponse {
        if !is_digest(digest) {
            return registry_error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the digest is none");
        }
        let Some(size) = self.blob_size(repository, digest) else {
            return not_found("BLOB_UNKNOWN", "blob unknown to registry");
        };
        if *method == Method::DELETE {
            let found = self.repositories.get(repository);
            if found.is_some_and(|found| found.attributes.is_locked()) {
                return locked_response();
            }
            self.pushed.delete(repository, digest);
            return accepted();
        }
        if *method == Method::HEAD {
            return described(digest, size);
        }
        if self.pushed.bytes(digest).is_none() && !self.blobs.contains_key(digest) {
            let text = "blob unknown to registry: azimg sim generates images without their layers; \
                        what is pushed to it has them";
            return not_found("BLOB_UNKNOWN", text);
        }
        let mut redirect = Response::new(Body::empty());
        *redirect.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        // A server with a port is on this machine, without https.
        let scheme = if self.blob_server.contains(':') { "http" } else { "https" };
        let to = format!("{scheme}://{}/{digest}?sig={SIGNATURE}", self.blob_server);
        if let Ok(value) = HeaderValue::try_from(to) {
            redirect.headers_mut().insert(header::LOCATION, value);
        }
        redirect
    }
}

/// The description of a blob, without its bytes.
fn described(digest: &str, size: u64) -> SimResponse {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(value) = HeaderValue::try_from(digest) {
        headers.insert("docker-content-digest", value);
    }
    response
}

impl SimRegistryServer {
    /// Whether there is room for `bytes` more bytes. Makes it if necessary: removes abandoned
    /// uploads, and blobs that no manifest has.
    pub(super) fn has_room(&self, registries: &mut [SimRegistry], bytes: u64) -> bool {
        let held = |all: &[SimRegistry]| -> u64 { all.iter().map(|r| r.pushed.held()).sum() };
        if held(registries) + bytes <= self.sim.most_pushed {
            return true;
        }
        for registry in registries.iter_mut() {
            registry.pushed.sweep();
            for (repository, digest) in registry.pushed.collectable() {
                let found = registry.repositories.get(&repository);
                if found.is_none_or(|found| found.size_named(&digest).is_none()) {
                    registry.pushed.collect(&repository, &digest);
                }
            }
        }
        held(registries) + bytes <= self.sim.most_pushed
    }
}

/// Answers a request to a server of blobs. Like Azure Storage, it refuses a request with a
/// credential or without the signature.
pub(super) async fn serve_blob(
    State(server): State<SimRegistryServer>,
    request: Request,
) -> SimResponse {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let text = "Authentication information is not given in the correct format.";
        return registry_error(StatusCode::BAD_REQUEST, "InvalidAuthenticationInfo", text);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "The resource doesn't support specified Http Verb.";
        return registry_error(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb", text);
    }
    let query = request.uri().query().unwrap_or_default();
    if !url::form_urlencoded::parse(query.as_bytes()).any(|(n, v)| n == "sig" && v == SIGNATURE) {
        let text = "Server failed to authenticate the request. Make sure the value of \
                    Authorization header is formed correctly including the signature.";
        return registry_error(StatusCode::FORBIDDEN, "AuthenticationFailed", text);
    }
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    let digest = path.trim_start_matches('/');
    let found = server.sim.registries()[server.number].blob_bytes(digest);
    match found {
        Some(blob) => part_of(&blob, request.method(), request.headers()),
        None => not_found("BlobNotFound", "The specified blob does not exist."),
    }
}

/// A blob, or the part of it that the request asks for.
fn part_of(blob: &Pieces, method: &Method, headers: &HeaderMap) -> SimResponse {
    let size = blob.size();
    let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, from, to) = match wanted.map(|text| range(text, size)) {
        None | Some(RequestedRange::Whole) => (StatusCode::OK, 0, size),
        Some(RequestedRange::Part(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(RequestedRange::Beyond) => {
            let text = "The range specified is invalid for the current size of the resource.";
            let mut refused =
                registry_error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", text);
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                refused.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return refused;
        }
    };
    let body = if *method == Method::HEAD {
        Body::empty()
    } else {
        let pieces = blob.part(from, to).into_iter().map(Ok::<Bytes, Infallible>);
        Body::from_stream(stream::iter(pieces))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::try_from(format!("bytes {from}-{}/{size}", to - 1))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// The range that a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    /// A range that storage does not understand: the response has the whole blob.
    Whole,
    /// From an offset up to, without, another one.
    Part(u64, u64),
    /// A range behind the end of the blob.
    Beyond,
}

/// Parses a `Range` header for a blob of `size` bytes.
fn range(text: &str, size: u64) -> RequestedRange {
    let ends = text.strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
    let Some((from, to)) = ends else { return RequestedRange::Whole };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (number(from), number(to)) {
        (Some(from), _) if from >= size => RequestedRange::Beyond,
        (Some(from), None) if to.trim().is_empty() => RequestedRange::Part(from, size),
        (Some(from), Some(to)) if from <= to => {
            RequestedRange::Part(from, size.min(to.saturating_add(1)))
        }
        (None, Some(last)) if from.trim().is_empty() => match last {
            0 => RequestedRange::Beyond,
            _ if size == 0 => RequestedRange::Beyond,
            last => RequestedRange::Part(size.saturating_sub(last), size),
        },
        _ => RequestedRange::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_as_http_specifies() {
        for (text, requested) in [
            ("bytes=0-0", RequestedRange::Part(0, 1)),
            ("bytes=3-", RequestedRange::Part(3, 10)),
            ("bytes=3-99", RequestedRange::Part(3, 10)),
            ("bytes=-4", RequestedRange::Part(6, 10)),
            ("bytes=-40", RequestedRange::Part(0, 10)),
            ("bytes=10-", RequestedRange::Beyond),
            ("bytes=-0", RequestedRange::Beyond),
            ("bytes=5-3", RequestedRange::Whole),
            ("bytes=a-b", RequestedRange::Whole),
            ("lines=0-1", RequestedRange::Whole),
        ] {
            assert_eq!(range(text, 10), requested, "{text}");
        }
    }
}
