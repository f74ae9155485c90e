//! Staging: a private folder beside where something is to go. It is made there until it is whole, and moved into
//! its place then.
//!
//! The folder's name follows from the target and from what is made, so that whoever makes the same again goes on
//! with what is there. One that this user does not have for itself is refused.

use super::folder::Folder;
use super::sharing::keeps_modes;
use super::{Access, Kind, Locked, at, sha256};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind as Io, Write};
use std::time::Duration;

/// What begins the name of every staging folder.
const PREFIX: &str = ".azimg-staging-";
/// What whoever uses a staging folder has locked.
const LOCK: &str = "lock";
/// So often, with these pauses, a staging folder is asked for that somebody else has. Who takes it for left over, and
/// removes it, has it for less.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// Hexadecimal digits that tell targets, and what is made, apart.
const DIGITS: usize = 16;

/// A folder whose every name is azimg's own: a staging folder, or one in it.
#[derive(Debug)]
pub struct OwnFolder(Folder);

/// A staging folder that this process alone uses. What is in it when this is dropped stays for whoever goes on.
#[derive(Debug)]
pub struct Staging {
    parent: Folder,
    name: String,
    own: OwnFolder,
    /// Locked for as long as this lives.
    _lock: Locked,
}

/// What all staging folders of a target in one folder begin with.
fn prefix(target: &OsStr) -> String {
    format!("{PREFIX}{}-", &sha256(target.as_encoded_bytes())[..DIGITS / 2])
}

impl Staging {
    /// Opens the staging folder in `parent` for making what `key` names into `target` there, or makes it. Those
    /// of the same target for other keys are removed, unless somebody uses them.
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
                // Somebody has it for a moment, who takes it for left over; or for long, who makes the same.
                Ok(None) => failed = None,
                Err(error) if error.is_transient() || error.io_kind() == Some(Io::NotFound) => {
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let text = format!(
            "{}: somebody else is writing the same there; wait until that has ended",
            parent.path(target.as_ref()).display()
        );
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::Conflict, text)))
    }

    /// What is in it.
    pub fn root(&self) -> &OwnFolder {
        &self.own
    }

    /// The folder that it is in.
    pub fn parent(&self) -> &Folder {
        &self.parent
    }

    /// Removes it with all that is in it.
    pub fn remove(self) -> Result<()> {
        self.own.remove_from(&self.parent, &self.name)
    }
}

impl Drop for Staging {
    /// One that has no file in it goes.
    fn drop(&mut self) {
        self.own.prune();
        let is_empty = self.own.0.names().is_ok_and(|names| names.iter().all(|name| name == LOCK));
        if is_empty && at::remove_file(&self.own.0.held, OsStr::new(LOCK)).is_ok() {
            let _ = at::remove_folder(&self.parent.held, OsStr::new(&self.name));
        }
    }
}

/// Removes a staging folder that nobody uses; one that is not this user's alone stays.
fn remove_left_over(parent: &Folder, name: &str) {
    let removed = || -> Result<()> {
        let Some(Kind::Folder) = parent.kind(name)? else { return Ok(()) };
        let Some(own) = parent.inner(name)?.map(OwnFolder) else { return Ok(()) };
        own.refuse_foreign(parent)?;
        let Some(_lock) = own.lock()? else { return Ok(()) };
        own.remove_from(parent, name)
    };
    if let Err(error) = removed() {
        tracing::debug!(%error, "a staging folder that was left stays");
    }
}

impl OwnFolder {
    /// An error when others may look into it, or it belongs to somebody else: then what is in it may be theirs.
    fn refuse_foreign(&self, parent: &Folder) -> Result<()> {
        let is_private = at::is_private(&self.0.held).map_err(|e| self.0.failed("", e))?;
        if is_private || !keeps_modes(&parent.path("")) {
            return Ok(());
        }
        let text = format!(
            "{} belongs to another user, or others may look into it, so it is not used for what is being \
             written: remove it, or write to another folder",
            self.0.path("").display()
        );
        Err(Error::new(ErrorKind::Denied, text))
    }

