//! Compressed files: how they are told, and what is in them.

use crate::error::Error;
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};
use std::path::Path;

/// Bytes from which a file is told.
pub(super) const HEAD: usize = 512;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// What the beginning of a file shows.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    /// Its usual name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// What is in it, read as it is unpacked.
    pub(super) fn reader<'a>(self, from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        match self {
            Self::Gzip => Ok(Box::new(MultiGzDecoder::new(from))),
            Self::Zstd => Ok(Box::new(zstd::Decoder::new(from)?)),
            #[cfg(feature = "archives")]
            Self::Bzip2 => Ok(Box::new(bzip2::read::MultiBzDecoder::new(from))),
            #[cfg(feature = "archives")]
            Self::Xz => Ok(Box::new(lzma_rust2::XzReader::new(from, true))),
            #[cfg(not(feature = "archives"))]
            Self::Bzip2 | Self::Xz => {
                drop(from);
                let text = format!(
                    "this program was built without {0}: unpack it first ({0} -d)",
                    self.name()
                );
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }
}

/// Reads until `into` is full, or there is nothing more; how much there was.
pub(super) fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The error of reading what is compressed: one that ends too early says so.
pub(super) fn failed(path: &Path, how: Compression, error: &io::Error) -> Error {
    let at = path.display();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::corrupt(format!("{at}: cut off: what {} compressed has no end", how.name()))
        }
        io::ErrorKind::Unsupported => Error::invalid(format!("{at}: {error}")),
        _ => Error::corrupt(format!("{at}: cannot be unpacked with {} ({error})", how.name())),
    }
}
