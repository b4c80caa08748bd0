//! Storing and signing the audit trail.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{SignError, StoreError};
use crate::domain::{
    AuditDamage, AuditHash, AuditRow, AuditRowView, AuditSignature, ChainPoint, ChainState,
    SignedPoint, StoredPublicKey,
};

/// Events that are committed together, with the resulting chain head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditGroup {
    /// The events: at least one, with consecutive sequence numbers. The last one is the head.
    pub rows: Vec<AuditRow>,
    /// The signed head.
    pub head: SignedPoint,
}

impl AuditGroup {
    /// Returns the sequence number of the first event.
    #[must_use]
    pub fn first_sequence(&self) -> i64 {
        self.rows.first().map_or(self.head.point.sequence, |row| row.sequence)
    }
}

/// A position in the list of all events, newest first. Events are ordered by [`ChainedRow::order_time`], chain and
/// sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPosition {
    /// The time that decides the event's place in the list.
    pub time: Timestamp,
    /// The event's chain.
    pub chain: Arc<str>,
    /// The event's sequence number in its chain.
    pub sequence: i64,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    /// The earliest time, inclusive.
    pub from: Timestamp,
    /// The latest time, inclusive.
    pub to: Timestamp,
}

impl Default for TimeSpan {
    fn default() -> Self {
        Self { from: Timestamp::MIN, to: Timestamp::MAX }
    }
}

/// A stored row with the name of its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedRow {
    /// The chain.
    pub chain: Arc<str>,
    /// The row.
    pub row: AuditRow,
    /// The time that decides the event's place in the list. It is the event's own time, unless the clock was set back
    /// while the chain was written: within a chain the order is that of the numbers.
    pub order_time: Timestamp,
}

impl ChainedRow {
    /// Returns the event's position in the list.
    #[must_use]
    pub fn position(&self) -> AuditPosition {
        AuditPosition {
            time: self.order_time,
            chain: Arc::clone(&self.chain),
            sequence: self.row.sequence,
        }
    }
}

/// The signed heads that [`AuditStore::event_block`] returns with the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredHeads {
    /// The last head of each file that the store has filled.
    LastOfFiles,
    /// The head of each group.
    All,
}

/// Successive events of a chain with the signed heads among them, unverified. The bodies are in one buffer, so that a
/// verification allocates nothing for an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventBlock {
    bodies: Vec<u8>,
    events: Vec<BlockEvent>,
    /// The signatures of heads, each with the index of the head's event.
    heads: Vec<(usize, AuditSignature)>,
}

/// An event of a block. Its body ends at `end`, and begins where the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockEvent {
    sequence: i64,
    time: Timestamp,
    hash: AuditHash,
    end: usize,
}

impl EventBlock {
    /// Adds an event.
    pub fn push(&mut self, row: AuditRowView<'_>) {
        let AuditRowView { sequence, time, hash, body } = row;
        self.bodies.extend_from_slice(body);
        self.events.push(BlockEvent { sequence, time, hash, end: self.bodies.len() });
    }

    /// Adds the signature of the head after the last event. Does nothing if there is no event.
    pub fn push_head(&mut self, signature: AuditSignature) {
        if let Some(last) = self.events.len().checked_sub(1) {
            self.heads.push((last, signature));
        }
    }

    /// Returns the number of bytes of all bodies.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.bodies.len()
    }

    /// Returns the number of the last event; `None` if there is no event.
    #[must_use]
    pub fn last_sequence(&self) -> Option<i64> {
        self.events.last().map(|event| event.sequence)
    }

    /// Returns the events.
    pub fn events(&self) -> impl Iterator<Item = AuditRowView<'_>> {
        let mut from = 0;
        self.events.iter().map(move |event| {
            let BlockEvent { sequence, time, hash, end } = *event;
            let body = self.bodies.get(from..end).unwrap_or_default();
            from = end;
            AuditRowView { sequence, time, hash, body }
        })
    }

    /// Returns the heads of a chain.
    pub fn heads(&self, chain: &Arc<str>) -> impl Iterator<Item = SignedPoint> {
        self.heads.iter().filter_map(move |(index, signature)| {
            let BlockEvent { sequence, time, hash, .. } = *self.events.get(*index)?;
            let point = ChainPoint { chain: Arc::clone(chain), sequence, hash, time };
            Some(SignedPoint { point, signature: signature.clone() })
        })
    }
}

