//! Files that only their owner may access: secrets and ledgers.

use super::folder::parent;
use super::sharing::{preserves_modes, writers};
use super::{Access, at};
use crate::error::{Error, ErrorKind, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// In bytes. The largest secret.
const LONGEST_SECRET: u64 = 64 << 10;

/// Writes a file that only its owner may read (0600), atomically. Returns false if anything has
/// that name. Its folder must exist.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<bool> {
    let failed = |e| Error::io(path.display(), e);
    // The temporary file is private to its owner, whatever the umask.
    let mut file = tempfile::Builder::new()
        .prefix(".azimg-part-")
        .tempfile_in(parent(path))
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error.error)),
    }
}

/// Reads a file that only its owner may read; `None` if it does not exist. An error if others may
/// read or change it, if another user owns it, or if it is a link: its bytes are then not secret,
/// or not ours.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    options.read(true);
    let file = match open_plain(path, &mut options) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let failed = |e| Error::io(path.display(), e);
    let found = file.metadata().map_err(failed)?;
    let is_private = at::is_own(&found) && !at::is_open_to_others(&found);
    if !is_private && preserves_modes(parent(path)) {
        return Err(refused(
            path,
            "other users can read or change it: remove the file; it is then created again",
        ));
    }
    if found.len() > LONGEST_SECRET {
        return Err(refused(
            path,
            "it is too long for a key: remove the file; it is then created again",
        ));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_SECRET).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Reads a plain file of any owner that is not a link; `None` if it does not exist. An error if it
/// is longer than `longest` bytes.
pub fn read_plain(path: &Path, longest: u64) -> Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    options.read(true);
    match open_plain(path, &mut options) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => read_within_limit(opened?, path, longest).map(Some),
    }
}

/// Reads a file that controls what azimg does for its user; `None` if it does not exist. An error
/// if others may change it. A link is followed to a file that meets this condition, since users
/// keep such files elsewhere and link them.
pub fn read_own(path: &Path, longest: u64) -> Result<Option<Vec<u8>>> {
    let failed = |e| Error::io(path.display(), e);
    let at = match path.canonicalize() {
        Ok(at) => at,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut options = OpenOptions::new();
    options.read(true);
    let file = open_plain(&at, &mut options)?;
    let found = file.metadata().map_err(failed)?;
    let who = if at::is_trusted(&found) { writers(&found) } else { Some("another user") };
    if let Some(who) = who.filter(|_| preserves_modes(parent(&at))) {
        let why = format!(
            "{who} can change it, and so redirect the sign-in of azimg: remove write access for \
             others (chmod go-w)"
        );
        return Err(refused(path, &why));
    }
    read_within_limit(file, path, longest).map(Some)
}

fn read_within_limit(file: File, path: &Path, longest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(longest + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::io(path.display(), e))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= longest) {
        return Ok(bytes);
    }
    Err(refused(path, &format!("it is longer than {longest} bytes")))
}

/// Opens a file that only its owner may read (0600), for reading and appending, and creates it if
/// it does not exist. If others have access to a file of ours, that access is removed.
pub fn open_private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).create(true).append(true);
    let file = open_plain(path, &mut options)?;
    let failed = |e| Error::io(path.display(), e);
    if !at::is_only_name(&file).map_err(failed)? {
        return Err(refused(
            path,
            "it has another name (a hard link) through which it can be changed: copy it, and \
             replace it with the copy",
        ));
    }
    keep_private(&file).map_err(failed)?;
    Ok(file)
}

/// Opens a file whose only purpose is to be locked, and creates it if it does not exist. Nothing is
/// written to it.
pub fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).create(true).append(true);
    open_plain(path, &mut options)
}

/// Removes the access of others to a file of ours.
fn keep_private(file: &File) -> std::io::Result<()> {
    let found = file.metadata()?;
    if at::is_own(&found) && at::is_open_to_others(&found) {
        return at::set_access(file, Access::Private);
    }
    Ok(())
}

/// Opens a plain file that is not a link.
fn open_plain(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(Access::Private.of_file().into()).custom_flags(flags.bits().cast_signed());
    }
    let is_link = || path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let link = || refused(path, "it is a link: specify the file that it points to");
    if is_link() {
        return Err(link());
    }
    let opened = options.open(path);
    let file = opened.map_err(|e| if is_link() { link() } else { Error::io(path.display(), e) })?;
    if !file.metadata().map_err(|e| Error::io(path.display(), e))?.is_file() {
        return Err(refused(path, "it is not a regular file"));
    }
    Ok(file)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Denied, format!("{} is not used: {why}", path.display()))
}
