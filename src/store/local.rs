//! Objects as files in a folder.
//!
//! A file is written beside its place and then linked (create) or renamed (replace) into it, so a
//! reader sees all of it or nothing. Compare-and-swap holds a lock file, which the system gives
//! back when the process dies.

use super::{Claim, Entry, Key, Object, Store};
use crate::error::{Error, ErrorKind, Result};
use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A store in a folder of this machine.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The store in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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
        tokio::task::spawn_blocking(move || work(&this))
            .await
            .map_err(|e| Error::bug("a file operation panicked").with_source(e))?
    }

    /// A finished temporary file in the folder that `path` is to be in.
    fn staged(path: &Path, bytes: &[u8]) -> Result<tempfile::NamedTempFile> {
        let mut staged = Self::stage(path)?;
        staged.write_all(bytes).map_err(|e| Error::io(path.display(), e))?;
        Ok(staged)
    }

    fn stage(path: &Path) -> Result<tempfile::NamedTempFile> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".part-");
        // A temporary file is its owner's alone; a snapshot is for other people's jobs.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let stage = || builder.tempfile_in(folder);
        stage()
            .or_else(|_| {
                fs::create_dir_all(folder)?;
                stage()
            })
            .map_err(|e| Error::io(format!("writing {}", path.display()), e))
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        fs::create_dir_all(&self.root)
            .map_err(|e| Error::io(format!("making {}", self.root.display()), e))?;
        let path = self.root.join(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io(format!("opening {}", path.display()), e))
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

/// Whether a file is the store's own (a lock, a part that is being written), not an object.
fn is_own(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.'))
}

/// The error that a second crawl into one store gets.
pub(super) fn claimed(address: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("another crawl is writing to {address}; wait for it, or name another --store"),
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
            fs::create_dir_all(&this.root)
                .and_then(|()| tempfile::tempfile_in(&this.root).map(drop))
                .map_err(|e| {
                    Error::new(
                        ErrorKind::Denied,
                        format!(
                            "cannot write to the store {}: {e} (name another with --store)",
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
        self.blocking(move |_| match fs::copy(&path, &into) {
            Ok(_) => Ok(true),
            Err(_) if !path.exists() => Ok(false),
            Err(e) => Err(Error::io(format!("copying {}", path.display()), e)),
        })
        .await
    }

    async fn create(&self, key: &Key, bytes: Bytes) -> Result<bool> {
        let path = self.path(key);
        self.blocking(move |_| match Self::staged(&path, &bytes)?.persist_noclobber(&path) {
            Ok(_) => Ok(true),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(Error::io(format!("writing {}", path.display()), e.error)),
        })
        .await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, expected: Option<&str>) -> Result<bool> {
        let (path, expected) = (self.path(key), expected.map(str::to_owned));
        self.blocking(move |this| {
            let lock = this.lock_file(".swap.lock")?;
            lock.lock().map_err(|e| Error::io("locking the store", e))?;
            if read(&path)?.as_deref().map(tag) != expected {
                return Ok(false);
            }
            let staged = Self::staged(&path, &bytes)?;
            staged.as_file().sync_all().map_err(|e| Error::io(path.display(), e))?;
            staged.persist(&path).map_err(|e| Error::io(path.display(), e.error))?;
            Ok(true)
        })
        .await
    }

    async fn upload(&self, key: &Key, from: &Path) -> Result<()> {
        let (path, from) = (self.path(key), from.to_owned());
        self.blocking(move |_| {
            let mut staged = Self::stage(&path)?;
            let mut file = File::open(&from).map_err(|e| Error::io(from.display(), e))?;
            std::io::copy(&mut file, &mut staged)
                .and_then(|_| staged.as_file().sync_all())
                .map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
            staged.persist(&path).map_err(|e| Error::io(path.display(), e.error))?;
            Ok(())
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
                // Folders that the last object has left go with it.
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

    async fn claim(&self) -> Result<Claim> {
        self.blocking(|this| {
            let lock = this.lock_file(".crawl.lock")?;
            match lock.try_lock() {
                Ok(()) => Ok(Box::new(lock) as Claim),
                Err(TryLockError::WouldBlock) => Err(claimed(&this.address())),
                Err(TryLockError::Error(e)) => Err(Error::io("locking the store", e)),
            }
        })
        .await
    }
}
