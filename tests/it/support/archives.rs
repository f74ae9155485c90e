//! Archives of images as tools write them, and a push of one into a registry in memory.

use super::layout::digest;
use super::memory::Memory;
use super::{finish, json};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// A tar of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    linked(files, &[])
}

/// A tar of files, and of links behind the first of them: a name, where it leads, and how.
pub fn linked(files: &[(&str, &[u8])], links: &[(&str, &str, tar::EntryType)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (number, (name, bytes)) in files.iter().enumerate() {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // As others write them, with a dot in front.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
        for (name, target, kind) in links.iter().filter(|_| number == 0) {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_entry_type(*kind);
            archive.append_link(&mut header, name, target).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut into = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    into.write_all(bytes).unwrap();
    into.finish().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut into = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    into.write_all(bytes).unwrap();
    into.finish().unwrap()
}

pub fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Two layers, which are archives themselves.
pub fn layers() -> [Vec<u8>; 2] {
    [tar(&[("hello", b"hello\n")]), tar(&[("world", "world\n".repeat(1_000).as_bytes())])]
}

/// The configuration of an image with these layers.
pub fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": digests}})
    .to_string()
    .into_bytes()
}

/// What `docker save` wrote before it wrote layouts.
pub fn saved(config: &[u8], layers: &[(&str, &[u8])], names: &Value) -> Vec<u8> {
    let manifest = json!([{"Config": "c.json", "RepoTags": names,
        "Layers": layers.iter().map(|(name, _)| name).collect::<Vec<_>>()}])
    .to_string();
    let mut files = vec![("c.json", config)];
    files.extend(layers);
    files.push(("manifest.json", manifest.as_bytes()));
    tar(&files)
}

/// A case: a registry, a folder, and what is pushed.
pub struct Case {
    pub registry: Memory,
    pub folder: tempfile::TempDir,
}

impl Case {
    pub fn new() -> Self {
        Self { registry: Memory::start(), folder: tempfile::tempdir().unwrap() }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Pushes to `app:v1`; what was pushed, and its manifest as the registry has it.
    pub fn push(&self, path: &Path, more: &[&str]) -> (Value, Value) {
        let at = self.registry.at("app:v1");
        let line = [&["push", &at, path.to_str().unwrap()], more].concat();
        let pushed = json(&mut self.registry.azimg(&line));
        (pushed, self.registry.manifest("app:v1"))
    }

    /// Pushes in vain: the exit code says what kind of error it is, and not one request was sent.
    pub fn refused(&self, path: &Path, more: &[&str], words: &[&str]) -> String {
        self.registry.held.lock().unwrap().log.clear();
        let at = self.registry.at("app:v1");
        let line = [&["push", &at, path.to_str().unwrap()], more].concat();
        let (code, out, err) = finish(&mut self.registry.azimg(&line));
        assert!(code != 0, "{}: {out}", path.display());
        for word in words {
            assert!(err.contains(word), "{}: no '{word}' in {err}", path.display());
        }
        let log = self.registry.held.lock().unwrap().log.clone();
        let is_sent = |line: &String| line.contains("/blobs/") && !line.starts_with("HEAD ");
        assert!(!log.iter().any(is_sent), "{log:?}");
        err
    }
}

pub fn digests(manifest: &Value) -> Vec<&str> {
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["digest"].as_str().unwrap()).collect()
}

/// Files of a layout as an archive has them.
pub struct Packed(pub Vec<(String, Vec<u8>)>);

impl Packed {
    pub fn new() -> Self {
        Self(vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())])
    }

    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.0.push((format!("blobs/sha256/{}", &digest[7..]), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    pub fn file(&mut self, name: &str, document: &Value) {
        self.0.push((name.to_owned(), document.to_string().into_bytes()));
    }

    /// An image of one layer, which lies there as `of` makes it; its entry.
    pub fn image(
        &mut self,
        architecture: &str,
        layer: &[u8],
        kind: &str,
        of: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Value {
        let config = self.blob(CONFIG, &config(architecture, &[layer]));
        let layer = self.blob(kind, &of(layer));
        let manifest =
            json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer]});
        let mut entry = self.blob(IMAGE, manifest.to_string().as_bytes());
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    }

    pub fn index(&mut self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.file("index.json", &index);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let files = self.0.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]));
        tar(&files.collect::<Vec<_>>())
    }

    /// The same in a folder.
    pub fn folder(&self, root: &Path) -> PathBuf {
        for (name, bytes) in &self.0 {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root.to_owned()
    }
}

pub fn at(entry: &Value) -> String {
    format!("blobs/{}", entry["digest"].as_str().unwrap().replace(':', "/"))
}

pub fn named(entry: &Value, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!({FULL_NAME: format!("docker.io/library/{name}"),
        NAME: name.rsplit(':').next().unwrap()});
    entry
}
