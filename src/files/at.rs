//! Names in a folder that is held open (`openat` and its kin). No name here is followed when it is a link, and
//! whoever swaps the folder's parents meanwhile changes nothing: the folder stays the one that was opened.

use super::{Access, Kind};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// A folder that is held open.
pub(super) type FolderHandle = File;

/// Holds the folder of that name, or the one that a link of that name leads to when `follows` is set.
pub(super) fn hold(path: &Path, follows: bool) -> io::Result<FolderHandle> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let flags = if follows { flags } else { flags | OFlags::NOFOLLOW };
    Ok(fs::open(path, flags, Mode::empty()).map(File::from)?)
}

/// A second hold on the same folder.
pub(super) fn again(held: &FolderHandle, _: &Path) -> io::Result<FolderHandle> {
    held.try_clone()
}

/// Holds a folder in a folder.
pub(super) fn folder(held: &FolderHandle, name: &OsStr) -> io::Result<FolderHandle> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(held, name, flags, Mode::empty()).map(File::from)?)
}

/// Makes a folder in a folder.
pub(super) fn make_folder(held: &FolderHandle, name: &OsStr, access: Access) -> io::Result<()> {
    Ok(fs::mkdirat(held, name, Mode::from_bits_truncate(access.of_folder().into()))?)
}

/// What a name is, if anything has it.
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

/// Opens a file that is there. What is no plain file is an error, and not waited for.
pub(super) fn read(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    open(held, name, OFlags::RDONLY, Access::Private)
}

/// Opens a file that is there, for reading and writing.
pub(super) fn change(held: &FolderHandle, name: &OsStr) -> io::Result<File> {
    open(held, name, OFlags::RDWR, Access::Private)
}

/// Makes a file; an error when anything has that name.
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

/// Gives a file or a folder another name, in place of whatever has that (a link itself, not what it leads to).
pub(super) fn rename(
    from: &FolderHandle,
    name: &OsStr,
    to: &FolderHandle,
    new: &OsStr,
) -> io::Result<()> {
    Ok(fs::renameat(from, name, to, new)?)
}

/// Gives a file or a folder another name, unless anything has that.
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
            // Not every file system knows this.
            Err(_) => {}
        }
    }
    // A folder takes no other's place but an empty one's; a file gets a second name first, which is refused when
    // it is taken.
    if kind(from, name)? == Some(Kind::Folder) {
        return rename(from, name, to, new);
    }
    match fs::linkat(from, name, to, new, AtFlags::empty()) {
        Ok(()) => remove_file(from, name),
        Err(rustix::io::Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) if kind(to, new)?.is_some() => Err(io::ErrorKind::AlreadyExists.into()),
        // Without second names there is only this.
        Err(_) => rename(from, name, to, new),
    }
}

/// The names in a folder.
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

/// Whether a folder belongs to this user, and nobody else may so much as look into it.
pub(super) fn is_private(held: &FolderHandle) -> io::Result<bool> {
    let found = held.metadata()?;
    Ok(is_own(&found) && !is_open_to_others(&found))
}

/// Whether a file has no second name (hard link), under which it would change, too.
pub(super) fn is_only_name(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 1)
}

/// Whether others than its owner may read, change or run a file, or look into a folder.
pub(super) fn is_open_to_others(found: &std::fs::Metadata) -> bool {
    found.mode() & 0o077 != 0
}

/// Whether a file or folder belongs to this user.
pub(super) fn is_own(found: &std::fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Whether a file or link was made by this user, or by the system.
pub(super) fn is_trusted(found: &std::fs::Metadata) -> bool {
    is_own(found) || found.uid() == 0
}

/// Sets who may do what with a file, whatever the umask took.
pub(super) fn set_access(file: &File, access: Access) -> io::Result<()> {
    file.set_permissions(std::fs::Permissions::from_mode(access.of_file().into()))
}
