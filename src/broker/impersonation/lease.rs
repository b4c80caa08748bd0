//! Leases, which allow one use of a refresh token at a time in the whole fleet.

use std::{sync::Arc, time::Duration};

use crate::{
    broker::{BrokerError, error::RETRY_SOON},
    domain::GrantName,
    ports::{Clock, HeldLease, Lease, LeaseStore, Random},
};

/// The duration of a lease that is not renewed.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// The time-out of a token exchange: after it no response is expected.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for a lease: longer than a crashed holder can block others.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval between attempts to acquire a lease.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Acquires leases on the refresh tokens of grants.
pub(super) struct Leases {
    pub(super) store: Arc<dyn LeaseStore>,
    pub(super) clock: Arc<dyn Clock>,
    /// The timer for lease durations and waits.
    pub(super) timer: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// The name of this process as an owner of leases, new at each start.
    pub(super) owner: String,
}

/// A lease that this process holds.
pub(super) struct OwnedLease {
    pub(super) lease: Lease,
    /// The time until which the lease is certainly valid, by the monotonic clock.
    valid_until: Duration,
}

impl Leases {
    /// Waits for the lease of a grant. If the former holder never released it, also waits until an exchange of that
    /// holder must have timed out.
    pub(super) async fn acquire(&self, name: &GrantName) -> Result<OwnedLease, BrokerError> {
        let key = name.to_string();
        let deadline = self.timer.monotonic().saturating_add(ACQUIRE_TIMEOUT);
        let mut watched = None;
        loop {
            // Taken before the request, so that the lease lasts at least from this time.
            let requested_at = self.timer.monotonic();
            let now = self.clock.now();
            if let Some(lease) = self.store.acquire(&key, &self.owner, LEASE_DURATION, now).await? {
                self.wait_for_former_holder(&lease).await;
                return Ok(OwnedLease {
                    lease,
                    valid_until: requested_at.saturating_add(LEASE_DURATION),
                });
            }
            if let Some(lease) = self.take_over(&key, &mut watched).await? {
                return Ok(OwnedLease {
                    lease,
                    valid_until: requested_at.saturating_add(LEASE_DURATION),
                });
            }
            if requested_at >= deadline {
                let cause = format!("another replica has been refreshing {name} for too long");
                let (retry_after, cause) = (RETRY_SOON, cause.into());
                return Err(BrokerError::UpstreamUnavailable { retry_after, cause });
            }
            self.timer.sleep(self.random.jitter(POLL_INTERVAL)).await;
        }
    }

    /// Waits until an exchange of the former holder must have timed out. Always waits for the whole time-out, because
    /// the expiry of the lease compares the wall clocks of two machines, and either may be wrong.
    async fn wait_for_former_holder(&self, lease: &Lease) {
        if lease.previous_expire_time.is_some() {
            self.timer.sleep(EXCHANGE_TIMEOUT).await;
        }
    }

    /// Takes over a lease that lasts too long because a wall clock was or is wrong. Its expiry time means nothing, so
    /// the lease is watched instead. A living holder renews or releases it before its exchange has timed out. So a
    /// lease that stays unchanged for longer has no holder any more.
    async fn take_over(
        &self,
        key: &str,
        watched: &mut Option<(HeldLease, Duration)>,
    ) -> Result<Option<Lease>, BrokerError> {
        let (now, present) = (self.timer.monotonic(), self.store.current(key).await?);
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
        if now.saturating_sub(since) < LEASE_DURATION + EXCHANGE_TIMEOUT {
            return Ok(None);
        }
        tracing::warn!(
            key,
            expire_time = %held.expire_time,
            "taking over a lease that lasts too long because of a wrong clock; its holder has neither renewed nor released it"
        );
        let now = self.clock.now();
        Ok(self.store.take_over(key, &self.owner, held, LEASE_DURATION, now).await?)
    }

    /// Returns whether the lease outlasts an exchange that starts now. Renews it if necessary.
    pub(super) async fn outlasts_exchange(
        &self,
        owned_lease: &mut OwnedLease,
    ) -> Result<bool, BrokerError> {
        let left = owned_lease.valid_until.saturating_sub(self.timer.monotonic());
        if left > EXCHANGE_TIMEOUT { Ok(true) } else { self.renew(owned_lease).await }
    }

    /// Renews the lease. Returns `false` if another process holds it.
    pub(super) async fn renew(&self, owned_lease: &mut OwnedLease) -> Result<bool, BrokerError> {
        let requested_at = self.timer.monotonic();
        let renewed =
            self.store.renew(&owned_lease.lease, LEASE_DURATION, self.clock.now()).await?;
        if renewed {
            owned_lease.valid_until = requested_at.saturating_add(LEASE_DURATION);
        }
        Ok(renewed)
    }

    /// Releases the lease. If that fails, the lease expires by itself.
    pub(super) async fn release(&self, owned_lease: OwnedLease) {
        if let Err(error) = self.store.release(&owned_lease.lease).await {
            tracing::warn!(%error, key = owned_lease.lease.key, "a lease could not be released; it will expire");
        }
    }
}
