//! Getting a ticket where there is none at hand: the stored one, else a new one from SuperOffice.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{TicketRules, TicketStores};
use crate::{
    broker::{
        Application, BrokerError, Counters, Directory,
        credentials::{BackOff, Circumstances, Credentials, EndedBy},
        error::RETRY_SOON,
    },
    domain::{CredentialId, SystemTicket, TICKET_LIFETIME, TenantName, ticket_lifetime_end},
    ports::{
        Clock, IssuedTicket, Random, Refusal, StoreError, StoredToken, UpstreamError, is_ahead,
    },
};

/// Refusals that last until somebody acts.
const LASTING: BackOff = BackOff { first: Duration::from_mins(1), last: Duration::from_mins(15) };

/// A refused timestamp: clocks are corrected by themselves.
const CLOCK: BackOff = BackOff { first: Duration::from_secs(10), last: Duration::from_mins(1) };

/// No answer of use: errors, pages instead of JSON, time-outs. Each exchange may have added a row at the customer.
const PASSING: BackOff = BackOff { first: RETRY_SOON, last: Duration::from_mins(1) };

/// A ticket is renewed when about this much of its life is left: long enough to outlast an outage of
/// SuperOffice's maintenance windows, short enough that few tickets are made.
const RENEW_BEFORE: Duration = Duration::from_hours(1);

/// What an exchange works with; shared by all of them.
pub(super) struct Exchange {
    pub(super) cache: Credentials<TenantName, SystemTicket>,
    pub(super) directory: Arc<Directory>,
    pub(super) stores: TicketStores,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) counters: Arc<Counters>,
    pub(super) rules: TicketRules,
}

impl Exchange {
    /// Brings a ticket into the cache that lives at least `min_ttl` more, and returns it.
    pub(super) async fn run(
        self: Arc<Self>,
        application: Arc<Application>,
        name: TenantName,
        min_ttl: Duration,
    ) -> Result<Arc<SystemTicket>, BrokerError> {
        let token = self.stores.tenants.system_user_token(&name).await?;
        let token = token.ok_or_else(|| BrokerError::NotEnrolled(name.clone()))?;
        if let Some(ticket) = self.stored(&name, &token, min_ttl).await? {
            return Ok(self.take_in(&name, ticket));
        }
        let circumstances = application.circumstances(&*self.clock);
        let refusal = self.cache.standing_refusal(&name, token.version, &circumstances);
        if let Some((error, wait)) = refusal {
            return Err(error.after(wait));
        }
        let retry_after = self.cache.wait_before_replacing(&name, self.clock.monotonic());
        if !retry_after.is_zero() {
            let cause = "a ticket was replaced less than a minute ago and is dead again".into();
            return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
        }
        let ticket = self.exchange(&application, &name, &token).await?;
        self.store(&name, &ticket).await;
        let ticket = self.take_in(&name, ticket);
        if self.directory.is_stopped(&name).await {
            // Since the exchange began: nothing of it stays in memory.
            self.cache.forget(|other| *other == name);
        }
        Ok(ticket)
    }

