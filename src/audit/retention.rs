//! Retention: removes old events and keeps a signed checkpoint, so that verification still detects any other removal.
//!
//! [`Retention::prune_by_age`] removes the events that are older than the configured time. They disappear from lists
//! and exports exactly by their age, and the files go when all their events have gone. [`Retention::prune_by_size`]
//! removes whole files, the oldest of all chains first, while the journal takes more space than it may. A run writes
//! one checkpoint for a chain, and only after it has verified every event that it removes.

mod removal;
mod space;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use self::{
    removal::{Outcome, Removal},
    space::SpaceState,
};
use super::{counters::RetentionCounters, public_keys::PublicKeys};
use crate::{
    domain::{ChainState, Statement},
    ports::{AuditSigner, AuditStore, Clock, StoreError},
};

/// The limits beyond which events are removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// The age at which events are removed; without it, no event is too old.
    pub max_age: Option<Duration>,
    /// The most bytes that the journal takes; without it, 70 % of its volume.
    pub max_bytes: Option<u64>,
}

/// Removes events that are too old, and those for which there is no space. Keeps the heads and a signed checkpoint of
/// the last removed event of each chain.
pub struct Retention {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    limits: RetentionLimits,
    counters: Arc<RetentionCounters>,
    space: Mutex<SpaceState>,
}

impl Retention {
    /// Creates a retention with these limits.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        limits: RetentionLimits,
    ) -> Self {
        let (counters, space) = (Arc::default(), Mutex::default());
        Self { store, signer, clock, limits, counters, space }
    }

    /// Returns the counters, for the metrics page.
    #[must_use]
    pub fn counters(&self) -> &Arc<RetentionCounters> {
        &self.counters
    }

    /// Removes the events that are too old now, and files that an earlier run could not remove.
    ///
    /// # Errors
    /// The first failure of the store, after every chain was tried. Each chain loses only its oldest events.
    pub async fn prune_by_age(&self) -> Result<(), StoreError> {
        self.retry_skipped_chains();
        let chains = self.store.chains().await?;
        let keys = self.trusted_keys().await?;
        let mut outcome = self.finish_prunes(&chains, &keys).await;
        let Some(removal) = self.removal_by_age(&chains) else { return outcome };
        let mut events = 0;
        for state in chains {
            // A chain that cannot be pruned does not stop the others.
            match self.remove(state, &keys, &removal).await {
                Ok(Outcome::Removed(removed)) => events += removed.events,
                Ok(Outcome::Nothing | Outcome::Faulty) => {}
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        if events > 0 {
            self.counters.removed_by_age.add(events);
            tracing::info!(events, "old audit events were removed");
        }
        outcome
    }

    fn removal_by_age(&self, chains: &[ChainState]) -> Option<Removal> {
        let now = self.clock.now();
        // A clock that jumped forward must not make events old: the newest event in the trail limits `now`.
        let newest = chains.iter().map(|state| state.head.point.time).max().unwrap_or(now);
        let before = now.min(newest).checked_sub(self.limits.max_age?).ok()?;
        Some(Removal::ByAge { before, now })
    }

    /// Removes the files that a former run has not removed, because the process ended after it stored a checkpoint.
    async fn finish_prunes(
        &self,
        chains: &[ChainState],
        keys: &PublicKeys,
    ) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        for checkpoint in chains.iter().filter_map(|state| state.checkpoint.as_ref()) {
            // No file is removed because of a checkpoint that this gateway has not signed.
            if keys.verifies(&*self.signer, checkpoint, Statement::Checkpoint) {
                outcome = outcome.and(self.store.finish_prune(&checkpoint.point.chain).await);
            }
        }
        outcome
    }

    async fn trusted_keys(&self) -> Result<PublicKeys, StoreError> {
        Ok(PublicKeys::load_trusted(&*self.signer, self.store.public_keys().await?))
    }
}

#[cfg(test)]
mod tests;
