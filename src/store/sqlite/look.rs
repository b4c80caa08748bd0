//! Looking at a file without changing it: nothing is made, nothing migrated.

use std::{fs, io, path::Path};

use rustix::fs::{Access, access};
use sqlx::ConnectOptions as _;

use super::{
    SqliteFile,
    file::options,
    files::{Identity, check_access},
    open::OpenError,
    schema::{self, Schema},
};
use crate::ports::StoreError;

/// What stands where the store is configured to be.
#[derive(Debug)]
pub enum Look {
    /// Nothing yet, and a file can be made there.
    Missing,
    /// A file whose schema the next start brings up to date.
    Older {
        /// Its schema; 0 for an empty file.
        found: i64,
        /// Our newest one.
        known: i64,
    },
    /// A file with our newest schema, open.
    Current {
        /// The file.
        file: Box<SqliteFile>,
        /// Its schema.
        schema: i64,
    },
}

impl SqliteFile {
    /// Opens the file as it is, also beside a running server. Whoever got it open ends with [`Self::leave`].
    ///
    /// # Errors
    /// With what is wrong with the file, or with its folder if there is no file, and how to mend it.
    pub async fn look(path: &Path) -> Result<Look, OpenError> {
        let path = std::path::absolute(path).map_err(|error| OpenError::of_io(path, &error))?;
        if let Err(error) = fs::metadata(&path) {
            return match error.kind() {
                io::ErrorKind::NotFound => room_for(&path).map(|()| Look::Missing),
                _ => Err(OpenError::of_io(&path, &error)),
            };
        }
        let options = options(&path);
        let identity = Identity::at(&path)?;
        let connected = options.connect().await;
        let mut connection = connected.map_err(|error| OpenError::new(&path, error))?;
        let schema = schema::inspect(&path, &mut connection).await?;
        check_access(&path)?;
        match schema {
            Schema::Older { found, known } => Ok(Look::Older { found, known }),
            Schema::Current(schema) => {
                let file = Box::new(Self::new(path, identity, options, connection)?);
                Ok(Look::Current { file, schema })
            }
        }
    }

    /// Whether it can be written: takes the write lock for a moment and writes nothing.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn can_write(&self) -> Result<(), StoreError> {
        let mut writer = self.writer().await?;
        let transaction = writer.begin().await?;
        transaction.rollback().await
    }
}

/// Whether a file can be made in the folder of `path`.
fn room_for(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().unwrap_or(path);
    let is_folder = fs::metadata(folder).is_ok_and(|data| data.is_dir());
    if !is_folder {
        return Err(OpenError::FolderMissing { path: path.to_owned() });
    }
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| OpenError::of_io(path, &error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn where_there_is_no_file_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        assert!(matches!(SqliteFile::look(&path).await, Ok(Look::Missing)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = folder.path().join("nowhere/gateway.db");
        let error = SqliteFile::look(&nowhere).await.unwrap_err();
        assert!(matches!(error, OpenError::FolderMissing { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_empty_file_and_another_kind_of_file_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(SqliteFile::look(&path).await, Ok(Look::Older { found: 0, .. })));
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        let text = "not a database, but longer than the header of one: ".repeat(4);
        fs::write(&path, &text).unwrap();
        let error = SqliteFile::look(&path).await.unwrap_err();
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[tokio::test]
    async fn looking_at_a_store_in_use_changes_neither_its_bytes_nor_what_its_user_sees() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        let used = SqliteFile::open(&path).await.unwrap();
        used.activate_key("k-1").await.unwrap();
        let seen = used.writer().await.unwrap().data_version().await.unwrap();
        let bytes =
            || ["gateway.db", "gateway.db-wal"].map(|f| fs::read(folder.path().join(f)).unwrap());
        let before = bytes();
        let Look::Current { file, schema } = SqliteFile::look(&path).await.unwrap() else {
            panic!("it is there and current");
        };
        assert!(schema > 0);
        assert_eq!(file.active_key_id().await.unwrap().as_deref(), Some("k-1"));
        file.can_write().await.unwrap();
        file.leave().await;
        assert_eq!(bytes(), before);
        assert_eq!(used.writer().await.unwrap().data_version().await.unwrap(), seen);
        used.close().await;
    }
}
