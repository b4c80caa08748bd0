//! Obtains a ticket on a cache miss: the stored ticket if it is still valid, otherwise a new one from SuperOffice.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    broker::{
        Application, BrokerError, Counters, TenantDirectory,
        credential_cache::{BackOff, CredentialCache, EndedBy, FailureConditions},
        error::RETRY_SOON,
    },
    domain::{CredentialId, SystemTicket, TICKET_LIFETIME, TenantName, ticket_lifetime_end},
    ports::{
        Clock, IssuedTicket, Random, Refusal, StoreError, StoredToken, TenantStore, TicketStore,
        UpstreamError, is_ahead,
    },
};

/// For refusals that last until an administrator acts.
const REFUSAL_BACK_OFF: BackOff =
    BackOff { first: Duration::from_mins(1), max: Duration::from_mins(15) };

/// For a refused timestamp: clocks are usually corrected automatically.
const CLOCK_BACK_OFF: BackOff =
    BackOff { first: Duration::from_secs(10), max: Duration::from_mins(1) };

/// For errors, HTML instead of JSON, and time-outs. Each exchange may have added a row to the customer's database.
const FAILURE_BACK_OFF: BackOff = BackOff { first: RETRY_SOON, max: Duration::from_mins(1) };

/// A ticket is renewed when about this much of its lifetime is left: long enough to outlast one of SuperOffice's
/// maintenance windows, short enough to create few tickets.
const RENEW_BEFORE: Duration = Duration::from_hours(1);

/// The configurable rules for tickets.
#[derive(Debug, Clone, Copy)]
pub struct TicketRules {
    /// The maximum age: a ticket is never used longer than this after its issue, even if uses have extended it.
    pub max_age: Duration,
    /// A ticket is renewed in the background only if it was used within this time.
    pub renew_if_used_within: Duration,
}

impl TicketRules {
    /// Returns the maximum `min_ttl` of a request: half of a new ticket's lifetime.
    pub(super) fn longest_min_ttl(&self) -> Duration {
        self.max_age.min(TICKET_LIFETIME) / 2
    }
}

/// The stores that tickets need.
#[derive(Clone)]
pub struct TicketStores {
    /// The store of the system user tokens.
    pub tenants: Arc<dyn TenantStore>,
    /// The store of the tickets.
    pub tickets: Arc<dyn TicketStore>,
}

/// Obtains tickets, from the cache, the store or SuperOffice.
pub(super) struct Exchanger {
    pub(super) cache: CredentialCache<TenantName, SystemTicket>,
    pub(super) directory: Arc<TenantDirectory>,
    pub(super) stores: TicketStores,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) counters: Arc<Counters>,
    pub(super) rules: TicketRules,
}

impl Exchanger {
    /// Obtains a ticket from the store or SuperOffice that is valid for at least `min_ttl`, and caches it.
    pub(super) async fn load_or_exchange(
        self: Arc<Self>,
        application: Arc<Application>,
        name: TenantName,
        min_ttl: Duration,
    ) -> Result<Arc<SystemTicket>, BrokerError> {
        let token = self.stores.tenants.system_user_token(&name).await?;
        let token = token.ok_or_else(|| BrokerError::NotEnrolled(name.clone()))?;
        if let Some(ticket) = self.stored_ticket(&name, &token, min_ttl).await? {
            return Ok(self.cache_ticket(&name, ticket));
        }
        let conditions = application.failure_conditions(&*self.clock);
        let failure = self.cache.cached_failure(&name, token.version, &conditions);
        if let Some((error, wait)) = failure {
            return Err(error.with_retry_after(wait));
        }
        let retry_after = self.cache.replacement_delay(&name, self.clock.monotonic());
        if !retry_after.is_zero() {
            let cause =
                "SuperOffice rejected a ticket that was replaced less than a minute ago".into();
            return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
        }
        let (ticket, company_name) = self.exchange(&application, &name, &token).await?;
        // Together, so that the store can commit both at once.
        tokio::join!(
            self.store_ticket(&name, &ticket),
            self.update_company_name(&name, &company_name)
        );
        let ticket = self.cache_ticket(&name, ticket);
        if self.directory.is_stopped(&name).await {
            // The tenant was disabled or removed during the exchange: its ticket must not stay in memory.
            self.cache.forget(|other| *other == name);
        }
        Ok(ticket)
    }

