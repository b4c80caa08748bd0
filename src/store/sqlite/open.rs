//! Errors of opening a database file, and its creation.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use sqlx::{Connection as _, SqliteConnection};

use crate::{
    ports::StoreError,
    store::error::{primary_code, sqlite_code},
};

/// The reason why a database file cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory does not exist.
    #[error("cannot open {path}: its directory does not exist; create it, or change store.url")]
    FolderMissing {
        /// The file.
        path: PathBuf,
    },
    /// There is no permission, or it is a directory.
    #[error(
        "cannot open {path}: permission denied, or it is not a file; the user of this process needs permission to \
         read and write the file, and to create files in its directory"
    )]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// It is another kind of file, or damaged.
    #[error(
        "{path} is not a SQLite database, or is damaged; restore a backup, or change store.url"
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A newer release has changed the schema.
    #[error(
        "{path} was written by a newer release (schema {found}, this release supports {known}); run that release, or \
         restore a backup that this release wrote"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema of this release.
        known: i64,
    },
    /// It is the database of another program.
    #[error("{path} is a SQLite database of another program; change store.url")]
    UnknownSchema {
        /// The file.
        path: PathBuf,
    },
    /// Another `serve` uses it.
    #[error(
        "another `serve` uses {path} (it holds {lock}); only one process can serve a SQLite file: stop the other \
         one, or change store.url"
    )]
    AlreadyServed {
        /// The file.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Other users may read or write it.
    #[error(
        "{path} has mode {mode:04o}, so other users may read or write the store; run `chmod 600 {path}`, and \
         do the same for the -wal and -shm files beside it"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// Other users may replace it.
    #[error(
        "the directory {folder} of the store has mode {mode:04o}, so every user may replace the files in it; run \
         `chmod o-w {folder}` (in Kubernetes set securityContext.fsGroup of the pod), or change store.url"
    )]
    FolderPermissions {
        /// The folder.
        folder: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// A temporary problem.
    #[error("cannot open {path}: {cause}")]
    Unavailable {
        /// The file.
        path: PathBuf,
        /// The cause.
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

    pub(super) fn from_io(path: &Path, error: &io::Error) -> Self {
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

/// Creates an empty file that only the owner may read, if there is none. SQLite gives its other files the same mode.
///
/// An existing file is not opened: closing it would drop the locks that another connection of this process holds on it
/// (POSIX locks belong to process and file, not to the handle).
pub(super) fn create_private(path: &Path) -> Result<PathBuf, OpenError> {
    let path = std::path::absolute(path).map_err(|error| OpenError::from_io(path, &error))?;
    match private_options().write(true).create_new(true).open(&path) {
        Ok(_) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(path),
        Err(error) => Err(OpenError::from_io(&path, &error)),
    }
}

/// Closes a file that cannot be used. SQLite then removes its other files, which have the mode of the database.
pub(super) async fn close_unusable(connection: SqliteConnection) {
    // The caller reports why the file cannot be used, so an error of the close adds nothing.
    let _ = connection.close().await;
}

/// Returns options for files that only the owner may read.
pub(super) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
