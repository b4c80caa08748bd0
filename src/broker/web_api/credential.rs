//! Selects the credential for a call, and verifies a credential that SuperOffice has rejected.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::call::WebApiCallContext;
use crate::{
    broker::{
        BrokerError, Impersonation, IssuedAccessToken, Tickets, error::RETRY_SOON,
        impersonation::MinTtl, tickets::missing_web_api_uri,
    },
    domain::{Actor, CredentialId, SystemTicket, TenantName, WebApiUri},
    ports::ApiCredential,
};

/// Above this age a 403 may mean that an access token has expired: SuperOffice documents lifetimes of 60 and of 20
/// minutes, and both 401 and 403 for an expired token.
const MIN_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_mins(20);

/// The minimum remaining lifetime of a credential: one that is about to expire might expire before the call arrives.
const MIN_TTL: Duration = Duration::from_secs(30);

/// The credential and the address for one attempt at a tenant's Web API.
pub(super) struct UpstreamCredential {
    pub(super) uri: WebApiUri,
    pub(super) credential: ApiCredential,
    kind: Kind,
}

/// The kind of a credential.
enum Kind {
    Ticket(Arc<SystemTicket>),
    AccessToken(IssuedAccessToken),
}

/// Provides credentials, and verifies those that SuperOffice has rejected.
pub(super) struct CredentialSource {
    pub(super) tickets: Arc<Tickets>,
    pub(super) impersonation: Arc<Impersonation>,
}

impl CredentialSource {
    /// Returns the credential for a call. Checks all preconditions of a call: the tenant is enabled, enrolled and
    /// running.
    pub(super) async fn get(
        &self,
        context: &WebApiCallContext,
    ) -> Result<UpstreamCredential, BrokerError> {
        let WebApiCallContext { tenant, actor, person, .. } = context;
        match actor {
            Actor::SystemUser => {
                let (ticket, status) = self.tickets.ticket(tenant, MIN_TTL).await?;
                let uri = status.web_api_uri.clone().ok_or_else(|| missing_web_api_uri(tenant))?;
                let credential = ApiCredential::SystemUser { ticket: ticket.value.clone() };
                Ok(UpstreamCredential { uri, credential, kind: Kind::Ticket(ticket) })
            }
            // Policy decided about this tenant, so a grant of another tenant is never used.
            Actor::Grant(name) if name.tenant != *tenant => {
                Err(BrokerError::GrantNotFound(name.to_string()))
            }
            Actor::Grant(name) => {
                let min_ttl = MinTtl::Preferred(MIN_TTL);
                let issued = self.impersonation.access_token(name, min_ttl).await?;
                if person.as_ref().is_some_and(|person| !person.matches_grant(&issued.grant)) {
                    // Policy decides about the next call with the person's current name.
                    let cause =
                        "the person's name has changed since policy permitted this call".into();
                    return Err(BrokerError::UpstreamUnavailable {
                        retry_after: RETRY_SOON,
                        cause,
                    });
                }
                let access_token = issued.token.value.clone();
                let credential = ApiCredential::Person { access_token };
                let uri = issued.web_api_uri.clone();
                Ok(UpstreamCredential { uri, credential, kind: Kind::AccessToken(issued) })
            }
        }
    }

    /// Returns whether a rejected credential still needs verification: no other call has replaced it yet.
    pub(super) fn needs_verification(
        &self,
        tenant: &TenantName,
        credential: &UpstreamCredential,
    ) -> bool {
        match &credential.kind {
            Kind::Ticket(ticket) => self.tickets.is_current(tenant, &ticket.credential_id),
            Kind::AccessToken(IssuedAccessToken { grant, token, .. }) => {
                self.impersonation.is_current(&grant.name, &token.credential_id)
            }
        }
    }

    /// Probes a rejected credential and drops it if it is dead.
    pub(super) async fn verify(
        &self,
        tenant: &TenantName,
        credential: &UpstreamCredential,
    ) -> Result<(), BrokerError> {
        match &credential.kind {
            Kind::Ticket(ticket) => self.tickets.verify(tenant, ticket.credential_id.clone()).await,
            Kind::AccessToken(IssuedAccessToken { grant, token, .. }) => {
                self.impersonation.verify_token(&grant.name, token.credential_id.clone()).await
            }
        }
    }

    /// Records that a call with this credential succeeded.
    pub(super) fn record_success(
        &self,
        tenant: &TenantName,
        credential: &UpstreamCredential,
        sent_at: Timestamp,
    ) {
        match &credential.kind {
            Kind::Ticket(ticket) => self.tickets.record_use(tenant, ticket, sent_at),
            // Use does not extend the lifetime of an access token.
            Kind::AccessToken(_) => {}
        }
    }
}

impl UpstreamCredential {
    /// Returns the id of the credential in the audit trail.
    pub(super) fn credential_id(&self) -> &CredentialId {
        match &self.kind {
            Kind::Ticket(ticket) => &ticket.credential_id,
            Kind::AccessToken(issued) => &issued.token.credential_id,
        }
    }

    /// Returns whether both are the same credential.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Ticket(one), Kind::Ticket(other)) => one.credential_id == other.credential_id,
            (Kind::AccessToken(one), Kind::AccessToken(other)) => {
                one.token.credential_id == other.token.credential_id
            }
            _ => false,
        }
    }

    /// Returns whether a 403 may mean that the credential had expired when the call was sent. An expired ticket always
    /// causes a 401.
    pub(super) fn may_have_expired(&self, sent_at: Timestamp) -> bool {
        match &self.kind {
            Kind::Ticket(_) => false,
            Kind::AccessToken(issued) => {
                sent_at.duration_since(issued.token.issue_time) > MIN_TOKEN_LIFETIME
            }
        }
    }
}
