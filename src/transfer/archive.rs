//! Archives of images: those of `docker save` (old and new), and archives of an OCI layout,
//! compressed or not.
//!
//! Nothing is unpacked under a name from an archive. Such names are only compared.

use super::compression::{self, Compression, fill};
use super::layout::BlobContainer;
use super::package::BlobSource;
use crate::error::{Error, Result};
use crate::scratch::Scratch;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most entries of one archive.
const MOST_ENTRIES: usize = 100_000;
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// The most links that are followed to a file: old versions of `docker save` link a layer to an
/// identical one.
const MOST_LINKS: usize = 8;
/// The block size of a tar, in bytes.
const BLOCK: u64 = 512;
/// Usual file name endings of archives. A file with such a name that is not an archive is not
/// pushed as a plain file.
const NAMES: [&str; 11] = [
    ".tar",
    ".tgz",
    ".tbz",
    ".tbz2",
    ".txz",
    ".tzst",
    ".tar.gz",
    ".tar.bz2",
    ".tar.xz",
    ".tar.zst",
    ".tar.zstd",
];

/// The kind of a file, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    Tar,
    Compressed(Compression),
    /// Anything else.
    File,
}

/// Reads the kind of a file.
pub(super) fn kind(path: &Path) -> Result<Kind> {
    let mut head = [0; compression::HEAD];
    let read = File::open(path).and_then(|mut file| fill(&mut file, &mut head));
    let count = read.map_err(|e| Error::io(path.display(), e))?;
    Ok(kind_of(&head[..count]))
}

fn kind_of(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Empty;
    }
    if let Some(how) = Compression::of(head) {
        return Kind::Compressed(how);
    }
    // A block of zeros ends an archive, and begins an empty one.
    let is_end = head.len() == compression::HEAD && head.iter().all(|byte| *byte == 0);
    if is_end || is_header(head) { Kind::Tar } else { Kind::File }
}

/// Whether a file begins with a tar header: its checksum is right, or it has the `ustar` magic.
fn is_header(head: &[u8]) -> bool {
    if head.get(257..262) == Some(b"ustar") {
        return true;
    }
    let Some(sum) = head.get(148..156) else { return false };
    let digits = String::from_utf8_lossy(sum);
    let checksum = u32::from_str_radix(digits.trim_matches([' ', '\0']), 8);
    let all: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = sum.iter().map(|byte| u32::from(*byte)).sum();
    head.len() == compression::HEAD && checksum == Ok(all - own + 8 * u32::from(b' '))
}

/// Whether a file has the usual name of an archive.
pub(super) fn has_archive_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    NAMES.iter().any(|end| name.ends_with(end))
}

/// An entry of an archive.
enum Entry {
    /// A file whose bytes begin at `at`.
    File { at: u64, size: u64 },
    /// A link to another entry.
    Link(String),
}

/// An archive, indexed by the positions of its files.
pub(super) struct Archive {
    /// The path that errors name.
    named: PathBuf,
    path: Arc<PathBuf>,
    entries: HashMap<String, Entry>,
    /// Why the archive is known to be cut off.
    pub(super) cut: Option<String>,
    /// Whether a file in it is incomplete.
    pub(super) ends_within: bool,
    /// Owns the unpacked archive if it was compressed.
    pub(super) scratch: Option<Scratch>,
}

impl Archive {
    /// Opens an archive. A compressed one is unpacked into a temporary folder.
    pub(super) fn open(path: &Path) -> Result<Self> {
        match kind(path)? {
            Kind::Tar => Self::index(path, path.to_owned(), None),
            Kind::Compressed(how) => {
                let scratch = Scratch::new()?;
                let unpacked = unpack(path, how, &scratch)?;
                Self::index(path, unpacked, Some(scratch))
            }
            Kind::Empty => {
                Err(Error::corrupt(format!("{}: truncated: the file is empty", path.display())))
            }
            Kind::File => {
                let text =
                    format!("{}: not an archive, and so not an image: {HINT}", path.display());
                Err(Error::invalid(text))
            }
        }
    }

