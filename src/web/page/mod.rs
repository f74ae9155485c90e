//! The page: its files as they are in this folder. It holds no data, so it needs no key; what it
//! shows, it requests from the other routes. It knows no catalog.
//!
//! The files are served below a folder that is named by the hash of all of them, so that caches may
//! keep them for ever and modules find each other by relative names. Only `index.html` has a fixed
//! name; its references are rewritten to that folder.

use super::reply;
use crate::error::Error;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Response, StatusCode, Uri};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// The files of the page, but for `index.html`.
macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!($name))),+]
    };
}

const INDEX: &str = include_str!("index.html");
const FILES: &[(&str, &[u8])] = files![
    "api.js",
    "app.js",
    "basket.js",
    "changes.js",
    "command.js",
    "compare.js",
    "dom.js",
    "format.js",
    "galleries.js",
    "icon.svg",
    "image.js",
    "images.js",
    "layout.css",
    "locations.js",
    "paging.js",
    "plan.js",
    "parts.css",
    "registries.js",
    "route.js",
    "run.js",
    "runs.js",
    "search.js",
    "snippets.js",
    "table.js",
    "tokens.css",
    "treemap.js",
    "usage.js",
];

/// Bytes of the hash in the folder's name.
const BYTES: usize = 8;
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src \
     'none'",
);
/// Prevents pages of other origins from embedding a file.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The name of the folder: the hash of all files.
static FOLDER: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new_with_prefix(INDEX);
    for (name, bytes) in FILES {
        // With its length, so that bytes cannot move from one file to the next.
        hash.update(format!("\n{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    let bytes = hash.finalize();
    bytes.iter().take(BYTES).fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"))
});

/// Where a copy of `index.html` is served from, as relative URLs.
#[derive(Debug, Clone, Copy)]
struct Links {
    /// The API's base.
    api: &'static str,
    /// The parent of the folder with the files.
    files: &'static str,
}

const BELOW_API: Links = Links { api: "../", files: "" };
const AT_ROOT: Links = Links { api: "api/", files: "api/ui/" };

/// `index.html` with its references to other files.
fn index(links: Links) -> String {
    let mut text = INDEX.replace(r#"content="../api/""#, &format!(r#"content="{}""#, links.api));
    for (name, _) in FILES {
        let hashed = format!("{}{}/{name}", links.files, *FOLDER);
        text = text.replace(&format!(r#"href="{name}""#), &format!(r#"href="{hashed}""#));
        text = text.replace(&format!(r#"src="{name}""#), &format!(r#"src="{hashed}""#));
    }
    text
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

/// A response with the headers that every file has.
fn response(body: impl Into<Body>, name: &str, cache: &'static str) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// `index.html`, or 304 if the caller has it.
fn index_response(links: Links, given: &HeaderMap) -> Response<Body> {
    let tag = format!("W/\"{}\"", *FOLDER);
    let tags = given.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|tags| tags.split(',')).map(str::trim);
    // Weak comparison, RFC 9110 §13.1.2.
    let has_it = tags.any(|one| one == "*" || one == tag || Some(one) == tag.strip_prefix("W/"));
    let body = if has_it { Body::empty() } else { Body::from(index(links)) };
    let mut response = response(body, "index.html", "no-cache");
    if has_it {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The page at `/` of a host.
pub(crate) async fn at_root(headers: HeaderMap) -> Response<Body> {
    index_response(AT_ROOT, &headers)
}

/// `ui` without a slash: relative references of the page would be resolved one level too high.
pub(super) async fn without_slash() -> Response<Body> {
    let mut response = response(Body::empty(), "index.html", "no-cache");
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("ui/"));
    response
}

/// `ui/`.
pub(super) async fn below_api(headers: HeaderMap) -> Response<Body> {
    index_response(BELOW_API, &headers)
}

/// `ui/{*file}`: `index.html`, or a file below the folder of the current hash.
pub(super) async fn file(
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let path = path.map_or_else(|_| String::new(), |Path(path)| path);
    if path == "index.html" {
        return index_response(BELOW_API, &headers);
    }
    let name = path.strip_prefix(FOLDER.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let found = name.and_then(|name| FILES.iter().find(|(known, _)| *known == name));
    let Some((name, bytes)) = found else {
        let error = Error::not_found(format!("{} is not a file of the page", uri.path()));
        return reply::error(&error);
    };
    // Nothing but these bytes has this name, ever.
    response(Bytes::from_static(bytes), name, "public, max-age=31536000, immutable")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_files_of_the_folder_are_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/page");
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: BTreeSet<String> =
            names.filter(|name| name != "mod.rs" && name != "index.html").collect();
        assert_eq!(names, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn references_of_the_index_lead_to_served_files() {
        for links in [BELOW_API, AT_ROOT] {
            let text = index(links);
            let parts = text.split(['"']).filter(|part| part.contains(FOLDER.as_str()));
            let prefix = format!("{}{}/", links.files, *FOLDER);
            let names: Vec<&str> = parts.map(|part| part.strip_prefix(&prefix).unwrap()).collect();
            for wanted in ["icon.svg", "tokens.css", "layout.css", "parts.css", "app.js"] {
                assert!(names.contains(&wanted), "{wanted}: {text}");
            }
            assert!(text.contains(&format!(r#"name="azimg-api" content="{}""#, links.api)));
            for (name, _) in FILES {
                assert!(!text.contains(&format!("\"{name}\"")), "{name}: {text}");
            }
        }
    }

    #[test]
    fn modules_import_modules_of_the_folder_only() {
        for (name, bytes) in FILES.iter().filter(|(name, _)| media_type(name).starts_with("text/j"))
        {
            let text = std::str::from_utf8(bytes).unwrap();
            let after = text.split("from \"").skip(1).chain(text.split("import(\"").skip(1));
            for specifier in after.map(|rest| rest.split('"').next().unwrap()) {
                let module = specifier.strip_prefix("./").unwrap_or(specifier);
                let is_known = FILES.iter().any(|(known, _)| *known == module);
                assert!(is_known && specifier.starts_with("./"), "{name}: {specifier}");
            }
        }
    }
}
