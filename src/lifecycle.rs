//! When the process is asked to stop, and how hard.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT, heard from the moment this is made.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to listen. Made before anything starts, so that no moment is left in which a signal ends the process
    /// where it stands; one that comes during the start is acted on after it.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first signal, and returns at the second: somebody does not want to wait.
    pub async fn until_asked_twice(mut self, stop: CancellationToken) {
        for _ in 0..2 {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "asked to stop");
            stop.cancel();
        }
    }
}
