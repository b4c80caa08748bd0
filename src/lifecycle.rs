//! The signals that stop the process or reload its files.

use std::{future::pending, io, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ports::Reloadable;

/// A listener for SIGTERM and SIGINT. Signals are received from its creation on.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGHUP, until the first one: when a terminal is closed, the kernel sends one and the shell another.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Starts to listen. Call it before anything else starts, so that no signal kills the process in the middle of its
    /// work. A signal during the start takes effect after it.
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

    /// Also listens for SIGHUP, for commands that end with their terminal.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn with_hangup(self) -> io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..self })
    }

    /// Cancels `stop` at the first signal, and returns at the second, which asks for an immediate stop.
    pub async fn cancel_until_second_signal(mut self, stop: CancellationToken) {
        for _ in 0..2 {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                () = hung_up(&mut self.hangup) => {
                    self.hangup = None;
                    "SIGHUP"
                }
            };
            tracing::info!(signal = name, "received a signal; stopping");
            stop.cancel();
        }
    }
}

/// Waits for SIGHUP; never returns if this listener has none.
async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => pending().await,
    }
}

/// A listener for SIGHUP. A signal during the start takes effect after it.
pub struct ReloadSignal(Signal);

impl ReloadSignal {
    /// Starts to listen.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Reloads all parts at each signal. Returns only if signals are no longer delivered.
    pub async fn reload_on_each(mut self, reloadables: &[Arc<dyn Reloadable>]) {
        while self.0.recv().await.is_some() {
            tracing::info!(signal = "SIGHUP", "received a signal; reloading");
            for reloadable in reloadables {
                reloadable.reload().await;
            }
        }
    }
}
