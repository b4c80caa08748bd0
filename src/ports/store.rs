//! What is kept: tenants, their system user tokens, and tickets.
//!
//! Every method is one short transaction. A write that was acknowledged survives the death of the process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;

use super::SealError;
use crate::domain::{
    ApplicationId, ContextIdentifier, CredentialId, Environment, SystemTicket, Tenant, TenantName,
    TenantStatus,
};

/// Why the store did not do it. Details are for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is full, read-only or busy. Trying again later may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Its file was replaced, removed or emptied while it was open. Nothing is read or written until the original
    /// file is back, or the process starts again.
    #[error("{0}")]
    Lost(String),
    /// A commit was begun, and it is unknown whether it was done.
    #[error("it is unknown whether the store kept the change: {0}")]
    OutcomeUnknown(String),
    /// There is one already.
    #[error("exists already")]
    AlreadyExists,
    /// It changed since it was read.
    #[error("changed meanwhile")]
    Conflict,
    /// A row makes no sense.
    #[error("a stored row is corrupt: {0}")]
    Corrupt(String),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl StoreError {
    /// The same failure, met after a commit: the change may have been kept.
    #[must_use]
    pub fn after_commit(self) -> Self {
        Self::OutcomeUnknown(self.to_string())
    }
}

/// A system user token and how many were set before it.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The permanent system user token.
    pub token: SecretString,
    /// `Tenant::token_version` when it was set.
    pub version: i64,
}

/// How a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, with its secrets.
    Deleted,
    /// There was none.
    NotFound,
    /// It has grants that are not revoked: nothing was done.
    HasGrants,
}

/// Keeps tenants and their system user tokens.
#[async_trait]
pub trait TenantStore: Send + Sync + 'static {
    /// Adds a tenant.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name.
    async fn create(
        &self,
        name: &TenantName,
        labels: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Result<Tenant, StoreError>;

    /// Reads a tenant.
    async fn get(&self, name: &TenantName) -> Result<Option<Tenant>, StoreError>;

    /// Up to `limit` tenants in the order of (application, tenant id as text), beginning after `after`; of one
    /// application, or of all.
    async fn list(
        &self,
        application: Option<&ApplicationId>,
        after: Option<&TenantName>,
        limit: u32,
    ) -> Result<Vec<Tenant>, StoreError>;

    /// Those of `names` that are stopped, or not there.
    async fn stopped_of(&self, names: &[TenantName]) -> Result<Vec<TenantName>, StoreError>;

    /// Applications that have this tenant, in order.
    async fn applications_of(
        &self,
        tenant: ContextIdentifier,
    ) -> Result<Vec<ApplicationId>, StoreError>;

    /// Sets or lifts the emergency stop. Changes nothing where it stands so already. `None` if there is no such tenant.
    async fn set_disabled(
        &self,
        name: &TenantName,
        disabled: bool,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Seals and keeps a system user token under a `token_version` higher than any before, of whatever tenant, and
    /// deletes the ticket of the former one. `None` if there is no such tenant.
    async fn set_system_user_token(
        &self,
        name: &TenantName,
        token: &SecretString,
        now: Timestamp,
    ) -> Result<Option<Tenant>, StoreError>;

    /// Opens the system user token.
    async fn system_user_token(&self, name: &TenantName)
    -> Result<Option<StoredToken>, StoreError>;

    /// Keeps what SuperOffice last said of a tenant; not a change by an administrator, so version and
    /// update time stay. Does nothing if there is no such tenant.
    async fn put_status(&self, name: &TenantName, status: &TenantStatus) -> Result<(), StoreError>;

    /// Keeps the company's name, likewise.
    async fn put_company_name(&self, name: &TenantName, company: &str) -> Result<(), StoreError>;

    /// Deletes a tenant with its token and its ticket; they cannot be had back. With `force` its grants are revoked:
    /// of them stays what is needed to tell SuperOffice (see `GrantStore::pending_revocations`), and no more.
    ///
    /// # Errors
    /// `Conflict` if `expected_version` is given and is not its version.
    async fn delete(
        &self,
        name: &TenantName,
        expected_version: Option<i64>,
        force: bool,
    ) -> Result<Deletion, StoreError>;
}

/// Keeps one ticket a tenant, sealed, so that a restart asks SuperOffice for none.
#[async_trait]
pub trait TicketStore: Send + Sync + 'static {
    /// Opens the kept ticket.
    async fn get(&self, name: &TenantName) -> Result<Option<SystemTicket>, StoreError>;

    /// Keeps a ticket in place of the former one. `false`, and nothing kept, if the tenant is gone or has another
    /// system user token than the one the ticket was issued under.
    async fn put(&self, name: &TenantName, ticket: &SystemTicket) -> Result<bool, StoreError>;

    /// Notes that a ticket lives longer. Does nothing if another one is kept.
    async fn extend(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
        expire_time: Timestamp,
    ) -> Result<(), StoreError>;

    /// Deletes a ticket that is dead. Does nothing if another one is kept.
    async fn delete(
        &self,
        name: &TenantName,
        credential_id: &CredentialId,
    ) -> Result<(), StoreError>;
}

/// What the store remembers of an application id, so that a mistaken configuration is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationBinding {
    /// The environment's name.
    pub environment: String,
    /// The client id.
    pub client_id: String,
}

/// Remembers which application an id meant.
#[async_trait]
pub trait ApplicationStore: Send + Sync + 'static {
    /// What is remembered of `id`.
    async fn binding(&self, id: &ApplicationId) -> Result<Option<ApplicationBinding>, StoreError>;

    /// Remembers it.
    async fn bind(
        &self,
        id: &ApplicationId,
        environment: Environment,
        client_id: &str,
    ) -> Result<(), StoreError>;
}

/// The store's own state.
#[async_trait]
pub trait StoreWatch: Send + Sync + 'static {
    /// Whether its file is still the one that was opened. Waits for nothing, and writes nothing.
    ///
    /// # Errors
    /// `Lost` if it is not.
    fn check_file(&self) -> Result<(), StoreError>;

    /// Whether it can be written now. For readiness.
    async fn writable(&self) -> Result<(), StoreError>;

    /// A number that differs from the one before if another process has changed the store since.
    async fn external_version(&self) -> Result<i64, StoreError>;

    /// Deletes tickets, access tokens and statuses that were issued or read after `latest`, a time to come. Tells how many.
    async fn forget_issued_after(&self, latest: Timestamp) -> Result<u64, StoreError>;

    /// Flushes and closes. Later calls fail.
    async fn close(&self);
}
