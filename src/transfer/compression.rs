//! Compressed files: detection, decompression, and the digests of the compressed and the
//! uncompressed bytes.

use crate::error::Error;
use crate::format::hex;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::path::Path;
use std::rc::Rc;

/// The number of bytes that detection looks at.
pub(super) const HEAD: usize = 512;
/// In bytes. The most that is unpacked of one file: more than any image has, and less than a
/// decompression bomb could yield.
pub(super) const LARGEST: u64 = 1 << 40;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// Detects the format from the first bytes of a file.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            _ => None,
        }
    }

    /// The usual name of the format.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    /// A reader of the uncompressed bytes.
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
                    "this build does not support {0}: unpack the file first ({0} -d)",
                    self.name()
                );
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }
}

/// Reads until `into` is full or the source ends. Returns the number of bytes read.
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

/// The error for compressed bytes that cannot be read. A premature end is reported as such.
pub(super) fn failed(path: &Path, how: Compression, error: &io::Error) -> Error {
    let at = path.display();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::corrupt(format!("{at}: truncated: the {} stream has no end", how.name()))
        }
        io::ErrorKind::Unsupported => Error::invalid(format!("{at}: {error}")),
        _ => Error::corrupt(format!("{at}: cannot be unpacked as {} ({error})", how.name())),
    }
}

/// A reader or writer that counts and hashes the bytes that pass through it.
pub(super) struct Hashed<T> {
    of: T,
    hash: Sha256,
    pub(super) size: u64,
}

impl<T> Hashed<T> {
    pub(super) fn new(of: T) -> Self {
        Self { of, hash: Sha256::new(), size: 0 }
    }

    pub(super) fn digest(self) -> String {
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.of.read(into)?;
        self.hash.update(&into[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.of.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.of.flush()
    }
}

/// A reader whose source is shared with another one.
struct Shared<R>(Rc<RefCell<R>>);

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(into)
    }
}

/// The digests of the compressed and of the uncompressed bytes, in one pass.
pub(super) fn both_digests(from: impl Read, how: Compression) -> io::Result<(String, String)> {
    let packed = Rc::new(RefCell::new(Hashed::new(from)));
    let reader = io::BufReader::with_capacity(1 << 16, Shared(Rc::clone(&packed)));
    let mut unpacked = Hashed::new(how.reader(reader)?);
    if io::copy(&mut (&mut unpacked).take(LARGEST), &mut io::sink())? == LARGEST {
        return Err(io::Error::other(format!("exceeds {} GiB when unpacked", LARGEST >> 30)));
    }
    let unpacked = unpacked.digest();
    // Bytes after the end of the compressed stream belong to the blob.
    io::copy(&mut *packed.borrow_mut(), &mut io::sink())?;
    let packed =
        Rc::into_inner(packed).ok_or_else(|| io::Error::other("the reader is still in use"))?;
    Ok((packed.into_inner().digest(), unpacked))
}
