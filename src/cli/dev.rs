//! `dev`: sandbox and gateway in one process, with demo data that is deleted when it ends.

mod banner;
mod folder;
mod setup;

use superoffice_sandbox::{Options, Sandbox, demo};

pub(super) use self::setup::DevOptions;
use self::{banner::banner, folder::RunFolder};
use super::{CommandError, output::print, serve};
use crate::{
    config::Config,
    lifecycle::StopSignals,
    telemetry::{LogFormat, start_logging},
};

/// The log filter: calls and warnings. The banner shows everything else.
const LOG_FILTER: &str = "warn,tenant_gateway::grpc=info";

pub(super) async fn dev(options: &DevOptions) -> Result<(), CommandError> {
    let filter = crate::config::environment_filter().unwrap_or_else(|| LOG_FILTER.to_owned());
    let _log = start_logging(LogFormat::Pretty, &filter)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    // First, so that a signal leaves no folder behind.
    let signals = StopSignals::listen()?.with_hangup()?;
    let sandbox = Sandbox::start(Options::default()).await.map_err(CommandError::other)?;
    let demo = demo::populate(sandbox.control()).map_err(CommandError::other)?;
    let parent = std::env::temp_dir();
    for left in folder::remove_abandoned(&parent) {
        tracing::warn!(folder = %left.display(), "removed the files of a run that was killed");
    }
    let folder = RunFolder::create(&parent)?;
    let file = setup::write_files(folder.path(), options, &sandbox, &demo)?;
    let loaded = Config::load_with_secrets(&file)?;
    let consent = setup::fill_store(&loaded, &demo).await?;
    let token = folder.path().join("token");
    let served = serve::serve_loaded(loaded, signals, None, |running| {
        print(&banner(running, &sandbox, &demo, &consent, &token))
    })
    .await;
    sandbox.shutdown().await;
    folder.close()?;
    served
}
