//! The callers of an embedded host: the runs and requests that they cause, the paths, and the form of a refusal.

use super::Azure;
use super::web::Host;
use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The runs that a store knows of.
pub fn runs(store: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(store.join("runs")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// How many requests Azure was asked, of every kind.
pub fn asked(azure: &Azure) -> u64 {
    let stats = azure.sim.stats.to_json();
    let operations = stats["operations"].as_object().unwrap().values();
    operations
        .flat_map(|counts| counts.as_object().unwrap().values())
        .filter_map(Value::as_u64)
        .sum()
}

/// All paths of the document, with what is in it, and paths that nothing is at.
pub async fn paths(host: &Host) -> Vec<String> {
    let document = Client::new().get(format!("{}/openapi.json", host.address));
    let document: Value =
        serde_json::from_slice(&document.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let routes = document["paths"].as_object().unwrap().keys();
    let routes = routes.map(|route| {
        route.replace("{urn}", "a:b:c:1.0.0").replace("{run}", "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    });
    let nothing =
        ["/", "/nothing", "/api", "/api/", "/api/nothing", "/api/%ff", "/start", "/crawl"];
    let paths: Vec<String> = routes.chain(nothing.map(str::to_owned)).collect();
    assert!(paths.len() > 15, "{paths:?}");
    paths
}

pub fn error_code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    body["error"]["code"].as_str().unwrap().to_owned()
}

/// The status and the code of a refusal, which has the form of every error and is for no page.
pub async fn refused(answer: Response) -> (u16, String) {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    assert!(
        headers.keys().all(|name| !name.as_str().starts_with("access-control-")),
        "{headers:?}"
    );
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert!(headers.contains_key("x-ms-request-id"));
    let code = headers["x-ms-error-code"].to_str().unwrap().to_owned();
    let body = answer.bytes().await.unwrap();
    if !body.is_empty() {
        assert_eq!(error_code(&body), code);
    }
    (status, code)
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}
