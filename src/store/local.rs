//! A store that keeps objects as files in a folder.
//!
//! A file is written under a temporary name in its target folder. It is then linked (create) or
//! renamed (replace) to its final name, so a reader sees either the whole file or none, also after
//! a power failure. Compare-and-swap holds a lock file, which the operating system releases when
//! the process dies.
//!
//! Other users' jobs read snapshots, so snapshots are as readable as the umask allows. The objects
//! of runs are private to their owner. Nobody else may write to the store: a folder that others can
//! write to is refused.

use super::{Entry, Key, Object, Store, StoreClaim};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{self, Access, Locked};
use crate::scratch;
use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// Prefix of the names of files that are being written.
const PART: &str = ".part-";
/// The file that a crawl into this store keeps locked.
const CRAWL_LOCK: &str = ".crawl.lock";

/// The folder of runs, private to the owner.
const RUNS: &str = "runs";
/// The folder of snapshots, readable by others.
const SNAPSHOTS: &str = "snapshots";

/// A store in a folder of the local machine.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
    /// Set once the folder exists and the check passed that nobody else can write to it.
    is_own: Arc<OnceLock<()>>,
}

impl LocalStore {
    /// Creates a store in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), is_own: Arc::default() }
    }

    /// Returns an error if others can write to the store.
    fn refuse_shared(&self) -> Result<()> {
        if self.is_own.get().is_some() || !self.root.exists() {
            return Ok(());
        }
        for folder in [self.root.clone(), self.root.join(RUNS), self.root.join(SNAPSHOTS)] {
            files::refuse_shared(&folder)?;
        }
        self.is_own.get_or_init(|| ());
        Ok(())
    }

    /// Who may read the object at `path`.
    fn access(&self, path: &Path) -> Access {
        let is_of_run = path.strip_prefix(&self.root).is_ok_and(|below| below.starts_with(RUNS));
        if is_of_run { Access::Private } else { Access::Readable }
    }

    /// Creates the folder of an object and its missing parents, and syncs them so that they survive
    /// a power failure.
    fn make_folder(&self, folder: &Path) -> std::io::Result<()> {
        let missing = folder.ancestors().take_while(|folder| !folder.exists()).count();
        files::make_folder(&self.root, Access::Readable)?;
        files::make_folder(folder, self.access(folder))?;
        let parents = folder.ancestors().skip(1).take(missing);
        parents.filter(|parent| !parent.as_os_str().is_empty()).try_for_each(sync_folder)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.to_string())
    }

    /// Runs blocking file work off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        let work = move || {
            this.refuse_shared()?;
            work(&this)
        };
        blocking("a file operation", work).await
    }

    /// Writes `bytes` to a temporary file in the target folder of `path`.
    fn staged(&self, path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
        let mut staged = self.stage(path)?;
        staged.write_all(bytes).map_err(|e| Error::io(path.display(), e))?;
        Ok(staged)
    }

    fn stage(&self, path: &Path) -> Result<tempfile::NamedTempFile> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(PART);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(
            self.access(path).of_file().into(),
        ));
        let stage = || builder.tempfile_in(folder);
        stage()
            .or_else(|_| {
                self.make_folder(folder)?;
                stage()
            })
            .map_err(|e| Error::io(format!("writing {}", path.display()), e))
    }

    /// Moves a finished file to `path`. Unless `replace` is set, returns false if a file exists
    /// there. The result survives a power failure: the contents are synced before the name is.
    fn persist(staged: tempfile::NamedTempFile, path: &Path, replace: bool) -> Result<bool> {
        let io = |e| Error::io(format!("writing {}", path.display()), e);
        staged.as_file().sync_data().map_err(io)?;
        let persisted = if replace { staged.persist(path) } else { staged.persist_noclobber(path) };
        match persisted {
            Ok(_) => {}
            Err(e) if !replace && e.error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Ok(false);
            }
            Err(e) => return Err(io(e.error)),
        }
        path.parent().map_or(Ok(()), sync_folder).map_err(io)?;
        Ok(true)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        files::make_folder(&self.root, Access::Readable)
            .map_err(|e| Error::io(format!("making {}", self.root.display()), e))?;
        files::open_lock(&self.root.join(name))
    }

    fn walk(&self, folder: &Path, prefix: &str, found: &mut Vec<Entry>) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(format!("listing {}", folder.display()), e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(folder.display(), e))?;
            let path = entry.path();
            let Some(name) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else {
                continue;
            };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder {
                let inner = format!("{name}/");
                if inner.starts_with(prefix) || prefix.starts_with(&inner) {
                    self.walk(&path, prefix, found)?;
                }
            } else if name.starts_with(prefix) && !is_own(&entry.file_name()) {
                let bytes = entry.metadata().map_or(0, |meta| meta.len());
                found.push(Entry { name: name.to_owned(), bytes });
            }
        }
        Ok(())
    }
}

