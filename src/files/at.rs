//! Operations on names in a folder that is held open (`openat` and its relatives). No name is
//! followed if it is a link. Replacing a parent of the folder has no effect: the handle still
//! denotes the folder that was opened.

use super::{Access, Kind};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// A handle of an open folder.
pub(super) type FolderHandle = File;

/// Opens the folder at `path`. With `follows`, a link at `path` is followed.
pub(super) fn hold(path: &Path, follows: bool) -> io::Result<FolderHandle> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let flags = if follows { flags } else { flags | OFlags::NOFOLLOW };
    Ok(fs::open(path, flags, Mode::empty()).map(File::from)?)
}

/// A second handle of the same folder.
pub(super) fn again(held: &FolderHandle, _: &Path) -> io::Result<FolderHandle> {
    held.try_clone()
}

/// Opens a folder in a folder.
pub(super) fn folder(held: &FolderHandle, name: &OsStr) -> io::Result<FolderHandle> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(held, name, flags, Mode::empty()).map(File::from)?)
}

/// Creates a folder in a folder.
pub(super) fn make_folder(held: &FolderHandle, name: &OsStr, access: Access) -> io::Result<()> {
    Ok(fs::mkdirat(held, name, Mode::from_bits_truncate(access.of_folder().into()))?)
}

/// The kind of a name; `None` if nothing has it.
pub(super) fn kind(held: &FolderHandle, name: &OsStr) -> io::Result<Option<Kind>> {
    match fs::statat(held, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        })),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens an existing file. Anything but a plain file is an error, without blocking.
pub(super) fn read(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    open(held, name, OFlags::RDONLY, Access::Private)
}

/// Opens an existing file for reading and writing.
pub(super) fn change(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    open(held, name, OFlags::RDWR, Access::Private)
}

/// Creates a file. An error if anything has that name.
pub(super) fn create(held: &FolderHandle, name: &OsStr, access: Access) -> io::Result<File> {
    open(held, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, access)
}

fn open(held: &FolderHandle, name: &OsStr, how: OFlags, access: Access) -> io::Result<File> {
    let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_bits_truncate(access.of_file().into());
    let file = File::from(fs::openat(held, name, flags, mode)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::IsADirectory.into()) }
}

/// Removes a file, or a link itself.
pub(super) fn remove_file(held: &FolderHandle, name: &OsStr) -> io::Result<()> {
    Ok(fs::unlinkat(held, name, AtFlags::empty())?)
}

/// Removes an empty folder.
pub(super) fn remove_folder(held: &FolderHandle, name: &OsStr) -> io::Result<()> {
    Ok(fs::unlinkat(held, name, AtFlags::REMOVEDIR)?)
}

/// Renames a file or a folder, replacing anything with the new name (a link itself, not its
/// target).
pub(super) fn rename(
    from: &FolderHandle,
    name: &OsStr,
    to: &FolderHandle,
    new: &OsStr,
) -> io::Result<()> {
    Ok(fs::renameat(from, name, to, new)?)
}

/// Renames a file or a folder, unless anything has the new name.
pub(super) fn rename_new(
    from: &FolderHandle,
    name: &OsStr,
    to: &FolderHandle,
    new: &OsStr,
) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        let flags = fs::RenameFlags::NOREPLACE;
        match fs::renameat_with(from, name, to, new, flags) {
            Ok(()) => return Ok(()),
            Err(error @ (rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY)) => {
                return Err(error.into());
            }
            // Not every file system supports this.
            Err(_) => {}
        }
    }
    // Renaming a folder replaces at most an empty folder. A file is hard-linked to its new name
    // first, which fails if that exists.
    if kind(from, name)? == Some(Kind::Folder) {
        return rename(from, name, to, new);
    }
    match fs::linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => remove_file(from, name),
        Err(rustix::io::Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) if kind(to, new)?.is_some() => Err(io::ErrorKind::AlreadyExists.into()),
        // Without hard links, only a plain rename is possible.
        Err(_) => rename(from, name, to, new),
    }
}

/// The names in a folder, sorted.
pub(super) fn names(held: &FolderHandle) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(held)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a folder belongs to this user, and others have no access to it.
pub(super) fn is_private(held: &FolderHandle) -> io::Result<bool> {
    let found = held.metadata()?;
    Ok(is_own(&found) && !is_open_to_others(&found))
}

/// Whether a file has no second hard link, through which a change would be visible, too.
pub(super) fn is_only_name(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 1)
}

/// Whether anyone but the owner has access to a file or a folder.
pub(super) fn is_open_to_others(found: &std::fs::Metadata) -> bool {
    found.mode() & 0o077 != 0
}

/// Whether a file or folder belongs to this user.
pub(super) fn is_own(found: &std::fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Whether a file or link belongs to this user, or to root.
pub(super) fn is_trusted(found: &std::fs::Metadata) -> bool {
    is_own(found) || found.uid() == 0
}

/// Sets the mode of a file, whatever the umask.
pub(super) fn set_access(file: &File, access: Access) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(access.of_file().into()))
}
