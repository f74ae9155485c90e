//! Files and folders that azimg writes for its user.
//!
//! Invariants:
//! - Nothing is deleted or overwritten except what azimg made, as far as that can be determined,
//!   unless the caller asks for it.
//! - No link is followed to a place that is written to.
//! - Files with secrets and ledgers are accessible only to their owner.
//! - No other module deletes, renames or creates files with the standard library, except the store
//!   in a folder and the temporary folders, in which every name is azimg's own.

#[cfg(unix)]
mod at;
#[cfg(not(unix))]
#[path = "by_path.rs"]
mod at;
mod folder;
mod lock;
mod made;
mod private;
mod sharing;
mod staging;

pub use folder::{Folder, make_folder};
pub use lock::Locked;
pub use made::{File as MadeFile, put as put_made};
pub use private::{create_private, open_lock, open_private, read_own, read_plain, read_private};
pub use sharing::refuse_shared;
pub use staging::{OwnFolder, Staging};

use crate::error::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// In bytes. The most that is read of an existing document to decide whether azimg wrote it.
const LARGEST_DOCUMENT: u64 = 256 << 20;

/// The permissions of a file or a folder. Only the owner may ever write to it, even with the umask
/// 000, which users set for other reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only its owner has access.
    Private,
    /// Others may read it, as far as the umask allows.
    Readable,
    /// Others may also execute it.
    Program,
}

impl Access {
    /// The mode of a file.
    pub fn of_file(self) -> u16 {
        match self {
            Self::Private => 0o600,
            Self::Readable => 0o644,
            Self::Program => 0o755,
        }
    }

    /// The mode of a folder.
    pub fn of_folder(self) -> u16 {
        if self == Self::Private { 0o700 } else { 0o755 }
    }
}

/// The kind of an entry in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, whatever its target.
    Link,
    /// A device, a socket or another special file.
    Other,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a link",
            Self::Other => "not a regular file",
        }
    }
}

/// Whether a file or folder belongs to this user.
pub fn is_own(found: &Metadata) -> bool {
    at::is_own(found)
}

/// Whether a path is written to directly: it denotes an open file of this process (`/dev/stdout`,
/// and `/dev/fd/63` of a shell's `>(…)`), or a device of the system.
fn is_device(path: &Path) -> bool {
    let is_open = ["/dev/stdout", "/dev/stderr"].iter().any(|name| path == Path::new(name))
        || path.starts_with("/dev/fd");
    let is_plain = |found: Metadata| found.is_file() || found.is_dir();
    cfg!(unix)
        && (is_open || (path.starts_with("/dev") && path.metadata().is_ok_and(|f| !is_plain(f))))
}

/// Whether every line of a text begins with `beginning`, or is a prefix of it: a crash may have cut
/// off a line anywhere.
pub fn has_lines_of(text: &[u8], beginning: &[u8]) -> bool {
    let begins = |line: &[u8]| line.iter().zip(beginning).all(|(one, other)| one == other);
    text.split(|byte| *byte == b'\n').all(begins)
}

/// The SHA-256 of some bytes, in hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Creates a file in a folder of azimg's own, accessible only to its owner. An error if anything
/// has that name. A device is opened as it is.
pub fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    if is_device(path) {
        return options.append(true).open(path);
    }
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, Access::Private.of_file().into());
    options.write(true).create_new(true).open(path)
}

/// Writes a document to a path that the user named, atomically. An existing file is replaced only
/// if `is_own` accepts its bytes as written by azimg. `option` is the option that names another
/// path.
pub fn write_document(
    path: &Path,
    bytes: &[u8],
    option: &str,
    is_own: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    let failed = |e| Error::io(path.display(), e);
    if is_device(path) {
        return create(path).and_then(|mut file| file.write_all(bytes)).map_err(failed);
    }
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid(format!("{option} {}: not a file name", path.display())))?;
    let folder = Folder::open(folder::parent(path))?;
    let there = folder.kind(name)?;
    let replaces = match there {
        Some(Kind::File) => {
            let mut before = Vec::new();
            let file = folder.read(name)?.map(|file| file.take(LARGEST_DOCUMENT));
            if let Some(mut file) = file {
                file.read_to_end(&mut before).map_err(failed)?;
            }
            is_own(&before)
        }
        _ => false,
    };
    if let (Some(kind), false) = (there, replaces) {
        return Err(foreign(path, kind, option));
    }
    let own = Staging::open(folder.again()?, name, "document")?;
    let mut file = own.root().create_replacing(name, Access::Readable)?;
    file.write_all(bytes).and_then(|()| file.sync_data()).map_err(failed)?;
    if !own.root().move_to(name, &folder, name, replaces)? {
        return Err(foreign(path, Kind::File, option));
    }
    own.remove()
}

/// The error for something that azimg did not write and would have to overwrite.
fn foreign(path: &Path, kind: Kind, option: &str) -> Error {
    let text = format!(
        "{} already exists, {} that azimg did not write, and is not replaced: move it away, or use \
         another with {option}",
        path.display(),
        kind.as_str()
    );
    Error::new(ErrorKind::Conflict, text)
}
