//! The shutdown, in this order: not ready, drain delay, GOAWAY, running calls, audit trail, journal, store.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::tasks::{HttpResult, RunningTasks};
use crate::{
    app::{journal_upkeep::store_head, storage},
    audit::UncommittedEvents,
    config::Lifecycle,
    grpc::{AuditRecorder, Health},
    http::Readiness,
    journal::Journal,
    ports::{AuditHeadStore, StoreHealth},
};

/// The longest wait for the store to write the last audit events.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The time at the end of the hard deadline that is reserved for the audit events of aborted calls; at most a quarter
/// of the deadline.
const FINAL_FLUSH_RESERVE: Duration = Duration::from_secs(1);

/// The time that is reserved for the steps after the proxied calls: running tasks, the last audit events, the store. A
/// client that reads its response slowly must not use up this time. At most half of the hard deadline.
const SHUTDOWN_AFTER_TRANSFERS: Duration = Duration::from_secs(12);

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

/// The handles on the parts that the shutdown ends.
pub(super) struct ShutdownHandles {
    pub(super) readiness: Arc<Readiness>,
    pub(super) health: Health,
    /// Cancelled during shutdown, when connections get a GOAWAY, and watches and incomplete requests end.
    pub(super) stopping: CancellationToken,
    /// Cancelled when calls are aborted. They get a response, so that no client library retries an unsafe one
    /// automatically.
    pub(super) grpc_cut_off: CancellationToken,
    pub(super) transfers: Transfers,
    /// The work of the use cases, which continues when its caller disconnects.
    pub(super) work: TaskTracker,
    pub(super) audit: Arc<AuditRecorder>,
    pub(super) journal: Arc<Journal>,
    pub(super) heads: Arc<dyn AuditHeadStore>,
    pub(super) store: Arc<dyn StoreHealth>,
}

/// The proxied calls.
pub(super) struct Transfers {
    /// The proxied calls that are running.
    pub(super) running: TaskTracker,
    /// Cancelled when proxied calls are aborted. Those without a response get one.
    pub(super) cut_off: CancellationToken,
}

/// A shutdown that has begun.
pub(super) struct Shutdown {
    handles: ShutdownHandles,
    tasks: RunningTasks,
    lifecycle: Lifecycle,
    begin: Instant,
    /// The end of the hard deadline, reserved for the audit events of aborted calls.
    reserve: Duration,
    /// Whether proxied calls were aborted before the hard deadline.
    transfers_cut_off: bool,
}

impl Shutdown {
    /// Begins the shutdown. The hard deadline counts from now on.
    pub(super) fn begin(
        handles: ShutdownHandles,
        tasks: RunningTasks,
        lifecycle: Lifecycle,
    ) -> Self {
        let begin = Instant::now();
        let reserve = FINAL_FLUSH_RESERVE.min(lifecycle.hard_deadline / 4);
        Self { handles, tasks, lifecycle, begin, reserve, transfers_cut_off: false }
    }

    /// Stops everything in order. Aborts the rest at the hard deadline.
    pub(super) async fn run(mut self, crashed: bool) -> ShutdownOutcome {
        let limit = self.lifecycle.hard_deadline.saturating_sub(self.reserve);
        let in_time = timeout(limit, self.stop_in_order(crashed)).await.is_ok();
        if !in_time || self.transfers_cut_off {
            self.abort().await;
        }
        self.tasks.quit.cancel();
        self.tasks.quit_audit.cancel();
        let duration_ms = self.begin.elapsed().as_millis();
        if crashed {
            return ShutdownOutcome::Crashed;
        }
        match (in_time, self.transfers_cut_off) {
            (true, false) => {
                tracing::info!(duration_ms, "stopped");
                return ShutdownOutcome::Clean;
            }
            (true, true) => {
                tracing::warn!(duration_ms, "stopped; running proxied calls were aborted");
            }
            (false, _) => {
                tracing::warn!(
                    duration_ms,
                    "stopped by the hard deadline; running work was aborted"
                );
            }
        }
        ShutdownOutcome::CutOff
    }

    /// Runs the phases of the shutdown. After a crash there is no drain delay.
    async fn stop_in_order(&mut self, crashed: bool) {
        if !crashed {
            self.drain().await;
        }
        self.send_goaway().await;
        self.wait_for_calls().await;
        self.wait_for_work().await;
        self.end_audit_trail().await;
        self.tasks.quit.cancel();
        storage::close(&self.handles.journal, &*self.handles.store).await;
    }

    /// Reports the gateway as not ready, and waits so that callers and load balancers notice.
    async fn drain(&self) {
        self.handles.readiness.close();
        self.handles.health.set_not_serving().await;
        tokio::time::sleep(self.lifecycle.drain_delay).await;
    }

    /// Ends the watches, sends GOAWAY, and ends the tasks that start new work.
    async fn send_goaway(&self) {
        self.handles.readiness.close();
        self.handles.health.end_watches().await;
        self.handles.stopping.cancel();
        self.tasks.quit_background.cancel();
    }

