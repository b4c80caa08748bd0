//! Expired tenant statuses that stay in use because the login host does not answer.

use std::{fmt, sync::PoisonError};

use jiff::Timestamp;

use super::Statuses;

/// The number of stale statuses in use, and the age of the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleStatuses {
    /// The number of tenants in use with a stale status.
    pub tenants: usize,
    /// The read time of the oldest of these statuses.
    pub oldest_read_time: Timestamp,
}

impl fmt::Display for StaleStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenants, oldest_read_time } = self;
        write!(
            f,
            "stale tenant statuses are served because they cannot be read again: {tenants} tenants, the oldest status \
             was read at {oldest_read_time:.0}"
        )
    }
}

impl Statuses {
    /// Returns the stale statuses in use now; `None` if there are none.
    #[must_use]
    pub fn stale(&self) -> Option<StaleStatuses> {
        let now = self.shared.clock.moment();
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        let stale =
            entries.values().filter(|entry| entry.is_served_stale(now, self.shared.max_stale));
        let read_times = stale.map(|entry| entry.status.read_time);
        let (tenants, oldest) = read_times.fold((0, None::<Timestamp>), |(count, oldest), time| {
            (count + 1, Some(oldest.map_or(time, |oldest| oldest.min(time))))
        });
        oldest.map(|oldest_read_time| StaleStatuses { tenants, oldest_read_time })
    }

    /// Logs when the use of stale statuses starts and ends, and in between if `remind` is set. Returns whether any are
    /// in use now.
    pub(super) fn log_stale(&self, before: bool, remind: bool) -> bool {
        let stale = self.stale();
        match stale {
            Some(StaleStatuses { tenants, oldest_read_time }) if !before || remind => {
                let max_stale = self.shared.max_stale;
                tracing::warn!(
                    tenants,
                    %oldest_read_time,
                    ?max_stale,
                    "stale tenant statuses are served, because the login host cannot be asked for new ones"
                );
            }
            None if before => tracing::info!("no stale tenant statuses are served any more"),
            _ => {}
        }
        stale.is_some()
    }
}
