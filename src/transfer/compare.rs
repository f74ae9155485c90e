//! Comparison of compressed layers with the configurations of their images.
//!
//! A registry verifies the compressed bytes. Nobody verifies the uncompressed ones until the image
//! is to run. So they are read once, here, before anything is sent, and only if the registry does
//! not have the layer.

use super::compression::{self, Compression, Hashed, both_digests, fill};
use super::layout::another;
use super::package::{Blob, BlobSource, Package};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::telemetry::awaited;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::Path;
use std::thread::available_parallelism;

/// Compares the layers of a package that are to be sent. The error names the first that differs.
pub(super) async fn compare(package: &Package, missing: &HashSet<&str>) -> Result<()> {
    let to_send = package.blobs.iter().filter(|blob| missing.contains(blob.digest.as_str()));
    let layers: Vec<(Blob, String)> = to_send
        .filter_map(|blob| Some((blob.clone(), package.unpacked.get(&blob.digest)?.clone())))
        .collect();
    let parallelism = available_parallelism().map_or(1, NonZero::get);
    let _wait = awaited::wait_for("the comparison of layers with their configuration");
    stream::iter(layers)
        .map(|(blob, wanted)| blocking("comparing a layer", move || compare_one(&blob, &wanted)))
        .buffer_unordered(parallelism)
        .try_collect()
        .await
}

fn compare_one(blob: &Blob, wanted: &str) -> Result<()> {
    let mut bytes: Box<dyn Read> = match &blob.source {
        BlobSource::In(path, at) => {
            let opened = File::open(path.as_ref()).and_then(|mut file| {
                file.seek(SeekFrom::Start(*at))?;
                Ok(file)
            });
            Box::new(opened.map_err(|e| Error::io(path.display(), e))?.take(blob.size))
        }
        BlobSource::Here(bytes) => Box::new(Cursor::new(bytes.clone())),
        // It was accepted by a registry before.
        BlobSource::At(_) => return Ok(()),
    };
    let mut head = [0; compression::HEAD];
    let count = fill(&mut bytes, &mut head).map_err(|e| Error::io(&blob.digest, e))?;
    let how = Compression::of(&head[..count]);
    let bytes = Cursor::new(head[..count].to_vec()).chain(bytes);
    let (packed, unpacked) = match how {
        Some(how) => both_digests(bytes, how)
            .map_err(|e| compression::failed(Path::new(&blob.digest), how, &e))?,
        // The media type says that it is compressed, and it is not. Consumers detect the
        // compression, too.
        None => {
            digest(bytes).map(|own| (own.clone(), own)).map_err(|e| Error::io(&blob.digest, e))?
        }
    };
    if packed != blob.digest {
        let text = format!("{}: the content does not match the digest", blob.digest);
        return Err(Error::corrupt(text));
    }
    if unpacked != wanted {
        return Err(another(&blob.digest));
    }
    Ok(())
}

fn digest(mut bytes: impl Read) -> io::Result<String> {
    let mut into = Hashed::new(io::sink());
    io::copy(&mut bytes, &mut into)?;
    Ok(into.digest())
}
