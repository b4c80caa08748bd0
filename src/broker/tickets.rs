//! System user tickets: one for each tenant and application, shared by all callers.
//!
//! A cached ticket is returned without waiting. A cache miss starts one exchange in a background task; all callers that
//! ask in the meantime wait for its result. Tickets in use are renewed in the background well before they expire.
//! A ticket that a caller reports as rejected is replaced only after a probe shows that SuperOffice rejects it.

mod exchange;
mod rejected;
mod renewal;
mod sliding_expiry;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use self::exchange::Exchanger;
pub use self::exchange::{TicketRules, TicketStores};
use super::{
    Applications, BrokerError, Runtime, Statuses, TenantChanges, TenantDirectory,
    credential_cache::CredentialCache, error::RETRY_SOON, single_flight::SingleFlight,
};
use crate::{
    access::{Authorized, IssueSystemTicket, RevealApplicationToken},
    domain::{CredentialId, SystemTicket, Tenant, TenantName, TenantStatus, WebApiUri},
};

/// A call tries again when the ticket that it waited for cannot be used (another token was set, or a longer lifetime is
/// needed). After this many attempts it fails: that many misses in a row point to a fault.
const MAX_ATTEMPTS: usize = 3;

/// A ticket for a caller, with everything that the caller needs to use it.
#[derive(Debug, Clone)]
pub struct IssuedSystemTicket {
    /// The tenant's full name, never with the wildcard application `-`.
    pub tenant: TenantName,
    /// The ticket.
    pub ticket: Arc<SystemTicket>,
    /// The current address of the tenant's Web API.
    pub web_api_uri: WebApiUri,
    /// The client secret, which SuperOffice calls application token, if the caller requested it and is permitted to
    /// have it.
    pub application_token: Option<SecretString>,
}

