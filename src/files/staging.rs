//! Staging folders: a private folder beside the target. A result is assembled there, and moved into
//! place when complete.
//!
//! The name of the folder is derived from the target and from a key of the result, so that a later
//! run for the same result continues with the files that are there. A folder that is not private to
//! this user is refused.

use super::folder::Folder;
use super::sharing::preserves_modes;
use super::{Access, Kind, Locked, at, sha256};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind as Io, Write};
use std::time::Duration;

/// The prefix of the names of all staging folders.
const PREFIX: &str = ".azimg-staging-";
/// The file that a process locks while it uses a staging folder.
const LOCK: &str = "lock";
/// The number of attempts to open a staging folder that another process holds, and the pause
/// between them. A process that only removes it as left over holds it for less than all of them.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// Hexadecimal digits in a folder name that distinguish results. Targets have half as many.
const DIGITS: usize = 16;

/// A folder in which every name is azimg's own: a staging folder, or one inside it.
#[derive(Debug)]
pub struct OwnFolder(Folder);

/// A staging folder that only this process uses. Files that are left in it on drop stay for a later
/// run.
#[derive(Debug)]
pub struct Staging {
    parent: Folder,
    name: String,
    own: OwnFolder,
    /// Locked for the lifetime of this value.
    _lock: Locked,
}

/// The common prefix of the staging folders of one target in a folder.
fn prefix(target: &OsStr) -> String {
    format!("{PREFIX}{}-", &sha256(target.as_encoded_bytes())[..DIGITS / 2])
}

impl Staging {
    /// Opens or creates the staging folder in `parent` for the target `target` and the result
    /// `key`. Those of the same target for other keys are removed, unless they are in use.
    pub fn open(parent: Folder, target: impl AsRef<OsStr>, key: &str) -> Result<Self> {
        let prefix = prefix(target.as_ref());
        let name = format!("{prefix}{}", &sha256(key.as_bytes())[..DIGITS]);
        for other in parent.names()? {
            let text = other.to_string_lossy();
            if text.starts_with(&prefix) && *text != *name {
                remove_left_over(&parent, &text);
            }
        }
        let mut failed = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            match OwnFolder::locked(&parent, &name) {
                Ok(Some((own, lock))) => return Ok(Self { parent, name, own, _lock: lock }),
                // Held for a moment, by a process that takes it for left over; or for long, by one
                // with the same target and key.
                Ok(None) => failed = None,
                Err(error) if error.is_transient() || error.io_kind() == Some(Io::NotFound) => {
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let text = format!(
            "{}: another process is writing the same target; wait until it ends",
            parent.path(target.as_ref()).display()
        );
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Conflict, text)))
    }

    /// The content of the staging folder.
    pub fn root(&self) -> &OwnFolder {
        &self.own
    }

    /// The folder that contains the staging folder.
    pub fn parent(&self) -> &Folder {
        &self.parent
    }

    /// Removes the staging folder with its content.
    pub fn remove(self) -> Result<()> {
        self.own.remove_from(&self.parent, &self.name)
    }
}

impl Drop for Staging {
    /// Removes the staging folder if it contains no file.
    fn drop(&mut self) {
        self.own.prune();
        let is_empty = self.own.0.names().is_ok_and(|names| names.iter().all(|name| name == LOCK));
        if is_empty && at::remove_file(&self.own.0.held, OsStr::new(LOCK)).is_ok() {
            let _ = at::remove_folder(&self.parent.held, OsStr::new(&self.name));
        }
    }
}

/// Removes a staging folder that is not in use. One that is not private to this user stays.
fn remove_left_over(parent: &Folder, name: &str) {
    let removed = || -> Result<()> {
        let Some(Kind::Folder) = parent.kind(name)? else { return Ok(()) };
        let Some(own) = parent.inner(name)?.map(OwnFolder) else { return Ok(()) };
        own.refuse_foreign(parent)?;
        let Some(_lock) = own.lock()? else { return Ok(()) };
        own.remove_from(parent, name)
    };
    if let Err(error) = removed() {
        tracing::debug!(%error, "an abandoned staging folder cannot be removed");
    }
}

impl OwnFolder {
    /// An error if others have access to the folder, or it belongs to another user: its content may
    /// then be theirs.
    fn refuse_foreign(&self, parent: &Folder) -> Result<()> {
        let is_private = at::is_private(&self.0.held).map_err(|e| self.0.failed("", e))?;
        if is_private || !preserves_modes(&parent.path("")) {
            return Ok(());
        }
        let text = format!(
            "{} belongs to another user, or other users can read it, so it is not used for \
             temporary files: remove it, or write to another folder",
            self.0.path("").display()
        );
        Err(Error::new(ErrorKind::Denied, text))
    }

    /// Opens or creates a staging folder with its lock; `None` if another process holds the lock,
    /// or has just removed the folder.
    fn locked(parent: &Folder, name: &str) -> Result<Option<(Self, Locked)>> {
        let own = Self(parent.make_inner(name, Access::Private)?);
        own.refuse_foreign(parent)?;
        let Some(mut lock) = own.lock()? else { return Ok(None) };
        let is_there = at::is_only_name(lock.file()).map_err(|e| own.0.failed(LOCK, e))?;
        Ok(is_there.then_some((own, lock)))
    }

