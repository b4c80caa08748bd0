//! Storing and signing the audit trail.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{SignError, StoreError};
use crate::domain::{AuditHash, AuditRow, AuditSignature, ChainState, SignedPoint};

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

/// A position in the list of all events, newest first. Events are ordered by time, chain and sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPosition {
    /// The event's time.
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
}

/// A stored public key. It verifies old signatures after the private key has left the keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPublicKey {
    /// The id of the key.
    pub key_id: String,
    /// The public key.
    pub public_key: Vec<u8>,
    /// The signature over this public key by a key that became active later.
    pub certificate: AuditSignature,
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

    /// Returns up to `limit` events of all chains within a span of time, newest first, starting after `after`.
    async fn newest_events(
        &self,
        span: TimeSpan,
        after: Option<&AuditPosition>,
        limit: u32,
    ) -> Result<Vec<ChainedRow>, StoreError>;

    /// Deletes the events up to a checkpoint and stores the checkpoint in their place. The head stays.
    ///
    /// # Errors
    /// `Conflict` if the chain is already pruned further, or ends before the checkpoint.
    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError>;

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
