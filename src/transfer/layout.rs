//! Images in the OCI image layout: a folder with `oci-layout`, `index.json` and
//! `blobs/ALGORITHM/HEX`.

use super::choice::{Choice, ImageChoice, several};
use super::package::{Blob, BlobSource, Package, PackedManifest};
use super::read_as::ReadAs;
use crate::error::{Error, Result};
use crate::image::registry::is_index;
use crate::registry::is_digest;
use crate::registry::{Content, Descriptor, Platform, is_image_config, is_manifest};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The content of the file `oci-layout`.
pub(super) const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an uncompressed layer.
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of an uncompressed layer in Docker's own manifests.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// In bytes. The largest manifest, index or configuration.
const LARGEST: u64 = 8 << 20;
/// The deepest nesting of indexes.
const DEPTH: u32 = 4;

/// The path of a blob in a layout.
pub(super) fn blob_path(root: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    root.join("blobs").join(algorithm).join(hex)
}

/// The source of a layout: a folder, or an archive of one.
pub(super) trait BlobContainer {
    /// The source and size of a blob; `None` if it is missing.
    fn find(&self, digest: &str) -> Option<(BlobSource, u64)>;
    /// The bytes of a small blob.
    fn bytes(&self, digest: &str) -> Result<Vec<u8>>;
}

struct Local<'a>(&'a Path);

impl BlobContainer for Local<'_> {
    fn find(&self, digest: &str) -> Option<(BlobSource, u64)> {
        let path = blob_path(self.0, digest);
        let size = path.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some((BlobSource::In(Arc::new(path), 0), size))
    }

    fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        read_small(&blob_path(self.0, digest))
    }
}

/// Reads a file of at most [`LARGEST`] bytes.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(path.display(), e);
    let size = path.metadata().map_err(failed)?.len();
    if size > LARGEST {
        let most = LARGEST >> 20;
        return Err(Error::corrupt(format!("{}: exceeds {most} MiB", path.display())));
    }
    std::fs::read(path).map_err(failed)
}

/// Reads the chosen image of a layout, or the only one.
pub(super) fn read(root: &Path, read_as: &ReadAs, wanted: &ImageChoice) -> Result<Package> {
    let index = read_small(&root.join("index.json"))?;
    package(&Local(root), &index, read_as, wanted, &root.display().to_string())
}

/// Packs the chosen part of a layout's index, with everything that it refers to.
pub(super) fn package(
    from: &dyn BlobContainer,
    bytes: &[u8],
    read_as: &ReadAs,
    wanted: &ImageChoice,
    at: &str,
) -> Result<Package> {
    let index: Value = serde_json::from_slice(bytes)
        .map_err(|e| Error::corrupt(format!("{at}: index.json is not JSON ({e})")))?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    if entries.is_empty() {
        return Err(Error::not_found(format!("{at}: index.json lists no images")));
    }
    if *read_as == ReadAs::Index {
        if wanted.name.is_some() {
            let text = "--as index pushes every image of index.json, and cannot be combined with \
                        --name, which selects one";
            return Err(Error::invalid(text));
        }
        return of_index(from, &index, Bytes::copy_from_slice(bytes), wanted, at);
    }
    let entry = chosen(from, &entries, wanted, at)?;
    if wanted.platforms.is_empty() {
        return package_of(from, &entry);
    }
    let digest = digest_of(&entry)?;
    let packed = packed(from, &entry, &digest)?;
    if packed.document["manifests"].is_array() {
        return of_index(from, &packed.document, packed.bytes, wanted, at);
    }
    let [platform] = &wanted.platforms[..] else {
        let text = format!("{at}: not an index, so several platforms cannot be selected");
        return Err(Error::invalid(text));
    };
    let own: Vec<(Platform, ())> =
        platform_of(from, &entry)?.map(|own| (own, ())).into_iter().collect();
    platform.choose(&own).map_err(|error| error.context(at))?;
    package_of(from, &entry)
}

