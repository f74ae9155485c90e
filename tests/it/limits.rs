//! What one image contains stops nobody else's rows: whatever is written can be read again.

use crate::support::answering::{reply, server, token};
use crate::support::layout::digest;
use crate::support::{Azure, finish, read_json, read_ndjson};
use crate::tests;
use axum::response::Response;
use azimg::testing::sim::{Scale, generate};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::runtime::Runtime;

tests![
    a_row_that_is_too_large_is_cut_and_read_again,
    a_repository_that_is_too_large_for_an_item_is_split,
];

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = r#"{"os":"linux","architecture":"amd64"}"#;

fn tags(mode: &str) -> Vec<String> {
    match mode {
        "tags" => (0..25_000).map(|n| format!("build-{n:020}-{n:020}")).collect(),
        _ => vec!["v1".to_owned()],
    }
}

fn manifest(mode: &str) -> String {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest(CONFIG.as_bytes()), "size": CONFIG.len()});
    let mut manifest = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config});
    let layers = if mode == "layers" { 15_000 } else { 0 };
    let layer = |n: u32| json!({"mediaType": "x", "digest": format!("sha256:{n:064x}"), "size": n});
    manifest["layers"] = (0..layers).map(layer).collect();
    if mode == "type" {
        manifest["artifactType"] = format!("application/x.{}", "a".repeat(1 << 20)).into();
    }
    manifest.to_string()
}

