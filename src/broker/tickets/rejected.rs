//! A caller, or a call of ours, says that SuperOffice rejected a ticket: is it so?

use std::sync::Arc;

use super::{Tickets, no_uri};
use crate::{
    access::{Authorized, IssueSystemTicket},
    broker::{Application, BrokerError, Statuses},
    domain::{CredentialId, SystemTicket, Tenant, TenantName, TenantStatus, ticket_lifetime_end},
    ports::{Probe, UpstreamError},
};

impl Tickets {
    /// Finds out whether a ticket works: if so its life slides, if not it is dropped and the next call gets a
    /// new one. Many reports of one ticket cost one probe. The id of a ticket that is not the present one
    /// changes nothing.
    ///
    /// # Errors
    /// If it cannot be found out: the tenant is not usable, or SuperOffice cannot be asked.
    pub async fn report_rejected(
        &self,
        authorized: &Authorized<IssueSystemTicket, TenantName>,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        self.prove(authorized.resource(), id).await
    }

    /// The same for a call of ours.
    pub(in crate::broker) async fn prove(
        &self,
        name: &TenantName,
        id: CredentialId,
    ) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&name.application)?);
        let tenant = self.permitted(name).await?;
        let Some(ticket) = self.find(&tenant, &id).await? else { return Ok(()) };
        let status = self.statuses.usable(&tenant).await?;
        let check =
            Check { application, tenant, status, ticket, statuses: Arc::clone(&self.statuses) };
        let exchange = Arc::clone(&self.exchange);
        let work = || async move {
            let (name, ticket) = (&check.tenant.name, &check.ticket);
            // Before it is tried: its life slides from then, not from when the answer comes.
            let now = exchange.clock.now();
            match check.run().await? {
                Probe::Alive => {
                    let max_age = exchange.rules.max_age;
                    let until = ticket_lifetime_end(ticket.issue_time, now, max_age);
                    exchange.extend(name, &ticket.credential_id, until);
                    exchange.stores.tickets.extend(name, &ticket.credential_id, until).await?;
                }
                Probe::Dead => {
                    if exchange.cache.drop_dead(name, &ticket.credential_id) {
                        exchange.directory.changes().tell(name);
                        exchange.counters.tickets_dropped.increment();
                        tracing::info!(tenant = %name, credential_id = %ticket.credential_id, "dead ticket dropped");
                    }
                    exchange.stores.tickets.delete(name, &ticket.credential_id).await?;
                }
            }
            Ok(())
        };
        let landed = self.probes.join((name.clone(), id), work).await;
        landed.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }
}

impl Tickets {
    /// The tenant's database went back to a backup, which may not know the ticket: the next call gets a new one.
    pub(in crate::broker) async fn forget(&self, name: &TenantName) -> Result<(), BrokerError> {
        let exchange = &self.exchange;
        let stored = exchange.stores.tickets.get(name).await?;
        let held = exchange.cache.held(name).map(|ticket| ticket.credential_id.clone());
        for id in held.into_iter().chain(stored.map(|ticket| ticket.credential_id)) {
            if exchange.cache.drop_dead(name, &id) {
                exchange.directory.changes().tell(name);
                exchange.counters.tickets_dropped.increment();
            }
            exchange.stores.tickets.delete(name, &id).await?;
        }
        Ok(())
    }

    /// The present ticket of this id: in memory, or after a restart in the store.
    async fn find(
        &self,
        tenant: &Tenant,
        id: &CredentialId,
    ) -> Result<Option<Arc<SystemTicket>>, BrokerError> {
        let exchange = &self.exchange;
        if let Some(ticket) = exchange.cache.find(&tenant.name, id) {
            return Ok(Some(ticket));
        }
        if exchange.cache.held(&tenant.name).is_some() {
            return Ok(None);
        }
        let stored = exchange.stores.tickets.get(&tenant.name).await?;
        let now = exchange.clock.now();
        let present = |ticket: &SystemTicket| {
            ticket.credential_id == *id
                && ticket.token_version == tenant.token_version
                && !ticket.remaining(now).is_zero()
        };
        Ok(stored.filter(present).map(Arc::new))
    }
}

struct Check {
    application: Arc<Application>,
    tenant: Arc<Tenant>,
    status: Arc<TenantStatus>,
    ticket: Arc<SystemTicket>,
    statuses: Arc<Statuses>,
}

impl Check {
    /// A tenant that has moved is looked for once, also where its old host is dead and says nothing.
    async fn run(&self) -> Result<Probe, BrokerError> {
        match self.probe(&self.status).await? {
            Ok(probe) => Ok(probe),
            Err(error) if self.has_moved(&error).await => {
                let status = self.statuses.usable(&self.tenant).await?;
                self.probe(&status).await?.map_err(|error| self.failed(&error))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn has_moved(&self, error: &UpstreamError) -> bool {
        let Some(uri) = &self.status.web_api_uri else { return false };
        self.statuses.has_moved(&self.tenant.name, uri, error).await
    }

    async fn probe(
        &self,
        status: &TenantStatus,
    ) -> Result<Result<Probe, UpstreamError>, BrokerError> {
        let name = &self.tenant.name;
        let uri = status.web_api_uri.as_ref().ok_or_else(|| no_uri(name))?;
        Ok(self.application.probe.probe(name.tenant, uri, &self.ticket.value).await)
    }

    fn failed(&self, error: &UpstreamError) -> BrokerError {
        tracing::warn!(%error, tenant = %self.tenant.name, "ticket could not be tried");
        BrokerError::from_upstream(&self.tenant.name, error)
    }
}
