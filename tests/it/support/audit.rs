//! Writes audit events beside a gateway, and changes files without the key.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tenant_gateway::{
    app::Storage,
    audit::{
        CommandTrail, Durability, EventClass, Retention, RetentionLimits, Trail, TrailPorts,
        TrailRules,
    },
    config::Config,
    crypto::SystemRandom,
    domain::{AuditRecord, Decision},
    ports::ManualClock,
};

/// Writes events into the store of a configuration.
pub(crate) struct AuditWriter {
    storage: Storage,
    pub(crate) clock: Arc<ManualClock>,
}

impl AuditWriter {
    /// Opens the store with a clock that stands at second 1,800,000,000 (2027-01-15T08:00:00Z).
    pub(crate) async fn open(config: &Path) -> Self {
        let config = Config::load(config).unwrap().config;
        let storage = Storage::open(&config).await.unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        Self { storage, clock: Arc::new(ManualClock::new(start)) }
    }

    /// Writes one group of events as a server does.
    pub(crate) async fn serve(&self, chain: &str, records: impl IntoIterator<Item = AuditRecord>) {
        let ports = TrailPorts {
            store: self.storage.audit.clone(),
            signer: self.storage.audit_signer.clone(),
            clock: self.clock.clone(),
            timer: self.clock.clone(),
        };
        // The clock advances a second for each event.
        let (durability, max_wait) = (Durability::BeforeResponse, Duration::from_hours(24));
        let trail = Trail::new(ports, chain.into(), TrailRules { durability, max_wait });
        let work = async {
            let pending: Vec<_> = records
                .into_iter()
                .map(|record| {
                    let pending = trail.record(record, EventClass::Change).unwrap();
                    self.clock.advance(Duration::from_secs(1));
                    pending
                })
                .collect();
            for pending in pending {
                pending.committed().await.unwrap();
            }
        };
        tokio::select! {
            () = trail.run() => unreachable!(),
            () = work => {}
        }
    }

    /// Writes an event as a command does.
    pub(crate) async fn command(&self, record: AuditRecord) {
        let Storage { audit, audit_signer, .. } = &self.storage;
        let random = Arc::new(SystemRandom);
        let (store, signer) = (audit.clone(), audit_signer.clone());
        CommandTrail::new(store, signer, self.clock.clone(), random).write(record).await.unwrap();
        self.clock.advance(Duration::from_secs(1));
    }

    /// Removes all old events, as retention does. First writes a newer event, because the newest event is always kept.
    pub(crate) async fn prune(&self) {
        self.clock.advance(Duration::from_hours(1));
        self.command(event("newest", "applications/crm-sync")).await;
        let Storage { audit, audit_signer, .. } = &self.storage;
        let (store, signer) = (audit.clone(), audit_signer.clone());
        let limits = RetentionLimits { max_age: Some(Duration::ZERO), max_bytes: None };
        let retention = Retention::new(store, signer, self.clock.clone(), limits);
        retention.prune_by_age().await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.storage.close().await;
    }
}

/// Returns an event on a resource with a request id.
pub(crate) fn event(request_id: &str, resource: &str) -> AuditRecord {
    AuditRecord {
        caller: "test-caller".into(),
        resource: resource.to_owned().into(),
        request_id: request_id.to_owned().into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

/// Opens the store as an attacker with write access but without the key.
pub(crate) async fn open_without_key(store: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(store).connect().await.unwrap()
}

/// The size of a segment's header. `docs/reference/journal.md` describes the files.
const HEADER: usize = 512;

/// The newest segment of a chain, changed by someone without the key.
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl SegmentFile {
    /// Reads the segment from the default directory of a journal, which is in `folder`.
    pub(crate) fn read(folder: &Path, chain: &str) -> Self {
        let entries = fs::read_dir(folder.join("audit").join(chain)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
        let path = segments.max().unwrap();
        Self { bytes: fs::read(&path).unwrap(), path }
    }

    /// Returns the places of the groups.
    pub(crate) fn groups(&self) -> Vec<Range<usize>> {
        let mut groups = Vec::new();
        let mut from = HEADER;
        while self.bytes.get(from..from + 4) == Some(b"AGRP") {
            let length = self.bytes[from + 4..from + 8].try_into().unwrap();
            let to = from + u32::from_be_bytes(length) as usize;
            groups.push(from..to);
            from = to;
        }
        groups
    }

    /// Removes a group.
    pub(crate) fn remove(&mut self, group: usize) {
        let range = self.groups().swap_remove(group);
        self.bytes.drain(range);
    }

    /// Replaces a text by one of the same length, and returns its offset.
    pub(crate) fn replace(&mut self, from: &str, to: &str) -> usize {
        assert_eq!(from.len(), to.len());
        let at = self.bytes.windows(from.len()).position(|window| window == from.as_bytes());
        let at = at.unwrap();
        self.bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        at
    }

    /// Computes the checksums of the groups, which need no key.
    pub(crate) fn correct_checksums(&mut self) {
        let incarnation = self.bytes[12..28].to_vec();
        for Range { start, end } in self.groups() {
            let checksum = crc32c::crc32c(&incarnation);
            let checksum = crc32c::crc32c_append(checksum, &self.bytes[start + 12..end - 8]);
            self.bytes[start + 8..start + 12].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    /// Writes the segment back.
    pub(crate) fn write(&self) {
        fs::write(&self.path, &self.bytes).unwrap();
    }
}
