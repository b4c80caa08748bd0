//! Opening, and what to say when it fails.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use crate::{
    ports::StoreError,
    store::error::{primary_code, sqlite_code},
};

/// Why a database file cannot be used, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder is not there.
    #[error(
        "cannot open {path}: its folder does not exist; create the folder, or change store.url"
    )]
    FolderMissing {
        /// The file.
        path: PathBuf,
    },
    /// No permission, or a folder in its place.
    #[error(
        "cannot open {path}: permission denied, or it is not a file; the user of this process must be able to \
         read and write the file and to make files beside it"
    )]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// Another kind of file, or a damaged one.
    #[error(
        "{path} is not a SQLite database, or is damaged; restore a backup, or change store.url"
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A newer release has changed the schema.
    #[error(
        "{path} was written by a newer release (schema {found}, this release knows {known}); run that release, or \
         restore a backup that this one wrote"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Our newest one.
        known: i64,
    },
    /// Something else's database.
    #[error(
        "{path} is a SQLite database that no release of Tenant Gateway wrote; change store.url"
    )]
    UnknownSchema {
        /// The file.
        path: PathBuf,
    },
    /// Another `serve` has it.
    #[error(
        "another `serve` runs on {path} (it holds {lock}); a SQLite file is served by one process: stop the other \
         one, or change store.url"
    )]
    AlreadyServed {
        /// The file.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Somebody else may read or write it.
    #[error(
        "{path} has mode {mode:04o}, so others than its owner may read or write the store; run `chmod 600 {path}`, and \
         do the same for files beside it"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// Somebody else may put another file in its place.
    #[error(
        "the folder {folder} of the store has mode {mode:04o}, so everybody may replace the files in it; run \
         `chmod o-w {folder}` (in Kubernetes set securityContext.fsGroup of the pod), or change store.url"
    )]
    FolderPermissions {
        /// The folder.
        folder: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// Something that may pass.
    #[error("cannot open {path}: {cause}")]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// What failed.
        cause: StoreError,
    },
}

impl OpenError {
    pub(super) fn new(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        match primary_code(&error) {
            Some(sqlite_code::NOTADB | sqlite_code::CORRUPT) => Self::NotADatabase { path },
            Some(sqlite_code::CANTOPEN | sqlite_code::PERM | sqlite_code::READONLY) => {
                Self::Refused { path }
            }
            _ => Self::Unavailable { path, cause: error.into() },
        }
    }

    pub(super) fn of_io(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::FolderMissing { path },
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::IsADirectory => Self::Refused { path },
            kind => Self::Unavailable { path, cause: StoreError::Unavailable(kind.to_string()) },
        }
    }
}

/// Makes an empty file that only we may read, if there is none; SQLite gives its other files the same mode.
///
/// An existing file is not even opened: closing it again would drop the locks that another connection of this process
/// holds on it (POSIX locks belong to process and file, not to the handle).
pub(super) fn create_private(path: &Path) -> Result<PathBuf, OpenError> {
    let path = std::path::absolute(path).map_err(|error| OpenError::of_io(path, &error))?;
    match private().write(true).create_new(true).open(&path) {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(path),
        Err(error) => Err(OpenError::of_io(&path, &error)),
    }
}

/// Options for files that only we may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
