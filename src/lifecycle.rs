//! When the process is asked to stop, and how hard; when it is asked to read again what it has read.

use std::{future::pending, io, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ports::Reloadable;

/// SIGTERM and SIGINT, heard from the moment this is made.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGHUP, until it was heard: for a terminal that is closed the kernel sends one, and the shell another.
    hangup: Option<Signal>,
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
            hangup: None,
        })
    }

    /// Listens for SIGHUP too: for what ends with its terminal.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn or_hangup(self) -> io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..self })
    }

    /// Cancels `stop` at the first signal, and returns at the second: somebody does not want to wait.
    pub async fn until_asked_twice(mut self, stop: CancellationToken) {
        for _ in 0..2 {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                () = hung_up(&mut self.hangup) => {
                    self.hangup = None;
                    "SIGHUP"
                }
            };
            tracing::info!(signal = name, "asked to stop");
            stop.cancel();
        }
    }
}

/// Never, where nobody listens for it.
async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => pending().await,
    }
}

/// SIGHUP, heard from the moment this is made: one that comes during the start is acted on after it.
pub struct ReloadSignal(Signal);

impl ReloadSignal {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Reads everything again at each signal; ends only if signals are no longer delivered.
    pub async fn each(mut self, reloadables: &[Arc<dyn Reloadable>]) {
        while self.0.recv().await.is_some() {
            tracing::info!(signal = "SIGHUP", "asked to reload");
            for reloadable in reloadables {
                reloadable.reload().await;
            }
        }
    }
}
