//! Temporary folders for files under construction, until they are moved to their destination.
//!
//! Invariant: what a killed process leaves behind has a name that only this module assigns, and is
//! removed when a later process needs a temporary folder.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use std::fs::File;
use std::io::{ErrorKind as Io, Write};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Prefix that no other name in a temporary folder has.
const PREFIX: &str = "azimg-scratch-";
/// Age from which an unmodified entry counts as left behind: no file is under construction for
/// longer.
const LEFT_BEHIND: Duration = Duration::from_hours(48);
/// The variable that names the folder for temporary files.
const VARIABLE: &str = if cfg!(windows) { "TMP" } else { "TMPDIR" };

/// A temporary folder, removed on drop.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Creates a folder in the system's folder for temporary files.
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
        // Regardless of the umask: a user who can write here controls what is published.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(
            files::Access::Private.of_folder().into(),
        ));
        builder.tempdir_in(parent).map(Self).map_err(|error| {
            let text = format!(
                "cannot create a temporary folder in {}: {error}; set {VARIABLE} to another folder",
                parent.display()
            );
            Error::new(ErrorKind::Denied, text).with_source(error)
        })
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Creates a file in it; an error if the name is taken.
    pub fn create(&self, name: &str) -> std::io::Result<File> {
        files::create(&self.path().join(name))
    }

    /// Creates a file in it with the given content.
    pub fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.create(name)?.write_all(bytes)
    }

    /// Explains an error from writing into the folder. If a retry cannot succeed, the text says how
    /// full the folder is and what can be done.
    pub fn explain(&self, error: Error) -> Error {
        let Some(io) = error.io_kind() else { return error };
        let parent = self.path().parent().unwrap_or(self.path()).display();
        let text = match io {
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => format!(
                "the temporary folder {parent} is full after {} were written; free some space \
                 there, or set {VARIABLE} to a folder with more space",
                kibibytes(written(self.path()))
            ),
            Io::ReadOnlyFilesystem => format!(
                "the temporary folder {parent} is no longer writable; set {VARIABLE} to another \
                 folder"
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

/// Total size of the files in a folder, in bytes.
fn written(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Length of the random part of a name, after its prefix.
const RANDOM: usize = 6;

/// Whether a name has the form that files under construction get.
fn is_given(name: &std::ffi::OsStr, prefix: &str) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
    rest.is_some_and(|rest| {
        rest.len() == RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Removes what killed processes of this user left in a folder: files and folders whose names are
/// `prefix` and six letters or digits, and that have not been modified for two days. Returns how
/// many were removed; what cannot be removed is kept.
pub(crate) fn sweep(folder: &Path, prefix: &str, now: SystemTime) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |entry: &std::fs::DirEntry| {
        is_given(&entry.file_name(), prefix)
            && entry.metadata().is_ok_and(|found| files::is_own(&found))
    };
    let removed = entries.filter(is_ours).filter(|entry| {
        let path = entry.path();
        // A link is neither followed nor removed.
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
        tracing::info!(
            removed, folder = %folder.display(),
            "removed temporary files of a killed process"
        );
    }
    removed
}

/// Whether a file, or a folder with all of its entries, has not been modified for [`LEFT_BEHIND`].
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
    fn only_left_over_scratch_folders_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let left = at("azimg-scratch-aB3dEf");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("marketplace.parquet"), "half of it").unwrap();
        // A user's store, a file of another program, and a folder in use.
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
    fn full_scratch_folder_is_not_retried_and_names_a_remedy() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::below(parent.path()).unwrap();
        std::fs::write(scratch.path().join("rows"), [0; 3_000]).unwrap();
        let full = Error::io("writing rows", Io::StorageFull.into());
        let explained = scratch.explain(full.context("outer"));
        assert_eq!(explained.kind(), ErrorKind::Denied);
        let text = explained.to_string();
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
