//! Images of a platform in a registry in memory, and pulls of them.

use super::json;
use super::layout::digest;
use super::memory::Memory;
use serde_json::{Value, json};
use std::path::Path;

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Puts an image of that platform there; its entry in an index.
pub fn image(at: &Memory, name: &str, platform: &Value, layer: &str) -> Value {
    let blob = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": at.blob(bytes), "size": bytes.len()});
    let mut config = platform.clone();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [digest(layer.as_bytes())]});
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "config": blob(CONFIG, config.to_string().as_bytes()),
        "layers": [blob(LAYER, layer.as_bytes())]})
    .to_string();
    let digest = at.put(name, IMAGE, manifest.as_bytes());
    json!({"mediaType": IMAGE, "digest": digest, "size": manifest.len(), "platform": platform})
}

pub fn index(at: &Memory, name: &str, entries: &[Value]) -> Value {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    let digest = at.put(name, INDEX, index.as_bytes());
    json!({"mediaType": INDEX, "digest": digest, "size": index.len()})
}

pub fn platform(text: &str) -> Value {
    let parts: Vec<&str> = text.split('/').collect();
    let mut platform = json!({"os": parts[0], "architecture": parts[1]});
    if let Some(variant) = parts.get(2) {
        platform["variant"] = (*variant).into();
    }
    platform
}

pub fn pull(at: &Memory, name: &str, to: &Path, more: &[&str]) -> Value {
    let name = at.at(name);
    json(&mut at.azimg(&[&["pull", &name, to.to_str().unwrap()], more].concat()))
}
