//! The tasks of the running gateway, and what ends each of them.

use std::{error::Error, sync::Arc};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::background::BackgroundWork;
use crate::{
    app::{dedicated_thread::DedicatedThread, servers::Servers},
    audit::Trail,
    grpc::ServeError,
    http::{EgressServer, PublicServer},
};

/// The result of the HTTP listeners.
pub(super) type HttpResult = Result<(), Box<dyn Error + Send + Sync>>;

/// The tasks that run until the shutdown ends them.
pub(super) struct RunningTasks {
    /// The gRPC listener, which ends after GOAWAY.
    pub(super) grpc: JoinHandle<Result<(), ServeError>>,
    /// The listeners `[http]` and `[egress]`, which end after GOAWAY.
    pub(super) http: JoinHandle<HttpResult>,
    /// The admin listener, which ends with [`Self::quit`].
    admin: JoinHandle<()>,
    /// The background work, which ends with [`Self::quit_background`].
    background: JoinHandle<Option<()>>,
    /// The writer of the audit trail, which ends with [`Self::quit_audit`]. It ends last, so that it records what the
    /// other tasks do while they end.
    pub(super) audit_writer: JoinHandle<()>,
    pub(super) quit: CancellationToken,
    pub(super) quit_background: CancellationToken,
    pub(super) quit_audit: CancellationToken,
    /// Ends the thread of the audit trail if the supervisor is dropped.
    _quit_audit: DropGuard,
}

impl RunningTasks {
    /// Starts all tasks. The listeners send GOAWAY when `stopping` is cancelled. The trail is written on its own
    /// thread.
    pub(super) fn start(
        servers: Servers,
        background: BackgroundWork,
        (trail, audit_thread): (Arc<Trail>, DedicatedThread),
        stopping: &CancellationToken,
    ) -> Self {
        let Servers { grpc, http, egress, admin } = servers;
        let (quit, quit_audit) = (CancellationToken::new(), CancellationToken::new());
        let quit_background = quit.child_token();
        let quit_writer = quit_audit.clone();
        let write_trail = async move {
            quit_writer.run_until_cancelled(trail.run()).await;
        };
        let background = quit_background.clone().run_until_cancelled_owned(background.run());
        let tasks = TaskTracker::new();
        Self {
            grpc: tasks.spawn(grpc.serve(stopping.clone())),
            http: tasks.spawn(serve_http(http, egress, stopping.clone())),
            admin: tasks.spawn(admin.serve(quit.clone())),
            audit_writer: tasks.spawn(audit_thread.run(write_trail)),
            background: tasks.spawn(background),
            quit,
            quit_background,
            _quit_audit: quit_audit.clone().drop_guard(),
            quit_audit,
        }
    }

    /// Waits until `stop` is cancelled or a task ends by itself. Returns whether a task has ended.
    pub(super) async fn stopped_or_crashed(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            end = &mut self.grpc => report_crash("gRPC listener", &format!("{end:?}")),
            end = &mut self.http => report_crash("HTTP listeners", &format!("{end:?}")),
            end = &mut self.admin => report_crash("admin listener", &format!("{end:?}")),
            end = &mut self.background => report_crash("background work", &format!("{end:?}")),
            end = &mut self.audit_writer => report_crash("audit trail", &format!("{end:?}")),
        }
    }
}

/// Serves the listeners that are configured until `stopping` is cancelled. An error of one ends both.
async fn serve_http(
    http: Option<PublicServer>,
    egress: Option<EgressServer>,
    stopping: CancellationToken,
) -> HttpResult {
    let serve_public = async {
        match http {
            Some(http) => http.serve(stopping.clone()).await,
            None => stopping.cancelled().await,
        }
        Ok(())
    };
    tokio::try_join!(serve_public, serve_egress(egress, stopping.clone())).map(drop)
}

async fn serve_egress(egress: Option<EgressServer>, stopping: CancellationToken) -> HttpResult {
    let Some(egress) = egress else {
        stopping.cancelled().await;
        return Ok(());
    };
    Ok(egress.serve(stopping).await?)
}

fn report_crash(what: &'static str, how: &str) -> bool {
    tracing::error!(what, how, "a task ended unexpectedly; the gateway stops");
    true
}
