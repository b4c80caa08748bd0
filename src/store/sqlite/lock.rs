//! The lock that allows one `serve` for each file.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::open::{OpenError, private_options};

/// The attempts to take the lock. [`ServeLock::is_held`] may hold it for an instant; a running `serve` holds it longer
/// than all attempts take.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// The lock that `serve` holds while it runs. The system releases it when the process ends.
///
/// Commands do not take it: their transactions are short, and SQLite serializes them.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Takes the lock `{path}.lock`.
    ///
    /// # Errors
    /// `AlreadyServed` if another process holds it; otherwise the reason why the lock file cannot be created.
    pub fn acquire(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path).map_err(|error| OpenError::from_io(path, &error))?;
        // Links are resolved, because two names of one file are one store.
        let lock = lock_path(&std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()));
        let file = private_options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| OpenError::from_io(&lock, &error))?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::AlreadyServed { path, lock });
                }
                Err(TryLockError::Error(error)) => return Err(OpenError::from_io(&lock, &error)),
            }
        }
        Ok(Self { _file: file })
    }

    /// Returns whether a `serve` holds the lock of `path`. Creates no file.
    ///
    /// This takes a shared lock for an instant, which [`Self::acquire`] tolerates.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(lock_path(path)).is_ok_and(held)
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
