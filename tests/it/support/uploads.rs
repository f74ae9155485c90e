//! Images for uploads, and their media types.

use super::layout::digest;
use serde_json::{Value, json};

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

pub fn image(config: &[u8], layer: &[u8]) -> Value {
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer)]})
}
