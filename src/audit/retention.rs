//! Retention: removes old events and keeps a signed checkpoint, so that verification still detects any other removal.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{chain::sign, public_keys::PublicKeys};
use crate::{
    domain::{AuditFault, ChainPoint, ChainState, ChainVerifier, SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, Clock, StoreError},
};

/// The most events that are verified and removed with one checkpoint.
const BATCH: u32 = 1000;

/// The interval between two runs.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// Removes events older than the retention time. Keeps the heads and a signed checkpoint of the last removed event.
pub struct Retention {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    max_age: Duration,
}

impl Retention {
    /// Creates a retention that keeps events for `keep`.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        keep: Duration,
    ) -> Self {
        Self { store, signer, clock, max_age: keep }
    }

    /// Prunes once an hour, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.prune().await {
                tracing::warn!(%error, "old audit events could not be removed; retrying later");
            }
            self.clock.sleep(PRUNE_INTERVAL).await;
        }
    }

    /// Removes the events that are too old now.
    ///
    /// # Errors
    /// The first failure of the store, after every chain was tried. Each chain loses only its oldest events.
    pub async fn prune(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let chains = self.store.chains().await?;
        // A clock that jumped forward must not make events old: the newest event in the trail limits `now`.
        let newest = chains.iter().map(|state| state.head.point.time).max().unwrap_or(now);
        let Ok(before) = now.min(newest).checked_sub(self.max_age) else { return Ok(()) };
        let keys = PublicKeys::load_trusted(&*self.signer, self.store.public_keys().await?);
        let span = Span { before, now };
        let mut outcome = Ok(());
        for state in chains {
            // A chain that cannot be pruned does not stop the others.
            outcome = outcome.and(self.prune_chain(state, &keys, &span).await);
        }
        outcome
    }

    async fn prune_chain(
        &self,
        mut state: ChainState,
        keys: &PublicKeys,
        span: &Span,
    ) -> Result<(), StoreError> {
        let chain = Arc::clone(&state.head.point.chain);
        while state.length() > 0 {
            match self.find_prunable(&state, keys, span).await? {
                Ok(None) => return Ok(()),
                Ok(Some(point)) => state.checkpoint = Some(self.prune_up_to(point).await?),
                Err(AuditFault { kind, sequence }) => match self.store.chain(&chain).await? {
                    // Another process has pruned the chain meanwhile, which explains the missing events.
                    Some(now) if now.checkpoint != state.checkpoint => state = now,
                    _ => {
                        let kind = kind.as_str();
                        tracing::error!(
                            %chain, sequence, kind,
                            "the audit chain was changed after it was written; none of its events are removed"
                        );
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    /// Removes the events up to `point` and returns the signed checkpoint that replaces them.
    async fn prune_up_to(&self, point: ChainPoint) -> Result<SignedPoint, StoreError> {
        let signature = sign(&*self.signer, &point, Statement::Checkpoint)
            .map_err(|error| StoreError::Unavailable(format!("audit: {error}")))?;
        let checkpoint = SignedPoint { point, signature };
        self.store.prune(&checkpoint).await?;
        Ok(checkpoint)
    }

    /// Returns the last event that one checkpoint can remove. All events up to it, and the one after it, are verified
    /// first: a checkpoint is never signed on the word of a stored time alone.
    async fn find_prunable(
        &self,
        state: &ChainState,
        keys: &PublicKeys,
        span: &Span,
    ) -> Result<Result<Option<ChainPoint>, AuditFault>, StoreError> {
        let signer = &*self.signer;
        let head = &state.head.point;
        let digest = |message: &[u8]| signer.digest(message);
        let trusted = state
            .checkpoint
            .as_ref()
            .is_some_and(|signed| keys.verifies(signer, signed, Statement::Checkpoint));
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        // One more than is removed: its hash link proves that the last removed event is unchanged.
        let after = state.first_sequence().saturating_sub(1);
        let mut rows = self.store.events(&head.chain, after, BATCH.saturating_add(1)).await?;
        let ends = rows.len() <= BATCH as usize;
        rows.retain(|row| row.sequence <= head.sequence);
        let intact = rows.iter().all(|row| verifier.feed(row));
        let fault =
            if intact && (ends || rows.last().is_none_or(|row| row.sequence == head.sequence)) {
                verifier.finish(keys.verifies(signer, &state.head, Statement::Head)).0.fault
            } else {
                verifier.fault()
            };
        if let Some(fault) = fault {
            return Ok(Err(fault));
        }
        // The verifier has checked that the columns equal the hashed values.
        let old = rows
            .iter()
            .take(BATCH as usize)
            .take_while(|row| row.time < span.before || row.time > span.now)
            .filter(|row| row.time < span.before)
            .last();
        Ok(Ok(old.map(|row| ChainPoint {
            chain: Arc::clone(&head.chain),
            sequence: row.sequence,
            hash: row.hash,
            time: row.time,
        })))
    }
}

/// The limits of pruning. Events before `before` are old. An event after `now` got its time from a wrong clock and
/// counts as old as the event after it.
struct Span {
    before: Timestamp,
    now: Timestamp,
}
