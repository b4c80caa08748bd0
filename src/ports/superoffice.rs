//! SuperOffice Online, as far as tickets need it. An implementation belongs to one application.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::domain::{ContextIdentifier, TenantStatus, WebApiUri};

/// Why SuperOffice did not answer usefully. Details are ours, for the log; they never repeat what was received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not reachable, timed out, or says that it cannot serve.
    #[error("SuperOffice is unavailable: {0}")]
    Unavailable(String),
    /// The tenant's host cannot be reached, does not answer, or a front end answers in its place. The tenant may have
    /// moved without a word.
    #[error("the tenant's host is unavailable: {0}")]
    HostUnavailable(String),
    /// It did not answer many calls before this one, and is given a rest for this long.
    #[error("SuperOffice does not answer and is asked again in {0:?}")]
    CircuitOpen(Duration),
    /// It answered something that cannot be believed.
    #[error("SuperOffice's answer cannot be believed: {0}")]
    InvalidResponse(String),
    /// Wrong host for the tenant (HTTP 421): tenant status must be read again.
    #[error("SuperOffice says that the tenant is on another host")]
    Misdirected,
    /// It understood, and refuses.
    #[error("SuperOffice refuses: {0}")]
    Refused(Refusal),
}

/// Refusals of a system user (`AuthorizeErrorCode`, SUPEROFFICE.md 2.4; CONTRACT section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// 1: access was revoked.
    #[error("the application's access is revoked")]
    Revoked,
    /// 3: the authorization expired.
    #[error("the application's authorization expired")]
    Expired,
    /// 4, or a text that we do not know.
    #[error("the system user is rejected")]
    Rejected,
    /// 5: an administrator must approve again.
    #[error("the application needs to be approved again")]
    NeedsReapproval,
    /// 6: our clock is wrong, or theirs.
    #[error("our timestamp is not accepted; compare clocks")]
    Clock,
    /// 7: our key or secret is wrong.
    #[error("our own key or secret is not accepted")]
    Credential,
}

/// A validated answer to a request for a ticket.
#[derive(Debug, Clone)]
pub struct IssuedTicket {
    /// `7T:…`.
    pub value: SecretString,
    /// The customer's name; empty if SuperOffice did not tell it.
    pub company_name: String,
}

/// Asks for tickets.
#[async_trait]
pub trait SystemUserLogin: Send + Sync + 'static {
    /// Signs the system user token, exchanges it, validates what comes back, and returns the ticket.
    ///
    /// Adds a row to the customer's database, so it is asked rarely and repeated only if it surely was not done.
    async fn authenticate(
        &self,
        tenant: ContextIdentifier,
        system_user_token: &SecretString,
    ) -> Result<IssuedTicket, UpstreamError>;

    /// The value of `SO-AppToken` that goes with its tickets: the client secret.
    fn application_token(&self) -> SecretString;

    /// Counts how often another client secret or private key than before was found to work.
    fn credential_changes(&self) -> u64;

    /// Whether the login host's clock was too far from ours when it last answered.
    fn clock_is_off(&self) -> bool;
}

/// Asks for the status of tenants. Needs no credential.
#[async_trait]
pub trait TenantStatusSource: Send + Sync + 'static {
    /// Reads and checks the status of a tenant.
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError>;
}

/// Whether a ticket works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It works, for the tenant asked: its life slides.
    Alive,
    /// It does not.
    Dead,
}

/// Tries tickets.
#[async_trait]
pub trait TicketProbe: Send + Sync + 'static {
    /// Calls `User/currentPrincipal` with the ticket.
    async fn probe(
        &self,
        tenant: ContextIdentifier,
        web_api_uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<Probe, UpstreamError>;
}
