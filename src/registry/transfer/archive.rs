//! Archives of images: what `docker save` writes (old and new), and archives of an OCI layout.

use super::layout::{self, Holds};
use super::package::{Blob, Lies, Package, Packed};
use crate::error::{Error, Result};
use crate::format::hex;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries of one archive.
const MOST_ENTRIES: usize = 100_000;
const LARGEST_DOCUMENT: u64 = 8 << 20;
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An archive, with where its files begin.
struct Archive {
    path: Arc<PathBuf>,
    entries: HashMap<String, (u64, u64)>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Whether a file is an archive that may hold images: a tar has its mark at one place.
pub(super) fn is_one(path: &Path) -> bool {
    let read = || {
        let mut file = File::open(path).ok()?;
        file.seek(SeekFrom::Start(257)).ok()?;
        let mut mark = [0; 5];
        file.read_exact(&mut mark).ok()?;
        let archive = (&mark == b"ustar").then(|| Archive::open(path).ok())??;
        (archive.has("index.json") || archive.has("manifest.json")).then_some(())
    };
    read().is_some()
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let failed = |e| Error::io(path.display(), e);
        let mut archive = tar::Archive::new(File::open(path).map_err(failed)?);
        let mut entries = HashMap::new();
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entries.len() > MOST_ENTRIES {
                return Err(Error::corrupt(format!("{}: too many files", path.display())));
            }
            if !entry.header().entry_type().is_file() {
                continue;
            }
            // Names are only compared; nothing is unpacked under them.
            let name = entry.path().map_err(failed)?.to_string_lossy().into_owned();
            let name = name.trim_start_matches("./").to_owned();
            entries.insert(name, (entry.raw_file_position(), entry.size()));
        }
        Ok(Self { path: Arc::new(path.to_owned()), entries })
    }

    fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn part(&self, name: &str) -> Result<(File, u64)> {
        let missing = || Error::not_found(format!("{}: has no {name}", self.path.display()));
        let (at, size) = *self.entries.get(name).ok_or_else(missing)?;
        let failed = |e| Error::io(self.path.display(), e);
        let mut file = File::open(self.path.as_ref()).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        Ok((file, size))
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (file, size) = self.part(name)?;
        if size > LARGEST_DOCUMENT {
            let most = LARGEST_DOCUMENT >> 20;
            let text = format!("{}: {name} has more than {most} MiB", self.path.display());
            return Err(Error::corrupt(text));
        }
        let mut bytes = Vec::new();
        let read = file.take(size).read_to_end(&mut bytes);
        read.map_err(|e| Error::io(self.path.display(), e))?;
        Ok(bytes)
    }
}

impl Holds for Archive {
    fn find(&self, digest: &str) -> Option<(Lies, u64)> {
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        let (at, size) = *self.entries.get(&name)?;
        Some((Lies::In(Arc::clone(&self.path), at), size))
    }

    fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        self.document(&format!("blobs/{}", digest.replacen(':', "/", 1)))
    }
}

/// Reads an image of an archive: the one of that name, or the only one.
pub(super) fn read(path: &Path, name: Option<&str>) -> Result<Package> {
    let archive = Archive::open(path)?;
    let at = path.display().to_string();
    let json = |file: &str| -> Result<Value> {
        serde_json::from_slice(&archive.document(file)?)
            .map_err(|e| Error::corrupt(format!("{at}: {file} is no JSON ({e})")))
    };
    if archive.has("oci-layout") && archive.has("index.json") {
        return layout::package(&archive, &json("index.json")?, name, &at);
    }
    if !archive.has("manifest.json") {
        return Err(Error::invalid(format!(
            "{at}: neither what 'docker save' writes nor an archive of an OCI layout"
        )));
    }
    let saved: Vec<Saved> = serde_json::from_value(json("manifest.json")?)
        .map_err(|e| Error::corrupt(format!("{at}: manifest.json cannot be read ({e})")))?;
    let fits = |image: &&Saved| {
        let tags = image.repo_tags.as_deref().unwrap_or_default();
        let same = |tag: &String, name: &str| tag == name || tag.rsplit(':').next() == Some(name);
        name.is_none_or(|name| tags.iter().any(|tag| same(tag, name)))
    };
    let found: Vec<&Saved> = saved.iter().filter(fits).collect();
    let [image] = found[..] else {
        let names: Vec<&str> =
            saved.iter().flat_map(|i| i.repo_tags.iter().flatten()).map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "{at}: {} images in it fit; choose one with --name ({})",
            found.len(),
            names.join(", ")
        )));
    };
    converted(&archive, image)
}

