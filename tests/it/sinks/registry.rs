//! A registry of strangers: what is in it, and what it says, are texts that act where they are shown raw.

use crate::support::answering::{reply, token};
use crate::support::layout::digest;
use crate::support::strangers::{FEW, TEXTS};
use axum::response::Response;
use serde_json::{Value, json};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

fn manifest() -> String {
    let config = config();
    let named: serde_json::Map<String, Value> =
        FEW.iter().map(|text| (text.clone(), text.clone().into())).collect();
    json!({"schemaVersion": 2, "mediaType": IMAGE, "artifactType": FEW[1], "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config.as_bytes()), "size": config.len()},
        "annotations": named})
    .to_string()
}

fn config() -> String {
    let named: serde_json::Map<String, Value> =
        FEW.iter().map(|text| (text.clone(), text.clone().into())).collect();
    json!({"os": FEW[2], "architecture": FEW[3], "author": FEW[4], "config": {"Labels": named,
        "Env": *FEW, "Entrypoint": *FEW}, "history": [{"created_by": FEW[5]}]})
    .to_string()
}

/// A registry in which each text is whatever it can be: of the repository `app`, and `all`, which has each of
/// [`TEXTS`] once. With `mode` "error" it refuses everything, in the words of a text that the path numbers.
pub fn answer(path: &str, mode: &str) -> Response {
    if let Some(token) = token(path) {
        return token;
    }
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    if mode == "error" {
        let number = path.split('/').find_map(|part| part.strip_prefix("text")?.parse().ok());
        let text: &String = &TEXTS[number.unwrap_or(0)];
        let error = json!({"errors": [{"code": text, "message": text, "detail": text}]});
        return reply(400, &[], &error.to_string());
    }
    let own = digest(manifest().as_bytes());
    let row = |digest: String, text: &String| {
        json!({"digest": digest, "imageSize": 1, "mediaType": text, "os": text, "architecture": text,
            "configMediaType": text, "tags": ["v1"], "createdTime": "2026-01-01T00:00:00Z"})
    };
    match path {
        "/acr/v1/_catalog" => reply(200, &[], r#"{"repositories":["app"]}"#),
        "/acr/v1/all/_manifests" => {
            let rows = TEXTS.iter().enumerate();
            let rows = rows.map(|(n, text)| row(format!("sha256:{n:064x}"), text));
            let page = json!({"imageName": "all", "manifests": rows.collect::<Vec<_>>()});
            reply(200, &[], &page.to_string())
        }
        "/acr/v1/all/_tags" => reply(200, &[], r#"{"imageName":"all","tags":[]}"#),
        "/acr/v1/app/_manifests" => {
            let page = json!({"imageName": "app", "manifests": [row(own, &FEW[0])]});
            reply(200, &[], &page.to_string())
        }
        "/acr/v1/app/_tags" => {
            let tags = json!([{"name": "v1", "digest": own}]);
            reply(200, &[], &json!({"imageName": "app", "tags": tags}).to_string())
        }
        "/acr/v1/app" => {
            reply(200, &[], &json!({"imageName": "app", "registry": FEW[0]}).to_string())
        }
        path if path.starts_with("/v2/app/manifests/") => {
            reply(200, &[("content-type", IMAGE.to_owned())], &manifest())
        }
        path if path.starts_with("/v2/app/blobs/") => reply(200, &[], &config()),
        path if path.contains("/referrers/") => reply(200, &[], r#"{"manifests":[]}"#),
        _ => reply(404, &[], "{}"),
    }
}