/// A registry with one image, of which something is far larger than in any other.
fn answer(path: &str, mode: &str) -> Response {
    if let Some(token) = token(path) {
        return token;
    }
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let (manifest, tags) = (manifest(mode), tags(mode));
    let own = digest(manifest.as_bytes());
    let page = |list: &str, rows: Value| json!({"imageName": "app", list: rows}).to_string();
    match path {
        "/acr/v1/_catalog" => reply(200, &[], r#"{"repositories":["app"]}"#),
        "/acr/v1/app/_manifests" => {
            let row = json!({"digest": own, "imageSize": 1, "mediaType": IMAGE, "tags": tags,
                "os": "linux", "architecture": "amd64", "createdTime": "2026-01-01T00:00:00Z"});
            reply(200, &[], &page("manifests", json!([row])))
        }
        "/acr/v1/app/_tags" => {
            let rows = tags.iter().map(|tag| json!({"name": tag, "digest": own})).collect();
            reply(200, &[], &page("tags", rows))
        }
        path if path.starts_with("/v2/app/manifests/") => {
            reply(200, &[("content-type", IMAGE.to_owned())], &manifest)
        }
        path if path.starts_with("/v2/app/blobs/") => reply(200, &[], CONFIG),
        _ => reply(404, &[], "{}"),
    }
}

fn table(store: &Path) -> Vec<Value> {
    let current: Value = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    read_ndjson(&store.join(format!("snapshots/{run}/registry.ndjson.zst")))
}

/// What coverage tells of all scopes, and how often.
fn malformed(store: &Path) -> BTreeMap<String, u64> {
    let current: Value = read_json(&store.join("current.json"));
    let run = current["run"].as_str().unwrap();
    let coverage: Value = read_json(&store.join(format!("snapshots/{run}/coverage.json")));
    let lines = coverage["scopes"].as_array().unwrap().iter();
    let reported = lines.filter_map(|line| line["malformed"].as_object()).flatten();
    reported.map(|(what, times)| (what.clone(), times.as_u64().unwrap())).collect()
}

fn a_row_that_is_too_large_is_cut_and_read_again() {
    let runtime = Runtime::new().unwrap();
    let azure = Azure::start(generate(Scale::Small, 9));
    for mode in ["layers", "tags", "type"] {
        let registry = runtime.block_on(server(answer, mode.to_owned()));
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().to_str().unwrap();
        // The second one reads what the first one wrote.
        for _ in 0..2 {
            let arguments = ["crawl", "--store", store, "--source", "registry"];
            let mut command = azure.azimg(&arguments);
            let (code, _, stderr) =
                finish(command.env("AZIMG_REGISTRIES", registry.address.as_str()));
            assert_eq!(code, 0, "{mode}: {stderr}");
        }
        let rows = table(folder.path());
        let row = rows.iter().find(|row| row["repository"] == "app").unwrap();
        assert!(row.to_string().len() < 1 << 20, "{mode}");
        let total = |member: &str| row[member].as_u64();
        let reported = malformed(folder.path());
        let is_reported = |member: &str| reported.keys().any(|what| what.starts_with(member));
        match mode {
            "layers" => {
                assert_eq!(total("layersTotal"), Some(15_001));
                let layers = row["layers"].as_object().unwrap().len();
                assert!((500..1_000).contains(&layers), "{layers}");
            }
            "tags" => {
                assert_eq!((total("tagsTotal"), total("layersTotal")), (Some(25_000), None));
                assert!((500..2_000).contains(&row["tags"].as_array().unwrap().len()));
                assert!(is_reported("tags: longer"), "{reported:?}");
            }
            _ => {
                let kind = row["artifactType"].as_str().unwrap();
                assert!(kind.starts_with("application/x.aa") && kind.ends_with('…'));
                assert!(kind.len() <= 4 << 10);
            }
        }
    }
}

/// A repository whose pages are close to the largest that are read.
fn pages(path: &str, _: &str) -> Response {
    const ALL: u32 = 3_000;
    if let Some(token) = token(path) {
        return token;
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    match path {
        "/acr/v1/_catalog" => reply(200, &[], r#"{"repositories":["app"]}"#),
        "/acr/v1/app/_tags" => reply(200, &[], r#"{"imageName":"app","tags":[]}"#),
        "/acr/v1/app/_manifests" => {
            let last = query.split('&').find_map(|part| part.strip_prefix("last="));
            let last = last.and_then(|last| u32::from_str_radix(&last[last.len() - 8..], 16).ok());
            let first = last.map_or(0, |last| last + 1);
            let row = |n: u32| {
                let tags: Vec<String> = (0..45).map(|tag| format!("{n}-{tag:0110}")).collect();
                json!({"digest": format!("sha256:{n:064x}"), "imageSize": 1, "mediaType": IMAGE,
                       "tags": tags})
            };
            let rows: Vec<Value> = (first..ALL.min(first + 1_000)).map(row).collect();
            let next =
                format!("</acr/v1/app/_manifests?last=sha256:{:064x}>; rel=\"next\"", first + 999);
            let next = if first + 1_000 < ALL { next } else { String::new() };
            let page = json!({"imageName": "app", "manifests": rows}).to_string();
            reply(200, &[("link", next)], &page)
        }
        _ => reply(404, &[], "{}"),
    }
}

fn a_repository_that_is_too_large_for_an_item_is_split() {
    let runtime = Runtime::new().unwrap();
    let azure = Azure::start(generate(Scale::Small, 9));
    let registry = runtime.block_on(server(pages, String::new()));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let arguments = ["crawl", "--store", store, "--source", "registry", "--details", "none"];
    let mut command = azure.azimg(&arguments);
    let (code, _, stderr) = finish(command.env("AZIMG_REGISTRIES", registry.address.as_str()));
    assert_eq!(code, 0, "{stderr}");
    let rows = table(folder.path());
    let rows: Vec<&Value> = rows.iter().filter(|row| row["repository"] == "app").collect();
    assert_eq!(rows.len(), 3_000);
    assert!(rows.iter().all(|row| row["tags"].as_array().is_some_and(|tags| tags.len() == 45)));
    let listed = registry.seen.lock().unwrap().clone();
    let lists = listed.iter().filter(|asked| asked.contains("/_manifests")).count();
    assert_eq!(lists, 3, "one item for each page, and none of it twice");
}
