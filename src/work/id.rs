//! The parts of item ids: names and digests of lists of names, in a form that is safe in blob
//! names, file names and URLs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Encodes everything except what blob names, file names and URLs carry unchanged on every system.
const FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Maximum length of an encoded name, in bytes. File names have at most 255 bytes, including
/// suffixes and the ids of splits.
const LONGEST_FRAGMENT: usize = 160;

/// Encodes a name as one part of a blob name, in lower case, since Azure's names differ by more
/// than case. The end of a name that is too long for a file is replaced by its digest.
pub fn fragment(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut encoded = utf8_percent_encode(&lower, FRAGMENT).to_string();
    // A leading dot would name the parent folder, or a file that folder listings skip.
    if encoded.starts_with('.') {
        encoded.replace_range(..1, "%2E");
    }
    if encoded.len() <= LONGEST_FRAGMENT {
        return encoded;
    }
    format!("{}@{}", &encoded[..LONGEST_FRAGMENT], digest([&lower].into_iter()))
}

/// A short digest of a list of names: the first 12 hex digits of their SHA-256.
pub(super) fn digest<'a>(names: impl Iterator<Item = &'a String>) -> String {
    use std::fmt::Write;
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name.to_ascii_lowercase());
        hash.update([0]);
    }
    hash.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
