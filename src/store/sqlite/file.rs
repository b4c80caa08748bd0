//! The open file: its connections, and the little state that is needed before secrets can be opened.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    files::{Identity, OpenFiles},
    open::{self, OpenError},
    schema,
    writer::{BUSY_TIMEOUT, Writer, WriterSlot},
};
use crate::ports::StoreError;

/// How long a read waits for a connection; above `BUSY_TIMEOUT`, so that the nearer cause is reported.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads take microseconds and hot data is cached above: a few connections are enough, and each is a thread.
const READERS: u32 = 3;

/// The write-ahead log is written back to the file from this many pages (4 MiB) on; SQLite's own default.
const CHECKPOINT_PAGES: &str = "1000";

/// A log that a burst made larger than this many bytes is cut when it is next written back.
const LOG_SIZE_LIMIT: &str = "67108864";

/// A SQLite file of ours, open, with the newest schema.
pub struct SqliteFile {
    path: PathBuf,
    files: Arc<OpenFiles>,
    writer: WriterSlot,
    readers: SqlitePool,
}

impl SqliteFile {
    /// Opens the file, makes it (readable by us only) if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// With what is wrong with the file and how to mend it. Nothing is changed in a file that is not ours or newer.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let path = open::create_private(path)?;
        let options = options(&path);
        let identity = Identity::at(&path)?;
        let mut connection =
            options.connect().await.map_err(|error| OpenError::new(&path, error))?;
        schema::prepare(&path, &mut connection).await?;
        Self::new(path, identity, options, connection)
    }

    /// Takes an open connection to a file that had this identity before it was opened.
    pub(super) fn new(
        path: PathBuf,
        identity: Identity,
        options: SqliteConnectOptions,
        connection: SqliteConnection,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(OpenFiles::new(&path, identity));
        if let Err(cause) = files.check() {
            return Err(OpenError::Unavailable { path, cause });
        }
        let opened = Arc::clone(&files);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // SQLite opens the path anew for each connection, so the file may have been replaced since the last check.
            // The pool tries again until ACQUIRE_TIMEOUT; the next read fails at once in `readers`.
            .after_connect(move |_, _| {
                let checked = opened.check();
                Box::pin(async move {
                    checked.map_err(|lost| sqlx::Error::Io(io::Error::other(lost.to_string())))
                })
            })
            .connect_lazy_with(options.clone().read_only(true));
        let writer = WriterSlot::new(options, connection, Arc::clone(&files));
        Ok(Self { path, files, writer, readers })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the key that seals, if one was ever activated.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn active_key_id(&self) -> Result<Option<String>, StoreError> {
        let id = sqlx::query_scalar("SELECT active_key_id FROM keyring_state WHERE only_row = 1")
            .fetch_optional(self.readers()?)
            .await?;
        Ok(id)
    }

    /// Makes `id` the key that seals if there is none yet, and tells which one it is now: another process may have
    /// been first.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn activate_key(&self, id: &str) -> Result<String, StoreError> {
        let mut writer = self.writer().await?;
        let mut transaction = writer.begin().await?;
        sqlx::query("INSERT INTO keyring_state (only_row, active_key_id) VALUES (1, ?1) ON CONFLICT DO NOTHING")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let active =
            sqlx::query_scalar("SELECT active_key_id FROM keyring_state WHERE only_row = 1")
                .fetch_one(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(active)
    }

    /// Flushes and closes. Later calls fail.
    pub async fn close(&self) {
        let intact = self.files.check().is_ok();
        self.files.close();
        // Readers first: the last connection to close writes the log back and removes it.
        self.readers.close().await;
        // The log of a file that was replaced is not written back, so that nothing is lost if somebody puts that file
        // back. But it must not stay where the next start would write it into the file that is at the path now.
        if intact {
            self.writer.close().await;
        } else {
            self.writer.leave().await;
        }
        self.files.set_log_aside();
    }

    /// Closes without writing the log back: for whoever only looked. Later calls fail.
    pub async fn leave(&self) {
        self.files.close();
        self.readers.close().await;
        self.writer.leave().await;
    }

    /// Whether the file at the path is still the one that was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    pub(super) async fn writer(&self) -> Result<Writer<'_>, StoreError> {
        self.writer.acquire().await
    }

    /// The connections that read, as long as the file is the one that was opened: a new one would open another.
    pub(super) fn readers(&self) -> Result<&SqlitePool, StoreError> {
        self.files.check()?;
        Ok(&self.readers)
    }
}

impl std::fmt::Debug for SqliteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Not the journal mode: it is a property of the file, and a file that is not ours stays as it is.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("secure_delete", "ON")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_SIZE_LIMIT)
        // What is a connection's own needs no file.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}
