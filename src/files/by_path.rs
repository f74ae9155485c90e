//! Operations on names in a folder by path, for systems where a folder cannot be held open. Modes
//! do not describe permissions there, and creating links needs a privilege that few have.

use super::{Access, Kind};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The canonical path of a folder.
pub(super) type FolderHandle = PathBuf;

/// Opens the folder at `path`.
pub(super) fn hold(path: &Path, _: bool) -> io::Result<FolderHandle> {
    if fs::metadata(path)?.is_dir() {
        return path.canonicalize();
    }
    Err(io::ErrorKind::NotADirectory.into())
}

/// A second handle of the same folder.
pub(super) fn again(held: &FolderHandle, _: &Path) -> io::Result<FolderHandle> {
    Ok(held.clone())
}

/// Opens a folder in a folder.
pub(super) fn folder(held: &FolderHandle, name: &OsStr) -> io::Result<FolderHandle> {
    let path = held.join(name);
    if fs::symlink_metadata(&path)?.is_dir() {
        return Ok(path);
    }
    Err(io::ErrorKind::NotADirectory.into())
}

/// Creates a folder in a folder.
pub(super) fn make_folder(held: &FolderHandle, name: &OsStr, _: Access) -> io::Result<()> {
    fs::create_dir(held.join(name))
}

/// The kind of a name; `None` if nothing has it.
pub(super) fn kind(held: &FolderHandle, name: &OsStr) -> io::Result<Option<Kind>> {
    match fs::symlink_metadata(held.join(name)) {
        Ok(found) if found.is_file() => Ok(Some(Kind::File)),
        Ok(found) if found.is_dir() => Ok(Some(Kind::Folder)),
        Ok(found) if found.is_symlink() => Ok(Some(Kind::Link)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn plain(held: &FolderHandle, name: &OsStr) -> io::Result<PathBuf> {
    match kind(held, name)? {
        Some(Kind::File) => Ok(held.join(name)),
        None => Err(io::ErrorKind::NotFound.into()),
        Some(_) => Err(io::ErrorKind::IsADirectory.into()),
    }
}

/// Opens an existing file.
pub(super) fn read(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    File::open(plain(held, name)?)
}

/// Opens an existing file for reading and writing.
pub(super) fn change(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(plain(held, name)?)
}

/// Creates a file. An error if anything has that name.
pub(super) fn create(held: &FolderHandle, name: &OsStr, _: Access) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(held.join(name))
}

/// Removes a file, or a link itself.
pub(super) fn remove_file(held: &FolderHandle, name: &OsStr) -> io::Result<()> {
    fs::remove_file(held.join(name))
}

/// Removes an empty folder.
pub(super) fn remove_folder(held: &FolderHandle, name: &OsStr) -> io::Result<()> {
    fs::remove_dir(held.join(name))
}

/// Renames a file or a folder, replacing anything with the new name.
pub(super) fn rename(
    from: &FolderHandle,
    name: &OsStr,
    to: &FolderHandle,
    new: &OsStr,
) -> io::Result<()> {
    fs::rename(from.join(name), to.join(new))
}

/// Renames a file or a folder, unless anything has the new name.
pub(super) fn rename_new(
    from: &FolderHandle,
    name: &OsStr,
    to: &FolderHandle,
    new: &OsStr,
) -> io::Result<()> {
    if kind(to, new)?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    rename(from, name, to, new)
}

/// The names in a folder, sorted.
pub(super) fn names(held: &FolderHandle) -> io::Result<Vec<OsString>> {
    let mut names: Vec<OsString> =
        fs::read_dir(held)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Whether a folder belongs to this user, and others have no access to it. Modes do not say, so
/// always true.
pub(super) fn is_private(_: &FolderHandle) -> io::Result<bool> {
    Ok(true)
}

/// Whether a file has no second hard link. Always true here.
pub(super) fn is_only_name(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Whether anyone but the owner has access to a file. Always false here.
pub(super) fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}

/// Whether a file or folder belongs to this user. Always true here.
pub(super) fn is_own(_: &fs::Metadata) -> bool {
    true
}

/// Whether a file or link belongs to this user, or to the system. Always true here.
pub(super) fn is_trusted(_: &fs::Metadata) -> bool {
    true
}

/// Sets the mode of a file. Does nothing here.
pub(super) fn set_access(_: &File, _: Access) -> io::Result<()> {
    Ok(())
}
