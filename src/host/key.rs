//! The key that callers show for what starts something: as in Azure, in the header `x-functions-key` or as `?code=`.
//!
//! It is made once, and kept in a file that is its owner's alone. What others could read or have put there is no key.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::path::Path;
use subtle::ConstantTimeEq;

/// What the file is called in the folder that is the store.
pub const FILE: &str = "host.key";

/// Random bytes of a key: nobody finds it by trying.
const BYTES: usize = 32;
/// Characters of a key that somebody else made: fewer can be tried, and more are no key.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=256;

/// A key. It has neither `Debug` nor `Display`, so that it gets into no text by accident.
pub struct HostKey(String);

impl HostKey {
    /// A new one, which is kept nowhere.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; BYTES];
        let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| Error::bug("the system gives no random bytes"))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The one in `file`, which is made when it is not there.
    pub fn kept(file: &Path) -> Result<Self> {
        let key = Self::random()?;
        let whose = |error: Error| error.context("the key of this host");
        if files::create_private(file, format!("{}\n", key.0).as_bytes()).map_err(whose)? {
            return Ok(key);
        }
        match files::read_private(file).map_err(whose)? {
            Some(bytes) => Self::read(&bytes, file),
            None => Err(Error::transient(format!("the key {} has just gone", file.display()))),
        }
    }

    fn read(bytes: &[u8], file: &Path) -> Result<Self> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let text = std::str::from_utf8(bytes).map(str::trim_end).unwrap_or_default();
        if !LENGTHS.contains(&text.len()) || !text.as_bytes().iter().all(plain) {
            let text = format!(
                "the key {} is not taken: a key is one line of 32 to 256 letters, digits, hyphens and \
                 underscores. Remove the file, and the next start makes a new key",
                file.display()
            );
            return Err(Error::new(ErrorKind::Denied, text));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether this is what a caller shows; how long that takes tells nothing of the key.
    pub fn is(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// The key itself, for whoever starts the host.
    pub fn text(&self) -> &str {
        &self.0
    }
}
