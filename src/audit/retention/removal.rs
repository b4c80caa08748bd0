//! Removing the first events of one chain: they are verified, and a checkpoint is signed.

use std::sync::Arc;

use jiff::Timestamp;

use super::Retention;
use crate::{
    audit::{chain::sign, public_keys::PublicKeys},
    domain::{
        AuditFault, AuditRowView, ChainPoint, ChainState, ChainVerifier, SignedPoint, Statement,
    },
    ports::{StoreError, StoredHeads},
};

/// The rule for the events to remove. They are the first ones of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) enum Removal {
    /// Events before `before`. An event after `now` got its time from a wrong clock and counts as old as the event
    /// after it.
    ByAge { before: Timestamp, now: Timestamp },
    /// Events up to this number.
    UpTo(i64),
}

/// The decision on one event.
enum Decision {
    Remove,
    Keep,
    /// The event is removed if a later one is.
    AsTheNext,
}

impl Removal {
    fn decide(self, row: &AuditRowView<'_>) -> Decision {
        match self {
            Self::ByAge { before, .. } if row.time < before => Decision::Remove,
            Self::ByAge { now, .. } if row.time > now => Decision::AsTheNext,
            Self::UpTo(last) if row.sequence <= last => Decision::Remove,
            Self::ByAge { .. } | Self::UpTo(_) => Decision::Keep,
        }
    }
}

/// The first events of a chain.
pub(super) struct Removed {
    /// The last of them.
    point: ChainPoint,
    /// The number of events.
    pub(super) events: u64,
    /// The earliest and the latest time.
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The result for one chain.
pub(super) enum Outcome {
    Removed(Removed),
    /// No event is to be removed.
    Nothing,
    /// The chain was changed after it was written. None of its events are removed.
    Faulty,
}

impl Retention {
    /// Removes the first events of a chain, with one checkpoint.
    pub(super) async fn remove(
        &self,
        mut state: ChainState,
        keys: &PublicKeys,
        removal: &Removal,
    ) -> Result<Outcome, StoreError> {
        let chain = Arc::clone(&state.head.point.chain);
        while state.length() > 0 {
            let AuditFault { kind, sequence } =
                match self.find_removable(&state, keys, removal).await? {
                    Ok(None) => return Ok(Outcome::Nothing),
                    Ok(Some(removed)) => {
                        self.store_checkpoint(removed.point.clone()).await?;
                        return Ok(Outcome::Removed(removed));
                    }
                    Err(fault) => fault,
                };
            match self.store.chain(&chain).await? {
                // Another process has pruned the chain meanwhile, which explains the missing events.
                Some(now) if now.checkpoint != state.checkpoint => state = now,
                _ => {
                    let kind = kind.as_str();
                    tracing::error!(
                        %chain, sequence, kind,
                        "the audit chain was changed after it was written; none of its events are removed"
                    );
                    return Ok(Outcome::Faulty);
                }
            }
        }
        Ok(Outcome::Nothing)
    }

    /// Signs and stores a checkpoint, in place of the events up to it.
    async fn store_checkpoint(&self, point: ChainPoint) -> Result<(), StoreError> {
        let signature = sign(&*self.signer, &point, Statement::Checkpoint)
            .map_err(|error| StoreError::Unavailable(format!("audit: {error}")))?;
        self.store.prune(&SignedPoint { point, signature }).await
    }

    /// Returns the events that one checkpoint can remove. All of them, and the one after them, are verified first: a
    /// checkpoint is never signed on the word of a stored time alone. The memory does not depend on their number.
    async fn find_removable(
        &self,
        state: &ChainState,
        keys: &PublicKeys,
        removal: &Removal,
    ) -> Result<Result<Option<Removed>, AuditFault>, StoreError> {
        let signer = &*self.signer;
        let head = &state.head.point;
        let digest = |message: &[u8]| signer.digest(message);
        let trusted = state
            .checkpoint
            .as_ref()
            .is_some_and(|signed| keys.verifies(signer, signed, Statement::Checkpoint));
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        let first = state.first_sequence();
        let mut removed: Option<Removed> = None;
        let mut after = first.saturating_sub(1);
        while after < head.sequence {
            let block =
                self.store.event_block(&head.chain, after, StoredHeads::LastOfFiles).await?;
            let Some(last) = block.last_sequence().filter(|last| *last > after) else { break };
            for row in block.events().filter(|row| row.sequence <= head.sequence) {
                if !verifier.feed_view(row)
                    && let Some(fault) = verifier.fault()
                {
                    return Ok(Err(fault));
                }
                // The verifier has checked that number and time equal the hashed ones.
                match removal.decide(&row) {
                    Decision::Remove => extend(&mut removed, state, &row),
                    // Its hash link proves that the last removed event is unchanged.
                    Decision::Keep => return Ok(Ok(removed)),
                    Decision::AsTheNext => {}
                }
            }
            after = last;
        }
        // The chain ends here, and the signed head proves its last event.
        let trusted = keys.verifies(signer, &state.head, Statement::Head);
        Ok(verifier.finish(trusted).0.fault.map_or(Ok(removed), Err))
    }
}

/// Adds an event, and those before it that were left undecided.
fn extend(removed: &mut Option<Removed>, state: &ChainState, row: &AuditRowView<'_>) {
    let point = ChainPoint {
        chain: Arc::clone(&state.head.point.chain),
        sequence: row.sequence,
        hash: row.hash,
        time: row.time,
    };
    let events = row.sequence.saturating_sub(state.first_sequence()).saturating_add(1);
    let (from, to) = removed.as_ref().map_or((row.time, row.time), |removed| {
        (removed.from.min(row.time), removed.to.max(row.time))
    });
    let events = u64::try_from(events).unwrap_or_default();
    *removed = Some(Removed { point, events, from, to });
}
