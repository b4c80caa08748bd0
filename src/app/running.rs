//! Running, and stopping in order: not ready, drain, GOAWAY, flights, store (DESIGN section 7, "Shutdown").

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Storage, access::Upkeep, own_thread::OwnThread, parts::Parts};
use crate::{
    config::Lifecycle,
    grpc::{Audit, GrpcServer, Health},
    http::{Admin, EgressServer, HttpServer, Readiness},
    ports::{Clock, Reloadable, StoreWatch},
};

/// How often we look whether another process has changed the store. CONTRACT section 7 promises a second.
const LOOK_AT_STORE: Duration = Duration::from_millis(500);

/// How long the store has to take the last audit events.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// At the end of the hard deadline this is kept for the last audit events, a quarter of it at most: what was cut off
/// has happened.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What comes after the last calls that are passed on: flights, the last audit events, the store. Somebody may read an
/// answer for as long as he likes, and must not take the time of that; half of the hard deadline at most.
const AFTER_TRANSFERS: Duration = Duration::from_secs(12);

/// What is ready to run.
pub(super) struct Started {
    pub(super) grpc: GrpcServer,
    pub(super) http: Option<HttpServer>,
    pub(super) egress: Option<EgressServer>,
    pub(super) admin: Admin,
    pub(super) readiness: Arc<Readiness>,
    pub(super) parts: Parts,
    pub(super) storage: Storage,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when connections are told to go and watches end.
    pub(super) goaway: CancellationToken,
    pub(super) lifecycle: Lifecycle,
    /// Keys and policy of callers.
    pub(super) upkeep: Upkeep,
    pub(super) reloadables: Vec<Arc<dyn Reloadable>>,
    /// Writes the audit trail.
    pub(super) audit_thread: OwnThread,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything that was begun was finished.
    Cleanly,
    /// It was asked to, and the hard deadline cut something off.
    CutOff,
    /// Something that should run as long as the process ended by itself.
    Crashed,
}

/// A running gateway. It runs until [`Self::stopper`] is cancelled.
pub struct Running {
    /// Where gRPC listens.
    pub grpc_address: SocketAddr,
    /// Where webhooks are received, if they are.
    pub http_address: Option<SocketAddr>,
    /// Where calls of the Web API are taken, if they are.
    pub egress_address: Option<SocketAddr>,
    /// Where the admin pages are.
    pub admin_address: SocketAddr,
    stop: CancellationToken,
    reloadables: Vec<Arc<dyn Reloadable>>,
    supervisor: JoinHandle<Ended>,
}

impl Running {
    /// Cancel it to stop the gateway in order.
    #[must_use]
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// What can be read again without a restart.
    #[must_use]
    pub fn reloadables(&self) -> Vec<Arc<dyn Reloadable>> {
        self.reloadables.clone()
    }

    /// Waits until the gateway has stopped.
    pub async fn ended(self) -> Ended {
        self.supervisor.await.unwrap_or(Ended::Crashed)
    }
}

