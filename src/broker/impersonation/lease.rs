//! One at a time for the whole fleet (DESIGN section 7, "Refresh tokens").

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{BrokerError, error::RETRY_SOON},
    domain::GrantName,
    ports::{Clock, Lease, LeaseStore, Random},
};

/// How long a lease lasts unless it is renewed.
const LIFE: Duration = Duration::from_secs(15);

/// By then a refresh token has been answered for, or never will be.
pub(super) const EXCHANGE_TIME_OUT: Duration = Duration::from_secs(10);

/// How long others are waited for: longer than a holder that crashed keeps everybody waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether they are done.
const LOOK: Duration = Duration::from_millis(100);

/// Gives out the right to spend a grant's refresh token.
pub(super) struct Leases {
    pub(super) store: Arc<dyn LeaseStore>,
    pub(super) clock: Arc<dyn Clock>,
    /// Leases are measured, and others waited for, by this.
    pub(super) pace: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// Who we are: another one at each start.
    pub(super) owner: String,
}

/// The right, while it lasts.
pub(super) struct Holding {
    pub(super) lease: Lease,
    /// Until when it surely lasts, by the monotonic clock.
    until: Duration,
}

impl Leases {
    /// Waits for the right. Who takes over from a holder that never gave it back waits until what that one may have
    /// sent must have timed out.
    pub(super) async fn hold(&self, name: &GrantName) -> Result<Holding, BrokerError> {
        let key = name.to_string();
        let give_up = self.pace.monotonic().saturating_add(PATIENCE);
        loop {
            // Before it is asked for: it lasts from then at the latest.
            let asked = self.pace.monotonic();
            let now = self.clock.now();
            if let Some(lease) = self.store.acquire(&key, &self.owner, LIFE, now).await? {
                let left_behind = lease.took_over.map(|expired| now.duration_since(expired));
                let waited = left_behind.map(|since| Duration::try_from(since).unwrap_or_default());
                let rest = waited.map(|waited| EXCHANGE_TIME_OUT.saturating_sub(waited));
                if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                    self.pace.sleep(rest).await;
                }
                return Ok(Holding { lease, until: asked.saturating_add(LIFE) });
            }
            if asked >= give_up {
                let cause = format!("another replica has been refreshing {name} for too long");
                let (retry_after, cause) = (RETRY_SOON, cause.into());
                return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
            }
            self.pace.sleep(self.random.jitter(LOOK)).await;
        }
    }

    /// Whether the right outlasts an exchange that is sent now, renewed if need be.
    pub(super) async fn outlasts_exchange(
        &self,
        holding: &mut Holding,
    ) -> Result<bool, BrokerError> {
        let left = holding.until.saturating_sub(self.pace.monotonic());
        if left > EXCHANGE_TIME_OUT { Ok(true) } else { self.renew(holding).await }
    }

    /// Makes it last. `false` if somebody else has it.
    pub(super) async fn renew(&self, holding: &mut Holding) -> Result<bool, BrokerError> {
        let asked = self.pace.monotonic();
        let renewed = self.store.renew(&holding.lease, LIFE, self.clock.now()).await?;
        if renewed {
            holding.until = asked.saturating_add(LIFE);
        }
        Ok(renewed)
    }

    /// Gives it back. If that fails it expires.
    pub(super) async fn release(&self, holding: Holding) {
        if let Err(error) = self.store.release(&holding.lease).await {
            tracing::warn!(%error, key = holding.lease.key, "a lease is not given back; it expires");
        }
    }
}
