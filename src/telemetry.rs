//! What operators see: logs and metrics. No secret reaches either: secrets have types that do not print.

mod logging;
mod metrics;

pub use self::{
    logging::{LogFormat, LoggingError, start_logging},
    metrics::{Metrics, Observed, ObservedKind},
};