/// An image as old versions of `docker save` write it: its layers are compressed, and a manifest is
/// made.
fn converted(archive: &Archive, image: &Saved) -> Result<Package> {
    let scratch = tempfile::Builder::new()
        .prefix("azimg-layers-")
        .tempdir()
        .map_err(|e| Error::io("making a temporary folder", e))?;
    let mut package = Package::default();
    let mut layers = Vec::new();
    let config = archive.document(&image.config)?;
    let told: Value = serde_json::from_slice(&config).unwrap_or_default();
    for (number, layer) in image.layers.iter().enumerate() {
        let (from, whole) = archive.part(layer)?;
        let path = scratch.path().join(number.to_string());
        let mut from = Hashed { of: from.take(whole), hash: Sha256::new(), size: 0 };
        let (digest, size) =
            compressed(&mut from, &path).map_err(|e| Error::io(archive.path.display(), e))?;
        // An archive that was cut ends within a layer; a configuration names each layer by what it is
        // before it is compressed.
        let own = format!("sha256:{}", hex(&from.hash.finalize()));
        let wanted = told["rootfs"]["diff_ids"][number].as_str();
        let is_plain = own != digest;
        if from.size != whole || (is_plain && wanted.is_some_and(|wanted| wanted != own)) {
            let at = archive.path.display();
            return Err(Error::corrupt(format!("{at}: {layer} is cut, or is another layer")));
        }
        layers.push(json!({"mediaType": LAYER, "digest": digest, "size": size}));
        package.add(Blob { digest, size, lies: Lies::In(Arc::new(path), 0) });
    }
    let config = Blob::here(config);
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": layers});
    package.add(config);
    package.manifests.push(Packed::new(manifest.to_string().into_bytes().into(), IMAGE)?);
    package.scratch = Some(scratch);
    Ok(package)
}

/// Bytes that are counted and hashed on their way out of a file, or into one.
struct Hashed<T> {
    of: T,
    hash: Sha256,
    size: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.of.read(into)?;
        self.hash.update(&into[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.of.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.of.flush()
    }
}

/// Compresses `from` into a file; its digest and size then. A layer that is compressed already is
/// copied.
fn compressed(mut from: impl Read, path: &Path) -> io::Result<(String, u64)> {
    let mut head = [0; 2];
    let mut filled = 0;
    while filled < head.len() {
        match from.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let into = Hashed { of: io::BufWriter::new(File::create(path)?), hash: Sha256::new(), size: 0 };
    let mut from = io::Cursor::new(head[..filled].to_vec()).chain(from);
    let mut done = if head == [0x1f, 0x8b] {
        let mut into = into;
        io::copy(&mut from, &mut into)?;
        into
    } else {
        let mut into = GzEncoder::new(into, Compression::default());
        io::copy(&mut from, &mut into)?;
        into.finish()?
    };
    done.flush()?;
    Ok((format!("sha256:{}", hex(&done.hash.finalize())), done.size))
}

/// Writes a layout as an archive that `docker load` reads, too.
pub(super) fn write(
    root: &Path,
    names: &[String],
    image: Option<&Value>,
    to: &Path,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    archive.mode(tar::HeaderMode::Deterministic);
    if let Some(document) = image {
        let at = |blob: &Value| {
            let digest = blob["digest"].as_str().unwrap_or_default();
            format!("blobs/{}", digest.replacen(':', "/", 1))
        };
        let layers: Vec<String> =
            document["layers"].as_array().into_iter().flatten().map(at).collect();
        let saved =
            json!([{"Config": at(&document["config"]), "RepoTags": names, "Layers": layers}]);
        let bytes = saved.to_string().into_bytes();
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "manifest.json", bytes.as_slice())?;
    }
    for name in ["oci-layout", "index.json"] {
        archive.append_path_with_name(root.join(name), name)?;
    }
    let blobs = root.join("blobs/sha256");
    let mut files: Vec<_> = std::fs::read_dir(&blobs)?.collect::<io::Result<Vec<_>>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        let name = Path::new("blobs/sha256").join(file.file_name());
        archive.append_path_with_name(file.path(), name)?;
    }
    archive.into_inner()?.flush()
}
