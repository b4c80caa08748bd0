//! Inspects a file without creating or migrating it.

use std::{fs, io, path::Path};

use rustix::fs::{Access, access};
use sqlx::ConnectOptions as _;

use super::{
    SqliteFile,
    file::options,
    files::{FileIdentity, check_access},
    open::{OpenError, close_unusable},
    schema::{self, Schema},
};
use crate::ports::StoreError;

/// The state of the configured store file.
#[derive(Debug)]
pub enum StoreInspection {
    /// There is no file yet, and one can be created.
    Missing,
    /// A file whose schema the next start migrates.
    Older {
        /// Its schema; 0 for an empty file.
        found: i64,
        /// The newest schema of this release.
        known: i64,
    },
    /// An open file with the newest schema.
    Current {
        /// The file.
        file: Box<SqliteFile>,
        /// Its schema.
        schema: i64,
    },
}

impl SqliteFile {
    /// Opens the file as it is, also while a server runs. The caller must close it with
    /// [`Self::close_without_checkpoint`].
    ///
    /// # Errors
    /// With the problem of the file, or of its directory if there is no file, and what to do.
    pub async fn inspect(path: &Path) -> Result<StoreInspection, OpenError> {
        let path = std::path::absolute(path).map_err(|error| OpenError::from_io(path, &error))?;
        if let Err(error) = fs::metadata(&path) {
            return match error.kind() {
                io::ErrorKind::NotFound => {
                    check_can_create(&path).map(|()| StoreInspection::Missing)
                }
                _ => Err(OpenError::from_io(&path, &error)),
            };
        }
        let options = options(&path);
        let identity = FileIdentity::at(&path)?;
        let connected = options.connect().await;
        let mut connection = connected.map_err(|error| OpenError::new(&path, error))?;
        let inspected = schema::inspect(&path, &mut connection).await;
        let schema = match inspected.and_then(|schema| check_access(&path).map(|()| schema)) {
            Ok(schema) => schema,
            Err(error) => {
                close_unusable(connection).await;
                return Err(error);
            }
        };
        match schema {
            Schema::Older { found, known } => Ok(StoreInspection::Older { found, known }),
            Schema::Current(schema) => {
                let file = Box::new(Self::new(path, identity, options, connection)?);
                Ok(StoreInspection::Current { file, schema })
            }
        }
    }

    /// Checks that the file can be written: takes the write lock briefly and writes nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let transaction = writer.begin().await?;
        transaction.rollback().await
    }
}

/// Checks that a file can be created in the directory of `path`.
fn check_can_create(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().unwrap_or(path);
    let is_folder = fs::metadata(folder).is_ok_and(|data| data.is_dir());
    if !is_folder {
        return Err(OpenError::FolderMissing { path: path.to_owned() });
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| OpenError::from_io(path, &error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn inspecting_a_missing_file_creates_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        assert!(matches!(SqliteFile::inspect(&path).await, Ok(StoreInspection::Missing)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("nowhere/gateway.db");
        let error = SqliteFile::inspect(&nowhere).await.unwrap_err();
        assert!(matches!(error, OpenError::FolderMissing { .. }), "{error}");
    }

    #[tokio::test]
    async fn inspecting_does_not_change_an_empty_or_foreign_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            SqliteFile::inspect(&path).await,
            Ok(StoreInspection::Older { found: 0, .. })
        ));
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let text = "not a database, but longer than the header of one: ".repeat(4);
        fs::write(&path, &text).unwrap();
        let error = SqliteFile::inspect(&path).await.unwrap_err();
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[tokio::test]
    async fn inspecting_does_not_change_a_store_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        let used = SqliteFile::open(&path).await.unwrap();
        used.activate_key("k-1").await.unwrap();
        let seen = used.writer().await.unwrap().data_version().await.unwrap();
        let bytes =
            || ["gateway.db", "gateway.db-wal"].map(|f| fs::read(folder.path().join(f)).unwrap());
        let before = bytes();
        let StoreInspection::Current { file, schema } = SqliteFile::inspect(&path).await.unwrap()
        else {
            panic!("it is there and current");
        };
        assert!(schema > 0);
        assert_eq!(file.active_key_id().await.unwrap().as_deref(), Some("k-1"));
        file.can_write().await.unwrap();
        file.close_without_checkpoint().await;
        assert_eq!(bytes(), before);
        assert_eq!(used.writer().await.unwrap().data_version().await.unwrap(), seen);
        used.close().await;
    }
}