    /// Waits for the running calls. Proxied calls are aborted early enough for the later phases; gRPC calls may run
    /// until the hard deadline.
    async fn wait_for_calls(&mut self) {
        let hard_deadline = self.lifecycle.hard_deadline;
        let after = SHUTDOWN_AFTER_TRANSFERS.min(hard_deadline / 2);
        let until = self.begin + hard_deadline.saturating_sub(self.reserve + after);
        let RunningTasks { grpc, http, .. } = &mut self.tasks;
        let transfers = &self.handles.transfers;
        self.transfers_cut_off = wait_for_calls(grpc, http, transfers, until, self.reserve).await;
    }

    /// Waits for the work that continues without a caller.
    async fn wait_for_work(&self) {
        self.handles.work.close();
        self.handles.work.wait().await;
    }

    async fn end_audit_trail(&mut self) {
        self.flush_audit_trail(FLUSH_TIMEOUT).await;
        wait_for_end(&mut self.tasks.audit_writer).await;
        let ShutdownHandles { audit, heads, .. } = &self.handles;
        if let Err(error) = store_head(&audit.trail, &**heads, 0).await {
            tracing::warn!(%error, "the last head of the audit chain cannot be stored");
        }
    }

    /// Aborts all calls first, then writes the events of what happened, as far as there is time.
    async fn abort(&mut self) {
        self.handles.grpc_cut_off.cancel();
        self.handles.transfers.cut_off.cancel();
        let step = self.reserve / 4;
        // Time to send the responses of the aborted calls.
        let _ = timeout(step, wait_for_end(&mut self.tasks.grpc)).await;
        self.tasks.grpc.abort();
        // Dropped calls may still record audit events.
        let _ = timeout(step, wait_for_end(&mut self.tasks.grpc)).await;
        if !self.tasks.http.is_finished() {
            self.handles.transfers.abort(&mut self.tasks.http, step).await;
        }
        if !self.tasks.quit_audit.is_cancelled() {
            self.flush_audit_trail(self.reserve).await;
        }
    }

    /// Writes all pending audit events to the store, if the store accepts them within `max_wait`. Ends the writer.
    async fn flush_audit_trail(&self, max_wait: Duration) {
        let AuditRecorder { trail, attempts } = &*self.handles.audit;
        attempts.flush(trail);
        let counted = trail.flush_denials();
        if trail.flush(max_wait).await.and(counted).is_err() {
            report_unwritten(trail.unwritten());
        }
        self.tasks.quit_audit.cancel();
    }
}

impl Transfers {
    /// Waits for the end of the HTTP listeners, and aborts their calls at `until`. Returns whether it did.
    async fn wait_until(
        &self,
        until: Instant,
        http: &mut JoinHandle<HttpResult>,
        max_wait: Duration,
    ) -> bool {
        let late = timeout_at(until, wait_for_end(http)).await.is_err();
        if late {
            self.abort(http, max_wait).await;
        }
        late
    }

    /// Aborts the calls that are still proxied, and waits until their audit events are recorded.
    async fn abort(&self, http: &mut JoinHandle<HttpResult>, max_wait: Duration) {
        let transfers = self.running.len();
        tracing::warn!(transfers, "aborting proxied calls that are still running");
        self.cut_off.cancel();
        self.running.close();
        // Time to send responses to calls without one.
        if timeout(max_wait / 2, &mut *http).await.is_ok() {
            return;
        }
        http.abort();
        let _ = timeout(max_wait / 2, async {
            let _ = http.await;
            self.running.wait().await;
        })
        .await;
    }
}

/// Waits for gRPC calls without a time limit, and for proxied calls until `until`. Returns whether it aborted proxied
/// calls.
async fn wait_for_calls<T>(
    grpc: &mut JoinHandle<T>,
    http: &mut JoinHandle<HttpResult>,
    transfers: &Transfers,
    until: Instant,
    max_wait: Duration,
) -> bool {
    // At the same time, because a long gRPC call must not leave aborted transfers too little time.
    let transfers_end = transfers.wait_until(until, http, max_wait);
    let ((), cut_off) = tokio::join!(wait_for_end(grpc), transfers_end);
    cut_off
}

/// Waits for the end of a task, which may have ended already.
async fn wait_for_end<T>(task: &mut JoinHandle<T>) {
    if !task.is_finished() {
        let _ = task.await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_grpc_call_does_not_delay_the_end_of_proxied_calls() {
        let tasks = TaskTracker::new();
        let transfers =
            Transfers { running: TaskTracker::new(), cut_off: CancellationToken::new() };
        let cut_off = transfers.cut_off.clone();
        let mut grpc = tasks.spawn(std::future::pending::<()>());
        let mut http = tasks.spawn(async move {
            cut_off.cancelled().await;
            Ok(())
        });
        let until = Instant::now() + Duration::from_secs(40);
        let calls = wait_for_calls(&mut grpc, &mut http, &transfers, until, FINAL_FLUSH_RESERVE);
        assert!(timeout(Duration::from_secs(50), calls).await.is_err(), "the gRPC call goes on");
        assert!(transfers.cut_off.is_cancelled());
        assert!(http.is_finished());
    }
}
