//! `serve`.

use std::sync::Arc;

use super::{ConfigOption, Failed};
use crate::{
    app::{Ended, Gateway, Surroundings},
    config::{self, Config, LoadedWithSecrets},
    crypto::SystemRandom,
    lifecycle::{reload_when_asked, until_asked_twice},
    ports::SystemClock,
    telemetry::{LogFormat, start_logging},
};

pub(super) async fn serve(options: &ConfigOption) -> Result<(), Failed> {
    let loaded = Config::load_with_secrets(&options.config)?;
    start_logs(&loaded.config)?;
    serve_loaded(loaded, OnHangup::Reload, |_, _| Ok(())).await
}

/// What SIGHUP means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnHangup {
    /// Read again what can be: a server has no terminal to lose.
    Reload,
    /// The terminal is gone, and so is the person who looked.
    #[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "only `dev` runs for a person"))]
    End,
}

/// Serves until told to stop; `started` hears where.
pub(super) async fn serve_loaded(
    loaded: LoadedWithSecrets,
    on_hangup: OnHangup,
    started: impl FnOnce(std::net::SocketAddr, std::net::SocketAddr) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let LoadedWithSecrets { config, secrets, warnings } = loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let surroundings =
        Surroundings { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
    let running = Gateway::start(config, &secrets, surroundings).await?;
    // What is needed of them is where it is used; this copy has done its duty.
    drop(secrets);
    let stop = running.stopper();
    let told = started(running.grpc_address, running.admin_address);
    if told.is_err() {
        stop.cancel();
    }
    let reloadables = running.reloadables();
    let ended = tokio::select! {
        ended = running.ended() => ended,
        asked = until_asked_twice(stop) => {
            asked?;
            Ended::CutOff
        }
        asked = reload_when_asked(&reloadables), if on_hangup == OnHangup::Reload => match asked? {},
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

pub(super) fn start_logs(config: &Config) -> Result<(), Failed> {
    let format = match config.log.format {
        config::LogFormat::Json => LogFormat::Json,
        config::LogFormat::Pretty => LogFormat::Pretty,
    };
    start_logging(format, &config.log.filter()).map_err(|error| Failed::Usage(error.to_string()))
}
