//! The key that callers send for actions: as in Azure, in the header `x-functions-key` or as
//! `?code=`.
//!
//! It is generated once and stored in a file that only its owner can access. A file that others
//! could read or have written is refused.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::path::Path;
use subtle::ConstantTimeEq;

/// Name of the key file in the folder of the store.
pub const FILE: &str = "host.key";

/// Number of random bytes of a key, enough to make guessing infeasible.
const BYTES: usize = 32;
/// Accepted lengths of a key that was not generated here, in characters. Shorter keys could be
/// guessed; longer text is not a key.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=256;

/// A key. It implements neither `Debug` nor `Display`, so that it is never printed by accident.
pub struct HostKey(String);

impl HostKey {
    /// Generates a key that is not stored.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; BYTES];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| Error::bug("the system provides no random bytes"))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Reads the key in `file`, or generates and stores it if the file does not exist.
    pub fn kept(file: &Path) -> Result<Self> {
        let key = Self::random()?;
        let whose = |error: Error| error.context("the key of this host");
        if files::create_private(file, format!("{}\n", key.0).as_bytes()).map_err(whose)? {
            return Ok(key);
        }
        match files::read_private(file).map_err(whose)? {
            Some(bytes) => Self::read(&bytes, file),
            None => Err(Error::transient(format!(
                "the key {} was removed concurrently",
                file.display()
            ))),
        }
    }

    fn read(bytes: &[u8], file: &Path) -> Result<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let text = std::str::from_utf8(bytes).map(str::trim_end).unwrap_or_default();
        if !LENGTHS.contains(&text.len()) || !text.as_bytes().iter().all(plain) {
            let text = format!(
                "the key {} is not valid: a key is one line of 32 to 256 letters, digits, hyphens \
                 and underscores. Remove the file; the next start generates a key",
                file.display()
            );
            return Err(Error::new(ErrorKind::Denied, text));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether `shown` equals the key. Compares in constant time, so that timing reveals nothing
    /// about the key.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The key itself, to show to the user who starts the host.
    pub fn text(&self) -> &str {
        &self.0
    }
}
