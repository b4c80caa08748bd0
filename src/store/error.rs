//! Converts database errors to [`StoreError`].

use sqlx::{error::ErrorKind, sqlite::SqliteError};

use crate::ports::StoreError;

/// The result codes of SQLite (<https://www.sqlite.org/rescode.html>) that are distinguished.
pub(super) mod sqlite_code {
    pub(in crate::store) const PERM: i32 = 3;
    pub(in crate::store) const BUSY: i32 = 5;
    pub(in crate::store) const LOCKED: i32 = 6;
    pub(in crate::store) const NOMEM: i32 = 7;
    pub(in crate::store) const READONLY: i32 = 8;
    pub(in crate::store) const INTERRUPT: i32 = 9;
    pub(in crate::store) const IOERR: i32 = 10;
    pub(in crate::store) const CORRUPT: i32 = 11;
    pub(in crate::store) const FULL: i32 = 13;
    pub(in crate::store) const CANTOPEN: i32 = 14;
    pub(in crate::store) const PROTOCOL: i32 = 15;
    pub(in crate::store) const NOTADB: i32 = 26;
    /// The extended code of a failed write.
    pub(in crate::store) const IOERR_WRITE: i32 = 778;
}

/// Returns SQLite's primary result code: the low byte of the extended one.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i32> {
    Some(extended_code(error)? & 0xff)
}

/// Returns SQLite's extended result code.
fn extended_code(error: &sqlx::Error) -> Option<i32> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    sqlx::error::DatabaseError::code(error)?.parse().ok()
}

/// Converts the error of a commit. After a lock, a full disk or a failed write, the transaction is surely not
/// committed: its final frame is written last. After any other fault (above all a failed sync) the transaction may be
/// in the log, where the next reader finds it.
pub(super) fn commit_error(error: sqlx::Error) -> StoreError {
    let (primary, extended) = (primary_code(&error), extended_code(&error));
    let failed = StoreError::from(error);
    let is_unknown = match primary {
        None | Some(sqlite_code::INTERRUPT | sqlite_code::NOMEM) => true,
        Some(sqlite_code::IOERR) => extended != Some(sqlite_code::IOERR_WRITE),
        Some(_) => false,
    };
    if is_unknown { failed.after_commit() } else { failed }
}

/// The detail contains only fixed text and column names, because messages of drivers may quote values.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let Some(code) = primary_code(&error) {
            return sqlite_error(code, &error);
        }
        match error {
            sqlx::Error::ColumnDecode { index, .. } => Self::Corrupt(format!("column {index}")),
            sqlx::Error::ColumnNotFound(name) => Self::Corrupt(format!("no column {name}")),
            sqlx::Error::Decode(_) | sqlx::Error::TypeNotFound { .. } => {
                Self::Corrupt("a column has another type".to_owned())
            }
            sqlx::Error::PoolTimedOut => {
                Self::Unavailable("no connection became free in time".to_owned())
            }
            sqlx::Error::PoolClosed => Self::Unavailable("the store is closed".to_owned()),
            sqlx::Error::Io(error) => Self::Unavailable(error.kind().to_string()),
            _ => Self::Unavailable("the driver failed".to_owned()),
        }
    }
}

fn sqlite_error(code: i32, error: &sqlx::Error) -> StoreError {
    let unavailable = match code {
        sqlite_code::BUSY | sqlite_code::LOCKED => "another process is writing",
        sqlite_code::FULL => "the disk is full",
        sqlite_code::READONLY | sqlite_code::PERM => "the file is read-only",
        sqlite_code::IOERR => "reading or writing the file failed",
        sqlite_code::CANTOPEN => "the file cannot be opened",
        sqlite_code::NOMEM => "out of memory",
        sqlite_code::INTERRUPT => "interrupted",
        sqlite_code::PROTOCOL => "the file cannot be locked",
        sqlite_code::CORRUPT | sqlite_code::NOTADB => {
            return StoreError::Corrupt("the database file is damaged".to_owned());
        }
        _ => return statement_error(code, error),
    };
    StoreError::Unavailable(format!("{unavailable} (SQLite code {code})"))
}

fn statement_error(code: i32, error: &sqlx::Error) -> StoreError {
    let kind = error.as_database_error().map_or(ErrorKind::Other, sqlx::error::DatabaseError::kind);
    match kind {
        ErrorKind::UniqueViolation => StoreError::AlreadyExists,
        // The statements fit this release's schema, so the schema of the file is different.
        _ => StoreError::Corrupt(format!("a statement failed (SQLite code {code})")),
    }
}
