//! Locks on files, which keep processes of one machine apart.
//!
//! A child process inherits every open file of its parent until it executes its program, and so the
//! locks. Therefore a lock is released explicitly on drop, rather than when the last process closes
//! the file.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// How many times a lock is tried, and the pause between tries: a process that only checks a lock
/// holds it for a moment.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A file whose lock is held until this is dropped.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Locks a file exclusively; `None` if another holder keeps it for longer than a moment.
    pub fn exclusive(file: File) -> io::Result<Option<Self>> {
        for _ in 1..TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
                result => return Self::result(file, result),
            }
        }
        Self::try_exclusive(file)
    }

    /// Like [`Self::exclusive`] without a wait, for callers that can use another file instead.
    pub fn try_exclusive(file: File) -> io::Result<Option<Self>> {
        let result = file.try_lock();
        Self::result(file, result)
    }

    /// Locks a file for readers of what it protects; `None` if it is locked exclusively.
    pub fn shared(file: File) -> io::Result<Option<Self>> {
        let result = file.try_lock_shared();
        Self::result(file, result)
    }

    /// Waits until the file is locked exclusively.
    pub fn wait(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }

    fn result(file: File, result: Result<(), TryLockError>) -> io::Result<Option<Self>> {
        match result {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The locked file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_ends_with_its_holder_despite_inherited_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let open = || File::options().create(true).append(true).open(&path).unwrap();
        let file = open();
        // What a child has between `fork` and `exec`.
        let inherited = file.try_clone().unwrap();
        let held = Locked::exclusive(file).unwrap().unwrap();
        assert!(Locked::try_exclusive(open()).unwrap().is_none());
        assert!(Locked::shared(open()).unwrap().is_none());
        drop(held);
        assert!(Locked::try_exclusive(open()).unwrap().is_some());
        drop(inherited);
    }
}
