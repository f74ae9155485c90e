//! Images listed in `manifest.json` of an archive by their configuration and layers. A manifest is
//! built from them, and every layer is compared with the digest of its uncompressed bytes in the
//! configuration.

use super::archive::Archive;
use super::choice::{Choice, ImageChoice, several};
use super::compression::{self, Compression, Hashed, both_digests, fill};
use super::layout::{self, BlobContainer, LAYER};
use super::package::{Blob, BlobSource, Package, PackedManifest};
use crate::error::{Error, Result};
use crate::registry::Platform;
use crate::registry::sha256;
use crate::scratch::Scratch;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The chosen image of `manifest.json`.
fn chosen(archive: &Archive, wanted: &ImageChoice) -> Result<Saved> {
    let at = archive.at();
    let mut saved: Vec<Saved> = serde_json::from_value(archive.json("manifest.json")?)
        .map_err(|e| Error::corrupt(format!("{at}: manifest.json cannot be read ({e})")))?;
    let choice = |image: &Saved| {
        let config = archive.document(&image.config)?;
        let config_json: Value = serde_json::from_slice(&config).unwrap_or_default();
        let names = image.repo_tags.clone().unwrap_or_default();
        Ok(Choice { names, digest: sha256(&config), platform: Platform::of(&config_json) })
    };
    let choices: Vec<Choice> = saved.iter().map(choice).collect::<Result<_>>()?;
    let mut fitting = wanted.fitting(&choices, &at)?;
    // An image may be listed twice, under different names.
    let mut seen: Vec<&str> = Vec::new();
    fitting.retain(|number| {
        let is_new = !seen.contains(&choices[*number].digest.as_str());
        seen.push(&choices[*number].digest);
        is_new
    });
    if let [platform] = &wanted.platforms[..] {
        let with_platform =
            |number: &usize| choices[*number].platform.clone().map(|found| (found, *number));
        let known: Vec<(Platform, usize)> = fitting.iter().filter_map(with_platform).collect();
        fitting = vec![platform.choose(&known).map_err(|error| error.context(&at))?.1];
    } else if !wanted.platforms.is_empty() {
        let text =
            format!("{at}: the archive has no index, so several platforms cannot be selected");
        return Err(Error::invalid(text));
    }
    match fitting[..] {
        [number] => Ok(saved.swap_remove(number)),
        [] => Err(Error::not_found(format!("{at}: manifest.json names no image"))),
        _ => Err(several(&choices, &fitting, &at, " or --platform")),
    }
}

/// Reads an image that only `manifest.json` lists.
pub(super) fn read(archive: &Archive, wanted: &ImageChoice) -> Result<Package> {
    converted(archive, &chosen(archive, wanted)?)
}

/// Reads an image whose entry in the index is unusable: by the manifest that the index lists for
/// it, if that is complete, or else by a new one.
pub(super) fn in_place_of(archive: &Archive, wanted: &ImageChoice) -> Result<Package> {
    let image = chosen(archive, wanted)?;
    let config = sha256(&archive.document(&image.config)?);
    let layers = image.layers.as_deref().unwrap_or_default().len();
    for entry in layout::manifests_below(archive, &archive.json("index.json")?) {
        let digest = entry["digest"].as_str().unwrap_or_default();
        let manifest_json: Value =
            serde_json::from_slice(&archive.bytes(digest)?).unwrap_or_default();
        let has = manifest_json["layers"].as_array().map_or(0, Vec::len);
        if manifest_json["config"]["digest"] == config.as_str()
            && has == layers
            && let Ok(mut package) = layout::package_of(archive, &entry)
        {
            package.notes.push(
                "the index of the archive names missing content: the image of manifest.json is \
                 pushed instead"
                    .to_owned(),
            );
            return Ok(package);
        }
    }
    let mut package = converted(archive, &image)?;
    package.notes.push(
        "the index of the archive is not usable: the manifest is created from manifest.json"
            .to_owned(),
    );
    Ok(package)
}

