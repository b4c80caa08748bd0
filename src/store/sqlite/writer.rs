//! The single writing connection.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, sqlite::SqliteConnectOptions,
};
use tokio::sync::{Mutex, MutexGuard};

use super::files::OpenFiles;
use crate::{ports::StoreError, store::error::commit_error};

/// The time limit for waiting for another process's lock. Commands hold it for milliseconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Restores `BUSY_TIMEOUT`.
const RESTORE_BUSY_TIMEOUT: &str = "PRAGMA busy_timeout = 5000";

/// The time limit for waiting for earlier writes; above `BUSY_TIMEOUT`, so that the specific cause is reported.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// The writing connection, which is used by one caller at a time. It is not in a pool, because a pool may replace it
/// unnoticed, and `data_version` is comparable only on one connection.
pub(super) struct WriterSlot {
    options: SqliteConnectOptions,
    files: Arc<OpenFiles>,
    state: Mutex<State>,
}

struct State {
    connection: Slot,
    /// The number of times that the connection was replaced.
    replaced: i64,
    /// Whether the connection currently does not wait for locks.
    no_wait: bool,
    /// Whether the last use ended with a commit or rollback that succeeded, so that the connection needs no check.
    settled: bool,
}

enum Slot {
    Open(SqliteConnection),
    Broken,
    Closed,
}

/// The writing connection, in use.
pub(super) struct Writer<'a> {
    state: MutexGuard<'a, State>,
    files: &'a OpenFiles,
}

/// A transaction. Its commit is acknowledged only if the file is still the one that a restart will find.
pub(super) struct Transaction<'a> {
    inner: sqlx::Transaction<'a, Sqlite>,
    files: &'a OpenFiles,
    settled: &'a mut bool,
}

impl Transaction<'_> {
    /// Commits with a full sync.
    ///
    /// # Errors
    /// `OutcomeUnknown` if it may have been committed nevertheless.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(commit_error)?;
        *self.settled = true;
        self.files.check().map_err(StoreError::after_commit)
    }

    /// Rolls back.
    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        self.inner.rollback().await?;
        *self.settled = true;
        Ok(())
    }
}

impl Deref for Transaction<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.inner
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }
}

impl WriterSlot {
    pub(super) fn new(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
        files: Arc<OpenFiles>,
    ) -> Self {
        Self {
            options,
            files,
            state: Mutex::new(State {
                connection: Slot::Open(connection),
                replaced: 0,
                no_wait: false,
                settled: false,
            }),
        }
    }

    /// Waits for the connection. It has no open transaction, and its file is the one that was opened.
    pub(super) async fn acquire(&self) -> Result<Writer<'_>, StoreError> {
        let mut state = tokio::time::timeout(QUEUE_TIMEOUT, self.state.lock())
            .await
            .map_err(|_| StoreError::Unavailable("too many writes are waiting".to_owned()))?;
        self.files.check()?;
        let replaced = state.replaced;
        state.repair(&self.options).await?;
        // A new connection opens the path again, so the file may have been replaced since the first check.
        if state.replaced != replaced
            && let Err(lost) = self.files.check()
        {
            state.connection = Slot::Broken;
            return Err(lost);
        }
        Ok(Writer { state, files: &self.files })
    }

    pub(super) async fn close(&self) {
        if let Slot::Open(mut connection) = self.take().await {
            // If a command has the file open too, closing alone would not empty the WAL. Errors are ignored.
            let _ = checkpoint_wal(&mut connection).await;
            let _ = connection.close().await;
        }
    }

    /// Closes without emptying the WAL.
    pub(super) async fn close_without_checkpoint(&self) {
        if let Slot::Open(connection) = self.take().await {
            let _ = connection.close().await;
        }
    }

    async fn take(&self) -> Slot {
        let mut state = self.state.lock().await;
        std::mem::replace(&mut state.connection, Slot::Closed)
    }
}

impl State {
    /// Replaces a connection in a bad state. After some errors (a full disk) SQLite has rolled back by itself, while
    /// the driver still counts a transaction and refuses to begin another.
    async fn repair(&mut self, options: &SqliteConnectOptions) -> Result<(), StoreError> {
        match &mut self.connection {
            Slot::Open(_) if self.settled && !self.no_wait => return Ok(()),
            Slot::Open(connection) => {
                // Waits for the rollback of a dropped future.
                let alive = connection.ping().await.is_ok();
                if alive && !connection.is_in_transaction() && !self.no_wait {
                    return Ok(());
                }
            }
            Slot::Broken => {}
            Slot::Closed => return Err(StoreError::Unavailable("the store is closed".to_owned())),
        }
        // The new connection reads before the old one closes: the last one to close would remove the WAL, and a new WAL
        // would be another file.
        let fresh = async {
            let mut fresh = options.connect().await?;
            run(&mut fresh, "PRAGMA schema_version").await?;
            Ok::<_, StoreError>(fresh)
        };
        match fresh.await {
            Ok(fresh) => self.connection = Slot::Open(fresh),
            Err(error) => {
                self.connection = Slot::Broken;
                return Err(error);
            }
        }
        self.replaced += 1;
        self.no_wait = false;
        self.settled = false;
        Ok(())
    }
}

impl Slot {
    fn open(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        match self {
            Self::Open(connection) => Ok(connection),
            Self::Broken | Self::Closed => {
                Err(StoreError::Unavailable("the store is closed".to_owned()))
            }
        }
    }
}

impl Writer<'_> {
    /// Begins a transaction with the write lock: a transaction that began as a read could not wait for it.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        let files = self.files;
        let State { connection, settled, .. } = &mut *self.state;
        *settled = false;
        let inner = connection.open()?.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Transaction { inner, files, settled })
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.state.settled = false;
        self.state.connection.open()
    }

    /// Returns a number that changes when another process changes the file. A replaced connection counts as a change,
    /// because SQLite's numbers of two connections are not comparable.
    pub(super) async fn data_version(&mut self) -> Result<i64, StoreError> {
        let version: i64 =
            sqlx::query_scalar("PRAGMA data_version").fetch_one(self.connection()?).await?;
        Ok((self.state.replaced << 32) | version)
    }

    /// Writes the WAL back and empties it, so that deleted data is in neither file. While a long reader (a backup) is
    /// active, the WAL stays until it is next emptied, because writes must not wait.
    pub(super) async fn truncate_wal(&mut self) -> Result<(), StoreError> {
        self.state.no_wait = true;
        let connection = self.connection()?;
        run(connection, "PRAGMA busy_timeout = 0").await?;
        checkpoint_wal(connection).await?;
        run(connection, RESTORE_BUSY_TIMEOUT).await?;
        self.state.no_wait = false;
        Ok(())
    }
}

async fn checkpoint_wal(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    run(connection, "PRAGMA wal_checkpoint(TRUNCATE)").await
}

async fn run(connection: &mut SqliteConnection, pragma: &'static str) -> Result<(), StoreError> {
    sqlx::query(pragma).execute(connection).await?;
    Ok(())
}
