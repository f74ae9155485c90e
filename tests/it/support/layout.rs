//! A folder in the OCI image layout, the digests in it, and bytes to fill it with.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Bytes that look random, and are the same each time.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect()
}

/// A folder in the OCI image layout.
pub struct Layout(pub PathBuf);

impl Layout {
    pub fn new(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(root.to_owned())
    }

    pub fn blob(&self, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        std::fs::write(self.0.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    }

    pub fn image(&self, architecture: &str, layers: &[&[u8]], more: &Value) -> Value {
        let mut of = Vec::new();
        for layer in layers {
            let mut blob = self.blob(layer);
            blob["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
            of.push(blob);
        }
        let config = json!({"architecture": architecture, "os": "linux",
            "created": "2026-01-02T03:04:05Z", "config": {"Labels": {"a": "b"}},
            "rootfs": {"type": "layers",
                "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>()}});
        let mut config = self.blob(config.to_string().as_bytes());
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
            "layers": of});
        manifest.as_object_mut().unwrap().extend(
            more.as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let mut entry = self.blob(manifest.to_string().as_bytes());
        entry["mediaType"] = MANIFEST.into();
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    }

    pub fn tag(&self, entry: &Value, name: &str) {
        let mut entry = entry.clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        std::fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }

    pub fn index(&self, entries: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        let mut entry = self.blob(index.to_string().as_bytes());
        entry["mediaType"] = INDEX.into();
        entry
    }

    /// The blobs that it has, each of which is what its name says.
    pub fn blobs(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.0.join("blobs/sha256")).unwrap();
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                assert_eq!(digest(&bytes), format!("sha256:{name}"));
                name
            })
            .collect()
    }
}
