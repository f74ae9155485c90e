//! Images in the OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/ALGORITHM/HEX`.

use super::package::{Blob, Lies, Package, Packed};
use crate::error::{Error, Result};
use crate::registry::content::Content;
use crate::registry::reference::is_digest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The annotation that names an image of a layout.
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";
/// What the file `oci-layout` says.
pub(super) const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LARGEST: u64 = 4 << 20;
/// An index of an index of an index, and no deeper.
const DEPTH: u32 = 4;

/// Where a layout keeps a blob.
pub(super) fn blob_path(root: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    root.join("blobs").join(algorithm).join(hex)
}

/// What a layout is read from: a folder, or an archive of one.
pub(super) trait Holds {
    /// Where a blob is, and its size; none when it is not there.
    fn find(&self, digest: &str) -> Option<(Lies, u64)>;
    /// A small blob's bytes.
    fn bytes(&self, digest: &str) -> Result<Vec<u8>>;
}

struct Folder<'a>(&'a Path);

impl Holds for Folder<'_> {
    fn find(&self, digest: &str) -> Option<(Lies, u64)> {
        let path = blob_path(self.0, digest);
        let size = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some((Lies::In(Arc::new(path), 0), size))
    }

    fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        read_small(&blob_path(self.0, digest))
    }
}

/// A file of at most some megabytes.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(path.display(), e);
    let size = path.metadata().map_err(failed)?.len();
    if size > LARGEST {
        let most = LARGEST >> 20;
        return Err(Error::corrupt(format!("{}: more than {most} MiB", path.display())));
    }
    std::fs::read(path).map_err(failed)
}

/// Reads an image of a layout: the one of that name, or the only one.
pub(super) fn read(root: &Path, name: Option<&str>) -> Result<Package> {
    let index = read_small(&root.join("index.json"))?;
    let index: Value = serde_json::from_slice(&index)
        .map_err(|e| Error::corrupt(format!("{}/index.json: no JSON ({e})", root.display())))?;
    package(&Folder(root), &index, name, &root.display().to_string())
}

/// The image of that name in an index of a layout, with everything that it points at.
pub(super) fn package(
    from: &dyn Holds,
    index: &Value,
    name: Option<&str>,
    at: &str,
) -> Result<Package> {
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let name_of = |entry: &Value| entry["annotations"][NAME].as_str().map(str::to_owned);
    let fits = |entry: &&Value| {
        let own = name_of(entry).unwrap_or_default();
        name.is_none_or(|name| own == name || own.rsplit(':').next() == Some(name))
    };
    let found: Vec<&Value> = entries.iter().filter(fits).collect();
    let [entry] = found[..] else {
        let names: Vec<String> = entries.iter().filter_map(name_of).collect();
        return Err(Error::invalid(format!(
            "{at}: {} images in it fit; choose one with --name ({})",
            found.len(),
            names.join(", ")
        )));
    };
    let mut package = Package::default();
    add(from, &mut package, entry, DEPTH)?;
    Ok(package)
}

/// Adds a manifest with everything that it points at, in front of it.
fn add(from: &dyn Holds, package: &mut Package, entry: &Value, depth: u32) -> Result<()> {
    let digest = digest_of(entry)?;
    if depth == 0 {
        return Err(Error::corrupt(format!("{digest}: indexes within indexes, too deep")));
    }
    if package.manifests.iter().any(|known| known.digest == digest) {
        return Ok(());
    }
    let media_type = entry["mediaType"].as_str().unwrap_or_default();
    let packed = Packed::new(from.bytes(&digest)?.into(), media_type)?;
    if packed.digest != digest {
        return Err(Error::corrupt(format!("{digest}: not the bytes that its digest names")));
    }
    for part in packed.document["manifests"].as_array().into_iter().flatten() {
        // An index may list images that a layout does not have: those of other platforms.
        if from.find(&digest_of(part)?).is_some() {
            add(from, package, part, depth - 1)?;
        }
    }
    for part in ["layers", "blobs", "config"] {
        for blob in Content::blobs_of(&packed.document, part)? {
            let (lies, size) = from.find(&blob.digest).ok_or_else(|| {
                Error::not_found(format!("{}: a blob of {digest}, is not there", blob.digest))
            })?;
            if size != blob.size {
                return Err(Error::corrupt(format!(
                    "{}: {size} bytes instead of {}",
                    blob.digest, blob.size
                )));
            }
            package.add(Blob { digest: blob.digest, size, lies });
        }
    }
    package.manifests.push(packed);
    Ok(())
}

fn digest_of(entry: &Value) -> Result<String> {
    let digest = entry["digest"].as_str().unwrap_or_default();
    if is_digest(digest) {
        return Ok(digest.to_owned());
    }
    Err(Error::corrupt(format!("'{digest}' is no digest")))
}

/// The index of a layout with an image under a name: others stay, one of the same name is replaced.
pub(super) fn index_with(before: Option<Value>, entry: Value) -> Value {
    let mut index = before
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}));
    let name = entry["annotations"][NAME].clone();
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    entries.retain(|other| {
        other["annotations"][NAME] != name
            && !(other["digest"] == entry["digest"] && other["annotations"][NAME].is_null())
    });
    entries.push(entry);
    index["manifests"] = entries.into();
    index
}
