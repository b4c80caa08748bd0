//! The budget of one filtered list call: a limit on rows and time, so that one call never scans the whole store.

use std::time::Duration;

use crate::ports::Clock;

/// The maximum number of rows that one call scans.
const MAX_ROWS: usize = 20_000;

/// The maximum time that one call scans.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Rows that are read at a time when a filter may match only a few of them.
pub(super) const BATCH_SIZE: usize = 1000;

/// The remaining rows and time of one call.
pub(super) struct ScanBudget<'a> {
    clock: &'a dyn Clock,
    deadline: Duration,
    rows_left: usize,
}

impl<'a> ScanBudget<'a> {
    /// Starts a full budget now.
    pub(super) fn start(clock: &'a dyn Clock) -> Self {
        Self { clock, deadline: clock.monotonic().saturating_add(TIME_LIMIT), rows_left: MAX_ROWS }
    }

    /// Returns how many rows may be read next; 0 when the budget is used up.
    pub(super) fn next_batch_size(&self, wanted: usize) -> usize {
        if self.clock.monotonic() >= self.deadline {
            0
        } else {
            wanted.min(BATCH_SIZE).min(self.rows_left)
        }
    }

    /// Subtracts rows that were scanned.
    pub(super) fn record_rows(&mut self, rows: usize) {
        self.rows_left = self.rows_left.saturating_sub(rows);
    }
}