/// Packs a whole index, or the images of some of its platforms.
fn of_index(
    from: &dyn BlobContainer,
    index: &Value,
    bytes: Bytes,
    wanted: &ImageChoice,
    at: &str,
) -> Result<Package> {
    let mut package = Package::default();
    let top_manifest = if wanted.platforms.is_empty() {
        PackedManifest::new(bytes, INDEX)?
    } else {
        let mut known = Vec::new();
        platforms_below(from, index, &mut known, DEPTH)?;
        let chosen = only(&wanted.platforms, &known).map_err(|error| error.context(at))?;
        if let [one] = &chosen[..] {
            return package_of(from, one);
        }
        PackedManifest::new(with_only(index, &chosen).to_string().into_bytes().into(), INDEX)?
    };
    add_members(from, &mut package, &top_manifest.document, DEPTH)?;
    package.manifests.push(top_manifest);
    Ok(package)
}

/// The chosen entry of an index.
fn chosen(
    from: &dyn BlobContainer,
    entries: &[Value],
    wanted: &ImageChoice,
    at: &str,
) -> Result<Value> {
    let mut choices: Vec<Choice> = entries.iter().map(Choice::of_entry).collect();
    let mut fitting = wanted.fitting(&choices, at)?;
    if fitting.len() > 1 {
        // A referrer (a signature, an SBOM) without a name is not meant.
        let refers = |number: &usize| {
            let document = digest_of(&entries[*number]).and_then(|digest| from.bytes(&digest));
            let document = document.unwrap_or_default();
            let document: Value = serde_json::from_slice(&document).unwrap_or_default();
            choices[*number].names.is_empty() && document["subject"]["digest"].is_string()
        };
        let others: Vec<usize> = fitting.iter().copied().filter(|n| !refers(n)).collect();
        fitting = if others.is_empty() { fitting } else { others };
    }
    let mut seen = Vec::new();
    fitting.retain(|number| {
        let is_new = !seen.contains(&choices[*number].digest);
        seen.push(choices[*number].digest.clone());
        is_new
    });
    if fitting.len() > 1 {
        for number in &fitting {
            choices[*number].platform = platform_of(from, &entries[*number])?;
        }
    }
    if let ([platform], [_, _, ..]) = (&wanted.platforms[..], &fitting[..]) {
        let with_platform =
            |number: &usize| choices[*number].platform.clone().map(|found| (found, *number));
        let known: Vec<(Platform, usize)> = fitting.iter().filter_map(with_platform).collect();
        fitting = vec![platform.choose(&known).map_err(|error| error.context(at))?.1];
    }
    match fitting[..] {
        [number] => Ok(entries[number].clone()),
        _ => Err(several(
            &choices,
            &fitting,
            at,
            ", with --platform, or push all of them as one index with --as index",
        )),
    }
}

/// The platform of an image: that of its entry in an index, or else that of its configuration.
fn platform_of(from: &dyn BlobContainer, entry: &Value) -> Result<Option<Platform>> {
    let declared = Platform::of(&entry["platform"]);
    if declared.is_some() || entry["platform"].is_object() {
        return Ok(declared);
    }
    let digest = digest_of(entry)?;
    if from.find(&digest).is_none() {
        return Ok(None);
    }
    let image = packed(from, entry, &digest)?;
    let config = Content::blobs_of(&image.document, "config")?.into_iter().next();
    let config = config.filter(|config| is_image_config(&config.media_type));
    let Some(config) = config.filter(|config| from.find(&config.digest).is_some()) else {
        return Ok(None);
    };
    let config: Value = serde_json::from_slice(&from.bytes(&config.digest)?).unwrap_or_default();
    Ok(Platform::of(&config))
}

/// Collects the images with a platform in an index, and in the indexes it lists, each with its
/// entry.
fn platforms_below(
    from: &dyn BlobContainer,
    index: &Value,
    known: &mut Vec<(Platform, Value)>,
    depth: u32,
) -> Result<()> {
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let digest = digest_of(entry)?;
        let is_there = from.find(&digest).is_some();
        if is_index(entry["mediaType"].as_str().unwrap_or_default()) {
            if depth > 0 && is_there {
                let inner = packed(from, entry, &digest)?;
                platforms_below(from, &inner.document, known, depth - 1)?;
            }
        } else if let Some(platform) = platform_of(from, entry)? {
            known.push((platform, entry.clone()));
        }
    }
    Ok(())
}

