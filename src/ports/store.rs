//! Stored tenants, their system user tokens, and tickets.
//!
//! Every method is one short transaction. A write that has returned survives a crash of the process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::SealError;
use crate::domain::{
    ApplicationId, ContextIdentifier, CredentialId, Environment, SystemTicket, Tenant, TenantName,
    TenantStatus,
};

/// An error of the store. Details are for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached, is full, read-only or busy. A later retry may succeed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store's file was replaced, removed or truncated while it was open. Nothing is read or written until the
    /// original file is back or the process is restarted.
    #[error("{0}")]
    Lost(String),
    /// A commit was started and its outcome is unknown.
    #[error("it is unknown whether the store kept the change: {0}")]
    OutcomeUnknown(String),
    /// The row already exists.
    #[error("exists already")]
    AlreadyExists,
    /// The row was changed since it was read.
    #[error("changed meanwhile")]
    Conflict,
    /// A stored row is invalid.
    #[error("a stored row is corrupt: {0}")]
    Corrupt(String),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl StoreError {
    /// Converts an error that happened after a commit was started: the change may be stored.
    #[must_use]
    pub fn after_commit(self) -> Self {
        Self::OutcomeUnknown(self.to_string())
    }
}

/// A system user token and its version.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The permanent system user token.
    pub token: SecretString,
    /// The `Tenant::token_version` of this token.
    pub version: i64,
}

/// The outcome of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The tenant and its secrets are deleted.
    Deleted,
    /// The tenant does not exist.
    NotFound,
    /// The tenant has grants that are not revoked. The tenant is not deleted.
    HasGrants,
}

/// Stores tenants and their system user tokens.
#[async_trait]
pub trait TenantStore: Send + Sync + 'static {
    /// Adds a tenant.
    ///
    /// # Errors
    /// `AlreadyExists` if a tenant with this name exists.
    async fn create(
        &self,
        name: &TenantName,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// Reads a tenant.
    async fn get(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError>;

    /// Lists up to `limit` tenants of one application, or of all, ordered by (application, tenant id as text), starting
    /// after `after`.
    async fn list(
        &self,
        application: Option<&ApplicationId>,
        after: Option<&TenantName>,
        limit: u32,
    ) -> Result<Vec<Tenant>, StoreError>;

    /// Returns those of `names` that are disabled or do not exist.
    async fn find_stopped(&self, names: &[TenantName]) -> Result<Vec<TenantName>, StoreError>;

    /// Returns the applications that have this tenant, in order.
    async fn applications_of(
        &self,
        tenant: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError>;

    /// Disables or enables a tenant. Does nothing if it already has this state. Returns `None` if it does not exist.
    async fn set_disabled(
        &self,
        name: &TenantName,
        disabled: bool,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Seals and stores a system user token, and deletes the ticket of the previous one. The new `token_version` is
    /// higher than that of any token of any tenant before. Returns `None` if the tenant does not exist.
    async fn set_system_user_token(
        &self,
        name: &TenantName,
        token: &SecretString,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Opens the system user token.
    async fn system_user_token(&self, name: &TenantName)
    -> Result<Option<StoredToken>, StoreError>;

    /// Stores the last tenant status that SuperOffice returned. This is not a change by an administrator, so version
    /// and update time stay. Does nothing if the tenant does not exist.
    async fn put_status(&self, name: &TenantName, status: &TenantStatus) -> Result<(), StoreError>;

    /// Stores the name of the customer's company. Version and update time stay.
    async fn put_company_name(&self, name: &TenantName, company: &str) -> Result<(), StoreError>;

    /// Deletes a tenant with its token and its ticket for good. With `force`, its grants are revoked; their refresh
    /// tokens stay only until they are revoked at SuperOffice (see `GrantStore::pending_revocations`).
    ///
    /// # Errors
    /// `Conflict` if `expected_version` is given and differs from the tenant's version.
    async fn delete(
        &self,
        name: &TenantName,
        expected_version: Option<i64>,
        force: bool,
    ) -> Result<Deletion, StoreError>;
}

/// Stores one sealed ticket for each tenant, so that a restart needs no new ticket from SuperOffice.
#[async_trait]
pub trait TicketStore: Send + Sync + 'static {
    /// Opens the stored ticket.
    async fn get(&self, name: &TenantName) -> Result<Option<SystemTicket>, StoreError>;

    /// Stores a ticket and replaces the previous one. Returns `false` and stores nothing if the tenant is deleted, or
    /// if the ticket was issued for another system user token than the current one.
    async fn put(&self, name: &TenantName, ticket: &SystemTicket) -> Result<bool, StoreError>;

    /// Stores the new expiry of a ticket that was used. Does nothing if another ticket is stored.
    async fn extend(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
        expire_time: Timestamp,
    ) -> Result<(), StoreError>;

    /// Deletes a ticket that SuperOffice no longer accepts. Does nothing if another ticket is stored.
    async fn delete(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError>;
}

/// The environment and client id that an application id had when the store was last used. It reveals a configuration
/// mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationBinding {
    /// The environment's name.
    pub environment: String,
    /// The client id.
    pub client_id: String,
}

/// Stores which SuperOffice application an application id stands for.
#[async_trait]
pub trait ApplicationStore: Send + Sync + 'static {
    /// Returns the stored binding of `id`.
    async fn binding(&self, id: &ApplicationId) -> Result<Option<ApplicationBinding>, StoreError>;

    /// Stores the binding of `id`.
    async fn bind(
        &self,
        id: &ApplicationId,
        environment: Environment,
        client_id: &str,
    ) -> Result<(), StoreError>;
}

/// The state of the store itself.
#[async_trait]
pub trait StoreHealth: Send + Sync + 'static {
    /// Checks that the store's file is still the one that was opened. Does not block and does not write.
    ///
    /// # Errors
    /// `Lost` if it is another file.
    fn check_file(&self) -> Result<(), StoreError>;

    /// Checks that the store can be written now. Used for readiness.
    async fn check_writable(&self) -> Result<(), StoreError>;

    /// Returns a number that changes when another process changes the store.
    async fn external_version(&self) -> Result<i64, StoreError>;

    /// Deletes tickets, access tokens and statuses that were issued or read after `latest`, which is in the future.
    /// Returns their number.
    async fn delete_issued_after(&self, latest: Timestamp) -> Result<u64, StoreError>;

    /// Flushes and closes the store. Later calls fail.
    async fn close(&self);
}
