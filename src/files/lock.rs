//! Locks on files, by which processes of one machine keep out of each other's way.
//!
//! A program that is being started has every open file of its parent until it begins, and so its locks. That is why a
//! lock is given up by name when it is dropped, and not left to the last who has the file open.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// How often a lock is tried, and what lies in between: whoever only looks whether it is taken holds it for a moment.
const TRIES: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// A file whose lock is held, until this is dropped.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Locks a file for this process alone; none when somebody else has it for longer than a moment.
    pub fn exclusive(file: File) -> io::Result<Option<Self>> {
        for _ in 1..TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),
                ended => return Self::ended(file, ended),
            }
        }
        Self::at_once(file)
    }

    /// The same without a wait, where another file does as well.
    pub fn at_once(file: File) -> io::Result<Option<Self>> {
        let ended = file.try_lock();
        Self::ended(file, ended)
    }

    /// Locks a file for whoever looks at what it protects; none when somebody has it for himself alone.
    pub fn shared(file: File) -> io::Result<Option<Self>> {
        let ended = file.try_lock_shared();
        Self::ended(file, ended)
    }

    /// Waits until a file is locked for this process alone.
    pub fn wait(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }

    fn ended(file: File, ended: Result<(), TryLockError>) -> io::Result<Option<Self>> {
        match ended {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
