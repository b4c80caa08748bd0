//! One at a time for the whole fleet (DESIGN section 7, "Refresh tokens").

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{BrokerError, error::RETRY_SOON},
    domain::GrantName,
    ports::{Clock, HeldLease, Lease, LeaseStore, Random},
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
        let mut watched = None;
        loop {
            // Before it is asked for: it lasts from then at the latest.
            let asked = self.pace.monotonic();
            let now = self.clock.now();
            if let Some(lease) = self.store.acquire(&key, &self.owner, LIFE, now).await? {
                self.wait_for_former(&lease).await;
                return Ok(Holding { lease, until: asked.saturating_add(LIFE) });
            }
            if let Some(lease) = self.take_over(&key, &mut watched).await? {
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

    /// Waits until whatever a former holder has sent must have timed out. Always for the whole time: when its lease
    /// expired is known only by the wall clocks of two machines, and either may be wrong.
    async fn wait_for_former(&self, lease: &Lease) {
        if lease.took_over.is_some() {
            self.pace.sleep(EXCHANGE_TIME_OUT).await;
        }
    }

    /// Takes over a lease that lasts for longer than any lease does: a clock was wrong when it was taken, or is wrong
    /// now. So its time says nothing, and it is watched instead. A holder that lives renews it or gives it back before
    /// its exchange has timed out. A lease that has not changed for so long has no holder any more.
    async fn take_over(
        &self,
        key: &str,
        watched: &mut Option<(HeldLease, Duration)>,
    ) -> Result<Option<Lease>, BrokerError> {
        let (now, present) = (self.pace.monotonic(), self.store.present(key).await?);
        let Some(held) = present else {
            *watched = None;
            return Ok(None);
        };
        let since = match watched {
            Some((seen, since)) if *seen == held => *since,
            _ => {
                *watched = Some((held, now));
                return Ok(None);
            }
        };
        if now.saturating_sub(since) < LIFE + EXCHANGE_TIME_OUT {
            return Ok(None);
        }
        tracing::warn!(
            key,
            expire_time = %held.expire_time,
            "a lease that a wrong clock made last too long is taken over: its holder has not touched it"
        );
        let now = self.clock.now();
        Ok(self.store.take_over(key, &self.owner, held, LIFE, now).await?)
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
