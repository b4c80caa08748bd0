//! Verification that the stored events are unchanged since they were written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::public_keys::PublicKeys;
use crate::{
    domain::{
        AuditChainReport, AuditFault, AuditFaultKind, AuditHash, AuditRow, ChainLink, ChainPoint,
        ChainState, ChainVerifier, SignedPoint, Statement,
    },
    ports::{AuditHeadStore, AuditSigner, AuditStore, EventBlock, StoreError, StoredHeads},
};

/// The most attempts to verify a chain that is pruned or grows meanwhile.
const MAX_ATTEMPTS: u32 = 5;

/// The progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of verified events.
    pub done: u64,
    /// The number of stored events at the start.
    pub total: u64,
}

/// Verifies all chains of a store, also while they grow. Memory use depends on the number of chains, not of events.
pub struct Verification {
    store: Arc<dyn AuditStore>,
    heads: Arc<dyn AuditHeadStore>,
    signer: Arc<dyn AuditSigner>,
    checked_heads: StoredHeads,
}

/// The links of chains to other chains: chain, sequence number, hash. Links to one event may have different hashes.
type Links = BTreeSet<(Arc<str>, i64, AuditHash)>;

impl Verification {
    /// Creates a verification of this store with the keys of this keyring. Each chain must contain its head in `heads`.
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        heads: Arc<dyn AuditHeadStore>,
        signer: Arc<dyn AuditSigner>,
    ) -> Self {
        Self { store, heads, signer, checked_heads: StoredHeads::LastOfFiles }
    }

    /// Also verifies the signature of the head of every group. By default those of the last head of a chain and of each
    /// full file are verified, which cover all events before them.
    #[must_use]
    pub fn with_all_signatures(self) -> Self {
        Self { checked_heads: StoredHeads::All, ..self }
    }

    /// Returns a report on every chain, in the order in which they began; missing chains come last.
    ///
    /// # Errors
    /// If the store cannot be read. Invalid contents are reported and are not an error.
    pub async fn run(
        &self,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<Vec<AuditChainReport>, StoreError> {
        let keys = PublicKeys::load_trusted(&*self.signer, self.store.public_keys().await?);
        // Before the chains: a head that is stored later may be newer than what was read of its chain.
        let mut links = self.stored_heads(&keys).await?;
        let chains = self.store.chains().await?;
        let total = chains.iter().map(ChainState::length).sum();
        let mut done = 0;
        let mut reports = Vec::with_capacity(chains.len());
        for state in chains {
            let before = done;
            let mut count = |events: u64| {
                done = before + events;
                progress(Progress { done, total });
            };
            let (report, chain_links) = self.verify_chain(state, &keys, &mut count).await?;
            links.extend(
                chain_links
                    .into_iter()
                    .map(|ChainLink { chain, sequence, hash }| (chain, sequence, hash)),
            );
            reports.push(report);
        }
        self.compare_links(links, &mut reports).await?;
        Ok(reports)
    }

    /// Returns the heads that are stored apart from the events. A head without a valid signature proves nothing.
    async fn stored_heads(&self, keys: &PublicKeys) -> Result<Links, StoreError> {
        let mut links = Links::new();
        for head in self.heads.heads().await? {
            let ChainPoint { chain, sequence, hash, .. } = &head.point;
            if keys.verifies(&*self.signer, &head, Statement::Head) {
                links.insert((Arc::clone(chain), *sequence, *hash));
            } else {
                tracing::warn!(%chain, sequence, "a stored head of an audit chain has no valid signature");
            }
        }
        Ok(links)
    }

    async fn verify_chain(
        &self,
        mut state: ChainState,
        keys: &PublicKeys,
        count: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(AuditChainReport, Vec<ChainLink>), StoreError> {
        let chain = Arc::clone(&state.head.point.chain);
        for _ in 1..MAX_ATTEMPTS {
            let found = self.verify_once(&state, keys, count).await?;
            let (report, _) = &found;
            match self.store.chain(&chain).await? {
                Some(now) if !report.intact() && replaces(&now, &state) => state = now,
                _ => return Ok(found),
            }
        }
        self.verify_once(&state, keys, count).await
    }

    async fn verify_once(
        &self,
        state: &ChainState,
        keys: &PublicKeys,
        count: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(AuditChainReport, Vec<ChainLink>), StoreError> {
        let signer = &*self.signer;
        let digest = |message: &[u8]| signer.digest(message);
        let holds = |signed: &SignedPoint, statement| keys.verifies(signer, signed, statement);
        let checkpoint = state.checkpoint.as_ref();
        let trusted = checkpoint.is_some_and(|signed| holds(signed, Statement::Checkpoint));
        let mut verifier = ChainVerifier::new(state.clone(), digest, trusted);
        let head = &state.head.point;
        let first = state.first_sequence().saturating_sub(1);
        let mut next = self.block_after(first, head).await?;
        let mut events = 0;
        while let Some(last) = next.last_sequence() {
            let block = next;
            let check = async {
                let mut seen = 0;
                // A row after this head was appended meanwhile, or was inserted from outside.
                let rows = block.events().filter(|row| row.sequence <= head.sequence);
                let intact = rows.inspect(|_| seen += 1).all(|row| verifier.feed_view(row));
                for signed in block.heads(&head.chain) {
                    if signed.point.sequence <= head.sequence && !holds(&signed, Statement::Head) {
                        verifier.reject_head(signed.point.sequence);
                    }
                }
                (seen, intact && verifier.fault().is_none())
            };
            // The store reads the next block while this one is verified.
            let (following, (seen, intact)) = tokio::join!(self.block_after(last, head), check);
            if seen == 0 {
                break;
            }
            events += seen;
            count(events);
            if !intact {
                break;
            }
            next = following?;
        }
        if let Some(row) = self.find_unsigned_event(head).await? {
            verifier.feed(&row);
        }
        Ok(verifier.finish(holds(&state.head, Statement::Head)))
    }

    /// Returns the next events up to the head; none if `after` is the head.
    async fn block_after(&self, after: i64, head: &ChainPoint) -> Result<EventBlock, StoreError> {
        if after >= head.sequence {
            return Ok(EventBlock::default());
        }
        self.store.event_block(&head.chain, after, self.checked_heads).await
    }

    /// Returns an event after the head that no later head includes either.
    async fn find_unsigned_event(&self, head: &ChainPoint) -> Result<Option<AuditRow>, StoreError> {
        let mut end = head.sequence;
        for _ in 0..MAX_ATTEMPTS {
            let Some(row) = self.store.events(&head.chain, end, 1).await?.into_iter().next() else {
                return Ok(None);
            };
            match self.store.chain(&head.chain).await? {
                Some(now) if now.head.point.sequence > end => end = now.head.point.sequence,
                _ => return Ok(Some(row)),
            }
        }
        // The chain keeps growing.
        Ok(None)
    }

    /// Compares the links between chains with the stored events. A chain that already has a fault keeps it.
    async fn compare_links(
        &self,
        links: Links,
        reports: &mut Vec<AuditChainReport>,
    ) -> Result<(), StoreError> {
        let mut before: Option<(Arc<str>, i64)> = None;
        let mut places: BTreeMap<Arc<str>, usize> =
            (0..).zip(reports.iter()).map(|(at, report)| (Arc::clone(&report.chain), at)).collect();
        for (chain, sequence, hash) in links {
            let place = (Arc::clone(&chain), sequence);
            // Two later chains link to different hashes of this event: it was rewritten between their starts.
            let contradicted = before.replace(place.clone()).is_some_and(|before| before == place);
            let report = places.get(&chain).and_then(|at| reports.get_mut(*at));
            let Some(report) = report else {
                places.insert(Arc::clone(&chain), reports.len());
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
                // If the event is not there, it was pruned meanwhile: the chain itself was intact.
                if kept.is_some_and(|row| row.hash != hash) {
                    report.fault = Some(AuditFault { kind: AuditFaultKind::Changed, sequence });
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a state that was read later explains a fault: the chain was pruned meanwhile, or reading all events
/// has shown that it ends earlier than its last bytes say.
fn replaces(now: &ChainState, before: &ChainState) -> bool {
    now.checkpoint != before.checkpoint || now.head.point.sequence < before.head.point.sequence
}
