//! The counters of the audit trail, for the metrics page.

use crate::ports::Counter;

/// The counters of a [`Trail`](super::Trail).
#[derive(Debug, Default)]
pub struct AuditCounters {
    /// Events committed.
    pub events: Counter,
    /// Groups in which events were committed.
    pub groups: Counter,
    /// Failed attempts to commit a group of events.
    pub failures: Counter,
}
