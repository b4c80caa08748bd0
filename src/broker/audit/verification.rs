//! Whether everything that is kept is still as it was written.

use std::{collections::BTreeSet, sync::Arc};

use super::public_keys::PublicKeys;
use crate::{
    domain::{
        AuditChainReport, AuditFault, AuditFaultKind, AuditHash, AuditRow, ChainLink, ChainPoint,
        ChainState, ChainVerifier, Statement,
    },
    ports::{AuditSigner, AuditStore, StoreError},
};

/// Events read at a time.
const BATCH: u32 = 1000;

/// A chain that is pruned or grows while it is looked at is looked at again, so often.
const ATTEMPTS: u32 = 5;

/// How far verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Events verified.
    pub done: u64,
    /// Events kept when it began.
    pub total: u64,
}

/// Verifies all chains of a store, also while they are written. Memory grows with the number of chains, not with that
/// of events.
pub struct Verification {
    store: Arc<dyn AuditStore>,
    signer: Arc<dyn AuditSigner>,
}

/// What chains say of others: chain, number, hash. Of one place they may say more than one thing.
type Links = BTreeSet<(Arc<str>, i64, AuditHash)>;

impl Verification {
    /// Of this store, with the keys of this keyring.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>, signer: Arc<dyn AuditSigner>) -> Self {
        Self { store, signer }
    }

    /// Reports on every chain, in the order in which they began; chains that are gone come last.
    ///
    /// # Errors
    /// If the store cannot be read. Whatever can be read is reported on, not refused.
    pub async fn run(
        &self,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Vec<AuditChainReport>, StoreError> {
        let keys = PublicKeys::believe(&*self.signer, self.store.public_keys().await?);
        let chains = self.store.chains().await?;
        let total = chains.iter().map(ChainState::length).sum();
        let mut done = 0;
        let mut reports = Vec::with_capacity(chains.len());
        let mut links = Links::new();
        for state in chains {
            let before = done;
            let mut count = |events: u64| {
                done = before + events;
                progress(Progress { done, total });
            };
            let (report, told) = self.chain(state, &keys, &mut count).await?;
            links.extend(
                told.into_iter().map(|ChainLink { chain, sequence, hash }| (chain, sequence, hash)),
            );
            reports.push(report);
        }
        self.compare(links, &mut reports).await?;
        Ok(reports)
    }

    async fn chain(
        &self,
        mut state: ChainState,
        keys: &PublicKeys,
        count: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(AuditChainReport, Vec<ChainLink>), StoreError> {
        let chain = Arc::clone(&state.head.point.chain);
        for _ in 1..ATTEMPTS {
            let found = self.look(&state, keys, count).await?;
            let (report, _) = &found;
            match self.store.chain(&chain).await? {
                Some(now) if !report.intact() && now.checkpoint != state.checkpoint => state = now,
                _ => return Ok(found),
            }
        }
        self.look(&state, keys, count).await
    }

    async fn look(
        &self,
        state: &ChainState,
        keys: &PublicKeys,
        count: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(AuditChainReport, Vec<ChainLink>), StoreError> {
        let signer = &*self.signer;
        let digest = |message: &[u8]| signer.digest(message);
        let holds = |signed, statement| keys.holds(signer, signed, statement);
        let checkpoint = state.checkpoint.as_ref();
        let trusted = checkpoint.is_some_and(|signed| holds(signed, Statement::Checkpoint));
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        let head = &state.head.point;
        let mut after = state.first_sequence().saturating_sub(1);
        let mut events = 0;
        while after < head.sequence {
            let mut rows = self.store.events(&head.chain, after, BATCH).await?;
            // What stands behind the head was written meanwhile, or by somebody else.
            rows.retain(|row| row.sequence <= head.sequence);
            let Some(last) = rows.last() else { break };
            after = last.sequence;
            events += rows.len() as u64;
            let intact = rows.iter().all(|row| verifier.feed(row));
            count(events);
            if !intact {
                break;
            }
        }
        if let Some(row) = self.unsigned(head).await? {
            verifier.feed(&row);
        }
        Ok(verifier.finish(holds(&state.head, Statement::Head)))
    }

    /// An event behind the head that no later head has taken in either.
    async fn unsigned(&self, head: &ChainPoint) -> Result<Option<AuditRow>, StoreError> {
        let mut end = head.sequence;
        for _ in 0..ATTEMPTS {
            let Some(row) = self.store.events(&head.chain, end, 1).await?.into_iter().next() else {
                return Ok(None);
            };
            match self.store.chain(&head.chain).await? {
                Some(now) if now.head.point.sequence > end => end = now.head.point.sequence,
                _ => return Ok(Some(row)),
            }
        }
        // It grows while we look.
        Ok(None)
    }

    /// Compares what chains say of each other with what is there. A chain that has a fault already keeps it.
    async fn compare(
        &self,
        links: Links,
        reports: &mut Vec<AuditChainReport>,
    ) -> Result<(), StoreError> {
        let mut before: Option<(Arc<str>, i64)> = None;
        for (chain, sequence, hash) in links {
            let place = (Arc::clone(&chain), sequence);
            // Two that began later saw different events here: the chain was rewritten between them.
            let contradicted = before.replace(place.clone()).is_some_and(|before| before == place);
            let Some(report) = reports.iter_mut().find(|report| report.chain == chain) else {
                let fault = Some(AuditFault { kind: AuditFaultKind::Missing, sequence });
                let (first_sequence, last_sequence) = (0, 0);
                reports.push(AuditChainReport { chain, first_sequence, last_sequence, fault });
                continue;
            };
            if !report.intact() {
                continue;
            }
            if sequence > report.last_sequence {
                let sequence = report.last_sequence.saturating_add(1);
                report.fault = Some(AuditFault { kind: AuditFaultKind::Truncated, sequence });
            } else if contradicted {
                report.fault = Some(AuditFault { kind: AuditFaultKind::Changed, sequence });
            } else if sequence >= report.first_sequence {
                let rows = self.store.events(&chain, sequence.saturating_sub(1), 1).await?;
                let kept = rows.first().filter(|row| row.sequence == sequence);
                // Pruned meanwhile, if it is not there: the chain itself was intact.
                if kept.is_some_and(|row| row.hash != hash) {
                    report.fault = Some(AuditFault { kind: AuditFaultKind::Changed, sequence });
                }
            }
        }
        Ok(())
    }
}
