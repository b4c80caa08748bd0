//! Refreshes that brought no access token: who is to blame, and when it is tried again.

use std::sync::Arc;

use super::{LASTING, PASSING, Refresher, Spending};
use crate::{
    broker::{
        BrokerError, WhyConsent,
        credentials::{BackOff, EndedBy},
        error::RETRY_SOON,
        impersonation::keeping::WRITE_ATTEMPTS,
    },
    domain::GrantEventKind,
    ports::{ExchangeError, RefreshOutcome, Refusal},
};

impl Refresher {
    /// No answer of use.
    pub(super) async fn refused(
        &self,
        mut spending: Spending<'_>,
        error: ExchangeError,
    ) -> Result<(), BrokerError> {
        let tenant = spending.grant.name.tenant.clone();
        tracing::warn!(%error, grant = %spending.grant.name, "no access token from SuperOffice");
        let cause: Arc<str> = error.to_string().into();
        // Then it must not look later as if nobody knew.
        let surely_unspent = matches!(
            error,
            ExchangeError::NotSent(_) | ExchangeError::InvalidClient | ExchangeError::Unauthorized
        );
        let now = self.clock.monotonic();
        let secret_is_refused = spending.application.secret_is_refused(&error, now);
        let mut back_off = self.passing();
        let told = match error {
            ExchangeError::InvalidGrant => {
                // The status that let us through may be an hour old.
                let usable = match self.directory.get(&tenant).await {
                    Ok(tenant) => self.statuses.usable_by_now(&tenant).await.map(drop),
                    Err(error) => Err(error),
                };
                match usable {
                    Ok(()) => {
                        let why = BrokerError::ConsentRequired(tenant, WhyConsent::NoLongerWorks);
                        return self.broken(&mut spending, why).await;
                    }
                    Err(passing) => passing,
                }
            }
            ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
                back_off = LASTING;
                if secret_is_refused {
                    // Ours to mend, and every grant of the application has it.
                    spending.application.alarm(&cause, now);
                    BrokerError::Refused(tenant, Refusal::Credential)
                } else {
                    BrokerError::UpstreamUnavailable { retry_after: LASTING.first, cause }
                }
            }
            ExchangeError::NotSent(error) => BrokerError::from_upstream(&tenant, &error),
            ExchangeError::Transient(_) => {
                BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
            }
            ExchangeError::InvalidResponse(_) => BrokerError::UpstreamInvalid(cause),
        };
        let attempts = if surely_unspent { WRITE_ATTEMPTS } else { 1 };
        self.failed(spending, told, back_off, attempts).await
    }

    pub(super) fn passing(&self) -> BackOff {
        BackOff { first: self.random.jitter(PASSING.first), ..PASSING }
    }

    /// It may pass, or we must mend it: what is still valid goes on being served.
    pub(super) async fn failed(
        &self,
        spending: Spending<'_>,
        error: BrokerError,
        back_off: BackOff,
        write_attempts: u32,
    ) -> Result<(), BrokerError> {
        let Spending { application, grant, version, holding, .. } = spending;
        let name = &grant.name;
        let now = self.clock.now();
        self.counters.refresh_failures.increment();
        application.history.failed(now, &error);
        let outcome = RefreshOutcome::Failed { reason: error.reason() };
        let lease = holding.lease.clone();
        let write = || self.grants.settle(name, &lease, version, &outcome, now);
        match self.insist_at_most(holding, write_attempts, write).await {
            Ok(Some(grant)) => {
                let grant = self.known.learn(grant);
                // The first, and then ever more rarely: it may go on failing for days.
                if grant.failing.is_some_and(|failing| failing.count.is_power_of_two()) {
                    self.feed.tell(&grant, GrantEventKind::Failed, now);
                }
            }
            Ok(None) => self.known.forget(name),
            Err(error) => {
                tracing::warn!(%error, grant = %name, "how a refresh failed is not stored; it counts as unknown");
            }
        }
        let circumstances = application.circumstances(&*self.clock);
        let ended_by = match &error {
            BrokerError::Refused(_, Refusal::Credential) => {
                EndedBy::OtherCredential(circumstances.credential_changes)
            }
            _ => EndedBy::Nothing,
        };
        let now = circumstances.now;
        let wait = self.cache.refuse(name, version, error.clone(), back_off, ended_by, now);
        Err(error.after(wait))
    }
}
