//! Refreshes without an access token: the cause, and the time of the next attempt.

use std::sync::Arc;

use super::{PERMANENT_BACK_OFF, PendingRefresh, Refresher, TRANSIENT_BACK_OFF};
use crate::{
    broker::{
        BrokerError, ConsentReason,
        credential_cache::{BackOff, EndedBy},
        error::RETRY_SOON,
        impersonation::persistence::MAX_WRITE_ATTEMPTS,
    },
    domain::GrantEventKind,
    ports::{ExchangeError, RefreshOutcome, Refusal},
};

impl Refresher {
    /// Handles an exchange that failed.
    pub(super) async fn handle_exchange_error(
        &self,
        mut pending: PendingRefresh<'_>,
        error: ExchangeError,
    ) -> Result<(), BrokerError> {
        let tenant = pending.grant.name.tenant.clone();
        tracing::warn!(%error, grant = %pending.grant.name, "SuperOffice returned no access token");
        let cause: Arc<str> = error.to_string().into();
        // The outcome is known, so it must be stored: otherwise it would later count as unknown.
        let surely_unspent = matches!(
            error,
            ExchangeError::NotSent(_) | ExchangeError::InvalidClient | ExchangeError::Unauthorized
        );
        let now = self.clock.monotonic();
        let secret_is_refused = pending.application.secret_is_refused(&error, now);
        let mut back_off = self.transient_back_off();
        let reported = match error {
            ExchangeError::InvalidGrant => {
                // The status that allowed this refresh may be an hour old.
                let usable = match self.directory.get(&tenant).await {
                    Ok(tenant) => self.statuses.require_usable_fresh(&tenant).await.map(drop),
                    Err(error) => Err(error),
                };
                match usable {
                    Ok(()) => {
                        let why =
                            BrokerError::ConsentRequired(tenant, ConsentReason::NoLongerWorks);
                        return self.mark_broken(&mut pending, why).await;
                    }
                    Err(temporary) => temporary,
                }
            }
            ExchangeError::InvalidClient | ExchangeError::Unauthorized => {
                back_off = PERMANENT_BACK_OFF;
                if secret_is_refused {
                    // Our client secret is rejected, which affects every grant of the application.
                    pending.application.alarm(&cause, now);
                    BrokerError::Refused(tenant, Refusal::Credential)
                } else {
                    BrokerError::UpstreamUnavailable {
                        retry_after: PERMANENT_BACK_OFF.first,
                        cause,
                    }
                }
            }
            ExchangeError::NotSent(error) => BrokerError::from_upstream(&tenant, &error),
            ExchangeError::Transient(_) => {
                BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
            }
            ExchangeError::InvalidResponse(_) => BrokerError::upstream_invalid(cause),
        };
        let attempts = if surely_unspent { MAX_WRITE_ATTEMPTS } else { 1 };
        self.finish_failure(pending, reported, back_off, attempts).await
    }

    pub(super) fn transient_back_off(&self) -> BackOff {
        BackOff { first: self.random.jitter(TRANSIENT_BACK_OFF.first), ..TRANSIENT_BACK_OFF }
    }

    /// Records a failure that does not break the grant. A valid cached token is still issued.
    pub(super) async fn finish_failure(
        &self,
        pending: PendingRefresh<'_>,
        error: BrokerError,
        back_off: BackOff,
        write_attempts: u32,
    ) -> Result<(), BrokerError> {
        let PendingRefresh { application, grant, token_version: version, owned_lease, .. } =
            pending;
        let name = &grant.name;
        let now = self.clock.now();
        self.counters.refresh_failures.increment();
        application.history.record_failure(now, &error);
        let outcome = RefreshOutcome::Failed { reason: error.reason() };
        let lease = owned_lease.lease.clone();
        let write = || self.grants.record_outcome(name, &lease, version, &outcome, now);
        match self.retry_write_at_most(owned_lease, write_attempts, write).await {
            Ok(Some(grant)) => {
                let grant = self.grant_cache.record(grant);
                // Reports only failures 1, 2, 4, 8 and so on, because a grant may fail for days.
                if grant.failing.is_some_and(|failing| failing.count.is_power_of_two()) {
                    self.events.send(&grant, GrantEventKind::Failed, now);
                }
            }
            Ok(None) => self.grant_cache.forget(name),
            Err(error) => {
                tracing::warn!(%error, grant = %name, "the failure of a refresh could not be stored; its outcome counts as unknown");
            }
        }
        let conditions = application.failure_conditions(&*self.clock);
        let ended_by = match &error {
            BrokerError::Refused(_, Refusal::Credential) => {
                EndedBy::OtherCredential(conditions.credential_changes)
            }
            _ => EndedBy::Nothing,
        };
        let now = conditions.now;
        let wait =
            self.token_cache.record_failure(name, version, error.clone(), back_off, ended_by, now);
        Err(error.with_retry_after(wait))
    }
}
