//! Keeping what a refresh brought: in the store, whatever that takes, and in memory.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{lease::Holding, refresh::Refresher};
use crate::{
    broker::BrokerError,
    domain::{AccessToken, GrantName},
    ports::StoreError,
};

/// What must be stored is tried again so often before it is given up, after pauses that double from the first one: 25
/// seconds in all.
pub(super) const WRITE_ATTEMPTS: u32 = 9;
const FIRST_WRITE_PAUSE: Duration = Duration::from_millis(100);

/// A token is renewed in the background at about three quarters of its life, never after four fifths.
const LATEST_RENEWAL: f64 = 0.8;
const RENEWAL_SPREAD: f64 = 0.1;

impl Refresher {
    /// Writes what must not be lost, several times if need be, and keeps the lease meanwhile.
    pub(super) async fn insist<'a, T>(
        &self,
        holding: &mut Holding,
        write: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Sync,
    ) -> Result<T, BrokerError> {
        Ok(self.insist_at_most(holding, WRITE_ATTEMPTS, write).await?)
    }

    pub(super) async fn insist_at_most<'a, T>(
        &self,
        holding: &mut Holding,
        attempts: u32,
        write: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Sync,
    ) -> Result<T, StoreError> {
        let mut pause = FIRST_WRITE_PAUSE;
        for _ in 1..attempts {
            match write().await {
                Ok(written) => return Ok(written),
                Err(error) => {
                    tracing::error!(%error, key = holding.lease.key, "what came of a refresh is not stored yet; trying again");
                }
            }
            self.leases.pace.sleep(pause).await;
            pause *= 2;
            // If that fails too somebody may take over, and our next write is refused: nothing is overwritten.
            let _ = self.leases.renew(holding).await;
        }
        write().await
    }

    /// Takes a token into memory.
    pub(super) fn take_in(&self, name: &GrantName, token: AccessToken) {
        let now = self.clock.moment();
        let life = token.expire_time.duration_since(token.issue_time).unsigned_abs();
        let spread = self.random.jitter(life.mul_f64(RENEWAL_SPREAD / 1.5));
        let renew_after = life.mul_f64(LATEST_RENEWAL).saturating_sub(spread);
        let age = now.wall.duration_since(token.issue_time).try_into().unwrap_or_default();
        self.cache.insert(name, Arc::new(token), renew_after.saturating_sub(age), now);
        self.directory.changes().tell(&name.tenant);
    }
}
