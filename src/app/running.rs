//! The running gateway and its shutdown, in this order: not ready, drain delay, GOAWAY, running calls, audit trail,
//! store.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Storage, access::AccessMaintenance, dedicated_thread::DedicatedThread,
    store_monitor::StoreMonitor, use_cases::UseCases,
};
use crate::{
    broker::UncommittedEvents,
    config::Lifecycle,
    grpc::{AuditRecorder, GrpcServer, Health},
    http::{AdminServer, EgressServer, PublicServer, Readiness},
    ports::{Clock, Reloadable, StoreHealth},
};

/// The longest wait for the store to write the last audit events.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The time at the end of the hard deadline that is reserved for the audit events of aborted calls; at most a quarter
/// of the deadline.
const FINAL_FLUSH_RESERVE: Duration = Duration::from_secs(1);

/// The time that is reserved for the steps after the proxied calls: running tasks, the last audit events, the store. A
/// client that reads its response slowly must not use up this time. At most half of the hard deadline.
const SHUTDOWN_AFTER_TRANSFERS: Duration = Duration::from_secs(12);

/// All parts, ready to run.
pub(super) struct PreparedGateway {
    pub(super) grpc: GrpcServer,
    pub(super) http: Option<PublicServer>,
    pub(super) egress: Option<EgressServer>,
    pub(super) admin: AdminServer,
    pub(super) readiness: Arc<Readiness>,
    pub(super) use_cases: UseCases,
    pub(super) storage: Storage,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when connections get a GOAWAY and watches end.
    pub(super) goaway: CancellationToken,
    pub(super) lifecycle: Lifecycle,
    /// Keeps the keys and the policy for callers up to date.
    pub(super) maintenance: AccessMaintenance,
    pub(super) reloadables: Vec<Arc<dyn Reloadable>>,
    /// The thread that writes the audit trail.
    pub(super) audit_thread: DedicatedThread,
}

