//! `serve`.

use std::sync::Arc;

use super::{ConfigOption, Failed};
use crate::{
    app::{Ended, Gateway, Running, Surroundings},
    config::{self, Config, LoadedWithSecrets},
    lifecycle::{ReloadSignal, StopSignals},
    ports::Reloadable,
    telemetry::{LogFormat, LogGuard, start_logging},
};

pub(super) async fn serve(options: &ConfigOption) -> Result<(), Failed> {
    let signals = StopSignals::listen()?;
    let reload = ReloadSignal::listen()?;
    let loaded = Config::load_with_secrets(&options.config)?;
    let _log = start_logs(&loaded.config)?;
    serve_loaded(loaded, signals, Some(reload), |_| Ok(())).await
}

/// Serves until told to stop; `started` hears where. At each `reload`, if there is one, files are read again.
pub(super) async fn serve_loaded(
    loaded: LoadedWithSecrets,
    signals: StopSignals,
    reload: Option<ReloadSignal>,
    started: impl FnOnce(&Running) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let LoadedWithSecrets { config, secrets, warnings } = loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let surroundings = Surroundings::of_the_machine();
    let running = Gateway::start(config, &secrets, surroundings).await?;
    // What is needed of them is where it is used; this copy has done its duty.
    drop(secrets);
    let stop = running.stopper();
    let told = started(&running);
    if told.is_err() {
        stop.cancel();
    }
    let reloadables = running.reloadables();
    let ended = tokio::select! {
        ended = running.ended() => ended,
        () = signals.until_asked_twice(stop) => Ended::CutOff,
        () = reload_when_asked(reload, &reloadables) => Ended::Crashed,
    };
    told?;
    match ended {
        Ended::Cleanly => Ok(()),
        Ended::CutOff => Err(Failed::Failed("stopped before everything had ended".to_owned())),
        Ended::Crashed => {
            Err(Failed::Failed("stopped by a fault; the log has the cause".to_owned()))
        }
    }
}

/// Without a signal to wait for, never ends. `dev` has none: SIGHUP stops it, because with its terminal the person is
/// gone who looked.
async fn reload_when_asked(reload: Option<ReloadSignal>, reloadables: &[Arc<dyn Reloadable>]) {
    match reload {
        Some(reload) => reload.each(reloadables).await,
        None => std::future::pending().await,
    }
}

pub(super) fn start_logs(config: &Config) -> Result<LogGuard, Failed> {
    let format = match config.log.format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Pretty => LogFormat::Pretty,
    };
    start_logging(format, &config.log.filter()).map_err(|error| Failed::Usage(error.to_string()))
}
