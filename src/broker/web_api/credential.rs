//! Which credential goes with whose eyes, and what is done when it is refused.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    broker::{BrokerError, Tickets, tickets::no_uri},
    domain::{Eyes, SystemTicket, TenantName, WebApiUri},
    ports::ApiCredential,
};

/// A ticket that is about to expire might do so on the way.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// What opens a tenant's Web API for one attempt.
pub(super) struct Pass {
    pub(super) uri: WebApiUri,
    pub(super) credential: ApiCredential,
    kind: Kind,
}

/// What is behind a credential. A grant's access token will be the other kind.
enum Kind {
    Ticket(Arc<SystemTicket>),
}

/// Hands out passes, and finds out about those that were refused.
pub(super) struct Passes {
    pub(super) tickets: Arc<Tickets>,
}

impl Passes {
    /// Everything that may stand between a tenant and a call to it is asked here: the emergency stop, the enrolment,
    /// the tenant's status.
    pub(super) async fn pass(&self, tenant: &TenantName, eyes: &Eyes) -> Result<Pass, BrokerError> {
        match eyes {
            Eyes::SystemUser => {
                let (ticket, status) = self.tickets.ticket(tenant, LONG_ENOUGH).await?;
                let uri = status.web_api_uri.clone().ok_or_else(|| no_uri(tenant))?;
                let credential = ApiCredential::SystemUser { ticket: ticket.value.clone() };
                Ok(Pass { uri, credential, kind: Kind::Ticket(ticket) })
            }
        }
    }

    /// The pass was refused. Whether to find out why: nobody else has done so yet.
    pub(super) fn is_doubtful(&self, tenant: &TenantName, pass: &Pass) -> bool {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.is_present(tenant, &ticket.credential_id),
        }
    }

    /// Finds out. The next pass is good, as far as can be known.
    pub(super) async fn prove(&self, tenant: &TenantName, pass: &Pass) -> Result<(), BrokerError> {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.prove(tenant, ticket.credential_id.clone()).await,
        }
    }

    /// The pass opened the tenant.
    pub(super) fn worked(&self, tenant: &TenantName, pass: &Pass, sent: Timestamp) {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.used(tenant, ticket, sent),
        }
    }
}

impl Pass {
    /// Whether both are one credential.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Ticket(one), Kind::Ticket(other)) => one.credential_id == other.credential_id,
        }
    }

    /// Whether a 403 may be about the credential and not about what was asked. An access token may have expired when it
    /// is older than 20 minutes; a ticket that has expired is a 401.
    pub(super) fn may_be_forbidden_for_its_age(&self) -> bool {
        match &self.kind {
            Kind::Ticket(_) => false,
        }
    }
}
