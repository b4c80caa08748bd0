//! Writes audit events beside a gateway, and opens the store directly.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tenant_gateway::{
    app::Storage,
    audit::{CommandTrail, Durability, EventClass, Retention, Trail, TrailPorts, TrailRules},
    config::Config,
    crypto::SystemRandom,
    domain::{AuditRecord, Decision},
    ports::{ManualClock, StoreHealth as _},
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
            store: self.storage.store.clone(),
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
        let Storage { store, audit_signer, .. } = &self.storage;
        let random = Arc::new(SystemRandom);
        let (store, signer) = (store.clone(), audit_signer.clone());
        CommandTrail::new(store, signer, self.clock.clone(), random).write(record).await.unwrap();
        self.clock.advance(Duration::from_secs(1));
    }

    /// Removes all old events, as retention does. First writes a newer event, because the newest event is always kept.
    pub(crate) async fn prune(&self) {
        self.clock.advance(Duration::from_hours(1));
        self.command(event("newest", "applications/crm-sync")).await;
        let Storage { store, audit_signer, .. } = &self.storage;
        let (store, signer) = (store.clone(), audit_signer.clone());
        Retention::new(store, signer, self.clock.clone(), Duration::ZERO).prune().await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.storage.store.close().await;
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
