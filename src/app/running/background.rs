//! The background work of the gateway, in one list.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    app::{
        access::AccessMaintenance, journal_upkeep::JournalUpkeep, store_monitor::StoreMonitor,
        use_cases::UseCases,
    },
    audit::{Retention, Trail},
    grpc::Health,
    journal::Journal,
    ports::{AuditHeadStore, Clock, StoreHealth},
};

/// Background work. Shutdown ends it before it waits for running calls.
pub(super) struct BackgroundWork {
    pub(super) use_cases: Arc<UseCases>,
    pub(super) store: Arc<dyn StoreHealth>,
    pub(super) journal: Arc<Journal>,
    pub(super) heads: Arc<dyn AuditHeadStore>,
    /// The last known external version of the store, see [`StoreHealth::external_version`].
    pub(super) external_version: Option<i64>,
    pub(super) maintenance: AccessMaintenance,
    pub(super) retention: Retention,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Health,
    /// Cancelled when the shutdown begins.
    pub(super) stop: CancellationToken,
}

impl BackgroundWork {
    /// Does all background work until the future is dropped.
    pub(super) async fn run(self) {
        let use_cases = &*self.use_cases;
        let store_monitor = StoreMonitor {
            store: self.store,
            journal: self.journal.clone(),
            trail: use_cases.audit.trail.clone(),
            stopped: use_cases.stopped.clone(),
            applications: use_cases.applications.clone(),
            clock: self.clock.clone(),
        };
        let journal = JournalUpkeep {
            journal: self.journal,
            heads: self.heads,
            trail: use_cases.audit.trail.clone(),
            retention: self.retention,
            clock: self.clock.clone(),
        };
        let (directory, impersonation) =
            (use_cases.directory.clone(), use_cases.impersonation.clone());
        let forget = move || {
            directory.forget_all();
            impersonation.forget_all();
        };
        tokio::join!(
            use_cases.tickets.keep_fresh(),
            use_cases.statuses.keep_fresh(),
            use_cases.impersonation.run_renewals(),
            use_cases.impersonation.run_retries_after_resume(),
            use_cases.impersonation.run_revocations(),
            use_cases.associates.run_sweeps(),
            store_monitor.run(forget, self.external_version),
            journal.run(),
            self.maintenance.run(self.clock),
            report_stalled_trail(&use_cases.audit.trail, self.health, self.stop),
            use_cases.audit.attempts.run(&use_cases.audit.trail),
            use_cases.audit.trail.run_denials(),
            use_cases.consents.delete_expired(),
            use_cases.tenant_notifications.run(),
        );
    }
}

/// Reports the gateway as not serving while the audit trail is stalled: calls that need it are rejected, so callers
/// should use another replica.
async fn report_stalled_trail(trail: &Trail, health: Health, stop: CancellationToken) {
    let mut stalled = trail.watch_stalled();
    while stalled.changed().await.is_ok() {
        if *stalled.borrow_and_update() {
            health.set_not_serving().await;
        } else if !stop.is_cancelled() {
            health.set_serving().await;
        }
    }
}
