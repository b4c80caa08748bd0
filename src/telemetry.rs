//! What operators see: logs and metrics. No secret reaches either: secrets have types that do not print.

mod buffer;
mod json;
mod logging;
mod metrics;

pub use self::{
    buffer::LogGuard,
    logging::{LogFormat, LoggingError, start_logging},
    metrics::{Metrics, Observed, ObservedKind},
};
