//! Audit events as the gateway writes them, and the journal that stores them.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use tenant_gateway::{
    crypto::{AuditKeys, Keyring, SystemRandom},
    domain::{
        AuditEvent, AuditHash, AuditRecord, AuditRow, AuditSignature, ChainPoint, Decision,
        NO_HASH, SignedPoint, Statement,
    },
    journal::{Journal, JournalPorts, JournalSettings, Role},
    ports::{AuditGroup, AuditSigner as _, SystemClock},
};

/// The chain of all events.
pub(crate) const CHAIN: &str = "serve-bench";

/// The default size of a segment.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The time between two events, in microseconds, and the time before now at which the first one is.
const EVENT_INTERVAL: i64 = 100;
const BEGIN_BEFORE: i64 = 3_600_000_000;

/// Returns the content of a typical event.
pub(crate) fn record() -> AuditRecord {
    AuditRecord {
        caller: "spiffe://prod.example.com/ns/crm/sa/sync".into(),
        caller_method: "jwt".into(),
        caller_issuer: "https://kubernetes.default.svc.cluster.local".into(),
        resource: "applications/crm-sync/tenants/Cust12345".into(),
        acting_as: "system".into(),
        policy_ids: ["sync-issues-tickets".into()].into(),
        credential_id: "t-0123456789abcdef0123456789abcdef".into(),
        request_id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        client_address: "10.1.2.3".into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

/// Returns new keys.
pub(crate) fn new_keys() -> Arc<AuditKeys> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let id = Keyring::generate(&path, Timestamp::now()).unwrap();
    Arc::new(AuditKeys::new(&Keyring::load(&path).unwrap(), &id).unwrap())
}

/// Opens the journal of a folder.
pub(crate) fn open_journal(folder: &Path, keys: &Arc<AuditKeys>, role: Role) -> Journal {
    let directory = folder.join("audit");
    let settings = JournalSettings { directory, segment_bytes: SEGMENT_BYTES, role };
    let ports = JournalPorts {
        signer: keys.clone(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    Journal::open(settings, ports).unwrap()
}

/// Makes the groups of a chain that verifies.
pub(crate) struct Author {
    keys: Arc<AuditKeys>,
    record: AuditRecord,
    chain: Arc<str>,
    /// The time of the first event, in microseconds.
    begin: i64,
    sequence: i64,
    hash: AuditHash,
}

impl Author {
    pub(crate) fn new(keys: &Arc<AuditKeys>) -> Self {
        Self {
            keys: Arc::clone(keys),
            record: record(),
            chain: CHAIN.into(),
            begin: Timestamp::now().as_microsecond() - BEGIN_BEFORE,
            sequence: 0,
            hash: NO_HASH,
        }
    }

    /// Returns the next group, with so many events and a signed head.
    pub(crate) fn group(&mut self, size: usize) -> AuditGroup {
        let rows: Vec<AuditRow> = (0..size).map(|_| self.row()).collect();
        let AuditRow { sequence, time, hash, .. } = rows[size - 1];
        let point = ChainPoint { chain: Arc::clone(&self.chain), sequence, hash, time };
        let key_id = self.keys.active_key_id();
        let message = point.message(Statement::Head, &key_id);
        let bytes = self.keys.sign(&key_id, &message).unwrap();
        let signature = AuditSignature { key_id, bytes };
        AuditGroup { rows, head: SignedPoint { point, signature } }
    }

    fn row(&mut self) -> AuditRow {
        self.sequence += 1;
        let time = self.begin + self.sequence * EVENT_INTERVAL;
        let mut event = AuditEvent {
            chain: Arc::clone(&self.chain),
            sequence: self.sequence,
            time: Timestamp::from_microsecond(time).unwrap(),
            record: self.record.clone(),
            links: Vec::new(),
            previous_hash: self.hash,
            hash: NO_HASH,
        };
        let row = event.seal(|message| self.keys.digest(message));
        self.hash = row.hash;
        row
    }
}

/// Returns as many bytes as the journal writes for a group (`docs/reference/journal.md`).
pub(crate) fn group_bytes(group: &AuditGroup) -> Vec<u8> {
    let AuditSignature { key_id, bytes: signature } = &group.head.signature;
    let mut bytes = vec![7; 24];
    for row in &group.rows {
        bytes.extend_from_slice(&[7; 12]);
        bytes.extend_from_slice(&row.hash);
        bytes.extend_from_slice(&row.body);
    }
    bytes.extend_from_slice(key_id.as_bytes());
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(&[7; 10]);
    bytes
}

/// Returns the number of bytes that the journal writes for one event that is committed alone.
pub(crate) fn event_bytes() -> usize {
    group_bytes(&Author::new(&new_keys()).group(1)).len()
}