    /// The ticket that was kept, if it is of use. One that cannot be read is replaced, not fatal.
    async fn stored(
        &self,
        name: &TenantName,
        token: &StoredToken,
        min_ttl: Duration,
    ) -> Result<Option<SystemTicket>, BrokerError> {
        let stored = match self.stores.tickets.get(name).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Seal(_))) => {
                tracing::error!(%error, tenant = %name, "stored ticket not readable; it will be replaced");
                None
            }
            other => other?,
        };
        let now = self.clock.now();
        // One that seems to be issued in the future was stored while a clock was wrong: when it ends nobody knows.
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

    async fn exchange(
        &self,
        application: &Application,
        name: &TenantName,
        token: &StoredToken,
    ) -> Result<SystemTicket, BrokerError> {
        // Before the exchange: its life may begin as soon as it is sent.
        let issue_time = self.clock.now();
        match application.login.authenticate(name.tenant, &token.token).await {
            Ok(issued) => {
                self.counters.exchanges.increment();
                application.history.succeeded(issue_time, self.clock.monotonic());
                self.keep_company_name(name, &issued).await;
                Ok(SystemTicket {
                    value: issued.value,
                    credential_id: CredentialId::of_ticket(self.random.bytes()),
                    issue_time,
                    expire_time: ticket_lifetime_end(issue_time, issue_time, self.rules.max_age),
                    token_version: token.version,
                })
            }
            Err(error) => Err(self.failed(application, name, token, &error)),
        }
    }

    fn failed(
        &self,
        application: &Application,
        name: &TenantName,
        token: &StoredToken,
        error: &UpstreamError,
    ) -> BrokerError {
        let circumstances = application.circumstances(&*self.clock);
        self.counters.exchange_failures.increment();
        let told = BrokerError::from_upstream(name, error);
        application.history.failed(self.clock.now(), &told);
        if matches!(error, UpstreamError::CircuitOpen(_)) {
            // No request was sent, and every call ends here while the login host is down.
            tracing::debug!(%error, tenant = %name, "no ticket from SuperOffice");
        } else {
            // Once for each exchange, and these are limited from here on.
            tracing::warn!(%error, tenant = %name, "no ticket from SuperOffice");
        }
        if let UpstreamError::Refused(Refusal::Credential | Refusal::Clock) = error {
            // Ours to mend, and every tenant of the application has it.
            application.alarm(error, circumstances.now);
        }
        let Some((back_off, ended_by)) = self.back_off(error, &circumstances) else { return told };
        let (version, now) = (token.version, circumstances.now);
        let wait = self.cache.refuse(name, version, told.clone(), back_off, ended_by, now);
        told.after(wait)
    }

    /// Returns how long a failure is repeated to callers without asking SuperOffice again, and the event that ends that
    /// before its time. `None` if the failure is not remembered.
    fn back_off(
        &self,
        error: &UpstreamError,
        circumstances: &Circumstances,
    ) -> Option<(BackOff, EndedBy)> {
        match error {
            // A text that names no reason may mean the client secret as well.
            UpstreamError::Refused(Refusal::Credential | Refusal::Rejected) => {
                Some((LASTING, EndedBy::OtherCredential(circumstances.credential_changes)))
            }
            UpstreamError::Refused(Refusal::Clock) => {
                let off = circumstances.clock_is_off;
                Some((CLOCK, if off { EndedBy::CorrectClock } else { EndedBy::Nothing }))
            }
            UpstreamError::Refused(
                Refusal::Revoked | Refusal::Expired | Refusal::NeedsReapproval,
            ) => Some((LASTING, EndedBy::Nothing)),
            UpstreamError::Unavailable(_)
            | UpstreamError::HostUnavailable(_)
            | UpstreamError::InvalidResponse(_)
            | UpstreamError::Misdirected => {
                let first = self.random.jitter(PASSING.first);
                Some((BackOff { first, ..PASSING }, EndedBy::Nothing))
            }
            // The circuit limits calls by itself.
            UpstreamError::CircuitOpen(_) => None,
        }
    }

    /// A ticket that cannot be stored is used all the same: thrown away, the next call would ask for another.
    async fn store(&self, name: &TenantName, ticket: &SystemTicket) {
        match self.stores.tickets.put(name, ticket).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!(tenant = %name, "ticket not stored: the tenant changed meanwhile");
            }
            Err(error) => {
                tracing::warn!(%error, tenant = %name, "ticket not stored; a restart will ask for a new one");
            }
        }
    }

    async fn keep_company_name(&self, name: &TenantName, issued: &IssuedTicket) {
        let known = self.directory.get(name).await;
        let same = known.is_ok_and(|tenant| tenant.company_name == issued.company_name);
        if issued.company_name.is_empty() || same {
            return;
        }
        match self.stores.tenants.put_company_name(name, &issued.company_name).await {
            // What is remembered of the tenant has the former name.
            Ok(()) => self.directory.forget(name),
            Err(error) => {
                tracing::warn!(%error, tenant = %name, "company name not stored");
            }
        }
    }

    fn take_in(&self, name: &TenantName, ticket: SystemTicket) -> Arc<SystemTicket> {
        let ticket = Arc::new(ticket);
        let now = self.clock.moment();
        let renew_in = self.renew_in(ticket.remaining(now.wall));
        self.cache.insert(name, Arc::clone(&ticket), renew_in, now);
        self.directory.changes().tell(name);
        ticket
    }

    /// The ticket lives longer.
    pub(super) fn extend(&self, name: &TenantName, id: &CredentialId, expire_time: Timestamp) {
        let longer = |ticket: &SystemTicket| SystemTicket { expire_time, ..ticket.clone() };
        let now = self.clock.moment();
        let life = expire_time.duration_since(now.wall).try_into().unwrap_or_default();
        self.cache.amend(name, id, self.renew_in(life), now, longer);
        self.directory.changes().tell(name);
    }

    /// Half to one and a half `RENEW_BEFORE` before the end, so that tickets made together are not renewed
    /// together; never in the first two thirds of a life that configuration has made short.
    fn renew_in(&self, life: Duration) -> Duration {
        let before = self.random.jitter(RENEW_BEFORE).min(life / 3);
        life.saturating_sub(before)
    }

    /// The longest life that a caller may ask for: half of what a new ticket has.
    pub(super) fn longest_min_ttl(&self) -> Duration {
        self.rules.max_age.min(TICKET_LIFETIME) / 2
    }
}
