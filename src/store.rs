//! Adapters of the store ports.
//!
//! [`SqliteStore`] serves one process. `contract` contains the tests that every store must pass. Stores share `record`,
//! which validates stored columns (the store is not trusted), and `sealing`, which binds each secret to its row and
//! column.

use std::collections::BTreeMap;

use crate::domain::{AllowedApiHosts, ApplicationId, Environment};

#[cfg(test)]
mod contract;
mod error;
mod record;
mod sealing;
mod sqlite;

pub use self::sqlite::{OpenError, ServeLock, SqliteFile, SqliteStore, StoreInspection};

/// The settings of a configured application that a store needs.
#[derive(Debug, Clone)]
pub struct KnownApplication {
    /// The environment, to which secrets are bound.
    pub environment: Environment,
    /// A stored Web API address is used only if its host is still allowed.
    pub allowed_api_hosts: AllowedApiHosts,
}

/// The configured applications.
pub type KnownApplications = BTreeMap<ApplicationId, KnownApplication>;
