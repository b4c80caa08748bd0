//! Logging to standard error, as JSON or as text for people.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{
    buffer::{LogBuffer, LogGuard},
    json::JsonLines,
};

/// Targets that may log below `info`: those of this program. Lines of libraries below `info` can contain received
/// bytes, so they are never logged.
const OWN_TARGETS: [&str; 2] = ["tenant_gateway", "superoffice_sandbox"];

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

/// Logging cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is invalid.
    #[error("the log filter is invalid (RUST_LOG, or log.level): {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The writer thread cannot be started.
    #[error("cannot start the log writer: {0}")]
    Thread(#[from] io::Error),
    /// Logging is already started.
    #[error("logging is already started")]
    AlreadyStarted,
}

/// Starts logging with `filter` (the syntax of `RUST_LOG`), until the guard is dropped.
///
/// # Errors
/// If the filter is invalid, or logging is already started.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<LogGuard, LoggingError> {
    // The hint keeps the level of the other filter. Without it, libraries would format their finest events.
    let own = filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::builder().parse(filter)?.and(own);
    let (buffer, guard) = LogBuffer::start(io::stderr())?;
    let lines = tracing_subscriber::fmt::layer().with_writer(buffer);
    let lines = match format {
        LogFormat::Json => lines.event_format(JsonLines).with_filter(filter).boxed(),
        LogFormat::Pretty => {
            lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .map_err(|_| LoggingError::AlreadyStarted)?;
    Ok(guard)
}

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let own = || {
        let root = metadata.target().split("::").next().unwrap_or_default();
        OWN_TARGETS.contains(&root)
    };
    *metadata.level() <= Level::INFO || own()
}