    fn index(named: &Path, path: PathBuf, scratch: Option<Scratch>) -> Result<Self> {
        let failed = |e| Error::io(named.display(), e);
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut archive = tar::Archive::new(file);
        let (mut entries, mut end, mut cut, mut ends_within) = (HashMap::new(), 0, None, false);
        for entry in archive.entries_with_seek().map_err(failed)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    cut = Some(format!("the next entry cannot be read ({error})"));
                    break;
                }
            };
            if entries.len() > MOST_ENTRIES {
                return Err(Error::corrupt(format!("{}: too many files", named.display())));
            }
            let name = normal(&entry.path_bytes());
            let (at, size, kind) =
                (entry.raw_file_position(), entry.size(), entry.header().entry_type());
            end = (at + size).next_multiple_of(BLOCK);
            if at + size > length {
                (cut, ends_within) = (Some(format!("{name} is incomplete")), true);
            }
            let target = entry.link_name_bytes().unwrap_or_default();
            let of_entry = if kind.is_file() || kind.is_contiguous() {
                Entry::File { at, size }
            } else if kind == tar::EntryType::Link {
                Entry::Link(normal(&target))
            } else if kind == tar::EntryType::Symlink {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                let folder = if target.starts_with(b"/") { "" } else { folder };
                Entry::Link(normal(&[folder.as_bytes(), b"/", &target].concat()))
            } else {
                continue;
            };
            entries.insert(name, of_entry);
        }
        if cut.is_none() && end + BLOCK > length {
            cut = Some("the end-of-archive marker is missing".to_owned());
        }
        let (named, path) = (named.to_owned(), Arc::new(path));
        Ok(Self { named, path, entries, cut, ends_within, scratch })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The path that errors name.
    pub(super) fn at(&self) -> String {
        self.named.display().to_string()
    }

    /// The position and size of a file. Links are followed within the archive.
    pub(super) fn find_name(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal(name.as_bytes());
        for _ in 0..MOST_LINKS {
            match self.entries.get(&name)? {
                Entry::File { at, size } => return Some((*at, *size)),
                Entry::Link(other) => name.clone_from(other),
            }
        }
        None
    }

    /// The source of a blob that begins at `at`.
    pub(super) fn source(&self, at: u64) -> BlobSource {
        BlobSource::In(Arc::clone(&self.path), at)
    }

    /// Opens a file of the archive. Also returns its position and size.
    pub(super) fn part(&self, name: &str) -> Result<(impl Read + use<>, u64, u64)> {
        let (at, size) = self.find_name(name).ok_or_else(|| self.lacks(name))?;
        let failed = |e| Error::io(self.named.display(), e);
        let mut file = File::open(self.path.as_ref()).map_err(failed)?;
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        Ok((file.take(size), at, size))
    }

    /// The error for a missing file. If the archive is cut off, it says that first.
    fn lacks(&self, what: &str) -> Error {
        let at = self.named.display();
        match &self.cut {
            Some(why) => Error::corrupt(format!("{at}: truncated: {why}, and {what} is missing")),
            None => Error::not_found(format!("{at}: {what} is missing")),
        }
    }

    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (mut part, _, size) = self.part(name)?;
        if size > LARGEST_DOCUMENT {
            let most = LARGEST_DOCUMENT >> 20;
            let text = format!("{}: {name} exceeds {most} MiB", self.named.display());
            return Err(Error::corrupt(text));
        }
        let mut bytes = Vec::new();
        let read = part.read_to_end(&mut bytes);
        read.map_err(|e| Error::io(self.named.display(), e))?;
        Ok(bytes)
    }

    pub(super) fn json(&self, name: &str) -> Result<Value> {
        let at = self.named.display();
        serde_json::from_slice(&self.document(name)?)
            .map_err(|e| Error::corrupt(format!("{at}: {name} is not JSON ({e})")))
    }

    /// The error for an archive without an image.
    pub(super) fn no_image(&self) -> Error {
        let at = self.named.display();
        if self.cut.is_some() {
            return self.lacks("index.json or manifest.json");
        }
        let what = if self.has("repositories") {
            "an archive of 'docker save' before Docker 1.10, which has no manifest.json: load it \
             and save it again"
        } else if self.has("index.json") {
            "an archive with index.json but without oci-layout, and so not an OCI layout"
        } else {
            "not an archive of images: neither the output of 'docker save' nor an OCI layout \
             ('docker export' writes plain files)"
        };
        Error::invalid(format!("{at}: {what}; {HINT}"))
    }
}

/// What the user can do with a file that is not an image.
pub(super) const HINT: &str = "--as artifact pushes it unchanged";

/// The normal form of a name: relative to the archive's root, without `.` and `..`, and with
/// slashes.
fn normal(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name).replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in text.trim_end_matches('\0').split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Unpacks a compressed file, if it contains an archive.
fn unpack(path: &Path, how: Compression, scratch: &Scratch) -> Result<PathBuf> {
    const NAME: &str = "archive.tar";
    let file = File::open(path).map_err(|e| Error::io(path.display(), e))?;
    let failed = |error: io::Error| compression::failed(path, how, &error);
    let mut from = how.reader(io::BufReader::new(file)).map_err(failed)?;
    let mut head = [0; compression::HEAD];
    let count = fill(&mut from, &mut head).map_err(failed)?;
    if kind_of(&head[..count]) != Kind::Tar {
        let text =
            format!("{}: a compressed file, but not an archive of images: {HINT}", path.display());
        return Err(Error::invalid(text));
    }
    let wrote = |error| scratch.explain(Error::io(path.display(), error));
    let mut into = scratch.create(NAME).map_err(wrote)?;
    into.write_all(&head[..count]).map_err(wrote)?;
    let (mut piece, mut size) = (vec![0; 1 << 20], 0);
    loop {
        let count = fill(&mut from, &mut piece).map_err(failed)?;
        if count == 0 {
            return Ok(scratch.path().join(NAME));
        }
        size += count as u64;
        if size > compression::LARGEST {
            let text = format!(
                "{}: exceeds {} GiB when unpacked",
                path.display(),
                compression::LARGEST >> 30
            );
            return Err(Error::invalid(text));
        }
        into.write_all(&piece[..count]).map_err(wrote)?;
    }
}

impl BlobContainer for Archive {
    fn find(&self, digest: &str) -> Option<(BlobSource, u64)> {
        let (at, size) = self.find_name(&format!("blobs/{}", digest.replacen(':', "/", 1)))?;
        Some((self.source(at), size))
    }

    fn bytes(&self, digest: &str) -> Result<Vec<u8>> {
        self.document(&format!("blobs/{}", digest.replacen(':', "/", 1)))
    }
}
