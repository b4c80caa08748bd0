//! System user tickets (DESIGN section 7, "Tickets"): one for each tenant and application, for everybody.
//!
//! A cached ticket is handed out without waiting for anybody. A miss starts one exchange, which belongs to the
//! gateway; all who ask meanwhile wait for it. Tickets in use are renewed in the background well before they
//! expire. A ticket that a caller says was rejected is proven dead before it is replaced.

mod exchange;
mod rejected;
mod renewal;
mod used;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::TaskTracker;

use self::exchange::Exchange;
use super::{
    Applications, BrokerError, Counters, Directory, Statuses, TenantChanges,
    credentials::Credentials, error::RETRY_SOON, flights::Flights,
};
use crate::{
    access::{Authorized, IssueSystemTicket, RevealApplicationToken},
    domain::{CredentialId, SystemTicket, Tenant, TenantName, TenantStatus, WebApiUri},
    ports::{Clock, Random, TenantStore, TicketStore},
};

/// A call goes round again when what it waited for was overtaken (another token was set, a longer life is
/// needed). More often than this is not bad luck but a fault.
const MAX_ROUNDS: usize = 3;

/// The configurable part.
#[derive(Debug, Clone, Copy)]
pub struct TicketRules {
    /// A ticket is never used longer than this after its issue, however often it slid.
    pub max_age: Duration,
    /// A ticket is renewed in the background only if it was asked for within this time.
    pub renew_if_used_within: Duration,
}

/// A ticket for a caller, with all that it needs to use it.
#[derive(Debug, Clone)]
pub struct HandedOutTicket {
    /// The tenant, by its real name.
    pub tenant: TenantName,
    /// The ticket.
    pub ticket: Arc<SystemTicket>,
    /// Where the tenant's Web API is now.
    pub web_api_uri: WebApiUri,
    /// The client secret, only where it was asked for and permitted.
    pub application_token: Option<SecretString>,
}

impl HandedOutTicket {
    /// Whether it would tell a caller nothing new.
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

/// The stores that tickets need.
#[derive(Clone)]
pub struct TicketStores {
    /// Has the system user tokens.
    pub tenants: Arc<dyn TenantStore>,
    /// Keeps the tickets.
    pub tickets: Arc<dyn TicketStore>,
}

/// The use cases of system user tickets.
pub struct Tickets {
    applications: Arc<Applications>,
    directory: Arc<Directory>,
    statuses: Arc<Statuses>,
    exchange: Arc<Exchange>,
    exchanges: Flights<TenantName, Result<Arc<SystemTicket>, BrokerError>>,
    probes: Flights<(TenantName, CredentialId), Result<(), BrokerError>>,
    slides: Flights<(TenantName, CredentialId), ()>,
}

impl Tickets {
    /// Nothing cached yet.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        statuses: Arc<Statuses>,
        stores: TicketStores,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        rules: TicketRules,
        tasks: TaskTracker,
    ) -> Self {
        let cache = Credentials::default();
        let exchange = Arc::new(Exchange {
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
            exchange,
            exchanges: Flights::new(tasks.clone()),
            probes: Flights::new(tasks.clone()),
            slides: Flights::new(tasks),
        }
    }

    /// Hands out the tenant's ticket, which lives at least `min_ttl` more; with the client secret if `reveal`
    /// permits it.
    ///
    /// # Errors
    /// Everything in CONTRACT section 4 that can stand between a tenant and its ticket.
    pub async fn issue(
        &self,
        authorized: &Authorized<IssueSystemTicket, TenantName>,
        min_ttl: Duration,
        reveal: Option<&Authorized<RevealApplicationToken, TenantName>>,
    ) -> Result<HandedOutTicket, BrokerError> {
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
        // Only now: the exchange may have found that another secret works.
        let application_token = reveal.map(|_| application.login.application_token());
        let web_api_uri = status.web_api_uri.clone();
        let web_api_uri = web_api_uri.ok_or_else(|| no_uri(name))?;
        Ok(HandedOutTicket { tenant: name.clone(), ticket, web_api_uri, application_token })
    }

    /// The longest `min_ttl` that can be asked for: more than half of a ticket's life would ask for a new one at
    /// almost every call.
    #[must_use]
    pub fn longest_min_ttl(&self) -> Duration {
        self.exchange.longest_min_ttl()
    }

    /// What SuperOffice refused last and would refuse again, so that it is not asked for now.
    pub(super) fn standing_refusal(&self, tenant: &Tenant) -> Option<BrokerError> {
        let application = self.applications.get(&tenant.name.application).ok()?;
        let circumstances = application.circumstances(&*self.exchange.clock);
        let (name, version) = (&tenant.name, tenant.token_version);
        let refusal = self.exchange.cache.standing_refusal(name, version, &circumstances);
        refusal.map(|(error, _)| error)
    }

    /// A person of the tenant consented, which may have ended what SuperOffice refused: the next caller asks again.
    pub fn consented(&self, name: &TenantName) {
        self.exchange.cache.end_refusal(name);
    }

    /// The tenant was stopped or removed.
    pub(super) fn forget_tenant(&self, name: &TenantName) {
        self.exchange.cache.forget(|other| other == name);
    }

    /// Tenants of which a ticket or a refusal is known.
    pub(super) fn names(&self) -> Vec<TenantName> {
        self.exchange.cache.names()
    }

    /// Tells when the ticket of a tenant may have changed, or whether it may be handed out.
    #[must_use]
    pub fn changes(&self, name: &TenantName) -> TenantChanges {
        self.directory.changes().watch(name, Arc::clone(&self.exchange.clock))
    }

    /// How many tickets are cached.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.exchange.cache.len()
    }

    /// The tenant's ticket, and where it can be used.
    pub(super) async fn ticket(
        &self,
        name: &TenantName,
        min_ttl: Duration,
    ) -> Result<(Arc<SystemTicket>, Arc<TenantStatus>), BrokerError> {
        let mut waited = false;
        for _ in 0..MAX_ROUNDS {
            let tenant = self.permitted(name).await?;
            let status = self.statuses.usable(&tenant).await?;
            // Again, after whatever was waited for: the emergency stop, a removal and a new token hold at once.
            let tenant = self.permitted(name).await?;
            let now = self.exchange.clock.moment();
            if let Some(ticket) =
                self.exchange.cache.hand_out(name, tenant.token_version, min_ttl, now)
            {
                if !waited {
                    self.exchange.counters.ticket_hits.increment();
                }
                return Ok((ticket, status));
            }
            if !waited {
                self.exchange.counters.ticket_misses.increment();
                waited = true;
            }
            self.fetch(&tenant, min_ttl).await?;
        }
        let cause = "the ticket was overtaken again and again while it was waited for".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// The tenant, if we would hand out its ticket at all.
    pub(super) async fn permitted(&self, name: &TenantName) -> Result<Arc<Tenant>, BrokerError> {
        let tenant = self.directory.enabled(name).await?;
        if !tenant.has_system_user_token() {
            return Err(BrokerError::NotEnrolled(name.clone()));
        }
        Ok(tenant)
    }

    async fn fetch(&self, tenant: &Tenant, min_ttl: Duration) -> Result<(), BrokerError> {
        let application = Arc::clone(self.applications.get(&tenant.name.application)?);
        let work = || Arc::clone(&self.exchange).run(application, tenant.name.clone(), min_ttl);
        let landed = self.exchanges.join(tenant.name.clone(), work).await;
        landed
            .unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
            .map(drop)
    }
}

pub(super) fn no_uri(name: &TenantName) -> BrokerError {
    BrokerError::Internal(format!("{name} is usable but has no Web API address").into())
}
