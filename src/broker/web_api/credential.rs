//! Which credential goes with whose eyes, and what is done when it is refused.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::Asking;
use crate::{
    broker::{
        BrokerError, HandedOutAccessToken, Impersonation, Tickets, error::RETRY_SOON,
        tickets::no_uri,
    },
    domain::{CredentialId, Eyes, SystemTicket, TenantName, WebApiUri},
    ports::ApiCredential,
};

/// Above this age a 403 may say that an access token has expired: SuperOffice documents lives of an hour and of twenty
/// minutes, and both 401 and 403 for what has expired (SUPEROFFICE.md 4.2).
const SURELY_ALIVE: SignedDuration = SignedDuration::from_mins(20);

/// A ticket that is about to expire might do so on the way.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// What opens a tenant's Web API for one attempt.
pub(super) struct Pass {
    pub(super) uri: WebApiUri,
    pub(super) credential: ApiCredential,
    kind: Kind,
}

/// What is behind a credential.
enum Kind {
    Ticket(Arc<SystemTicket>),
    AccessToken(HandedOutAccessToken),
}

/// Hands out passes, and finds out about those that were refused.
pub(super) struct Passes {
    pub(super) tickets: Arc<Tickets>,
    pub(super) impersonation: Arc<Impersonation>,
}

impl Passes {
    /// Everything that may stand between a tenant and a call to it is asked here: the emergency stop, the enrolment,
    /// the tenant's status.
    pub(super) async fn pass(&self, asking: &Asking) -> Result<Pass, BrokerError> {
        let Asking { tenant, eyes, person, .. } = asking;
        match eyes {
            Eyes::SystemUser => {
                let (ticket, status) = self.tickets.ticket(tenant, LONG_ENOUGH).await?;
                let uri = status.web_api_uri.clone().ok_or_else(|| no_uri(tenant))?;
                let credential = ApiCredential::SystemUser { ticket: ticket.value.clone() };
                Ok(Pass { uri, credential, kind: Kind::Ticket(ticket) })
            }
            // Of another tenant it never is: the decision was made on this one.
            Eyes::Grant(name) if name.tenant != *tenant => {
                Err(BrokerError::GrantNotFound(name.to_string()))
            }
            Eyes::Grant(name) => {
                let handed_out = self.impersonation.token(name, LONG_ENOUGH).await?;
                if person.as_ref().is_some_and(|person| !person.is_of(&handed_out.grant)) {
                    // The next call is decided on what they are called now.
                    let cause =
                        "the person is called otherwise since this call was decided on".into();
                    return Err(BrokerError::UpstreamUnavailable {
                        retry_after: RETRY_SOON,
                        cause,
                    });
                }
                let access_token = handed_out.token.value.clone();
                let credential = ApiCredential::Person { access_token };
                let uri = handed_out.web_api_uri.clone();
                Ok(Pass { uri, credential, kind: Kind::AccessToken(handed_out) })
            }
        }
    }

    /// The pass was refused. Whether to find out why: nobody else has done so yet.
    pub(super) fn is_doubtful(&self, tenant: &TenantName, pass: &Pass) -> bool {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.is_present(tenant, &ticket.credential_id),
            Kind::AccessToken(HandedOutAccessToken { grant, token, .. }) => {
                self.impersonation.is_present(&grant.name, &token.credential_id)
            }
        }
    }

    /// Finds out. The next pass is good, as far as can be known.
    pub(super) async fn prove(&self, tenant: &TenantName, pass: &Pass) -> Result<(), BrokerError> {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.prove(tenant, ticket.credential_id.clone()).await,
            Kind::AccessToken(HandedOutAccessToken { grant, token, .. }) => {
                self.impersonation.prove(&grant.name, token.credential_id.clone()).await
            }
        }
    }

    /// The pass opened the tenant.
    pub(super) fn worked(&self, tenant: &TenantName, pass: &Pass, sent: Timestamp) {
        match &pass.kind {
            Kind::Ticket(ticket) => self.tickets.used(tenant, ticket, sent),
            // Uses make no access token live longer.
            Kind::AccessToken(_) => {}
        }
    }
}

impl Pass {
    /// Names its credential in the audit trail.
    pub(super) fn credential_id(&self) -> &CredentialId {
        match &self.kind {
            Kind::Ticket(ticket) => &ticket.credential_id,
            Kind::AccessToken(handed_out) => &handed_out.token.credential_id,
        }
    }

    /// Whether both are one credential.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Ticket(one), Kind::Ticket(other)) => one.credential_id == other.credential_id,
            (Kind::AccessToken(one), Kind::AccessToken(other)) => {
                one.token.credential_id == other.token.credential_id
            }
            _ => false,
        }
    }

    /// Whether a 403 to what was sent then may be about the credential and not about what was asked. A ticket that has
    /// expired is a 401.
    pub(super) fn may_be_forbidden_for_its_age(&self, sent: Timestamp) -> bool {
        match &self.kind {
            Kind::Ticket(_) => false,
            Kind::AccessToken(handed_out) => {
                sent.duration_since(handed_out.token.issue_time) > SURELY_ALIVE
            }
        }
    }
}
