//! How long a list may look for items that match its filter: one call never reads a whole store.

use std::time::Duration;

use crate::ports::Clock;

/// Rows that one call looks at.
const ROWS: usize = 20_000;

/// For how long one call looks.
const TIME: Duration = Duration::from_secs(2);

/// The rows that are read at a time where a filter may want few of them.
pub(super) const BATCH: usize = 1000;

/// What is left of that.
pub(super) struct Looking<'a> {
    clock: &'a dyn Clock,
    end: Duration,
    rows: usize,
}

impl<'a> Looking<'a> {
    /// Begins now.
    pub(super) fn begin(clock: &'a dyn Clock) -> Self {
        Self { clock, end: clock.monotonic().saturating_add(TIME), rows: ROWS }
    }

    /// How many rows may be read next; 0 once it is enough.
    pub(super) fn batch(&self, wanted: usize) -> usize {
        if self.clock.monotonic() >= self.end { 0 } else { wanted.min(BATCH).min(self.rows) }
    }

    /// So many were looked at.
    pub(super) fn looked_at(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }
}
