//! The parts that ids of items are made of: names and lists of names, as blob names, file names and URLs carry them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Everything but what blob names, file names and URLs carry unchanged on every system.
const FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A file's name has at most 255 bytes, suffixes and the ids of splits included.
const LONGEST_FRAGMENT: usize = 160;

/// A name as one part of a blob name: lower case, since Azure's names differ by more than case.
/// The end of a name that is too long for a file becomes its digest.
pub fn fragment(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let mut encoded = utf8_percent_encode(&lower, FRAGMENT).to_string();
    // A leading dot would name a parent folder, or a file that listings of a folder pass over.
    if encoded.starts_with('.') {
        encoded.replace_range(..1, "%2E");
    }
    if encoded.len() <= LONGEST_FRAGMENT {
        return encoded;
    }
    format!("{}@{}", &encoded[..LONGEST_FRAGMENT], digest([&lower].into_iter()))
}

/// A short name for a list of names: the first 12 hex digits of its SHA-256.
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
