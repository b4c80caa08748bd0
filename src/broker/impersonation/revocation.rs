//! Revocation at SuperOffice. A grant is revoked in the gateway at once, and at SuperOffice in the background.

use std::{sync::Arc, time::Duration};

use super::{Impersonation, lease::EXCHANGE_TIMEOUT};
use crate::{
    broker::{Application, BrokerError, error::RETRY_SOON},
    domain::{GrantEventKind, GrantName, TenantName},
    ports::{ExchangeError, Refusal},
};

/// The interval between checks for grants that another process has revoked.
const POLL_INTERVAL: Duration = Duration::from_mins(1);

/// The approximate first pause before a failed revocation is retried; the pause doubles with each failure …
const FIRST_BACK_OFF: Duration = Duration::from_secs(2);
/// … up to this.
const LAST_BACK_OFF: Duration = Duration::from_mins(5);

/// The number of grants that are read at a time.
const BATCH_SIZE: u32 = 100;

impl Impersonation {
    /// Revokes grants at SuperOffice, each until it succeeds, for as long as it is polled.
    pub async fn run_revocations(&self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let all_revoked = self.revoke_pending().await.unwrap_or(false);
            let wait = if all_revoked {
                back_off = FIRST_BACK_OFF;
                POLL_INTERVAL
            } else {
                let wait = self.refresher.random.jitter(back_off);
                back_off = (back_off * 2).min(LAST_BACK_OFF);
                wait
            };
            tokio::select! {
                () = self.refresher.to_revoke.notified() => {}
                () = self.refresher.clock.sleep(wait) => {}
            }
        }
    }

    /// Revokes all pending grants once. Returns whether all succeeded.
    pub(super) async fn revoke_pending(&self) -> Result<bool, BrokerError> {
        let (mut after, mut all) = (None, true);
        loop {
            let pending =
                self.refresher.grants.pending_revocations(after.as_ref(), BATCH_SIZE).await?;
            for name in &pending {
                if let Err(error) = self.revoke_upstream(name).await {
                    all = false;
                    let cause = error.cause().map_or_else(|| error.message(), str::to_owned);
                    tracing::warn!(grant = %name, cause, "a grant could not be revoked at SuperOffice; retrying");
                }
            }
            after = pending.last().cloned();
            if pending.len() < BATCH_SIZE as usize {
                return Ok(all);
            }
        }
    }

    /// Revokes one grant at SuperOffice if it is revoked in the gateway; otherwise does nothing.
    ///
    /// # Errors
    /// If that fails; the background task retries.
    pub async fn revoke_upstream(&self, name: &GrantName) -> Result<(), BrokerError> {
        let refresher = &self.refresher;
        let application = refresher.applications.get(&name.tenant.application)?;
        let Some(stored) = refresher.grants.token_to_revoke(name).await? else { return Ok(()) };
        let revoked = tokio::select! {
            biased;
            revoked = application.oauth.revoke(&stored.token) => revoked,
            () = refresher.leases.timer.sleep(EXCHANGE_TIMEOUT) => {
                Err(ExchangeError::Transient("revocation timed out".to_owned()))
            }
        };
        let now = refresher.clock.monotonic();
        revoked.map_err(|error| revocation_error(application, &name.tenant, error, now))?;
        if let Some(grant) = refresher.grants.mark_revoked_upstream(name, stored.version).await? {
            let grant = refresher.grant_cache.record(grant);
            refresher.events.send(&grant, GrantEventKind::Revoked, refresher.clock.now());
        }
        Ok(())
    }
}

/// Returns the error of a failed revocation.
fn revocation_error(
    application: &Application,
    tenant: &TenantName,
    error: ExchangeError,
    now: Duration,
) -> BrokerError {
    let cause: Arc<str> = error.to_string().into();
    if application.secret_is_refused(&error, now) {
        application.alarm(&cause, now);
        return BrokerError::Refused(tenant.clone(), Refusal::Credential);
    }
    match error {
        ExchangeError::NotSent(error) => BrokerError::from_upstream(tenant, &error),
        ExchangeError::InvalidClient
        | ExchangeError::Unauthorized
        | ExchangeError::Transient(_) => {
            BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
        }
        ExchangeError::InvalidGrant | ExchangeError::InvalidResponse(_) => {
            BrokerError::upstream_invalid(cause)
        }
    }
}
