//! The running gateway: its start, its supervisor and its shutdown.

mod background;
mod shutdown;
mod tasks;

use std::{net::SocketAddr, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::shutdown::ShutdownOutcome;
use self::{
    background::BackgroundWork,
    shutdown::{Shutdown, ShutdownHandles, Transfers},
    tasks::RunningTasks,
};
use super::{
    access::AccessMaintenance,
    dedicated_thread::DedicatedThread,
    servers::{ListenAddresses, Servers},
    storage::Storage,
    use_cases::UseCases,
};
use crate::{
    audit::Retention,
    broker::Runtime,
    config::Lifecycle,
    http::{EgressServer, Readiness},
    ports::{Reloadable, StoreHealth as _},
};

/// All parts, ready to run.
pub(super) struct PreparedGateway {
    pub(super) servers: Servers,
    pub(super) addresses: ListenAddresses,
    pub(super) readiness: Arc<Readiness>,
    pub(super) use_cases: Arc<UseCases>,
    pub(super) storage: Storage,
    pub(super) runtime: Runtime,
    pub(super) lifecycle: Lifecycle,
    /// Keeps the keys and the policy for callers up to date.
    pub(super) maintenance: AccessMaintenance,
    /// Deletes audit events that are too old, and those for which there is no space.
    pub(super) retention: Retention,
    pub(super) reloadables: Vec<Arc<dyn Reloadable>>,
    /// The thread that writes the audit trail.
    pub(super) audit_thread: DedicatedThread,
}

/// A running gateway. It runs until [`Self::stop_token`] is cancelled.
pub struct Running {
    /// The address of the gRPC listener.
    pub grpc_address: SocketAddr,
    /// The address of the listener for consent pages and webhooks, if there is one.
    pub http_address: Option<SocketAddr>,
    /// The address of the egress proxy, if there is one.
    pub egress_address: Option<SocketAddr>,
    /// The address of the admin listener.
    pub admin_address: SocketAddr,
    stop: CancellationToken,
    reloadables: Vec<Arc<dyn Reloadable>>,
    supervisor: JoinHandle<ShutdownOutcome>,
}

impl Running {
    /// Returns a token; cancelling it starts the shutdown.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns the parts that can be reloaded without a restart.
    #[must_use]
    pub fn reloadables(&self) -> Vec<Arc<dyn Reloadable>> {
        self.reloadables.clone()
    }

    /// Waits until the gateway has stopped.
    pub async fn wait(self) -> ShutdownOutcome {
        self.supervisor.await.unwrap_or(ShutdownOutcome::Crashed)
    }
}

impl PreparedGateway {
    /// Starts to serve calls.
    #[expect(
        clippy::disallowed_methods,
        reason = "the supervisor owns every other task, and Running owns it"
    )]
    pub(super) async fn run(mut self) -> Running {
        let ListenAddresses { grpc, http, egress, admin } = self.addresses;
        let reloadables = std::mem::take(&mut self.reloadables);
        let stop = CancellationToken::new();
        // Read before the first call, so that every later change by another process is noticed.
        let external_version = self.storage.store.external_version().await.ok();
        self.servers.grpc.health().set_serving().await;
        self.readiness.open();
        let (shown_http, shown_egress) =
            (http.map(tracing::field::display), egress.map(tracing::field::display));
        tracing::info!(%grpc, %admin, http = shown_http, egress = shown_egress, "serving");
        let supervisor = tokio::spawn(self.supervise(stop.clone(), external_version));
        Running {
            grpc_address: grpc,
            http_address: http,
            egress_address: egress,
            admin_address: admin,
            stop,
            reloadables,
            supervisor,
        }
    }

    /// Runs all tasks until `stop` or a crash, then shuts down.
    async fn supervise(
        self,
        stop: CancellationToken,
        external_version: Option<i64>,
    ) -> ShutdownOutcome {
        let handles = self.shutdown_handles();
        let background = BackgroundWork {
            use_cases: self.use_cases.clone(),
            store: self.storage.store.clone(),
            journal: self.storage.audit.clone(),
            heads: self.storage.store.clone(),
            external_version,
            maintenance: self.maintenance,
            retention: self.retention,
            clock: self.runtime.clock.clone(),
            health: handles.health.clone(),
            stop: stop.clone(),
        };
        let stopping = self.runtime.stopping;
        let audit = (self.use_cases.audit.trail.clone(), self.audit_thread);
        let mut tasks = RunningTasks::start(self.servers, background, audit, &stopping);
        let crashed = tasks.stopped_or_crashed(&stop).await;
        let outcome = Shutdown::begin(handles, tasks, self.lifecycle).run(crashed).await;
        // The lock on the store is held until the store is closed.
        drop(self.storage);
        outcome
    }

    fn shutdown_handles(&self) -> ShutdownHandles {
        let Servers { grpc, egress, .. } = &self.servers;
        let egress = egress.as_ref();
        ShutdownHandles {
            readiness: self.readiness.clone(),
            health: grpc.health(),
            stopping: self.runtime.stopping.clone(),
            grpc_cut_off: grpc.cut_off(),
            transfers: Transfers {
                running: egress.map(EgressServer::requests).unwrap_or_default(),
                cut_off: egress.map(EgressServer::cut_off).unwrap_or_default(),
            },
            work: self.runtime.tasks.clone(),
            audit: self.use_cases.audit.clone(),
            journal: self.storage.audit.clone(),
            heads: self.storage.store.clone(),
            store: self.storage.store.clone(),
        }
    }
}
