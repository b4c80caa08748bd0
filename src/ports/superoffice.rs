//! The parts of SuperOffice Online that tickets need. An implementation belongs to one application.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::domain::{ContextIdentifier, TenantStatus, WebApiUri};

/// A failed request to SuperOffice. Details are written by the gateway, for the log, and never repeat received text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// SuperOffice is not reachable, timed out, or answers that it cannot serve.
    #[error("SuperOffice is unavailable: {0}")]
    Unavailable(String),
    /// The tenant's host cannot be reached or does not answer, or a front end answers in its place. The tenant may have
    /// moved to another host.
    #[error("the tenant's host is unavailable: {0}")]
    HostUnavailable(String),
    /// The circuit breaker is open after many unanswered requests, for this long.
    #[error("SuperOffice does not answer; the gateway retries in {0:?}")]
    CircuitOpen(Duration),
    /// The response is invalid.
    #[error("SuperOffice's answer is invalid: {0}")]
    InvalidResponse(String),
    /// HTTP 421: the tenant is on another host, so its status must be read again.
    #[error("SuperOffice says that the tenant is on another host")]
    Misdirected,
    /// SuperOffice understood the request and refuses it.
    #[error("SuperOffice refuses the request: {0}")]
    Refused(Refusal),
}

/// The reason why SuperOffice refuses a system user; the numbers are SuperOffice's `AuthorizeErrorCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// 1: the application's access was revoked.
    #[error("the application's access is revoked")]
    Revoked,
    /// 3: the application's authorization expired.
    #[error("the application's authorization expired")]
    Expired,
    /// 4, or an unknown error text: the system user is rejected.
    #[error("the system user is rejected")]
    Rejected,
    /// 5: an administrator of the customer must approve the application again.
    #[error("the application needs to be approved again")]
    NeedsReapproval,
    /// 6: the gateway's clock or SuperOffice's clock is wrong.
    #[error("the gateway's timestamp is not accepted; compare the clocks")]
    Clock,
    /// 7: the private key or client secret of the application is wrong.
    #[error("the application's private key or client secret is not accepted")]
    Credential,
}

/// A validated response to a ticket request.
#[derive(Debug, Clone)]
pub struct IssuedTicket {
    /// The ticket, which starts with `7T:`.
    pub value: SecretString,
    /// The customer's name; empty if SuperOffice did not return it.
    pub company_name: String,
}

/// Requests system user tickets.
#[async_trait]
pub trait SystemUserLogin: Send + Sync + 'static {
    /// Signs the system user token, exchanges it for a ticket, and validates the response.
    ///
    /// Each exchange adds a row to the customer's database, so it is repeated only if it certainly did not happen.
    async fn authenticate(
        &self,
        tenant: ContextIdentifier,
        system_user_token: &SecretString,
    ) -> Result<IssuedTicket, UpstreamError>;

    /// Returns the value of the `SO-AppToken` header that goes with the tickets: the client secret.
    fn application_token(&self) -> SecretString;

    /// Returns how often the working client secret or private key has changed.
    fn credential_changes(&self) -> u64;

    /// Returns whether the clocks of the login host and the gateway differed too much at the last response.
    fn has_clock_skew(&self) -> bool;
}

/// Reads the status of tenants. Needs no credential.
#[async_trait]
pub trait TenantStatusSource: Send + Sync + 'static {
    /// Reads and validates the status of a tenant.
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError>;
}

/// The result of testing a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// The ticket works for this tenant. Its use has extended its lifetime.
    Alive,
    /// The ticket does not work.
    Dead,
}

/// Tests tickets.
#[async_trait]
pub trait TicketProbe: Send + Sync + 'static {
    /// Calls `User/currentPrincipal` with the ticket.
    async fn probe(
        &self,
        tenant: ContextIdentifier,
        web_api_uri: &WebApiUri,
        ticket: &SecretString,
    ) -> Result<ProbeResult, UpstreamError>;
}