/// The result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// The gateway was asked to stop, and all running work finished.
    Clean,
    /// The gateway was asked to stop, and the hard deadline aborted some work.
    CutOff,
    /// A task that should run until the shutdown ended by itself.
    Crashed,
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
    pub(super) async fn run(mut self) -> io::Result<Running> {
        let reloadables = std::mem::take(&mut self.reloadables);
        let (grpc_address, admin_address) = (self.grpc.address()?, self.admin.address()?);
        let http_address = self.http.as_ref().map(PublicServer::address).transpose()?;
        let egress_address = self.egress.as_ref().map(EgressServer::address).transpose()?;
        let stop = CancellationToken::new();
        // Read before the first call, so that every later change by another process is noticed.
        let seen = self.storage.store.external_version().await.ok();
        self.grpc.health().set_serving().await;
        self.readiness.open();
        let http = http_address.map(tracing::field::display);
        let egress = egress_address.map(tracing::field::display);
        tracing::info!(grpc = %grpc_address, admin = %admin_address, http, egress, "serving");
        let supervisor = tokio::spawn(self.supervise(stop.clone(), seen));
        Ok(Running {
            grpc_address,
            http_address,
            egress_address,
            admin_address,
            stop,
            reloadables,
            supervisor,
        })
    }

    async fn supervise(self, stop: CancellationToken, seen: Option<i64>) -> ShutdownOutcome {
        let Self {
            grpc,
            http,
            egress,
            admin,
            readiness,
            use_cases,
            storage,
            clock,
            tasks,
            goaway,
            lifecycle,
            maintenance,
            audit_thread,
            ..
        } = self;
        let health = grpc.health();
        // Aborted calls get a response, so that no client library retries an unsafe one automatically.
        let (grpc_cut_off, egress_cut_off) =
            (grpc.cut_off(), egress.as_ref().map(EgressServer::cut_off).unwrap_or_default());
        let quit = CancellationToken::new();
        let store: Arc<dyn StoreHealth> = storage.store.clone();
        let tickets = Arc::clone(&use_cases.services.tickets);
        let statuses = Arc::clone(&use_cases.services.statuses);
        let associates = Arc::clone(&use_cases.services.associates);
        let long_running = TaskTracker::new();
        let mut grpc = long_running.spawn(grpc.serve(goaway.clone()));
        let http_stop = goaway.clone();
        let transfers = egress.as_ref().map(EgressServer::requests).unwrap_or_default();
        let http = async move {
            let (for_http, for_egress) = (http_stop.clone(), http_stop);
            let http = async {
                match http {
                    Some(http) => http.serve(for_http).await,
                    None => for_http.cancelled().await,
                }
                Ok(())
            };
            let egress = async {
                let Some(egress) = egress else {
                    for_egress.cancelled().await;
                    return Ok(());
                };
                egress.serve(for_egress).await
            };
            tokio::try_join!(http, egress).map(drop)
        };
        let mut http = long_running.spawn(http);
        let mut transfers_cut_off = false;
        let mut admin = long_running.spawn(admin.serve(quit.clone()));
        let impersonation = Arc::clone(&use_cases.services.impersonation);
        let grants = Arc::clone(&impersonation);
        let forget = move || {
            use_cases.directory.forget_all();
            grants.forget_all();
        };
        let watched = StoreMonitor {
            store: Arc::clone(&store),
            trail: Arc::clone(&use_cases.services.audit.trail),
            stopped: Arc::clone(&use_cases.stopped),
            applications: Arc::clone(&use_cases.services.applications),
            clock: Arc::clone(&clock),
        };
        let watch = watched.run(forget, seen);
        let background = async move {
            let fresh = async {
                tokio::join!(
                    tickets.keep_fresh(),
                    statuses.keep_fresh(),
                    impersonation.run_renewals(),
                    impersonation.run_probes_after_resume()
                )
            };
            let revocations = impersonation.run_revocations();
            tokio::join!(
                fresh,
                revocations,
                associates.run_sweeps(),
                watch,
                maintenance.run(clock)
            );
        };
        let audit = Arc::clone(&use_cases.services.audit);
        let follow = report_stalled_trail(Arc::clone(&audit), health.clone(), stop.clone());
        let attempts = Arc::clone(&audit);
        let attempts = async move { attempts.attempts.run(&attempts.trail).await };
        let consents = Arc::clone(&use_cases.services.consents);
        let state_hints = use_cases.state_hints;
        let retention = use_cases.retention;
        let retention = async move {
            match retention {
                Some(retention) => retention.run().await,
                None => std::future::pending().await,
            }
        };
        let background = async move {
            let own = async { tokio::join!(consents.delete_expired(), state_hints.run()) };
            tokio::join!(background, follow, attempts, retention, own);
        };
        // The audit trail ends last, so that it records what the other tasks do while they end.
        let (trail, quit_trail) = (Arc::clone(&audit), CancellationToken::new());
        let _quit_trail = quit_trail.clone().drop_guard();
        let quit_writer = quit_trail.clone();
        let writer = async move {
            quit_writer.run_until_cancelled(trail.trail.run()).await;
        };
        let mut writer = long_running.spawn(audit_thread.run(writer));
        let quit_background = quit.child_token();
        let background = quit_background.clone().run_until_cancelled_owned(background);
        let mut background = long_running.spawn(background);
        let crashed = tokio::select! {
            () = stop.cancelled() => false,
            end = &mut grpc => report_crash("gRPC listener", &format!("{end:?}")),
            end = &mut http => report_crash("HTTP listeners", &format!("{end:?}")),
            end = &mut admin => report_crash("admin listener", &format!("{end:?}")),
            end = &mut background => report_crash("background work", &format!("{end:?}")),
            end = &mut writer => report_crash("audit trail", &format!("{end:?}")),
        };
        let begin = tokio::time::Instant::now();
        let reserve = FINAL_FLUSH_RESERVE.min(lifecycle.hard_deadline / 4);
        let in_time = timeout(lifecycle.hard_deadline.saturating_sub(reserve), async {
            if !crashed {
                drain(&readiness, &health, lifecycle.drain_delay).await;
            }
            readiness.close();
            health.end_watches().await;
            goaway.cancel();
            // End the tasks that start new work first, then wait for the running work.
            quit_background.cancel();
            if !grpc.is_finished() {
                let _ = (&mut grpc).await;
            }
            let after = SHUTDOWN_AFTER_TRANSFERS.min(lifecycle.hard_deadline / 2);
            let until = begin + lifecycle.hard_deadline.saturating_sub(reserve + after);
            if !http.is_finished() && timeout_at(until, &mut http).await.is_err() {
                transfers_cut_off = true;
                cut_off(&mut http, &egress_cut_off, &transfers, reserve).await;
            }
            tasks.close();
            tasks.wait().await;
            close_trail(&audit, FLUSH_TIMEOUT, &quit_trail).await;
            if !writer.is_finished() {
                let _ = (&mut writer).await;
            }
            quit.cancel();
            store.close().await;
        });
        let in_time = in_time.await.is_ok() && !transfers_cut_off;
        if !in_time {
            // Stop all calls first, then write the events of what happened, as far as there is time.
            grpc_cut_off.cancel();
            egress_cut_off.cancel();
            if !grpc.is_finished() {
                // Time to send the responses of the aborted calls.
                let _ = timeout(reserve / 4, &mut grpc).await;
            }
            grpc.abort();
            if !grpc.is_finished() {
                // Dropped calls may still record audit events.
                let _ = timeout(reserve / 4, &mut grpc).await;
            }
            if !http.is_finished() {
                cut_off(&mut http, &egress_cut_off, &transfers, reserve / 4).await;
            }
            if !quit_trail.is_cancelled() {
                close_trail(&audit, reserve, &quit_trail).await;
            }
        }
        quit.cancel();
        quit_trail.cancel();
        let duration_ms = begin.elapsed().as_millis();
        match (crashed, in_time) {
            (true, _) => ShutdownOutcome::Crashed,
            (false, true) => {
                tracing::info!(duration_ms, "stopped");
                ShutdownOutcome::Clean
            }
            (false, false) => {
                tracing::warn!(
                    duration_ms,
                    "stopped by the hard deadline; running work was aborted"
                );
                ShutdownOutcome::CutOff
            }
        }
    }
}

