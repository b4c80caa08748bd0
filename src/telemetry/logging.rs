//! Log lines, on standard error: JSON for machines, or text for people.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::{
    buffer::{Buffer, LogGuard},
    json::JsonLines,
};

/// Targets that may say more than `info`: our own. What libraries say below that can hold bytes off the wire, so
/// it is not logged whatever the filter asks for.
const OWN_TARGETS: [&str; 2] = ["tenant_gateway", "superoffice_sandbox"];

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read (RUST_LOG, or log.level): {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is no thread to be had.
    #[error("the log cannot be written: {0}")]
    Thread(#[from] io::Error),
    /// Logging has begun already.
    #[error("logging has begun already")]
    Twice,
}

/// Begins to log what `filter` (the syntax of `RUST_LOG`) lets through, until the guard is dropped.
///
/// # Errors
/// If the filter cannot be read, or if it is called twice.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<LogGuard, LoggingError> {
    // With a bound of its own, the other's counts: without one, libraries would ask of each of their finest events.
    let own = filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::builder().parse(filter)?.and(own);
    let (buffer, guard) = Buffer::start(io::stderr())?;
    let lines = tracing_subscriber::fmt::layer().with_writer(buffer);
    let lines = match format {
        LogFormat::Json => lines.event_format(JsonLines).with_filter(filter).boxed(),
        LogFormat::Pretty => {
            lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| LoggingError::Twice)?;
    Ok(guard)
}

fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    let own = || {
        let root = metadata.target().split("::").next().unwrap_or_default();
        OWN_TARGETS.contains(&root)
    };
    *metadata.level() <= Level::INFO || own()
}
