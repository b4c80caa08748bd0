//! The audit trail, read beside a running gateway.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tenant_gateway::{
    app::Storage,
    audit::Verification,
    config::Config,
    domain::{AuditChainReport, AuditEvent, AuditRecord},
    ports::AuditStore as _,
};

/// The stored events, and the verification report.
pub(crate) struct StoredTrail {
    /// All events, chain by chain in order.
    pub(crate) events: Vec<AuditEvent>,
    pub(crate) reports: Vec<AuditChainReport>,
}

impl StoredTrail {
    /// Reads the store of a configuration.
    pub(crate) async fn read(config: &Path) -> Self {
        let config = Config::load(config).unwrap().config;
        let storage = Storage::open(&config).await.unwrap();
        let verification = Verification::new(
            storage.audit.clone(),
            storage.store.clone(),
            Arc::clone(&storage.audit_signer) as _,
        );
        let mut events = Vec::new();
        for chain in storage.audit.chains().await.unwrap() {
            let chain = Arc::clone(&chain.head.point.chain);
            loop {
                let after = events.last().filter(|last: &&AuditEvent| last.chain == chain);
                let after = after.map_or(0, |last| last.sequence);
                let rows = storage.audit.events(&chain, after, 1000).await.unwrap();
                if rows.is_empty() {
                    break;
                }
                events.extend(rows.iter().map(|row| AuditEvent::read(&chain, row).unwrap()));
            }
        }
        let reports = verification.run(|_| ()).await.unwrap();
        storage.close().await;
        Self { events, reports }
    }

    #[track_caller]
    pub(crate) fn assert_intact(&self) {
        for report in &self.reports {
            assert!(report.intact(), "{report:?}");
        }
    }

    pub(crate) fn chains(&self) -> Vec<Arc<str>> {
        self.reports.iter().map(|report| Arc::clone(&report.chain)).collect()
    }

    /// Returns the events of calls, without those of the gateway itself.
    pub(crate) fn of_calls(&self) -> impl Iterator<Item = &AuditEvent> {
        self.events.iter().filter(|event| &*event.record.caller_method != "gateway")
    }

    /// Returns the events of one request.
    pub(crate) fn of(&self, request_id: &str) -> Vec<&AuditRecord> {
        let records = self.events.iter().map(|event| &event.record);
        records.filter(|record| &*record.request_id == request_id).collect()
    }

    /// Asserts that each of these requests has exactly one event, with success, and that no event occurs twice.
    #[track_caller]
    pub(crate) fn assert_each_once(&self, answered: &[String]) {
        let mut found = BTreeMap::<&str, Vec<&AuditRecord>>::new();
        for event in self.of_calls() {
            found.entry(&event.record.request_id).or_default().push(&event.record);
        }
        for (id, records) in &found {
            assert_eq!(records.len(), 1, "doubled: {id}: {records:?}");
        }
        for id in answered {
            let records = found.get(id.as_str());
            assert!(records.is_some_and(|records| records[0].code == 0), "lost: {id}: {records:?}");
        }
    }
}
