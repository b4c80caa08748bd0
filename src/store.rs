//! What is kept, and where: adapters of the store ports.
//!
//! [`SqliteStore`] serves one process. `contract` holds the tests that every store must pass; `record` and `sealing`
//! are what stores share: how stored columns become domain types again (the store is not trusted), and how secrets
//! are bound to their place.

use std::collections::BTreeMap;

use crate::domain::{AllowedApiHosts, ApplicationId, Environment};

#[cfg(test)]
mod contract;
mod error;
mod record;
mod sealing;
mod sqlite;

pub use self::sqlite::{Look, OpenError, ServeLock, SqliteFile, SqliteStore};

/// What a store must know of a configured application.
#[derive(Debug, Clone)]
pub struct KnownApplication {
    /// Secrets are bound to it.
    pub environment: Environment,
    /// A stored Web API address is used only if it still is under these.
    pub allowed_api_hosts: AllowedApiHosts,
}

/// The configured applications.
pub type KnownApplications = BTreeMap<ApplicationId, KnownApplication>;
