//! Files that must stay at their paths while they are written: a restart finds only what is there.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::files::{FileId, Files};
use crate::ports::StoreError;

/// The watched files: at most one of each directory.
#[derive(Debug, Default)]
pub(crate) struct WatchedFiles(Mutex<BTreeMap<PathBuf, (PathBuf, FileId)>>);

impl WatchedFiles {
    /// Watches a file, in place of the one of the same directory.
    pub(crate) fn watch(&self, directory: &Path, file: &Path, id: FileId) {
        self.files().insert(directory.to_owned(), (file.to_owned(), id));
    }

    /// Ends the watch of a directory's file.
    pub(crate) fn forget(&self, directory: &Path) {
        self.files().remove(directory);
    }

    /// Ends all watches.
    pub(crate) fn forget_all(&self) {
        self.files().clear();
    }

    /// Checks that each file is still at its path.
    ///
    /// # Errors
    /// `Lost` if one was removed, renamed or replaced.
    pub(crate) fn check(&self, files: &dyn Files) -> Result<(), StoreError> {
        self.files().values().try_for_each(|(path, id)| check_file(files, path, *id))
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, (PathBuf, FileId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_file(files: &dyn Files, path: &Path, id: FileId) -> Result<(), StoreError> {
    let happened = match files.id(path) {
        Ok(now) if now == id => return Ok(()),
        Ok(_) => "was replaced by another file",
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "was removed or renamed",
            kind => return Err(StoreError::Unavailable(format!("{}: {kind}", path.display()))),
        },
    };
    Err(StoreError::Lost(format!("{} {happened} while the journal was open", path.display())))
}
