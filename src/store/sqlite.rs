//! The store of one process: a SQLite file in WAL mode. Audit events are elsewhere, in the journal.
//!
//! One connection writes, a few read. A write is one `BEGIN IMMEDIATE` transaction with a full sync at its commit. If
//! its future is dropped, it is rolled back and the connection stays usable. Writes of one statement that wait for the
//! connection at the same time share a transaction (`write_queue`). Commands may use the file, too.

mod applications;
mod audit_heads;
mod consents;
mod file;
mod files;
mod grants;
mod health;
mod inspection;
mod leases;
mod lock;
mod notifications;
mod open;
mod schema;
mod tenants;
mod tickets;
mod write_queue;
mod writer;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, sync::Arc};

pub use self::{file::SqliteFile, inspection::StoreInspection, lock::ServeLock, open::OpenError};
use super::{KnownApplications, sealing::Sealing};
use crate::{
    domain::ApplicationId,
    ports::{ApplicationStore as _, Sealer, StoreError},
};

/// The store of tenants, tokens, tickets, grants, consents and the heads of audit chains in a SQLite file.
pub struct SqliteStore {
    file: SqliteFile,
    sealing: Sealing,
    applications: KnownApplications,
}

impl SqliteStore {
    /// Creates a store on an open file. Reads nothing.
    #[must_use]
    pub fn new(file: SqliteFile, sealer: Arc<dyn Sealer>, applications: KnownApplications) -> Self {
        Self { file, sealing: Sealing::new(sealer), applications }
    }

    /// Returns the file of the store.
    #[must_use]
    pub fn file(&self) -> &SqliteFile {
        &self.file
    }

    /// Returns the environment to which secrets of an application are bound: the configured one, or the last known one
    /// if a command runs with fewer applications configured.
    async fn environment(&self, id: &ApplicationId) -> Result<Cow<'static, str>, StoreError> {
        if let Some(application) = self.applications.get(id) {
            return Ok(application.environment.as_str().into());
        }
        match self.binding(id).await? {
            Some(binding) => Ok(binding.environment.into()),
            None => Err(StoreError::Corrupt(format!(
                "the environment of application {id} is not stored"
            ))),
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.file.path()).finish_non_exhaustive()
    }
}