    /// Returns the stored ticket if it is valid. A ticket that cannot be read is replaced; it is not an error.
    async fn stored_ticket(
        &self,
        name: &TenantName,
        token: &StoredToken,
        min_ttl: Duration,
    ) -> Result<Option<SystemTicket>, BrokerError> {
        let stored = match self.stores.tickets.get(name).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Seal(_))) => {
                tracing::error!(%error, tenant = %name, "stored ticket cannot be read; it will be replaced");
                None
            }
            other => other?,
        };
        let now = self.clock.now();
        // A ticket with a future issue time was stored while a clock was wrong, so its expiry time is unknown.
        Ok(stored.filter(|ticket| !is_ahead(ticket.issue_time, Duration::ZERO, now)).filter(
            |ticket| {
                let remaining = ticket.remaining(now);
                !self.cache.is_dead(name, &ticket.credential_id)
                    && ticket.token_version == token.version
                    && !remaining.is_zero()
                    && remaining >= min_ttl
                    && ticket.expire_time
                        <= ticket_lifetime_end(ticket.issue_time, now, self.rules.max_age)
            },
        ))
    }

    /// Obtains a new ticket from SuperOffice, with the name of the customer's company.
    async fn exchange(
        &self,
        application: &Application,
        name: &TenantName,
        token: &StoredToken,
    ) -> Result<(SystemTicket, String), BrokerError> {
        // Taken before the exchange: the ticket's lifetime may start when the request is sent.
        let issue_time = self.clock.now();
        match application.login.authenticate(name.tenant, &token.token).await {
            Ok(issued) => {
                self.counters.exchanges.increment();
                application.history.record_success(issue_time, self.clock.monotonic());
                let IssuedTicket { value, company_name } = issued;
                let ticket = SystemTicket {
                    value,
                    credential_id: CredentialId::of_ticket(self.random.bytes()),
                    issue_time,
                    expire_time: ticket_lifetime_end(issue_time, issue_time, self.rules.max_age),
                    token_version: token.version,
                };
                Ok((ticket, company_name))
            }
            Err(error) => Err(self.record_failure(application, name, token, &error)),
        }
    }

    fn record_failure(
        &self,
        application: &Application,
        name: &TenantName,
        token: &StoredToken,
        error: &UpstreamError,
    ) -> BrokerError {
        let conditions = application.failure_conditions(&*self.clock);
        self.counters.exchange_failures.increment();
        let failure = BrokerError::from_upstream(name, error);
        application.history.record_failure(self.clock.now(), &failure);
        if matches!(error, UpstreamError::CircuitOpen(_)) {
            // No request was sent. While the login host is down, every call takes this path.
            tracing::debug!(%error, tenant = %name, "no ticket from SuperOffice");
        } else {
            // One warning for each exchange; the back-off limits the number of exchanges.
            tracing::warn!(%error, tenant = %name, "no ticket from SuperOffice");
        }
        if let UpstreamError::Refused(Refusal::Credential | Refusal::Clock) = error {
            // The operator must fix this, and it affects every tenant of the application.
            application.alarm(error, conditions.now);
        }
        let Some((back_off, ended_by)) = self.back_off(error, &conditions) else {
            return failure;
        };
        let (version, now) = (token.version, conditions.now);
        let wait =
            self.cache.record_failure(name, version, failure.clone(), back_off, ended_by, now);
        failure.with_retry_after(wait)
    }

    /// Returns how long a failure is cached and returned to callers without another exchange, and the event that ends
    /// this early. `None` if the failure is not cached.
    fn back_off(
        &self,
        error: &UpstreamError,
        conditions: &FailureConditions,
    ) -> Option<(BackOff, EndedBy)> {
        match error {
            // A refusal without a known reason may also mean that the client secret is wrong.
            UpstreamError::Refused(Refusal::Credential | Refusal::Rejected) => {
                Some((REFUSAL_BACK_OFF, EndedBy::OtherCredential(conditions.credential_changes)))
            }
            UpstreamError::Refused(Refusal::Clock) => {
                let skewed = conditions.has_clock_skew;
                let ended_by = if skewed { EndedBy::CorrectClock } else { EndedBy::Nothing };
                Some((CLOCK_BACK_OFF, ended_by))
            }
            UpstreamError::Refused(
                Refusal::Revoked | Refusal::Expired | Refusal::NeedsReapproval,
            ) => Some((REFUSAL_BACK_OFF, EndedBy::Nothing)),
            UpstreamError::Unavailable(_)
            | UpstreamError::HostUnavailable(_)
            | UpstreamError::InvalidResponse(_)
            | UpstreamError::Misdirected => {
                let first = self.random.jitter(FAILURE_BACK_OFF.first);
                Some((BackOff { first, ..FAILURE_BACK_OFF }, EndedBy::Nothing))
            }
            // The circuit breaker already limits calls.
            UpstreamError::CircuitOpen(_) => None,
        }
    }

    /// Stores a ticket. A ticket that cannot be stored is still used; otherwise the next call would create another.
    async fn store_ticket(&self, name: &TenantName, ticket: &SystemTicket) {
        match self.stores.tickets.put(name, ticket).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(tenant = %name, "ticket not stored: the tenant changed during the exchange");
            }
            Err(error) => {
                tracing::warn!(%error, tenant = %name, "ticket not stored; after a restart the gateway requests a new one");
            }
        }
    }

    async fn update_company_name(&self, name: &TenantName, company_name: &str) {
        let known = self.directory.get(name).await;
        let same = known.is_ok_and(|tenant| tenant.company_name == company_name);
        if company_name.is_empty() || same {
            return;
        }
        match self.stores.tenants.put_company_name(name, company_name).await {
            Ok(()) => self.directory.set_company_name(name, company_name),
            Err(error) => {
                tracing::warn!(%error, tenant = %name, "company name not stored");
            }
        }
    }

    fn cache_ticket(&self, name: &TenantName, ticket: SystemTicket) -> Arc<SystemTicket> {
        let ticket = Arc::new(ticket);
        let now = self.clock.moment();
        let renew_in = self.renewal_delay(ticket.remaining(now.wall));
        self.cache.insert(name, Arc::clone(&ticket), renew_in, now);
        self.directory.changes().notify(name);
        ticket
    }

    /// Sets a later expiry time for a cached ticket.
    pub(super) fn extend(&self, name: &TenantName, id: &CredentialId, expire_time: Timestamp) {
        let longer = |ticket: &SystemTicket| SystemTicket { expire_time, ..ticket.clone() };
        let now = self.clock.moment();
        let life = expire_time.duration_since(now.wall).try_into().unwrap_or_default();
        self.cache.update(name, id, self.renewal_delay(life), now, longer);
        self.directory.changes().notify(name);
    }

    /// Returns the delay before renewal. Renewal starts 0.5 to 1.5 times `RENEW_BEFORE` before expiry, so that tickets
    /// created together are not renewed together, but never in the first two thirds of the lifetime.
    fn renewal_delay(&self, life: Duration) -> Duration {
        let before = self.random.jitter(RENEW_BEFORE).min(life / 3);
        life.saturating_sub(before)
    }
}
