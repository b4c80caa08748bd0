//! One `serve` a file.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::open::{OpenError, private};

/// Somebody may be looking whether the lock is held; a `serve` that holds it does not let go in this time.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

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
        // Where a link leads: two names of one file are one store.
        let lock = lock_path(&std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()));
        let file = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| OpenError::of_io(&lock, &error))?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::AlreadyServed { path, lock });
                }
                Err(TryLockError::Error(error)) => return Err(OpenError::of_io(&lock, &error)),
            }
        }
        Ok(Self { _file: file })
    }

    /// Whether some `serve` holds the lock of `path`. Makes no file.
    ///
    /// There is no asking without trying: this shares the lock for an instant, which [`Self::acquire`] bears.
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
