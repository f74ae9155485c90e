//! Digests of files, and the names of blobs.

use crate::error::{Error, Result};
use crate::format::hex as hex_of;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// A digest without its algorithm: the file name of a blob.
pub(super) fn hex(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

/// The digest and size of a file.
pub(super) fn digest_of(path: &Path) -> Result<(String, u64)> {
    let file = std::fs::File::open(path);
    file.and_then(digest_of_file).map_err(|e| Error::io(path.display(), e))
}

/// The digest and size of an open file.
pub(super) fn digest_of_file(mut file: std::fs::File) -> std::io::Result<(String, u64)> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((format!("sha256:{}", hex_of(&hash.finalize())), size));
        }
        hash.update(&piece[..count]);
        size += count as u64;
    }
}