/// Aborts the calls that are still proxied, and waits until their audit events are recorded.
async fn cut_off<T>(
    http: &mut JoinHandle<T>,
    unanswered: &CancellationToken,
    transfers: &TaskTracker,
    max_wait: Duration,
) {
    tracing::warn!(transfers = transfers.len(), "aborting proxied calls that are still running");
    unanswered.cancel();
    transfers.close();
    // Time to send responses to calls without one.
    if timeout(max_wait / 2, &mut *http).await.is_ok() {
        return;
    }
    http.abort();
    let _ = timeout(max_wait / 2, async {
        let _ = http.await;
        transfers.wait().await;
    })
    .await;
}

/// Reports the gateway as not serving while the audit trail is stalled: calls that need it are rejected, so callers
/// should use another replica.
async fn report_stalled_trail(audit: Arc<AuditRecorder>, health: Health, stop: CancellationToken) {
    let mut stalled = audit.trail.watch_stalled();
    while stalled.changed().await.is_ok() {
        if *stalled.borrow_and_update() {
            health.set_not_serving().await;
        } else if !stop.is_cancelled() {
            health.set_serving().await;
        }
    }
}

/// Writes all pending audit events to the store before it closes, if the store accepts them within `max_wait`.
async fn close_trail(audit: &AuditRecorder, max_wait: Duration, quit: &CancellationToken) {
    audit.attempts.flush(&audit.trail);
    if audit.trail.flush(max_wait).await.is_err() {
        report_unwritten(audit.trail.unwritten());
    }
    quit.cancel();
}

fn report_unwritten(UncommittedEvents { answered, unanswered }: UncommittedEvents) {
    if answered > 0 {
        tracing::error!(
            events = answered,
            "the last audit events of answered calls could not be stored and are lost"
        );
    }
    if unanswered > 0 {
        tracing::warn!(
            events = unanswered,
            "the store did not confirm the audit events of calls that were answered with an error or not at all; these calls \
             returned no credential"
        );
    }
}

/// Reports the gateway as not ready, and waits so that callers and load balancers notice.
async fn drain(readiness: &Readiness, health: &Health, delay: Duration) {
    readiness.close();
    health.set_not_serving().await;
    tokio::time::sleep(delay).await;
}

fn report_crash(what: &'static str, how: &str) -> bool {
    tracing::error!(what, how, "a task ended unexpectedly; the gateway stops");
    true
}
