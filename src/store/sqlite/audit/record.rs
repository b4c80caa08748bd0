//! Columns of the audit trail. What makes no sense is read as something that verification finds wrong, not as an
//! error: one altered row must not hide the others.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    domain::{AuditHash, AuditRow, AuditSignature, ChainPoint, ChainState, NO_HASH, SignedPoint},
    ports::{ChainedRow, StoredPublicKey},
};

/// A row of `audit_chains`.
#[derive(sqlx::FromRow)]
pub(super) struct ChainRecord {
    chain: String,
    sequence: i64,
    hash: Vec<u8>,
    time: i64,
    key_id: String,
    signature: Vec<u8>,
    checkpoint_sequence: Option<i64>,
    checkpoint_hash: Option<Vec<u8>>,
    checkpoint_time: Option<i64>,
    checkpoint_key_id: Option<String>,
    checkpoint_signature: Option<Vec<u8>>,
}

/// A row of `audit_events`.
#[derive(sqlx::FromRow)]
pub(super) struct EventRecord {
    sequence: i64,
    time: i64,
    hash: Vec<u8>,
    body: Vec<u8>,
}

/// The same, with the chain's name.
#[derive(sqlx::FromRow)]
pub(super) struct ListedRecord {
    chain: String,
    #[sqlx(flatten)]
    event: EventRecord,
}

/// A row of `audit_keys`.
#[derive(sqlx::FromRow)]
pub(super) struct KeyRecord {
    key_id: String,
    public_key: Vec<u8>,
    certified_by: String,
    certificate: Vec<u8>,
}

impl ChainRecord {
    pub(super) fn into_state(self) -> ChainState {
        let chain: Arc<str> = self.chain.into();
        let checkpoint = self.checkpoint_sequence.map(|sequence| SignedPoint {
            point: ChainPoint {
                chain: Arc::clone(&chain),
                sequence,
                hash: hash(&self.checkpoint_hash.unwrap_or_default()),
                time: time(self.checkpoint_time.unwrap_or_default()),
            },
            signature: AuditSignature {
                key_id: self.checkpoint_key_id.unwrap_or_default().into(),
                bytes: self.checkpoint_signature.unwrap_or_default(),
            },
        });
        let point = ChainPoint {
            chain,
            sequence: self.sequence,
            hash: hash(&self.hash),
            time: time(self.time),
        };
        let signature = AuditSignature { key_id: self.key_id.into(), bytes: self.signature };
        ChainState { head: SignedPoint { point, signature }, checkpoint }
    }
}

impl EventRecord {
    pub(super) fn into_row(self) -> AuditRow {
        AuditRow {
            sequence: self.sequence,
            time: time(self.time),
            hash: hash(&self.hash),
            body: self.body,
        }
    }
}

impl ListedRecord {
    pub(super) fn into_row(self) -> ChainedRow {
        ChainedRow { chain: self.chain.into(), row: self.event.into_row() }
    }
}

impl KeyRecord {
    pub(super) fn into_key(self) -> StoredPublicKey {
        StoredPublicKey {
            key_id: self.key_id,
            public_key: self.public_key,
            certificate: AuditSignature {
                key_id: self.certified_by.into(),
                bytes: self.certificate,
            },
        }
    }
}

/// No event has this hash.
fn hash(bytes: &[u8]) -> AuditHash {
    bytes.try_into().unwrap_or(NO_HASH)
}

/// No event is from that time.
fn time(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MIN)
}