/// Removes partial files of killed processes from a folder and all its subfolders.
fn remove_parts(folder: &Path, now: SystemTime) {
    scratch::sweep(folder, PART, now);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_parts(&entry.path(), now);
        }
    }
}

/// Syncs the names in a folder, so that they survive a power failure. Windows has no such
/// operation.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether a file is internal to the store (a lock or a partial file) rather than an object.
fn is_own(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.'))
}

/// The error for a second crawl into the same store.
pub(super) fn claimed(address: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "another crawl is writing to {address}; wait until it ends, or use another --store"
        ),
    )
}

fn tag(bytes: &[u8]) -> String {
    crate::format::hex(&Sha256::digest(bytes))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("reading {}", path.display()), e)),
    }
}

#[async_trait]
impl Store for LocalStore {
    fn address(&self) -> String {
        self.root.display().to_string()
    }

    async fn prepare(&self) -> Result<()> {
        self.blocking(|this| {
            files::make_folder(&this.root, Access::Readable)
                .and_then(|()| tempfile::tempfile_in(&this.root).map(drop))
                .map_err(|e| {
                    Error::new(
                        ErrorKind::Denied,
                        format!(
                            "cannot write to the store {}: {e} (use another with --store)",
                            this.root.display()
                        ),
                    )
                })
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let path = self.path(key);
        self.blocking(move |_| {
            Ok(read(&path)?.map(|bytes| Object { tag: tag(&bytes), bytes: bytes.into() }))
        })
        .await
    }

    async fn download(&self, key: &Key, into: &Path) -> Result<bool> {
        let (path, into) = (self.path(key), into.to_owned());
        self.blocking(move |_| {
            let failed = |e| Error::io(format!("copying {}", path.display()), e);
            let mut from = match File::open(&path) {
                Ok(from) => from,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(failed(e)),
            };
            let mut to = files::create(&into).map_err(failed)?;
            std::io::copy(&mut from, &mut to).map(|_| true).map_err(failed)
        })
        .await
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let path = self.path(key);
        self.blocking(move |this| Self::persist(this.staged(&path, &bytes)?, &path, false)).await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        let (path, expected) = (self.path(key), expected.map(str::to_owned));
        self.blocking(move |this| {
            let lock = this.lock_file(".swap.lock")?;
            let _lock = Locked::wait(lock).map_err(|e| Error::io("locking the store", e))?;
            if read(&path)?.as_deref().map(tag) != expected {
                return Ok(false);
            }
            Self::persist(this.staged(&path, &bytes)?, &path, true)
        })
        .await
    }

    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        let (path, from) = (self.path(key), from.to_owned());
        self.blocking(move |this| {
            let mut staged = this.stage(&path)?;
            let mut file = File::open(&from).map_err(|e| Error::io(from.display(), e))?;
            std::io::copy(&mut file, &mut staged)
                .map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
            Self::persist(staged, &path, true).map(drop)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let prefix = prefix.to_owned();
        self.blocking(move |this| {
            let mut found = Vec::new();
            this.walk(&this.root, &prefix, &mut found)?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    async fn list_level(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = self.root.join(prefix);
        self.blocking(move |_| {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(Error::io(format!("listing {}", folder.display()), e)),
            };
            let mut names: Vec<String> = entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| !name.starts_with('.'))
                .collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        self.blocking(move |this| match fs::remove_file(&path) {
            Ok(()) => {
                // Remove the folders that are now empty.
                let mut folder = path.parent();
                while let Some(parent) = folder.filter(|parent| *parent != this.root) {
                    if fs::remove_dir(parent).is_err() {
                        break;
                    }
                    folder = parent.parent();
                }
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io(format!("removing {}", path.display()), e)),
        })
        .await
    }

    async fn claim(&self) -> Result<StoreClaim> {
        self.blocking(|this| {
            let lock = this.lock_file(CRAWL_LOCK)?;
            match Locked::exclusive(lock) {
                Ok(Some(lock)) => {
                    let now = SystemTime::now();
                    scratch::sweep(&this.root, PART, now);
                    remove_parts(&this.root.join(RUNS), now);
                    remove_parts(&this.root.join(SNAPSHOTS), now);
                    Ok(Box::new(lock) as StoreClaim)
                }
                Ok(None) => Err(claimed(&this.address())),
                Err(e) => Err(Error::io("locking the store", e)),
            }
        })
        .await
    }

    async fn is_claimed(&self) -> Result<Option<bool>> {
        self.blocking(|this| {
            let path = this.root.join(CRAWL_LOCK);
            if !path.exists() {
                return Ok(Some(false));
            }
            let lock = files::open_lock(&path)?;
            let lock = Locked::shared(lock).map_err(|e| Error::io("locking the store", e))?;
            Ok(Some(lock.is_none()))
        })
        .await
    }
}