/// A layer after inspection.
#[derive(Clone)]
struct Layer {
    digest: String,
    size: u64,
    media_type: String,
    /// The digest of the uncompressed bytes.
    unpacked: String,
    source: BlobSource,
}

/// Converts an image written by an old version of `docker save`: its layers are compressed, and a
/// manifest is built.
fn converted(archive: &Archive, image: &Saved) -> Result<Package> {
    let at = archive.at();
    let config = archive.document(&image.config)?;
    let config_json: Value = serde_json::from_slice(&config)
        .map_err(|e| Error::corrupt(format!("{at}: {} is not JSON ({e})", image.config)))?;
    let names = image.layers.as_deref().unwrap_or_default();
    let unpacked = layout::unpacked(&config_json);
    if unpacked.len() != names.len() {
        return Err(Error::corrupt(format!(
            "{at}: manifest.json names {} layers, but the image configuration names {}",
            names.len(),
            unpacked.len()
        )));
    }
    let scratch = Scratch::new()?;
    let mut package = Package::default();
    let mut known: HashMap<u64, Layer> = HashMap::new();
    let mut layers = Vec::new();
    for (name, wanted) in names.iter().zip(unpacked) {
        let (part, position, size) = archive.part(name)?;
        let layer = match known.get(&position) {
            Some(layer) => layer.clone(),
            None => read_layer(archive, &scratch, name, (part, position, size))?,
        };
        if layer.unpacked != wanted {
            return Err(Error::corrupt(format!(
                "{at}: the layer {name} does not match the image configuration"
            )));
        }
        layers.push(json!({"mediaType": layer.media_type, "digest": layer.digest,
            "size": layer.size}));
        package.add(Blob {
            digest: layer.digest.clone(),
            size: layer.size,
            source: layer.source.clone(),
        });
        known.insert(position, layer);
    }
    let config = Blob::here(config);
    let manifest = json!({"schemaVersion": 2, "mediaType": IMAGE,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": layers});
    package.add(config);
    package.manifests.push(PackedManifest::new(manifest.to_string().into_bytes().into(), IMAGE)?);
    package.scratch.push(scratch);
    Ok(package)
}

/// Inspects a layer. One that is compressed with gzip or zstd is used as it is; any other is
/// compressed with gzip.
fn read_layer(
    archive: &Archive,
    scratch: &Scratch,
    name: &str,
    (mut part, position, size): (impl Read, u64, u64),
) -> Result<Layer> {
    let failed = |error| Error::io(archive.at(), error);
    let mut head = [0; compression::HEAD];
    let count = fill(&mut part, &mut head).map_err(failed)?;
    let how = Compression::of(&head[..count]);
    let part = io::Cursor::new(head[..count].to_vec()).chain(part);
    if let Some(how @ (Compression::Gzip | Compression::Zstd)) = how {
        let (digest, unpacked) = both_digests(part, how).map_err(|error| {
            compression::failed(name.as_ref(), how, &error).context(archive.at())
        })?;
        let media_type = format!("{LAYER}+{}", how.name());
        return Ok(Layer { digest, size, media_type, unpacked, source: archive.source(position) });
    }
    let mut plain: Box<dyn Read> = match how {
        Some(how) => how
            .reader(part)
            .map_err(|e| compression::failed(name.as_ref(), how, &e).context(archive.at()))?,
        None => Box::new(part),
    };
    let file = position.to_string();
    let explain = |error| scratch.explain(Error::io(archive.at(), error).context(name));
    let mut into = scratch.create(&file).map_err(explain)?;
    let (digest, size, unpacked) = gzipped(&mut plain, &mut into).map_err(explain)?;
    let path = scratch.path().join(&file);
    let media_type = format!("{LAYER}+gzip");
    Ok(Layer { digest, size, media_type, unpacked, source: BlobSource::In(Arc::new(path), 0) })
}

/// Compresses `from` into a file. Returns the digest and size of the file, and the digest of what
/// was read.
fn gzipped(from: &mut dyn Read, into: &mut File) -> io::Result<(String, u64, String)> {
    let mut from = Hashed::new(from);
    let into = Hashed::new(io::BufWriter::new(into));
    let mut into = GzEncoder::new(into, flate2::Compression::default());
    io::copy(&mut from, &mut into)?;
    let mut done = into.finish()?;
    done.flush()?;
    let size = done.size;
    Ok((done.digest(), size, from.digest()))
}

/// Compresses the uncompressed layers of an image, as registries store them: new versions of
/// `docker save` write them uncompressed. Compressed layers, and indexes, stay as they are.
pub(super) fn compressed(mut package: Package, wanted: &ImageChoice) -> Result<Package> {
    let source_document =
        package.manifests.last().map(|manifest| manifest.document.clone()).unwrap_or_default();
    let is_plain = |layer: &Value| layer["mediaType"].as_str().is_some_and(layout::is_plain);
    let layers = source_document["layers"].as_array().cloned().unwrap_or_default();
    if wanted.keep_layers || package.manifests.len() != 1 || !layers.iter().any(is_plain) {
        return Ok(package);
    }
    let scratch = Scratch::new()?;
    let mut document = source_document;
    let mut count = 0;
    for (number, layer) in layers.iter().enumerate().filter(|(_, layer)| is_plain(layer)) {
        let digest = layer["digest"].as_str().unwrap_or_default();
        let at = package.blobs.iter().position(|blob| blob.digest == digest);
        let Some(at) = at else { continue };
        let (source, size) = (package.blobs[at].source.clone(), package.blobs[at].size);
        let Some(mut part) = opened(&source, size)? else { continue };
        let file = number.to_string();
        let explain = |error| scratch.explain(Error::io(digest, error));
        let mut into = scratch.create(&file).map_err(explain)?;
        let (packed, size, unpacked) = gzipped(&mut part, &mut into).map_err(explain)?;
        if unpacked != digest {
            return Err(Error::corrupt(format!("{digest}: the content does not match the digest")));
        }
        let slot = &mut document["layers"][number];
        let end = if layer["mediaType"] == LAYER { "+gzip" } else { ".gzip" };
        slot["mediaType"] =
            format!("{}{end}", layer["mediaType"].as_str().unwrap_or_default()).into();
        (slot["digest"], slot["size"]) = (packed.clone().into(), size.into());
        let source = BlobSource::In(Arc::new(scratch.path().join(&file)), 0);
        package.add(Blob { digest: packed, size, source });
        count += 1;
    }
    let named: Vec<&str> = document["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([&document["config"]])
        .filter_map(|blob| blob["digest"].as_str())
        .collect();
    package.blobs.retain(|blob| named.contains(&blob.digest.as_str()));
    let media_type = package.manifests[0].media_type.clone();
    package.manifests[0] =
        PackedManifest::new(document.to_string().into_bytes().into(), &media_type)?;
    package.notes.push(format!(
        "{count} uncompressed layers are compressed, so the digest of the image differs from the \
         archive; --keep-layers pushes it unchanged"
    ));
    package.scratch.push(scratch);
    Ok(package)
}

/// A reader of a layer's bytes; `None` if they are compressed although the media type says they are
/// not.
fn opened(source: &BlobSource, size: u64) -> Result<Option<impl Read + use<>>> {
    let BlobSource::In(path, at) = source else { return Ok(None) };
    let open = || {
        let mut file = File::open(path.as_ref())?;
        file.seek(SeekFrom::Start(*at))?;
        let mut head = [0; compression::HEAD];
        let mut part = file.take(size);
        let count = fill(&mut part, &mut head)?;
        let is_plain = Compression::of(&head[..count]).is_none();
        Ok(is_plain.then(|| io::Cursor::new(head[..count].to_vec()).chain(part)))
    };
    open().map_err(|e| Error::io(path.display(), e))
}