/// The manifests of an index, and of the indexes it lists, as far as they are present.
pub(super) fn manifests_below(from: &dyn BlobContainer, index: &Value) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let mut level = vec![index.clone()];
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for entry in
            level.iter().flat_map(|index| index["manifests"].as_array().into_iter().flatten())
        {
            let Ok(digest) = digest_of(entry) else { continue };
            let is_known = found.iter().any(|known| known["digest"] == digest.as_str());
            let media_type = entry["mediaType"].as_str().unwrap_or_default();
            if !is_known && is_manifest(media_type) && from.find(&digest).is_some() {
                below.extend(packed(from, entry, &digest).map(|inner| inner.document));
                found.push(entry.clone());
            }
        }
        level = below;
    }
    found
}

/// Packs one manifest with everything that it refers to.
pub(super) fn package_of(from: &dyn BlobContainer, entry: &Value) -> Result<Package> {
    let mut package = Package::default();
    add(from, &mut package, entry, DEPTH)?;
    Ok(package)
}

/// Reads a manifest and verifies its digest.
fn packed(from: &dyn BlobContainer, entry: &Value, digest: &str) -> Result<PackedManifest> {
    let media_type = entry["mediaType"].as_str().unwrap_or_default();
    let packed = PackedManifest::new(from.bytes(digest)?.into(), media_type)?;
    if packed.digest == digest {
        return Ok(packed);
    }
    Err(Error::corrupt(format!("{digest}: the content does not match the digest")))
}

/// Adds a manifest, after everything that it refers to.
fn add(from: &dyn BlobContainer, package: &mut Package, entry: &Value, depth: u32) -> Result<()> {
    let digest = digest_of(entry)?;
    if depth == 0 {
        return Err(Error::corrupt(format!("{digest}: indexes are nested too deep")));
    }
    if package.manifests.iter().any(|known| known.digest == digest) {
        return Ok(());
    }
    let packed = packed(from, entry, &digest)?;
    add_members(from, package, &packed.document, depth - 1)?;
    for part in ["layers", "blobs", "config"] {
        for blob in Content::blobs_of(&packed.document, part)? {
            add_blob(from, package, &blob, &digest)?;
        }
    }
    compare_layers(from, package, &packed)?;
    package.manifests.push(packed);
    Ok(())
}

/// Adds the members of an index: manifests, and the layers of caches, which `BuildKit` lists in the
/// same way.
fn add_members(
    from: &dyn BlobContainer,
    package: &mut Package,
    index: &Value,
    depth: u32,
) -> Result<()> {
    for member in Content::blobs_of(index, "manifests")? {
        if !member.is_manifest() {
            add_blob(from, package, &member, "the index")?;
        } else if from.find(&member.digest).is_some() {
            let entry = json!({"mediaType": member.media_type, "digest": member.digest});
            add(from, package, &entry, depth)?;
        } else {
            let platform = Platform::of(&member.platform).map(|platform| platform.to_string());
            package.elsewhere.push((member.digest, platform));
        }
    }
    Ok(())
}

fn add_blob(
    from: &dyn BlobContainer,
    package: &mut Package,
    blob: &Descriptor,
    of: &str,
) -> Result<()> {
    let is_foreign =
        blob.media_type.contains("foreign") || blob.media_type.contains("nondistributable");
    let found = from.find(&blob.digest);
    if !blob.urls.is_empty() && (found.is_none() || is_foreign) {
        // It has another location, and no registry needs to have it.
        package.left_out.push(blob.clone());
        return Ok(());
    }
    let (source, size) = found
        .ok_or_else(|| Error::not_found(format!("{}: a blob of {of} is missing", blob.digest)))?;
    if size != blob.size {
        let text = format!("{}: {size} bytes instead of {}", blob.digest, blob.size);
        return Err(Error::corrupt(text));
    }
    package.add(Blob { digest: blob.digest.clone(), size, source });
    Ok(())
}

