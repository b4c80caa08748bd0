//! Removing what is old, so that it can still be told that only that was removed.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{chain::sign, public_keys::PublicKeys};
use crate::{
    domain::{AuditFault, ChainPoint, ChainState, ChainVerifier, SignedPoint, Statement},
    ports::{AuditSigner, AuditStore, Clock, StoreError},
};

/// Events removed in one transaction: events that are written meanwhile wait no longer than that.
const BATCH: u32 = 1000;

/// Between two looks at what has become old.
const LOOK: Duration = Duration::from_hours(1);

/// Removes events older than a retention. Heads stay, and so does a signed checkpoint of what was removed.
pub struct Retention {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
    clock: Arc<dyn Clock>,
    keep: Duration,
}

impl Retention {
    /// Keeps events for `keep`.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        signer: Arc<dyn AuditSigner>,
        clock: Arc<dyn Clock>,
        keep: Duration,
    ) -> Self {
        Self { store, signer, clock, keep }
    }

    /// Prunes now and then, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.prune().await {
                tracing::warn!(%error, "old audit events could not be removed; tried again later");
            }
            self.clock.sleep(LOOK).await;
        }
    }

    /// Removes what is old now.
    ///
    /// # Errors
    /// If the store fails: the first failure, once every chain was tried. What was removed is removed in order.
    pub async fn prune(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let chains = self.store.chains().await?;
        // A clock that leapt forward makes nothing old that the trail itself does not call old.
        let newest = chains.iter().map(|state| state.head.point.time).max().unwrap_or(now);
        let Ok(before) = now.min(newest).checked_sub(self.keep) else { return Ok(()) };
        let keys = PublicKeys::believe(&*self.signer, self.store.public_keys().await?);
        let span = Span { before, now };
        let mut outcome = Ok(());
        for state in chains {
            // One chain that cannot be pruned keeps no other from it.
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
            let point = self.prunable(&state, keys, span).await?;
            let checkpoint = match point {
                Ok(None) => return Ok(()),
                Ok(Some(point)) => {
                    let signature = sign(&*self.signer, &point, Statement::Checkpoint)
                        .map_err(|error| StoreError::Unavailable(format!("audit: {error}")))?;
                    let checkpoint = SignedPoint { point, signature };
                    self.store.prune(&checkpoint).await?;
                    Some(checkpoint)
                }
                Err(AuditFault { kind, sequence }) => {
                    let now = self.store.chain(&chain).await?;
                    match now {
                        // Somebody else pruned meanwhile, and what was missed is gone rightly.
                        Some(now) if now.checkpoint != state.checkpoint => {
                            state = now;
                            continue;
                        }
                        _ => {
                            let kind = kind.as_str();
                            tracing::error!(
                                %chain, sequence, kind,
                                "the audit chain is not as it was written; nothing of it is removed"
                            );
                            return Ok(());
                        }
                    }
                }
            };
            state.checkpoint = checkpoint;
        }
        Ok(())
    }

    /// How far a chain can be pruned in one transaction. Everything up to there, and what follows it, was verified:
    /// nothing is signed for because a column says so.
    async fn prunable(
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
            .is_some_and(|signed| keys.holds(signer, signed, Statement::Checkpoint));
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        // One more than can be removed: that it follows shows that the last of the others is what it was.
        let after = state.first_sequence().saturating_sub(1);
        let mut rows = self.store.events(&head.chain, after, BATCH.saturating_add(1)).await?;
        let ends = rows.len() <= BATCH as usize;
        rows.retain(|row| row.sequence <= head.sequence);
        let intact = rows.iter().all(|row| verifier.feed(row));
        let fault =
            if intact && (ends || rows.last().is_none_or(|row| row.sequence == head.sequence)) {
                verifier.finish(keys.holds(signer, &state.head, Statement::Head)).0.fault
            } else {
                verifier.fault()
            };
        if let Some(fault) = fault {
            return Ok(Err(fault));
        }
        // The columns are what was hashed, as the verifier has compared.
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

/// What is old: everything before one time. What is said to be from after the other was stamped by a clock that was
/// wrong, and is as old as what follows it.
struct Span {
    before: Timestamp,
    now: Timestamp,
}
