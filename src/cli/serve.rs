//! `serve`: runs the gateway.

use std::sync::Arc;

use super::{CommandError, ConfigOption};
use crate::{
    app::{Gateway, Running, Runtime, ShutdownOutcome},
    config::{self, Config, LoadedWithSecrets},
    lifecycle::{ReloadSignal, StopSignals},
    ports::Reloadable,
    telemetry::{LogFormat, LogGuard, start_logging},
};

pub(super) async fn serve(options: &ConfigOption) -> Result<(), CommandError> {
    let signals = StopSignals::listen()?;
    let reload = ReloadSignal::listen()?;
    let loaded = Config::load_with_secrets(&options.config)?;
    let _log = start_logs(&loaded.config)?;
    serve_loaded(loaded, signals, Some(reload), |_| Ok(())).await
}

/// Serves until a signal stops it. Calls `started` once the listeners are bound. Each `reload` signal reloads files.
pub(super) async fn serve_loaded(
    loaded: LoadedWithSecrets,
    signals: StopSignals,
    reload: Option<ReloadSignal>,
    started: impl FnOnce(&Running) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let LoadedWithSecrets { config, secrets, warnings } = loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = Runtime::system();
    let running = Gateway::start(config, &secrets, runtime).await?;
    // The parts that need secrets have their own copies.
    drop(secrets);
    let stop = running.stop_token();
    let announced = started(&running);
    if announced.is_err() {
        stop.cancel();
    }
    let reloadables = running.reloadables();
    let ended = tokio::select! {
        ended = running.wait() => ended,
        () = signals.cancel_until_second_signal(stop) => ShutdownOutcome::CutOff,
        () = reload_on_signal(reload, &reloadables) => ShutdownOutcome::Crashed,
    };
    announced?;
    match ended {
        ShutdownOutcome::Clean => Ok(()),
        ShutdownOutcome::CutOff => {
            Err(CommandError::Failed("stopped before all running work had finished".to_owned()))
        }
        ShutdownOutcome::Crashed => Err(CommandError::Failed(
            "stopped because of an internal fault; see the log for the cause".to_owned(),
        )),
    }
}

/// Reloads at each signal; never returns without one to wait for. `dev` has none: SIGHUP stops it, because it means
/// that the terminal is closed.
async fn reload_on_signal(reload: Option<ReloadSignal>, reloadables: &[Arc<dyn Reloadable>]) {
    match reload {
        Some(reload) => reload.reload_on_each(reloadables).await,
        None => std::future::pending().await,
    }
}

pub(super) fn start_logs(config: &Config) -> Result<LogGuard, CommandError> {
    let format = match config.log.format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Pretty => LogFormat::Pretty,
    };
    start_logging(format, &config.log.filter())
        .map_err(|error| CommandError::Usage(error.to_string()))
}
