//! Temporary folders for what is being made, until it goes where it belongs.
//!
//! Invariant: what a process that was killed leaves behind has a name that only this module gives, and goes
//! when a later process needs a temporary folder.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use std::fs::File;
use std::io::{ErrorKind as Io, Write};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// No other name in a temporary folder begins like this.
const PREFIX: &str = "azimg-scratch-";
/// What has not been written to for so long belongs to nobody: no file is on its way for longer.
const LEFT_BEHIND: Duration = Duration::from_hours(48);
/// The variable that names the folder for temporary files.
const VARIABLE: &str = if cfg!(windows) { "TMP" } else { "TMPDIR" };

/// A temporary folder, removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// A folder where the system has temporary files.
    pub fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        let parent = std::env::temp_dir();
        SWEPT.call_once(|| {
            sweep(&parent, PREFIX, SystemTime::now());
        });
        Self::below(&parent)
    }

    fn below(parent: &Path) -> Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // Whatever the umask is: who can write here decides what is published.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(
            files::Access::Private.of_folder().into(),
        ));
        builder.tempdir_in(parent).map(Self).map_err(|error| {
            let text = format!(
                "no temporary folder can be made in {}: {error}; name another with {VARIABLE}",
                parent.display()
            );
            Error::new(ErrorKind::Denied, text).with_source(error)
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes a file in it; an error when anything has that name.
    pub fn create(&self, name: &str) -> std::io::Result<File> {
        files::create(&self.path().join(name))
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.create(name)?.write_all(bytes)
    }

    /// An error from writing into it. One that no second try can heal says how full the folder is and what can
    /// be done.
    pub fn explain(&self, error: Error) -> Error {
        let Some(io) = error.io_kind() else { return error };
        let parent = self.path().parent().unwrap_or(self.path()).display();
        let text = match io {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => format!(
                "the temporary folder {parent} is full: {} were written when there was no room left; \
                 make room there, or name a folder with more of it with {VARIABLE}",
                kibibytes(written(self.path()))
            ),
            Io::ReadOnlyFilesystem => format!(
                "the temporary folder {parent} cannot be written any more; name another with {VARIABLE}"
            ),
            _ => return error,
        };
        Error::new(ErrorKind::Denied, text).with_source(error)
    }
}

fn kibibytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// The bytes of all files in a folder.
fn written(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Letters and digits that a name has behind its prefix.
const RANDOM: usize = 6;

/// Whether a name is one that is given to what is being made.
fn is_given(name: &std::ffi::OsStr, prefix: &str) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
    rest.is_some_and(|rest| {
        rest.len() == RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Removes from a folder what processes of this user left there that were killed: the files and folders whose names
/// are `prefix` and six letters or digits, and that nobody has written to for two days. How many there were; what
/// cannot be removed stays.
pub(crate) fn sweep(folder: &Path, prefix: &str, now: SystemTime) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |entry: &std::fs::DirEntry| {
        is_given(&entry.file_name(), prefix)
            && entry.metadata().is_ok_and(|found| files::is_own(&found))
    };
    let removed = entries.filter(is_ours).filter(|entry| {
        let path = entry.path();
        // Not what a link leads to.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                is_left_behind(&path, now) && std::fs::remove_dir_all(&path).is_ok()
            }
            Ok(kind) if kind.is_file() => {
                is_left_behind(&path, now) && std::fs::remove_file(&path).is_ok()
            }
            _ => false,
        }
    });
    let removed = removed.count();
    if removed > 0 {
        tracing::info!(removed, folder = %folder.display(), "temporary files of a process that was killed");
    }
    removed
}

/// Whether a file, or a folder and all that is in it, has not been written to for long.
fn is_left_behind(path: &Path, now: SystemTime) -> bool {
    let is_old = |meta: std::io::Result<std::fs::Metadata>| {
        let written = meta.and_then(|meta| meta.modified());
        written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > LEFT_BEHIND))
    };
    is_old(std::fs::symlink_metadata(path))
        && std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .all(|entry| is_old(entry.and_then(|e| e.metadata())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_behind_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let left = at("azimg-scratch-aB3dEf");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("marketplace.parquet"), "half of it").unwrap();
        // A store that somebody keeps here, a file of another program, and what is being made now.
        for name in ["azimg-data", "other"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let used = Scratch::below(parent.path()).unwrap();
        let now = SystemTime::now();
        assert_eq!(sweep(parent.path(), PREFIX, now), 0);
        let later = now + LEFT_BEHIND + Duration::from_hours(1);
        let written = std::fs::File::create(used.path().join("rows")).unwrap();
        written.set_modified(later).unwrap();
        assert_eq!(sweep(parent.path(), PREFIX, later), 1);
        assert!(!left.exists() && used.path().exists());
        assert!(at("azimg-data").exists() && at("other").exists());
        // A clock that was ahead for a while must not remove anything either.
        assert_eq!(sweep(parent.path(), PREFIX, now - LEFT_BEHIND), 0);
    }

    #[test]
    fn a_full_folder_is_no_reason_to_try_again_and_says_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::below(parent.path()).unwrap();
        std::fs::write(scratch.path().join("rows"), [0; 3_000]).unwrap();
        let full = Error::io("writing rows", Io::StorageFull.into());
        let told = scratch.explain(full.context("outer"));
        assert_eq!(told.kind(), ErrorKind::Denied);
        let text = told.to_string();
        for word in [parent.path().to_str().unwrap(), "3 KiB", VARIABLE] {
            assert!(text.contains(word), "{text}");
        }
        let other = scratch.explain(Error::io("writing rows", Io::TimedOut.into()));
        assert!(other.is_transient(), "{other}");
        let nowhere = Scratch::below(&parent.path().join("nowhere")).unwrap_err();
        assert!(nowhere.to_string().contains(VARIABLE), "{nowhere}");
        assert_eq!(nowhere.kind(), ErrorKind::Denied);
    }
}
