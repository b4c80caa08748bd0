//! The open database file: its connections, and the state that is needed before secrets can be opened.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Sqlite, SqliteConnection, SqlitePool,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    files::{FileIdentity, OpenFiles},
    open::{self, OpenError},
    schema,
    write_queue::WriteQueue,
    writer::{BUSY_TIMEOUT, Writer, WriterSlot},
};
use crate::ports::StoreError;

/// The time limit for a read to get a connection; above `BUSY_TIMEOUT`, so that the more specific cause is reported.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of reading connections, each with a thread. Reads take microseconds and hot data is cached.
const READERS: u32 = 3;

/// The number of pages (4 MiB) at which the write-ahead log is written back to the file; SQLite's default.
const CHECKPOINT_PAGES: &str = "1000";

/// The size in bytes to which the WAL is truncated at a checkpoint after a burst.
const LOG_SIZE_LIMIT: &str = "67108864";

/// An open SQLite file with the newest schema.
pub struct SqliteFile {
    path: PathBuf,
    files: Arc<OpenFiles>,
    writer: WriterSlot,
    queue: WriteQueue,
    readers: SqlitePool,
}

impl SqliteFile {
    /// Opens the file. Creates it if there is none, readable by the owner only, and migrates its schema.
    ///
    /// # Errors
    /// With the problem of the file and what to do. A file of another program or a newer release is not changed.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let path = open::create_private(path)?;
        let options = options(&path);
        let identity = FileIdentity::at(&path)?;
        let mut connection =
            options.connect().await.map_err(|error| OpenError::new(&path, error))?;
        if let Err(error) = schema::prepare(&path, &mut connection).await {
            open::close_unusable(connection).await;
            return Err(error);
        }
        Self::new(path, identity, options, connection)
    }

    /// Takes an open connection, and the identity that the file had before it was opened.
    pub(super) fn new(
        path: PathBuf,
        identity: FileIdentity,
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
            // SQLite opens the path again for each connection, so the file may have been replaced since the last check.
            // The pool retries until ACQUIRE_TIMEOUT; the next read fails at once in `readers`.
            .after_connect(move |_, _| {
                let checked = opened.check();
                Box::pin(async move {
                    checked.map_err(|lost| sqlx::Error::Io(io::Error::other(lost.to_string())))
                })
            })
            .connect_lazy_with(options.clone().read_only(true));
        let writer = WriterSlot::new(options, connection, Arc::clone(&files));
        Ok(Self { path, files, writer, queue: WriteQueue::default(), readers })
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the id of the active key, if one was ever activated.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn active_key_id(&self) -> Result<Option<String>, StoreError> {
        let id = sqlx::query_scalar("SELECT active_key_id FROM keyring_state WHERE only_row = 1")
            .fetch_optional(self.readers()?)
            .await?;
        Ok(id)
    }

    /// Makes `id` the active key if there is none. Returns the active key; another process may have been first.
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
        // Closes readers first, because the last connection to close writes the WAL back and removes it.
        self.readers.close().await;
        // The WAL of a replaced file is not written back, so that nothing is lost if the file is put back. But the WAL
        // must not stay, because the next start would write it into the new file at the path.
        if intact {
            self.writer.close().await;
        } else {
            self.writer.close_without_checkpoint().await;
        }
        self.files.rename_former_log();
    }

    /// Closes without writing the WAL back, after a read-only inspection. Later calls fail.
    pub async fn close_without_checkpoint(&self) {
        self.files.close();
        self.readers.close().await;
        self.writer.close_without_checkpoint().await;
    }

    /// Checks that the file at the path is still the one that was opened.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    pub(super) async fn writer(&self) -> Result<Writer<'_>, StoreError> {
        self.writer.acquire().await
    }

    /// Executes a write of one statement, in one transaction with others that wait for the connection, and returns the
    /// number of changed rows. To execute it twice must change nothing more.
    pub(super) async fn execute(
        &self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<u64, StoreError> {
        let mut done = self.queue.push(query)?;
        loop {
            tokio::select! {
                biased;
                result = &mut done => {
                    // Does not happen: a write without a result stays in the queue.
                    let dropped = |_| StoreError::OutcomeUnknown("its group ended".to_owned());
                    return result.map_err(dropped).flatten();
                }
                writer = self.writer() => {
                    let mut writer = writer?;
                    // The group of another caller may have been committed since.
                    if let Ok(result) = done.try_recv() {
                        return result;
                    }
                    self.queue.commit_group(&mut writer).await?;
                }
            }
        }
    }

    /// Returns the reading connections, unless the file was replaced: a new connection would open another file.
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

/// Returns the connection options. They do not set the journal mode, because it is a property of the file, and a file
/// of another program must not change.
pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("secure_delete", "ON")
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_SIZE_LIMIT)
        // Temporary tables need no file.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}
