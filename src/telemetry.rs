//! Logs and metrics for operators. They contain no secrets, because secret types do not print their values.

mod buffer;
mod json;
mod logging;
mod metrics;

pub use self::{
    buffer::LogGuard,
    logging::{LogFormat, LoggingError, start_logging},
    metrics::{MetricKind, Metrics, ObservedMetric},
};
