//! The schema of a file: checks that this program wrote it, and migrates it.

use std::{path::Path, time::Duration};

use sqlx::{Connection as _, SqliteConnection, migrate::Migrator};

use super::{files::check_access, open::OpenError};
use crate::{
    domain::folded_name,
    ports::StoreError,
    store::error::{primary_code, sqlite_code},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The attempts to change the journal mode, which does not wait for locks by itself.
const JOURNAL_MODE_ATTEMPTS: u32 = 50;
const JOURNAL_MODE_PAUSE: Duration = Duration::from_millis(100);

/// The schema of a file, by the version of its last migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// The newest version.
    Current(i64),
    /// An older version, which opening the file migrates.
    Older {
        /// 0 for an empty file.
        found: i64,
        known: i64,
    },
}

/// Rejects a file of another program or a newer release, then migrates.
pub(super) async fn prepare(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let sqlx_error = |error| OpenError::new(path, error);
    let schema = inspect(path, connection).await?;
    check_access(path)?;
    enter_wal_mode(path, connection).await?;
    if let Schema::Current(_) = schema {
        return Ok(());
    }
    // One transaction for all migrations, and the migrator checks again inside it. So two processes that start at once
    // do not migrate twice, and nothing is half done.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(sqlx_error)?;
    // Not `run`, whose future is not `Send` (the compiler sees its borrow as too general).
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| sqlx_error(error.into()))?;
    fill_user_principal_keys(&mut transaction).await.map_err(sqlx_error)?;
    transaction.commit().await.map_err(sqlx_error)
}

/// Fills keys that a migration left empty, because SQL cannot do Unicode case folding.
async fn fill_user_principal_keys(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT user_principal_name FROM grants WHERE user_principal_key = ''",
    )
    .fetch_all(&mut *connection)
    .await?;
    for name in names {
        sqlx::query("UPDATE grants SET user_principal_key = ?1 WHERE user_principal_key = '' AND user_principal_name = ?2")
            .bind(folded_name(&name).into_owned())
            .bind(name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Rejects a file of another program or a newer release, and changes nothing.
pub(super) async fn inspect(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Schema, OpenError> {
    let sqlx_error = |error| OpenError::new(path, error);
    let unknown = || OpenError::UnknownSchema { path: path.to_owned() };
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema")
        .fetch_all(&mut *connection)
        .await
        .map_err(sqlx_error)?;
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    if tables.is_empty() {
        return Ok(Schema::Older { found: 0, known });
    }
    if !tables.iter().any(|name| *name == MIGRATIONS.table_name) {
        return Err(unknown());
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(&mut *connection)
            .await
            .map_err(sqlx_error)?;
    let found = applied.last().map_or(0, |(version, _)| *version);
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    let ours = applied.iter().all(|(version, checksum)| {
        MIGRATIONS.iter().any(|m| m.version == *version && *m.checksum == **checksum)
    });
    if !ours {
        return Err(unknown());
    }
    let current = applied.len() == MIGRATIONS.iter().count();
    Ok(if current { Schema::Current(known) } else { Schema::Older { found, known } })
}

async fn enter_wal_mode(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let mut attempts = JOURNAL_MODE_ATTEMPTS;
    loop {
        let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL")
            .fetch_one(&mut *connection)
            .await;
        attempts -= 1;
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(OpenError::Unavailable {
                    path: path.to_owned(),
                    cause: StoreError::Unavailable(
                        "this file system does not support a write-ahead log".to_owned(),
                    ),
                });
            }
            Err(error) if attempts > 0 && primary_code(&error) == Some(sqlite_code::BUSY) => {
                tokio::time::sleep(JOURNAL_MODE_PAUSE).await;
            }
            Err(error) => return Err(OpenError::new(path, error)),
        }
    }
}