/// The digests of an image's uncompressed layers, from its configuration (`diff_ids`).
pub(super) fn unpacked(config: &Value) -> Vec<String> {
    let digests = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    digests.map(|digest| digest.as_str().unwrap_or_default().to_owned()).collect()
}

/// Whether a media type is that of an uncompressed layer.
pub(super) fn is_plain(media_type: &str) -> bool {
    media_type == LAYER || media_type == DOCKER_LAYER
}

fn is_layer(blob: &Descriptor) -> bool {
    blob.media_type.starts_with("application/vnd.oci.image.layer.")
        || blob.media_type.starts_with("application/vnd.docker.image.rootfs.")
}

/// Compares an image's layers with its configuration: their number, and the digests of the
/// uncompressed ones. The compressed ones are compared later, once it is known that they have to be
/// sent. A pull needs both the manifest and the configuration, so an image whose parts disagree is
/// unusable.
fn compare_layers(
    from: &dyn BlobContainer,
    package: &mut Package,
    image: &PackedManifest,
) -> Result<()> {
    let config = Content::blobs_of(&image.document, "config")?.into_iter().next();
    let Some(config) = config.filter(|config| is_image_config(&config.media_type)) else {
        return Ok(());
    };
    let config: Value = serde_json::from_slice(&from.bytes(&config.digest)?).unwrap_or_default();
    if !config["rootfs"]["diff_ids"].is_array() {
        return Ok(());
    }
    let wanted = unpacked(&config);
    let layers = Content::blobs_of(&image.document, "layers")?;
    // A manifest with an image's configuration and something other than layers is not an image,
    // whatever the configuration says.
    if !layers.iter().all(is_layer) {
        return Ok(());
    }
    if layers.len() != wanted.len() {
        return Err(Error::corrupt(format!(
            "{}: the image has {} layers, but its configuration has {}",
            image.digest,
            layers.len(),
            wanted.len()
        )));
    }
    for (layer, wanted) in layers.into_iter().zip(wanted) {
        let is_sealed = layer.media_type.ends_with("+encrypted");
        let is_another = if is_plain(&layer.media_type) {
            layer.digest != wanted
        } else {
            !is_sealed
                && package.unpacked.entry(layer.digest.clone()).or_insert(wanted.clone()) != &wanted
        };
        if is_another {
            return Err(another(&layer.digest).context(&image.digest));
        }
    }
    Ok(())
}

/// The error for a layer whose content differs from the image's configuration.
pub(super) fn another(layer: &str) -> Error {
    Error::corrupt(format!("the layer {layer} does not match the image configuration"))
}

/// The entries of the wanted platforms.
pub(super) fn only(wanted: &[Platform], known: &[(Platform, Value)]) -> Result<Vec<Value>> {
    let mut chosen: Vec<Value> = Vec::new();
    for platform in wanted {
        let (_, entry) = platform.choose(known)?;
        if !chosen.iter().any(|other| other["digest"] == entry["digest"]) {
            chosen.push(entry.clone());
        }
    }
    Ok(chosen)
}

/// An index with only the `chosen` images and their attestations.
pub(super) fn with_only(index: &Value, chosen: &[Value]) -> Value {
    let is_chosen = |digest: &Value| chosen.iter().any(|entry| entry["digest"] == *digest);
    let all = index["manifests"].as_array().into_iter().flatten();
    let attests = |entry: &&Value| is_chosen(&entry["annotations"]["vnd.docker.reference.digest"]);
    let mut entries = chosen.to_vec();
    entries.extend(all.filter(attests).cloned());
    let mut index = index.clone();
    index["manifests"] = entries.into();
    index
}

fn digest_of(entry: &Value) -> Result<String> {
    let digest = entry["digest"].as_str().unwrap_or_default();
    if is_digest(digest) {
        return Ok(digest.to_owned());
    }
    Err(Error::corrupt(format!("'{digest}' is not a digest")))
}
