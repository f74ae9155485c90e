//! A host with a catalog that was crawled, and invocations as the Functions host sends them.

use super::web::Host;
use super::{Azure, json};
use axum::http::Request;
use azimg::sim::{Scale, generate};

/// A host whose catalog was crawled.
pub fn stage(seed: u64) -> (Azure, tempfile::TempDir, Host) {
    let azure = Azure::start(generate(Scale::Small, seed));
    let folder = tempfile::tempdir().unwrap();
    json(&mut azure.azimg(&["crawl", "--store", folder.path().to_str().unwrap(), "-o", "json"]));
    let host = Host::start(&azure, folder.path());
    (azure, folder, host)
}

/// An invocation as the Functions host sends it.
pub fn invocation(path: &str, id: &str) -> axum::http::request::Builder {
    Request::post(path)
        .header("host", "127.0.0.1:7000")
        .header("content-type", "application/json; charset=utf-8")
        .header("x-azure-functions-hostversion", "4.1037.0.0")
        .header("x-azure-functions-invocationid", id)
        .header("user-agent", "Azure-Functions-Host/4.1037.0.0")
}