impl Started {
    /// Lets callers in.
    #[expect(
        clippy::disallowed_methods,
        reason = "the supervisor owns every other task, and Running owns it"
    )]
    pub(super) async fn run(mut self) -> io::Result<Running> {
        let reloadables = std::mem::take(&mut self.reloadables);
        let (grpc_address, admin_address) = (self.grpc.address()?, self.admin.address()?);
        let http_address = self.http.as_ref().map(HttpServer::address).transpose()?;
        let egress_address = self.egress.as_ref().map(EgressServer::address).transpose()?;
        let stop = CancellationToken::new();
        // Before anybody is let in: what another process changes from here on is noticed.
        let seen = self.storage.store.external_version().await.ok();
        self.grpc.health().serving().await;
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

    async fn supervise(self, stop: CancellationToken, seen: Option<i64>) -> Ended {
        let Self {
            grpc,
            http,
            egress,
            admin,
            readiness,
            parts,
            storage,
            clock,
            tasks,
            goaway,
            lifecycle,
            upkeep,
            audit_thread,
            ..
        } = self;
        let health = grpc.health();
        // Calls that are cut off get an answer, so that no client library repeats an unsafe one by itself.
        let (grpc_cut_off, egress_cut_off) =
            (grpc.cut_off(), egress.as_ref().map(EgressServer::cut_off).unwrap_or_default());
        let quit = CancellationToken::new();
        let store: Arc<dyn StoreWatch> = storage.store.clone();
        let tickets = Arc::clone(&parts.services.tickets);
        let statuses = Arc::clone(&parts.services.statuses);
        let associates = Arc::clone(&parts.services.associates);
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
        let impersonation = Arc::clone(&parts.services.impersonation);
        let grants = Arc::clone(&impersonation);
        let forget = move || {
            parts.directory.forget_all();
            grants.forget_all();
        };
        let watch = watch_store(Arc::clone(&store), forget, Arc::clone(&clock), seen);
        let background = async move {
            let fresh = async {
                tokio::join!(
                    tickets.keep_fresh(),
                    statuses.keep_fresh(),
                    impersonation.keep_fresh(),
                    impersonation.follow_resumed()
                )
            };
            let told = impersonation.tell_revocations();
            tokio::join!(fresh, told, associates.keep_tidy(), watch, upkeep.run(clock));
        };
        let audit = Arc::clone(&parts.services.audit);
        let follow = follow_trail(Arc::clone(&audit), health.clone(), stop.clone());
        let attempts = Arc::clone(&audit);
        let attempts = async move { attempts.attempts.run(&attempts.trail).await };
        let consents = Arc::clone(&parts.services.consents);
        let state_hints = parts.state_hints;
        let retention = parts.retention;
        let retention = async move {
            match retention {
                Some(retention) => retention.run().await,
                None => std::future::pending().await,
            }
        };
        let background = async move {
            let own = async { tokio::join!(consents.forget_expired(), state_hints.run()) };
            tokio::join!(background, follow, attempts, retention, own);
        };
        // The trail outlives all others: what they do at their end is written down, too.
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
        let reserve = LAST_WORDS.min(lifecycle.hard_deadline / 4);
        let in_time = timeout(lifecycle.hard_deadline.saturating_sub(reserve), async {
            if !crashed {
                drain(&readiness, &health, lifecycle.drain_delay).await;
            }
            readiness.close();
            health.end_watches().await;
            goaway.cancel();
            // First what begins new work, then what was begun.
            quit_background.cancel();
            if !grpc.is_finished() {
                let _ = (&mut grpc).await;
            }
            let after = AFTER_TRANSFERS.min(lifecycle.hard_deadline / 2);
            let until = begin + lifecycle.hard_deadline.saturating_sub(reserve + after);
            if !http.is_finished() && timeout_at(until, &mut http).await.is_err() {
                transfers_cut_off = true;
                cut_off(&mut http, &egress_cut_off, &transfers, reserve).await;
            }
            tasks.close();
            tasks.wait().await;
            end_trail(&audit, FLUSH_PATIENCE, &quit_trail).await;
            if !writer.is_finished() {
                let _ = (&mut writer).await;
            }
            quit.cancel();
            store.close().await;
        });
        let in_time = in_time.await.is_ok() && !transfers_cut_off;
        if !in_time {
            // First nobody comes in any more, then everything that happened is written, as far as there is time.
            grpc_cut_off.cancel();
            egress_cut_off.cancel();
            if !grpc.is_finished() {
                // The answers of the calls that are cut off.
                let _ = timeout(reserve / 4, &mut grpc).await;
            }
            grpc.abort();
            if !grpc.is_finished() {
                // What it drops may have something to say.
                let _ = timeout(reserve / 4, &mut grpc).await;
            }
            if !http.is_finished() {
                cut_off(&mut http, &egress_cut_off, &transfers, reserve / 4).await;
            }
            if !quit_trail.is_cancelled() {
                end_trail(&audit, reserve, &quit_trail).await;
            }
        }
        quit.cancel();
        quit_trail.cancel();
        let duration_ms = begin.elapsed().as_millis();
        match (crashed, in_time) {
            (true, _) => Ended::Crashed,
            (false, true) => {
                tracing::info!(duration_ms, "stopped");
                Ended::Cleanly
            }
            (false, false) => {
                tracing::warn!(duration_ms, "stopped by the hard deadline; something was cut off");
                Ended::CutOff
            }
        }
    }
}

/// Ends what is still passed on, and gives the event of each its chance.
async fn cut_off<T>(
    http: &mut JoinHandle<T>,
    unanswered: &CancellationToken,
    transfers: &TaskTracker,
    patience: Duration,
) {
    tracing::warn!(transfers = transfers.len(), "calls that are still passed on are cut off");
    unanswered.cancel();
    transfers.close();
    // The answers of those that have none yet.
    if timeout(patience / 2, &mut *http).await.is_ok() {
        return;
    }
    http.abort();
    let _ = timeout(patience / 2, async {
        let _ = http.await;
        transfers.wait().await;
    })
    .await;
}

/// While the trail is stalled what needs it is refused, so callers had better go elsewhere.
async fn follow_trail(audit: Arc<Audit>, health: Health, stop: CancellationToken) {
    let mut stalled = audit.trail.watch_stalled();
    while stalled.changed().await.is_ok() {
        if *stalled.borrow_and_update() {
            health.not_serving().await;
        } else if !stop.is_cancelled() {
            health.serving().await;
        }
    }
}

/// Everything that happened is in the store before it closes, as far as the store takes it within `patience`.
async fn end_trail(audit: &Audit, patience: Duration, quit: &CancellationToken) {
    audit.attempts.flush(&audit.trail);
    if audit.trail.flush(patience).await.is_err() {
        let events = audit.trail.unwritten();
        tracing::error!(events, "the store did not take the last audit events; they are lost");
    }
    quit.cancel();
}

/// Says that we are going, and gives callers and balancers time to hear it.
async fn drain(readiness: &Readiness, health: &Health, delay: Duration) {
    readiness.close();
    health.not_serving().await;
    tokio::time::sleep(delay).await;
}

fn report_crash(what: &'static str, how: &str) -> bool {
    tracing::error!(what, how, "ended by itself, which it never should; the gateway stops");
    true
}

/// Commands change the store beside us: what is remembered of it is dropped then.
async fn watch_store(
    store: Arc<dyn StoreWatch>,
    forget: impl Fn(),
    clock: Arc<dyn Clock>,
    mut seen: Option<i64>,
) {
    loop {
        match store.external_version().await {
            Ok(version) => {
                // Not known before: something may have been missed.
                if seen != Some(version) {
                    forget();
                }
                seen = Some(version);
            }
            Err(error) => {
                // What is remembered may be out of date: the emergency stop must not be missed.
                forget();
                tracing::warn!(%error, "cannot see whether the store was changed by another process");
            }
        }
        clock.sleep(LOOK_AT_STORE).await;
    }
}
