//! A folder of the user: what is in it can be read, and new files can be moved into it from a
//! staging folder. Nothing in it is deleted.

use super::at::{self, FolderHandle};
use super::{Access, Kind};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

/// A folder that is held open. Operations apply to this folder, whatever happens to the paths that
/// lead to it.
#[derive(Debug)]
pub struct Folder {
    pub(super) held: FolderHandle,
    path: PathBuf,
}

/// The folder that contains a path.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder and its parents.
pub fn make_folder(path: &Path, access: Access) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, access.of_folder().into());
    builder.recursive(true).create(path)
}

impl Folder {
    /// Opens the folder at `path`. A link is followed if this user or the system created it: the
    /// user who names such a link means its target. A link of another user is refused.
    pub fn open(path: &Path) -> Result<Self> {
        // A trailing slash would resolve a link.
        let path = path.components().as_path();
        let failed = |e| Error::io(path.display(), e);
        let link = std::fs::symlink_metadata(path).map_err(failed)?;
        if link.is_symlink() && !at::is_trusted(&link) {
            let text = format!(
                "{} is a link that another user created, and is not followed: specify the folder \
                 that it points to",
                path.display()
            );
            return Err(Error::new(ErrorKind::Denied, text));
        }
        // A link that is created only now is not followed either.
        match at::hold(path, link.is_symlink()) {
            Ok(held) => Ok(Self { held, path: path.to_owned() }),
            Err(error) if error.kind() == Io::NotADirectory => {
                Err(Error::new(ErrorKind::Conflict, format!("{} is not a folder", path.display())))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Opens the folder at `path`, and creates it with its parents if it does not exist.
    pub fn make(path: &Path, access: Access) -> Result<Self> {
        if std::fs::symlink_metadata(path).is_err() {
            make_folder(path, access).map_err(|e| Error::io(path.display(), e))?;
        }
        Self::open(path)
    }

    /// A second handle of the same folder.
    pub fn again(&self) -> Result<Self> {
        let held = at::again(&self.held, &self.path).map_err(|e| self.failed("", e))?;
        Ok(Self { held, path: self.path.clone() })
    }

    /// The path, for messages. Operations use the handle.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let name = name.as_ref();
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    pub(super) fn failed(&self, name: impl AsRef<OsStr>, error: std::io::Error) -> Error {
        Error::io(self.path(name).display(), error)
    }

    /// The kind of a name in it; `None` if nothing has that name.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        let name = name.as_ref();
        at::kind(&self.held, name).map_err(|e| self.failed(name, e))
    }

    /// Opens a plain file in it; `None` if nothing has that name.
    pub fn read(&self, name: impl AsRef<OsStr>) -> Result<Option<File>> {
        let name = name.as_ref();
        match self.kind(name)? {
            None => Ok(None),
            Some(Kind::File) => {
                at::read(&self.held, name).map(Some).map_err(|e| self.failed(name, e))
            }
            Some(kind) => Err(self.in_the_way(name, kind)),
        }
    }

    /// Opens a folder in it that is not a link; `None` if nothing has that name.
    pub fn inner(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>> {
        let name = name.as_ref();
        match self.kind(name)? {
            None => Ok(None),
            Some(Kind::Folder) => {
                let held = at::folder(&self.held, name).map_err(|e| self.failed(name, e))?;
                Ok(Some(Self { held, path: self.path(name) }))
            }
            Some(kind) => Err(self.in_the_way(name, kind)),
        }
    }

    /// Opens a folder in it that is not a link, and creates it if it does not exist.
    pub fn make_inner(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Self> {
        let name = name.as_ref();
        match at::make_folder(&self.held, name, access) {
            Ok(()) => {}
            Err(error) if error.kind() == Io::AlreadyExists => {}
            Err(error) => return Err(self.failed(name, error)),
        }
        self.inner(name)?.ok_or_else(|| {
            Error::transient(format!("{}: it was removed concurrently", self.path(name).display()))
        })
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Result<Vec<OsString>> {
        at::names(&self.held).map_err(|e| self.failed("", e))
    }

    /// The error for something else in place of a file or a folder.
    fn in_the_way(&self, name: &OsStr, kind: Kind) -> Error {
        let text = format!(
            "{} is {}, which is not followed or replaced: move it away",
            self.path(name).display(),
            kind.as_str()
        );
        Error::new(ErrorKind::Conflict, text)
    }
}
