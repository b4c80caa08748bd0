//! Broken grants, and the times at which each is retried, because SuperOffice may reject a grant by mistake.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{domain::GrantName, ports::Moment};

/// The times after the failure at which a broken grant is retried.
const RETRY_DELAYS: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

/// The broken grants and their schedules. A grant stays after its last retry, which may have to be repeated. Bounded by
/// the number of grants in the store.
#[derive(Default)]
pub(super) struct BrokenGrants(Mutex<HashMap<GrantName, RetrySchedule>>);

/// The schedule of one grant, by the monotonic clock, because the wall clock may be set meanwhile.
struct RetrySchedule {
    /// The time at which this entry was made.
    recorded_at: Duration,
    /// The time for which the grant had been broken by then.
    age_when_recorded: Duration,
    retries_started: usize,
}

impl RetrySchedule {
    /// Returns the number of retries that were due by `now`.
    fn retries_due(&self, now: Duration) -> usize {
        retries_due_at_age(
            self.age_when_recorded.saturating_add(now.saturating_sub(self.recorded_at)),
        )
    }
}

impl BrokenGrants {
    /// Adds a grant that was found broken. Changes nothing if it is already known.
    pub(super) fn insert(&self, name: &GrantName, now: Duration) {
        let fresh = RetrySchedule {
            recorded_at: now,
            age_when_recorded: Duration::ZERO,
            retries_started: 0,
        };
        self.lock().entry(name.clone()).or_insert(fresh);
    }

    /// Adds a grant that the store shows as broken after a start. Retries that were due before now are skipped;
    /// otherwise each start would retry all broken grants. A failure time in the future counts as now.
    pub(super) fn restore(&self, name: &GrantName, since: Timestamp, now: Moment) {
        let age = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        let retries = retries_due_at_age(age);
        if retries < RETRY_DELAYS.len() {
            let schedule = RetrySchedule {
                recorded_at: now.monotonic,
                age_when_recorded: age,
                retries_started: retries,
            };
            self.lock().entry(name.clone()).or_insert(schedule);
        }
    }

    /// Makes the last retry due again, because it was inconclusive.
    pub(super) fn repeat_last_retry(&self, name: &GrantName) {
        if let Some(schedule) = self.lock().get_mut(name) {
            schedule.retries_started = schedule.retries_started.saturating_sub(1);
        }
    }

    /// Removes a grant that works again or must not be retried any more.
    pub(super) fn remove(&self, name: &GrantName) {
        self.lock().remove(name);
    }

    /// Returns the grants to retry now, and counts these retries as started.
    pub(super) fn take_due(&self, now: Duration) -> Vec<GrantName> {
        let mut due = Vec::new();
        for (name, schedule) in &mut *self.lock() {
            // After a long suspension one retry replaces all missed ones.
            let passed = schedule.retries_due(now);
            if passed > schedule.retries_started {
                schedule.retries_started = passed;
                due.push(name.clone());
            }
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GrantName, RetrySchedule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of retries that are due at this age.
fn retries_due_at_age(age: Duration) -> usize {
    RETRY_DELAYS.iter().filter(|after| **after <= age).count()
}