    /// A staging folder, made when it is not there, with its lock; none when somebody else has that, or has just
    /// removed it.
    fn locked(parent: &Folder, name: &str) -> Result<Option<(Self, Locked)>> {
        let own = Self(parent.make_inner(name, Access::Private)?);
        own.refuse_foreign(parent)?;
        let Some(mut lock) = own.lock()? else { return Ok(None) };
        let is_there = at::is_only_name(lock.file()).map_err(|e| own.0.failed(LOCK, e))?;
        Ok(is_there.then_some((own, lock)))
    }

    /// The lock; none when somebody else has it.
    fn lock(&self) -> Result<Option<Locked>> {
        Locked::at_once(self.go_on(LOCK)?).map_err(|error| self.0.failed(LOCK, error))
    }

    /// Removes a staging folder whose lock is held. The lock goes last of all: whoever finds the folder without it
    /// begins anew in it, and it stays then.
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

    /// A folder in it, made when it is not there. Whatever else has that name goes.
    pub fn inner(&self, name: &str) -> Result<Self> {
        if self.0.kind(name)?.is_some_and(|kind| kind != Kind::Folder) {
            self.remove(name)?;
        }
        self.0.make_inner(name, Access::Readable).map(Self)
    }

    /// Opens a file in it to go on with, or makes it. What is no plain file, or has a second name somewhere else,
    /// is not written to: its name goes, and the file is begun anew.
    pub fn go_on(&self, name: &str) -> Result<File> {
        match at::change(&self.0.held, OsStr::new(name)) {
            Ok(file) if at::is_only_name(&file).map_err(|e| self.0.failed(name, e))? => Ok(file),
            Err(error) if error.kind() == Io::NotFound => self.make(name, Access::Readable),
            Ok(_) | Err(_) => self.create_anew(name, Access::Readable),
        }
    }

    /// Makes a file in it, in place of whatever has that name.
    pub fn create_anew(&self, name: impl AsRef<OsStr>, access: Access) -> Result<File> {
        let name = name.as_ref();
        self.remove(name)?;
        self.make(name, access)
    }

    fn make(&self, name: impl AsRef<OsStr>, access: Access) -> Result<File> {
        let name = name.as_ref();
        at::create(&self.0.held, name, access).map_err(|e| self.0.failed(name, e))
    }

    /// Writes a file in it, in place of whatever has that name; it is on the disk when this returns.
    pub fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8], access: Access) -> Result<()> {
        let name = name.as_ref();
        let mut file = self.create_anew(name, access)?;
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(|e| self.0.failed(name, e))
    }

    /// The same, with exactly the mode of `access`, whatever the umask takes.
    pub(super) fn write_as(
        &self,
        name: impl AsRef<OsStr>,
        bytes: &[u8],
        access: Access,
    ) -> Result<()> {
        let name = name.as_ref();
        let mut file = self.create_anew(name, access)?;
        file.write_all(bytes)
            .and_then(|()| at::set_access(&file, access))
            .and_then(|()| file.sync_data())
            .map_err(|e| self.0.failed(name, e))
    }

    /// Removes what has that name in it, with all that is in that.
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

    /// Removes all that is in it.
    pub fn clear(&self) -> Result<()> {
        self.0.names()?.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes the folders in it that have no file in them.
    fn prune(&self) {
        for name in self.0.names().unwrap_or_default() {
            if let Ok(Some(inner)) = self.0.inner(&name) {
                Self(inner).prune();
                // One with files in it stays.
                let _ = at::remove_folder(&self.0.held, &name);
            }
        }
    }

    /// Gives what is finished another name in it.
    pub fn rename(&self, name: &str, to: &Self, new: &str) -> Result<()> {
        at::rename(&self.0.held, OsStr::new(name), &to.0.held, OsStr::new(new))
            .map_err(|e| to.0.failed(new, e))
    }

    /// Moves a file or a folder that is finished into somebody's folder, in one step. What has that name there is
    /// replaced when `replaces` is set (a link itself, not what it leads to); else this is false, and nothing has
    /// changed.
    pub fn into_place(
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
