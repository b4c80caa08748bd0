//! Tenant statuses that are served though they no longer hold, because the login host cannot be asked.

use std::{fmt, sync::PoisonError};

use jiff::Timestamp;

use super::Statuses;

/// The number of such statuses, and the age of the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleStatuses {
    /// Tenants in use that are concerned.
    pub tenants: usize,
    /// When the oldest of these statuses was read.
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
    /// Statuses served stale now; `None` if there are none.
    #[must_use]
    pub fn stale(&self) -> Option<StaleStatuses> {
        let now = self.shared.clock.moment();
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let stale =
            known.values().filter(|known| known.is_served_stale(now, self.shared.max_stale));
        let read_times = stale.map(|known| known.status.read_time);
        let (tenants, oldest) = read_times.fold((0, None::<Timestamp>), |(count, oldest), time| {
            (count + 1, Some(oldest.map_or(time, |oldest| oldest.min(time))))
        });
        oldest.map(|oldest_read_time| StaleStatuses { tenants, oldest_read_time })
    }

    /// Logs when stale statuses begin and cease to be served, and in between when `remind` is set. Returns whether
    /// they are served now.
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