impl IssuedSystemTicket {
    /// Returns whether a caller that has `other` would learn nothing new from this ticket.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.ticket.credential_id == other.ticket.credential_id
            && self.ticket.expire_time == other.ticket.expire_time
            && self.web_api_uri == other.web_api_uri
            && self.token() == other.token()
    }

    fn token(&self) -> Option<&str> {
        self.application_token.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The use cases of system user tickets.
pub struct Tickets {
    applications: Arc<Applications>,
    directory: Arc<TenantDirectory>,
    statuses: Arc<Statuses>,
    exchanger: Arc<Exchanger>,
    exchanges: SingleFlight<TenantName, Result<Arc<SystemTicket>, BrokerError>>,
    probes: SingleFlight<(TenantName, CredentialId), Result<(), BrokerError>>,
    extensions: SingleFlight<(TenantName, CredentialId), ()>,
}

impl Tickets {
    /// Creates the use cases with an empty cache.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<TenantDirectory>,
        statuses: Arc<Statuses>,
        stores: TicketStores,
        rules: TicketRules,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, random, counters, tasks, .. } = runtime.clone();
        let cache = CredentialCache::default();
        let exchanger = Arc::new(Exchanger {
            cache,
            directory: Arc::clone(&directory),
            stores,
            clock,
            random,
            counters,
            rules,
        });
        Self {
            applications,
            directory,
            statuses,
            exchanger,
            exchanges: SingleFlight::new(tasks.clone()),
            probes: SingleFlight::new(tasks.clone()),
            extensions: SingleFlight::new(tasks),
        }
    }

    /// Returns the tenant's ticket, valid for at least `min_ttl`, and the client secret if `reveal` permits it.
    ///
    /// # Errors
    /// If the request is invalid, the tenant is not usable, or the store or SuperOffice fails.
    pub async fn issue(
        &self,
        authorized: &Authorized<IssueSystemTicket, TenantName>,
        min_ttl: Duration,
        reveal: Option<&Authorized<RevealApplicationToken, TenantName>>,
    ) -> Result<IssuedSystemTicket, BrokerError> {
        let name = authorized.resource();
        if min_ttl > self.longest_min_ttl() {
            let problem = format!("at most {} s", self.longest_min_ttl().as_secs());
            return Err(BrokerError::Invalid { field: "min_ttl", problem });
        }
        let application = self.applications.get(&name.application)?;
        let allowed = application.allow_reveal_application_token;
        if reveal.is_some_and(|reveal| reveal.resource() != name || !allowed) {
            return Err(BrokerError::RevealNotAllowed(name.application.clone()));
        }
        let (ticket, status) = self.ticket(name, min_ttl).await?;
        // Read only after the exchange, which may have switched to the next client secret.
        let application_token = reveal.map(|_| application.login.application_token());
        let web_api_uri = status.web_api_uri.clone();
        let web_api_uri = web_api_uri.ok_or_else(|| missing_web_api_uri(name))?;
        Ok(IssuedSystemTicket { tenant: name.clone(), ticket, web_api_uri, application_token })
    }

    /// Returns the maximum `min_ttl` of a request: more than half of a ticket's lifetime would cause an exchange at
    /// almost every call.
    #[must_use]
    pub fn longest_min_ttl(&self) -> Duration {
        self.exchanger.rules.longest_min_ttl()
    }

    /// Returns the last failure, if it still prevents a new exchange.
    pub(super) fn cached_failure(&self, tenant: &Tenant) -> Option<BrokerError> {
        let application = self.applications.get(&tenant.name.application).ok()?;
        let conditions = application.failure_conditions(&*self.exchanger.clock);
        let (name, version) = (&tenant.name, tenant.token_version);
        let failure = self.exchanger.cache.cached_failure(name, version, &conditions);
        failure.map(|(error, _)| error)
    }

    /// Ends a cached failure after a person of the tenant consented, which may have removed its cause. The next caller
    /// starts an exchange.
    pub fn clear_failure(&self, name: &TenantName) {
        self.exchanger.cache.clear_failure(name);
    }

    /// Removes the ticket and the cached failure of a tenant that was disabled or removed.
    pub(super) fn forget_tenant(&self, name: &TenantName) {
        self.exchanger.cache.forget(|other| other == name);
    }

    /// Returns the tenants that have a ticket or a failure in the cache.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        self.exchanger.cache.keys()
    }

    /// Returns a receiver that wakes when the tenant's ticket, or the permission to hand it out, may have changed.
    #[must_use]
    pub fn changes(&self, name: &TenantName) -> TenantChanges {
        self.directory.changes().subscribe(name, Arc::clone(&self.exchanger.clock))
    }

    /// Returns the number of cache entries.
    #[must_use]
    pub fn cached_count(&self) -> usize {
        self.exchanger.cache.len()
    }

    /// Returns the tenant's ticket, and the tenant status with the Web API address.
    pub(super) async fn ticket(
        &self,
        name: &TenantName,
        min_ttl: Duration,
    ) -> Result<(Arc<SystemTicket>, Arc<TenantStatus>), BrokerError> {
        let mut waited = false;
        for _ in 0..MAX_ATTEMPTS {
            let tenant = self.enrolled_tenant(name).await?;
            let status = self.statuses.require_usable(&tenant).await?;
            // Checked again after waiting: a disabled or removed tenant and a new token take effect at once.
            let tenant = self.enrolled_tenant(name).await?;
            let now = self.exchanger.clock.moment();
            if let Some(ticket) =
                self.exchanger.cache.get_valid(name, tenant.token_version, min_ttl, now)
            {
                if !waited {
                    self.exchanger.counters.ticket_hits.increment();
                }
                return Ok((ticket, status));
            }
            if !waited {
                self.exchanger.counters.ticket_misses.increment();
                waited = true;
            }
            self.fetch(&tenant, min_ttl).await?;
        }
        let cause = "each ticket was replaced before this call could use it".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// Returns the tenant if it is enabled and has a system user token.
    pub(super) async fn enrolled_tenant(
        &self,
        name: &TenantName,
    ) -> Result<Arc<Tenant>, BrokerError> {
        let tenant = self.directory.enabled(name).await?;
        if !tenant.has_system_user_token() {
            return Err(BrokerError::NotEnrolled(name.clone()));
        }
        Ok(tenant)
    }

    async fn fetch(&self, tenant: &Tenant, min_ttl: Duration) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&tenant.name.application)?);
        let work = || {
            Arc::clone(&self.exchanger).load_or_exchange(application, tenant.name.clone(), min_ttl)
        };
        let result = self.exchanges.join(tenant.name.clone(), work).await;
        result
            .unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
            .map(drop)
    }
}

pub(super) fn missing_web_api_uri(name: &TenantName) -> BrokerError {
    BrokerError::Internal(
        format!("{name} is running, but its tenant status has no Web API address").into(),
    )
}
