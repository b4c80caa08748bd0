//! Verifies a ticket after a caller, or a call of the gateway itself, reports that SuperOffice rejected it.

use std::sync::Arc;

use super::{Tickets, missing_web_api_uri};
use crate::{
    access::{Authorized, IssueSystemTicket},
    broker::{Application, BrokerError, Statuses},
    domain::{CredentialId, SystemTicket, Tenant, TenantName, TenantStatus, ticket_lifetime_end},
    ports::{ProbeResult, UpstreamError},
};

impl Tickets {
    /// Probes whether a ticket works. If so, its lifetime is extended; if not, it is dropped and the next call gets
    /// a new one. Concurrent reports of one ticket share one probe. The id of another ticket changes nothing.
    ///
    /// # Errors
    /// If the probe is impossible: the tenant is not usable, or SuperOffice does not answer.
    pub async fn report_rejected(
        &self,
        authorized: &Authorized<IssueSystemTicket, TenantName>,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        self.verify(authorized.resource(), id).await
    }

    /// Does the same for a call that the gateway makes itself.
    pub(in crate::broker) async fn verify(
        &self,
        name: &TenantName,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&name.application)?);
        let tenant = self.enrolled_tenant(name).await?;
        let Some(ticket) = self.find_current(&tenant, &id).await? else { return Ok(()) };
        let status = self.statuses.require_usable(&tenant).await?;
        let check = TicketCheck {
            application,
            tenant,
            status,
            ticket,
            statuses: Arc::clone(&self.statuses),
        };
        let exchanger = Arc::clone(&self.exchanger);
        let work = || async move {
            let (name, ticket) = (&check.tenant.name, &check.ticket);
            // Taken before the probe: the expiry time is extended from the request, not from the answer.
            let now = exchanger.clock.now();
            match check.run().await? {
                ProbeResult::Alive => {
                    let max_age = exchanger.rules.max_age;
                    let until = ticket_lifetime_end(ticket.issue_time, now, max_age);
                    exchanger.extend(name, &ticket.credential_id, until);
                    exchanger.stores.tickets.extend(name, &ticket.credential_id, until).await?;
                }
                ProbeResult::Dead => {
                    if exchanger.cache.remove_dead(name, &ticket.credential_id) {
                        exchanger.directory.changes().notify(name);
                        exchanger.counters.tickets_dropped.increment();
                        tracing::info!(tenant = %name, credential_id = %ticket.credential_id, "dropped a ticket that SuperOffice rejects");
                    }
                    exchanger.stores.tickets.delete(name, &ticket.credential_id).await?;
                }
            }
            Ok(())
        };
        let result = self.probes.join((name.clone(), id), work).await;
        result.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }
}

impl Tickets {
    /// Drops the ticket after the tenant's database was restored from a backup, which may not contain it. The next call
    /// gets a new one.
    pub(in crate::broker) async fn discard(&self, name: &TenantName) -> Result<(), BrokerError> {
        let exchanger = &self.exchanger;
        let stored = exchanger.stores.tickets.get(name).await?;
        let cached = exchanger.cache.current(name).map(|ticket| ticket.credential_id.clone());
        for id in cached.into_iter().chain(stored.map(|ticket| ticket.credential_id)) {
            if exchanger.cache.remove_dead(name, &id) {
                exchanger.directory.changes().notify(name);
                exchanger.counters.tickets_dropped.increment();
            }
            exchanger.stores.tickets.delete(name, &id).await?;
        }
        Ok(())
    }

    /// Returns the current ticket if it has this id: from memory or, after a restart, from the store.
    async fn find_current(
        &self,
        tenant: &Tenant,
        id: &CredentialId,
    ) -> Result<Option<Arc<SystemTicket>>, BrokerError> {
        let exchanger = &self.exchanger;
        if let Some(ticket) = exchanger.cache.find(&tenant.name, id) {
            return Ok(Some(ticket));
        }
        if exchanger.cache.current(&tenant.name).is_some() {
            return Ok(None);
        }
        let stored = exchanger.stores.tickets.get(&tenant.name).await?;
        let now = exchanger.clock.now();
        let is_current = |ticket: &SystemTicket| {
            ticket.credential_id == *id
                && ticket.token_version == tenant.token_version
                && !ticket.remaining(now).is_zero()
        };
        Ok(stored.filter(is_current).map(Arc::new))
    }
}

struct TicketCheck {
    application: Arc<Application>,
    tenant: Arc<Tenant>,
    status: Arc<TenantStatus>,
    ticket: Arc<SystemTicket>,
    statuses: Arc<Statuses>,
}

impl TicketCheck {
    /// Probes the ticket. If the tenant has moved, or its host is dead, reads the tenant status and probes once more.
    async fn run(&self) -> Result<ProbeResult, BrokerError> {
        match self.probe(&self.status).await? {
            Ok(probe) => Ok(probe),
            Err(error) if self.has_moved(&error).await => {
                let status = self.statuses.require_usable(&self.tenant).await?;
                self.probe(&status).await?.map_err(|error| self.probe_error(&error))
            }
            Err(error) => Err(self.probe_error(&error)),
        }
    }

    async fn has_moved(&self, error: &UpstreamError) -> bool {
        let Some(uri) = &self.status.web_api_uri else { return false };
        self.statuses.has_moved(&self.tenant.name, uri, error).await
    }

    async fn probe(
        &self,
        status: &TenantStatus,
    ) -> Result<Result<ProbeResult, UpstreamError>, BrokerError> {
        let name = &self.tenant.name;
        let uri = status.web_api_uri.as_ref().ok_or_else(|| missing_web_api_uri(name))?;
        Ok(self.application.probe.probe(name.tenant, uri, &self.ticket.value).await)
    }

    fn probe_error(&self, error: &UpstreamError) -> BrokerError {
        tracing::warn!(%error, tenant = %self.tenant.name, "the probe of a ticket failed");
        BrokerError::from_upstream(&self.tenant.name, error)
    }
}
