//! Saving the result of a refresh in the store, with retries, and in memory.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{lease::OwnedLease, refresh::Refresher};
use crate::{
    broker::BrokerError,
    domain::{AccessToken, GrantName},
    ports::StoreError,
};

/// The most attempts to write a result that must not be lost. The pauses double from the first one: 25 seconds in all.
pub(super) const MAX_WRITE_ATTEMPTS: u32 = 9;
const FIRST_WRITE_PAUSE: Duration = Duration::from_millis(100);

/// A token is renewed in the background at about three quarters of its lifetime, never later than four fifths.
const LATEST_RENEWAL: f64 = 0.8;
const RENEWAL_SPREAD: f64 = 0.1;

impl Refresher {
    /// Writes a result that must not be lost, with retries, and renews the lease meanwhile.
    pub(super) async fn retry_write<'a, T>(
        &self,
        owned_lease: &mut OwnedLease,
        write: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Sync,
    ) -> Result<T, BrokerError> {
        Ok(self.retry_write_at_most(owned_lease, MAX_WRITE_ATTEMPTS, write).await?)
    }

    pub(super) async fn retry_write_at_most<'a, T>(
        &self,
        owned_lease: &mut OwnedLease,
        attempts: u32,
        write: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Sync,
    ) -> Result<T, StoreError> {
        let mut pause = FIRST_WRITE_PAUSE;
        for _ in 1..attempts {
            match write().await {
                Ok(written) => return Ok(written),
                Err(error) => {
                    tracing::error!(%error, key = owned_lease.lease.key, "the result of a refresh could not be stored; retrying");
                }
            }
            self.leases.timer.sleep(pause).await;
            pause *= 2;
            // If the renewal fails another replica may take over; then the store rejects our next write.
            let _ = self.leases.renew(owned_lease).await;
        }
        write().await
    }

    /// Caches an access token.
    pub(super) fn cache_token(&self, name: &GrantName, token: AccessToken) {
        let now = self.clock.moment();
        let life = token.expire_time.duration_since(token.issue_time).unsigned_abs();
        // `jitter` returns at most 1.5 times its argument.
        let spread = self.random.jitter(life.mul_f64(RENEWAL_SPREAD / 1.5));
        let renew_after = life.mul_f64(LATEST_RENEWAL).saturating_sub(spread);
        let age = now.wall.duration_since(token.issue_time).try_into().unwrap_or_default();
        self.token_cache.insert(name, Arc::new(token), renew_after.saturating_sub(age), now);
        self.directory.changes().notify(&name.tenant);
    }
}