/// A complete file with events of a chain, which goes on in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// The chain.
    pub chain: Arc<str>,
    /// The number of the last event in the file.
    pub last_sequence: i64,
    /// The length of the file.
    pub bytes: u64,
    /// The latest time of the chain's events up to this last one. Within a chain it never decreases.
    pub latest: Timestamp,
}

/// The space that a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSpace {
    /// The length of all files.
    pub bytes: u64,
    /// The size of the volume with the files; `None` if the system does not report it.
    pub volume_bytes: Option<u64>,
}

/// Stores audit events. Reads return rows unchanged and unverified.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Stores a group and its head durably, both or none. Appending a stored group again succeeds and changes nothing, so
    /// a group whose commit has an unknown outcome can be appended again.
    ///
    /// # Errors
    /// `Conflict` if the group does not follow the chain's head, or if other events have its sequence numbers.
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError>;

    /// Returns all chains, oldest first.
    async fn chains(&self) -> Result<Vec<ChainState>, StoreError>;

    /// Returns one chain.
    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError>;

    /// Returns up to `limit` events of a chain, in order, starting after sequence number `after`.
    async fn events(
        &self,
        chain: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Returns some of the events of a chain that follow sequence number `after`, in order, with signed heads among
    /// them. The block is empty only if no event follows.
    async fn event_block(
        &self,
        chain: &str,
        after: i64,
        heads: StoredHeads,
    ) -> Result<EventBlock, StoreError>;

    /// Returns the damaged places of files that were found so far. Reading names a place when it comes to it: after
    /// all events of all chains were read, all places are known.
    fn damaged_places(&self) -> Vec<AuditDamage>;

    /// Returns up to `limit` events of all chains within a span of time, newest first, starting after `after`.
    async fn newest_events(
        &self,
        span: TimeSpan,
        after: Option<&AuditPosition>,
        limit: u32,
    ) -> Result<Vec<ChainedRow>, StoreError>;

    /// Deletes the events up to a checkpoint and stores the checkpoint in their place. The head stays. A file is
    /// deleted when all its events are, unless it has the head.
    ///
    /// # Errors
    /// `Conflict` if the chain is already pruned further, or ends before the checkpoint.
    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError>;

    /// Deletes files that the last [`Self::prune`] of the chain left, because the process ended before it had deleted
    /// all of them.
    async fn finish_prune(&self, chain: &str) -> Result<(), StoreError>;

    /// Returns the complete files of all chains: those of a chain in order, without the one that has its head.
    async fn segments(&self) -> Result<Vec<StoredSegment>, StoreError>;

    /// Returns the space that the events take.
    async fn space(&self) -> Result<AuditSpace, StoreError>;

    /// Returns the stored public keys.
    async fn public_keys(&self) -> Result<Vec<StoredPublicKey>, StoreError>;

    /// Stores a public key and replaces the one with the same id.
    async fn store_public_key(&self, key: &StoredPublicKey) -> Result<(), StoreError>;
}

/// Keeps the newest known head of each chain apart from the events, so that a shortened or removed chain is noticed.
#[async_trait]
pub trait AuditHeadStore: Send + Sync + 'static {
    /// Stores a head in place of an earlier one of its chain. Does nothing if a later one is stored.
    async fn put_head(&self, head: &SignedPoint) -> Result<(), StoreError>;

    /// Returns the newest stored head of each chain, ordered by the chains' names.
    async fn heads(&self) -> Result<Vec<SignedPoint>, StoreError>;
}

/// Hashes and signs audit events.
pub trait AuditSigner: Send + Sync + 'static {
    /// Returns the SHA-256 digest of `message`.
    fn digest(&self, message: &[u8]) -> AuditHash;

    /// Returns the id of the active signing key.
    fn active_key_id(&self) -> Arc<str>;

    /// Signs with the given key of the keyring.
    ///
    /// # Errors
    /// If the key is not in the keyring, or the cryptographic library fails.
    fn sign(&self, key_id: &str, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// Returns the public keys of all keys in the keyring, with their ids.
    fn public_keys(&self) -> Vec<(String, Vec<u8>)>;

    /// Returns whether `signature` over `message` verifies with `public_key`.
    fn verify(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool;
}
