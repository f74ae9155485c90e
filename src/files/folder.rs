//! Somebody's folder: what is in it can be read, and what is new can come into it from a staging folder. Nothing in
//! it is deleted.

use super::at::{self, FolderHandle};
use super::{Access, Kind};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

/// A folder that is held open: what is done in it is done there, whatever becomes of the names that lead to it.
#[derive(Debug)]
pub struct Folder {
    pub(super) held: FolderHandle,
    path: PathBuf,
}

/// The folder that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder, and those above it.
pub fn make_folder(path: &Path, access: Access) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, access.of_folder().into());
    builder.recursive(true).create(path)
}

impl Folder {
    /// Opens the folder of that name. A link is followed when this user or the system made it: whoever names it
    /// means where it leads, but not where somebody else would like it to.
    pub fn open(path: &Path) -> Result<Self> {
        // A slash at the end would lead through a link.
        let path = path.components().as_path();
        let failed = |e| Error::io(path.display(), e);
        let link = std::fs::symlink_metadata(path).map_err(failed)?;
        if link.is_symlink() && !at::is_trusted(&link) {
            let text = format!(
                "{} is a link that another user made, and is not followed: name the folder that it \
                 leads to",
                path.display()
            );
            return Err(Error::new(ErrorKind::Denied, text));
        }
        // Whoever puts a link there now is not followed either.
        match at::hold(path, link.is_symlink()) {
            Ok(held) => Ok(Self { held, path: path.to_owned() }),
            Err(error) if error.kind() == Io::NotADirectory => {
                Err(Error::new(ErrorKind::Conflict, format!("{} is no folder", path.display())))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Opens the folder of that name, and makes it when it is not there, with those above it.
    pub fn make(path: &Path, access: Access) -> Result<Self> {
        if std::fs::symlink_metadata(path).is_err() {
            make_folder(path, access).map_err(|e| Error::io(path.display(), e))?;
        }
        Self::open(path)
    }

    /// A second hold on the same folder.
    pub fn again(&self) -> Result<Self> {
        let held = at::again(&self.held, &self.path).map_err(|e| self.failed("", e))?;
        Ok(Self { held, path: self.path.clone() })
    }

    /// Where it is, for messages: what is done goes by the folder itself.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let name = name.as_ref();
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    pub(super) fn failed(&self, name: impl AsRef<OsStr>, error: std::io::Error) -> Error {
        Error::io(self.path(name).display(), error)
    }

    /// What a name in it is, if anything has it.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        let name = name.as_ref();
        at::kind(&self.held, name).map_err(|e| self.failed(name, e))
    }

    /// Opens a plain file in it; none when nothing has that name.
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

    /// A folder in it that is no link; none when nothing has that name.
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

    /// A folder in it that is no link, made when it is not there.
    pub fn make_inner(&self, name: impl AsRef<OsStr>, access: Access) -> Result<Self> {
        let name = name.as_ref();
        match at::make_folder(&self.held, name, access) {
            Ok(()) => {}
            Err(error) if error.kind() == Io::AlreadyExists => {}
            Err(error) => return Err(self.failed(name, error)),
        }
        self.inner(name)?.ok_or_else(|| {
            Error::transient(format!("{}: it is gone again", self.path(name).display()))
        })
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Result<Vec<OsString>> {
        at::names(&self.held).map_err(|e| self.failed("", e))
    }

    /// The error of whoever finds something else where a file or a folder should be.
    fn in_the_way(&self, name: &OsStr, kind: Kind) -> Error {
        let text = format!(
            "{} is {}, which is not followed or replaced: move it away",
            self.path(name).display(),
            kind.as_str()
        );
        Error::new(ErrorKind::Conflict, text)
    }
}
