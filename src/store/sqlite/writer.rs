//! The one connection that writes.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};
use tokio::sync::{Mutex, MutexGuard};

use super::files::OpenFiles;
use crate::{
    ports::StoreError,
    store::error::{extended_code, of_commit, sqlite_code},
};

/// How long SQLite waits for another process's lock. Commands beside a server hold it for milliseconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets `BUSY_TIMEOUT` again.
const PATIENT: &str = "PRAGMA busy_timeout = 5000";

/// How long a write waits for those before it; above `BUSY_TIMEOUT`, so that the nearer cause is reported.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Holds the writing connection, one user at a time. It is not in a pool, because a pool may replace it unseen and
/// `data_version` can be compared only on one connection.
pub(super) struct WriterSlot {
    options: SqliteConnectOptions,
    files: Arc<OpenFiles>,
    state: Mutex<State>,
}

struct State {
    connection: Slot,
    /// How often the connection was replaced.
    replaced: i64,
    /// Whether it does not wait for locks at the moment.
    hasty: bool,
    /// Whether the last use has ended, and left nothing behind.
    at_rest: bool,
    /// Whether it has been prepared for whole transactions.
    prepared: bool,
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

/// A transaction that is acknowledged only if it went to the file that a restart will find.
pub(super) struct Transaction<'a> {
    inner: sqlx::Transaction<'a, Sqlite>,
    files: &'a OpenFiles,
}

impl Transaction<'_> {
    /// Commits with a full sync.
    ///
    /// # Errors
    /// `OutcomeUnknown` if it may have been committed all the same.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(of_commit)?;
        self.files.check().map_err(StoreError::after_commit)
    }

    /// Takes everything back.
    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.inner.rollback().await?)
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
                hasty: false,
                at_rest: false,
                prepared: false,
            }),
        }
    }

    /// Waits for the connection. It is in no transaction, and its file is the one that was opened.
    pub(super) async fn acquire(&self) -> Result<Writer<'_>, StoreError> {
        let mut state = tokio::time::timeout(QUEUE_TIMEOUT, self.state.lock())
            .await
            .map_err(|_| StoreError::Unavailable("too many writes are waiting".to_owned()))?;
        self.files.check()?;
        let replaced = state.replaced;
        state.repair(&self.options).await?;
        // A new connection opens the path anew, so the file may have been replaced since the first check.
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
            // A command may have the file open too; then closing alone would leave the log as it is. Best effort.
            let _ = truncate_log(&mut connection).await;
            let _ = connection.close().await;
        }
    }

    /// Closes and does nothing else.
    pub(super) async fn leave(&self) {
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
    /// Replaces a connection that is not as it should be. After some errors (a full disk) SQLite has rolled back by
    /// itself while the driver still counts a transaction and refuses to begin another.
    async fn repair(&mut self, options: &SqliteConnectOptions) -> Result<(), StoreError> {
        let at_rest = std::mem::take(&mut self.at_rest);
        match &mut self.connection {
            Slot::Open(_) if at_rest => return Ok(()),
            Slot::Open(connection) => {
                // Waits until a rollback that a dropped future left behind is done.
                let alive = connection.ping().await.is_ok();
                if alive && !connection.is_in_transaction() && !self.hasty {
                    return Ok(());
                }
            }
            Slot::Broken => {}
            Slot::Closed => return Err(StoreError::Unavailable("it is closed".to_owned())),
        }
        // The new connection reads before the old one closes: the last one to close would remove the log, and a log of
        // the same name would then be another file.
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
        self.hasty = false;
        self.prepared = false;
        Ok(())
    }
}

impl Writer<'_> {
    /// Takes the write lock at once: a transaction that began as a read could not wait for it.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        let files = self.files;
        let inner = self.connection()?.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Transaction { inner, files })
    }

    /// Runs a statement that is a transaction by itself: one hand-over to the driver's thread, because waking it takes
    /// longer than what it does. `prepare` is run before, once for each connection. Whether it was done: a trigger may
    /// refuse it.
    pub(super) async fn whole(
        &mut self,
        statement: Query<'_, Sqlite, SqliteArguments>,
        prepare: &'static str,
    ) -> Result<bool, StoreError> {
        if !self.state.prepared {
            sqlx::raw_sql(prepare).execute(self.connection()?).await?;
            self.state.prepared = true;
        }
        let done = match statement.execute(self.connection()?).await {
            Ok(_) => true,
            Err(error) if extended_code(&error) == Some(sqlite_code::CONSTRAINT_TRIGGER) => false,
            Err(error) => return Err(of_commit(error)),
        };
        self.state.at_rest = true;
        self.files.check().map_err(StoreError::after_commit)?;
        Ok(done)
    }

    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        match &mut self.state.connection {
            Slot::Open(connection) => Ok(connection),
            Slot::Broken | Slot::Closed => Err(StoreError::Unavailable("it is closed".to_owned())),
        }
    }

    /// Differs from before if another process changed the file. A replaced connection counts as a change, because
    /// SQLite's numbers of two connections cannot be compared.
    pub(super) async fn data_version(&mut self) -> Result<i64, StoreError> {
        let version: i64 =
            sqlx::query_scalar("PRAGMA data_version").fetch_one(self.connection()?).await?;
        Ok((self.state.replaced << 32) | version)
    }

    /// Writes the log back and empties it, so that what was deleted is in neither file. Beside a long reader (a
    /// backup) that has to wait until the log is next emptied: writes must not wait for it.
    pub(super) async fn forget_deleted(&mut self) -> Result<(), StoreError> {
        self.state.hasty = true;
        let connection = self.connection()?;
        run(connection, "PRAGMA busy_timeout = 0").await?;
        truncate_log(connection).await?;
        run(connection, PATIENT).await?;
        self.state.hasty = false;
        Ok(())
    }
}

async fn truncate_log(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    run(connection, "PRAGMA wal_checkpoint(TRUNCATE)").await
}

async fn run(connection: &mut SqliteConnection, pragma: &'static str) -> Result<(), StoreError> {
    sqlx::query(pragma).execute(connection).await?;
    Ok(())
}
