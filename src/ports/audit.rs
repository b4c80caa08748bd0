//! Keeping and signing the audit trail.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{SignError, StoreError};
use crate::domain::{AuditHash, AuditRow, AuditSignature, ChainState, SignedPoint};

/// Events that are committed together, with the head that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditGroup {
    /// At least one, with consecutive numbers; the last one is the head.
    pub rows: Vec<AuditRow>,
    /// The head, signed.
    pub head: SignedPoint,
}

impl AuditGroup {
    /// The number of the first event.
    #[must_use]
    pub fn first_sequence(&self) -> i64 {
        self.rows.first().map_or(self.head.point.sequence, |row| row.sequence)
    }
}

/// A place in the list of all events, newest first. Time goes first, then the chain, then the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPosition {
    /// The event's time.
    pub time: Timestamp,
    /// Its chain.
    pub chain: Arc<str>,
    /// Its number.
    pub sequence: i64,
}

/// From when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    /// Not before this.
    pub from: Timestamp,
    /// Not after this.
    pub to: Timestamp,
}

impl Default for TimeSpan {
    fn default() -> Self {
        Self { from: Timestamp::MIN, to: Timestamp::MAX }
    }
}

/// A row, and its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedRow {
    /// The chain.
    pub chain: Arc<str>,
    /// The row.
    pub row: AuditRow,
}

/// A public key that is kept, so that what its key signed can be verified when that is no longer in the keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPublicKey {
    /// Whose it is.
    pub key_id: String,
    /// The key.
    pub public_key: Vec<u8>,
    /// By another key, which was active later.
    pub certificate: AuditSignature,
}

/// Keeps audit events. What it reads it hands on as it is: whether it is to be believed is for verification to say.
#[async_trait]
pub trait AuditStore: Send + Sync + 'static {
    /// Keeps a group and its head, all or nothing. To repeat what is already kept changes nothing and succeeds, so a
    /// group of unknown outcome is simply appended again.
    ///
    /// # Errors
    /// `Conflict` if it does not follow the chain's head, or if other events stand in its place.
    async fn append(&self, group: &AuditGroup) -> Result<(), StoreError>;

    /// All chains, in the order in which they began.
    async fn chains(&self) -> Result<Vec<ChainState>, StoreError>;

    /// One chain.
    async fn chain(&self, chain: &str) -> Result<Option<ChainState>, StoreError>;

    /// Up to `limit` events of a chain, in order, beginning after `after`.
    async fn events(
        &self,
        chain: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Up to `limit` events of all chains within a span of time, newest first, beginning after `after`.
    async fn newest_events(
        &self,
        span: TimeSpan,
        after: Option<&AuditPosition>,
        limit: u32,
    ) -> Result<Vec<ChainedRow>, StoreError>;

    /// Removes the events up to a checkpoint, which is kept in their place. The head stays.
    ///
    /// # Errors
    /// `Conflict` if the chain is pruned further already, or ends before the checkpoint.
    async fn prune(&self, checkpoint: &SignedPoint) -> Result<(), StoreError>;

    /// The public keys that are kept.
    async fn public_keys(&self) -> Result<Vec<KeptPublicKey>, StoreError>;

    /// Keeps a public key, in place of what was kept under its id.
    async fn keep_public_key(&self, key: &KeptPublicKey) -> Result<(), StoreError>;
}

/// Hashes and signs for the audit trail.
pub trait AuditSigner: Send + Sync + 'static {
    /// SHA-256.
    fn digest(&self, message: &[u8]) -> AuditHash;

    /// The id of the key that signs now.
    fn active_key_id(&self) -> Arc<str>;

    /// Signs with this key of the keyring.
    ///
    /// # Errors
    /// If it is not in the keyring, or the library fails.
    fn sign(&self, key_id: &str, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// The public keys of all keys of the keyring, with their ids.
    fn public_keys(&self) -> Vec<(String, Vec<u8>)>;

    /// Whether `signature` was made over `message` with the key that belongs to `public_key`.
    fn verify(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool;
}
