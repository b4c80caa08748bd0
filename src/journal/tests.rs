//! Tests of the journal as a whole, and what they share.

mod blocks;
mod checkpoints;
mod contract;
mod ends;
mod faults;
mod listing;
mod promises;
mod pruning;
mod reading;
mod stranger;
mod tampering;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;

use super::{Journal, JournalPorts, JournalSettings, Role, files::Files};
use crate::{
    audit::{Verification, fakes::MemoryAudit},
    crypto::{AuditKeys, Keyring},
    domain::{
        AuditChainReport, AuditEvent, AuditRecord, AuditRow, AuditSignature, ChainLink, ChainPoint,
        Decision, NO_HASH, SignedPoint, Statement,
    },
    ports::{AuditGroup, AuditSigner, ManualClock, Random},
};

/// The keys that sign in all tests.
pub(super) static KEYS: LazyLock<Arc<AuditKeys>> = LazyLock::new(keys);

pub(super) fn keys() -> Arc<AuditKeys> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::UNIX_EPOCH).unwrap();
    Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}

/// Different bytes for each directory, always the same ones.
pub(super) struct Fixed(pub(super) u8);

impl Random for Fixed {
    fn bytes(&self) -> [u8; 16] {
        [self.0; 16]
    }
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn ports() -> JournalPorts {
    let keys: Arc<AuditKeys> = Arc::clone(&KEYS);
    JournalPorts {
        signer: keys,
        clock: Arc::new(ManualClock::new(at(0))),
        random: Arc::new(Fixed(7)),
    }
}

pub(super) fn settings(directory: &Path, role: Role) -> JournalSettings {
    JournalSettings { directory: directory.to_owned(), segment_bytes: 1024 * 1024, role }
}

pub(super) fn open_in(files: Arc<dyn Files>, directory: &Path, role: Role) -> Journal {
    Journal::open_in(files, settings(directory, role), ports(), false).unwrap()
}

/// Verifies all chains.
pub(super) async fn verify(journal: &Journal) -> Vec<AuditChainReport> {
    let keys: Arc<AuditKeys> = Arc::clone(&KEYS);
    let heads = Arc::new(MemoryAudit::default());
    Verification::new(Arc::new(journal.clone()), heads, keys).run(|_| ()).await.unwrap()
}

/// Makes groups of a chain that verifies.
pub(super) struct Author {
    chain: Arc<str>,
    sequence: i64,
    hash: [u8; 32],
    /// The links of the first event.
    pub(super) links: Vec<ChainLink>,
}

impl Author {
    pub(super) fn new(chain: &str) -> Self {
        Self { chain: chain.into(), sequence: 0, hash: NO_HASH, links: Vec::new() }
    }

    /// Returns the next group; the events have reasons of so many bytes.
    pub(super) fn group(&mut self, events: i64, reason: usize) -> AuditGroup {
        let row = |_| self.row(reason);
        let rows: Vec<AuditRow> = (0..events).map(row).collect();
        let last = rows.last().unwrap();
        let point = ChainPoint {
            chain: Arc::clone(&self.chain),
            sequence: last.sequence,
            hash: last.hash,
            time: last.time,
        };
        AuditGroup { head: sign(point, Statement::Head), rows }
    }

    fn row(&mut self, reason: usize) -> AuditRow {
        self.sequence += 1;
        let mut event = AuditEvent {
            chain: Arc::clone(&self.chain),
            sequence: self.sequence,
            time: at(self.sequence),
            record: AuditRecord {
                reason: "r".repeat(reason).into(),
                ..AuditRecord::new("readTenants", Decision::Allowed)
            },
            links: std::mem::take(&mut self.links),
            previous_hash: self.hash,
            hash: NO_HASH,
        };
        let row = event.seal(|message| KEYS.digest(message));
        self.hash = row.hash;
        row
    }
}

pub(super) fn sign(point: ChainPoint, statement: Statement) -> SignedPoint {
    let key_id = KEYS.active_key_id();
    let bytes = KEYS.sign(&key_id, &point.message(statement, &key_id)).unwrap();
    SignedPoint { point, signature: AuditSignature { key_id, bytes } }
}

pub(super) fn root() -> PathBuf {
    PathBuf::from("/journal")
}
