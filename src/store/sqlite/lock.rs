//! One `serve` a file.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use super::open::{OpenError, private};

/// Held by `serve` for as long as it runs; the system releases it however the process ends.
///
/// Commands beside a running server do not take it: their transactions are short and SQLite orders them.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the lock `{path}.lock`.
    ///
    /// # Errors
    /// `AlreadyServed` if another process has it; else why the lock file cannot be made.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path).map_err(|error| OpenError::of_io(path, &error))?;
        let lock = lock_path(&path);
        let file = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| OpenError::of_io(&lock, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::AlreadyServed { path, lock }),
            Err(TryLockError::Error(error)) => Err(OpenError::of_io(&lock, &error)),
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
