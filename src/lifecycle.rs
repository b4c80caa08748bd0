//! When the process is asked to stop, and how hard; when it is asked to read again what it has read.

use std::{convert::Infallible, io, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ports::Reloadable;

/// Cancels `stop` at the first SIGTERM or SIGINT, and returns at the second: somebody does not want to wait.
///
/// # Errors
/// If the process cannot listen for signals.
pub async fn until_asked_twice(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for _ in 0..2 {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
        stop.cancel();
    }
    Ok(())
}

/// Reads everything again at each SIGHUP; ends only with an error.
///
/// # Errors
/// If the process cannot listen for signals.
pub async fn reload_when_asked(reloadables: &[Arc<dyn Reloadable>]) -> io::Result<Infallible> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        if hangup.recv().await.is_none() {
            return Err(io::Error::other("signals are no longer delivered"));
        }
        tracing::info!(signal = "SIGHUP", "asked to reload");
        for reloadable in reloadables {
            reloadable.reload().await;
        }
    }
}
