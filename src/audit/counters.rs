//! The counters of the audit trail and of its retention, for the metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Denials that were counted, because an equal one had an event less than a minute before.
    pub aggregated_denials: Counter,
}

/// The counters of a [`Retention`](super::Retention), and the space that it measured last.
#[derive(Debug, Default)]
pub struct RetentionCounters {
    /// Events removed because of their age.
    pub removed_by_age: Counter,
    /// Events removed because the journal took too much space.
    pub removed_by_size: Counter,
    bytes: AtomicU64,
    max_bytes: AtomicU64,
}

impl RetentionCounters {
    /// Returns the bytes of the journal; 0 before the first measurement.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the most bytes that the journal takes before events are removed; 0 if that is not known.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_space(&self, bytes: u64, max_bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }
}