    /// Takes the lock; `None` if another process holds it.
    fn lock(&self) -> Result<Option<Locked>> {
        Locked::try_exclusive(self.open_to_continue(LOCK)?)
            .map_err(|error| self.0.failed(LOCK, error))
    }

    /// Removes a staging folder whose lock is held. The lock file is removed last: a process that
    /// finds the folder without it starts anew there, and then the folder stays.
    fn remove_from(&self, parent: &Folder, name: &str) -> Result<()> {
        for inner in self.0.names()?.iter().filter(|inner| *inner != LOCK) {
            self.remove(inner)?;
        }
        self.remove(LOCK)?;
        match at::remove_folder(&parent.held, OsStr::new(name)) {
            Err(error) if !matches!(error.kind(), Io::DirectoryNotEmpty | Io::NotFound) => {
                Err(parent.failed(name, error))
            }
            _ => Ok(()),
        }
    }

    /// The folder, for reading.
    pub fn folder(&self) -> &Folder {
        &self.0
    }

    /// Opens a folder in it, and creates it if it does not exist. Anything else with that name is
    /// removed.
    pub fn inner(&self, name: &str) -> Result<Self> {
        if self.0.kind(name)?.is_some_and(|kind| kind != Kind::Folder) {
            self.remove(name)?;
        }
        self.0.make_inner(name, Access::Readable).map(Self)
    }

    /// Opens a file in it to be continued, or creates it. Anything but a plain file, and a file
    /// with a second hard link, is not written to: its name is removed, and a new file is created.
    pub fn open_to_continue(&self, name: &str) -> Result<File> {
        match at::change(&self.0.held, OsStr::new(name)) {
            Ok(file) if at::is_only_name(&file).map_err(|e| self.0.failed(name, e))? => Ok(file),
            Err(error) if error.kind() == Io::NotFound => self.make(name, Access::Readable),
            Ok(_) | Err(_) => self.create_replacing(name, Access::Readable),
        }
    }

    /// Creates a file in it, replacing anything with that name.
    pub fn create_replacing(&self, name: impl AsRef<OsStr>, access: Access) -> Result<File> {
        let name = name.as_ref();
        self.remove(name)?;
        self.make(name, access)
    }

    fn make(&self, name: impl AsRef<OsStr>, access: Access) -> Result<File> {
        let name = name.as_ref();
        at::create(&self.0.held, name, access).map_err(|e| self.0.failed(name, e))
    }

    /// Writes a file in it, replacing anything with that name. It is synced to disk when this
    /// returns.
    pub fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8], access: Access) -> Result<()> {
        let name = name.as_ref();
        let mut file = self.create_replacing(name, access)?;
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(|e| self.0.failed(name, e))
    }

    /// Like [`Self::write`], with exactly the mode of `access`, whatever the umask.
    pub(super) fn write_as(
        &self,
        name: impl AsRef<OsStr>,
        bytes: &[u8],
        access: Access,
    ) -> Result<()> {
        let name = name.as_ref();
        let mut file = self.create_replacing(name, access)?;
        file.write_all(bytes)
            .and_then(|()| at::set_access(&file, access))
            .and_then(|()| file.sync_data())
            .map_err(|e| self.0.failed(name, e))
    }

    /// Removes the entry of that name in it, recursively.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        let removed = match self.0.kind(name)? {
            None => Ok(()),
            Some(Kind::Folder) => {
                if let Some(inner) = self.0.inner(name)? {
                    Self(inner).clear()?;
                }
                at::remove_folder(&self.0.held, name)
            }
            Some(_) => at::remove_file(&self.0.held, name),
        };
        match removed {
            Err(error) if error.kind() != Io::NotFound => Err(self.0.failed(name, error)),
            _ => Ok(()),
        }
    }

    /// Removes everything in it.
    pub fn clear(&self) -> Result<()> {
        self.0.names()?.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes the folders in it that contain no file.
    fn prune(&self) {
        for name in self.0.names().unwrap_or_default() {
            if let Ok(Some(inner)) = self.0.inner(&name) {
                Self(inner).prune();
                // A folder that contains files is not removed.
                let _ = at::remove_folder(&self.0.held, &name);
            }
        }
    }

    /// Renames a finished entry, possibly into another such folder.
    pub fn rename(&self, name: &str, to: &Self, new: &str) -> Result<()> {
        at::rename(&self.0.held, OsStr::new(name), &to.0.held, OsStr::new(new))
            .map_err(|e| to.0.failed(new, e))
    }

    /// Moves a finished file or folder into a folder of the user, atomically. With `replaces`, an
    /// entry of that name is replaced (a link itself, not its target). Without it, the result is
    /// false if there is one, and nothing has changed.
    pub fn move_to(
        &self,
        name: impl AsRef<OsStr>,
        to: &Folder,
        new: impl AsRef<OsStr>,
        replaces: bool,
    ) -> Result<bool> {
        let (name, new) = (name.as_ref(), new.as_ref());
        let moved = if replaces {
            at::rename(&self.0.held, name, &to.held, new)
        } else {
            at::rename_new(&self.0.held, name, &to.held, new)
        };
        match moved {
            Ok(()) => Ok(true),
            Err(error) if !replaces && is_taken(&error) => Ok(false),
            Err(error) => Err(to.failed(new, error)),
        }
    }
}

fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), Io::AlreadyExists | Io::DirectoryNotEmpty | Io::NotADirectory)
}
