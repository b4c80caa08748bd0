//! Broken grants, and the times at which each is probed again, because SuperOffice may reject a grant by mistake.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{domain::GrantName, ports::Moment};

/// The times after the failure at which a broken grant is probed.
const PROBE_DELAYS: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

/// The broken grants that have a probe left. Bounded by the number of grants in the store.
#[derive(Default)]
pub(super) struct BrokenGrants(Mutex<HashMap<GrantName, ProbeSchedule>>);

/// The schedule of one grant, by the monotonic clock, because the wall clock may be set meanwhile.
struct ProbeSchedule {
    /// The time at which this entry was made.
    recorded_at: Duration,
    /// The time for which the grant had been broken by then.
    age_when_recorded: Duration,
    probes_started: usize,
}

impl ProbeSchedule {
    /// Returns the number of probes that were due by `now`.
    fn probes_due(&self, now: Duration) -> usize {
        probes_due_at_age(
            self.age_when_recorded.saturating_add(now.saturating_sub(self.recorded_at)),
        )
    }
}

impl BrokenGrants {
    /// Adds a grant that was found broken. Changes nothing if it is already known.
    pub(super) fn insert(&self, name: &GrantName, now: Duration) {
        let fresh = ProbeSchedule {
            recorded_at: now,
            age_when_recorded: Duration::ZERO,
            probes_started: 0,
        };
        self.lock().entry(name.clone()).or_insert(fresh);
    }

    /// Adds a grant that the store shows as broken after a start. Probes that were due before now are skipped;
    /// otherwise each start would probe all broken grants. A failure time in the future counts as now.
    pub(super) fn restore(&self, name: &GrantName, since: Timestamp, now: Moment) {
        let age = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        let probes = probes_due_at_age(age);
        if probes < PROBE_DELAYS.len() {
            let wait = ProbeSchedule {
                recorded_at: now.monotonic,
                age_when_recorded: age,
                probes_started: probes,
            };
            self.lock().entry(name.clone()).or_insert(wait);
        }
    }

    /// Makes the last probe due again, because it was inconclusive.
    pub(super) fn repeat_probe(&self, name: &GrantName) {
        if let Some(wait) = self.lock().get_mut(name) {
            wait.probes_started = wait.probes_started.saturating_sub(1);
        }
    }

    /// Removes a grant that works again or must not be probed any more.
    pub(super) fn remove(&self, name: &GrantName) {
        self.lock().remove(name);
    }

    /// Returns the grants to probe now, and counts these probes as started.
    pub(super) fn take_due(&self, now: Duration) -> Vec<GrantName> {
        let mut due = Vec::new();
        for (name, wait) in &mut *self.lock() {
            // After a long suspension one probe replaces all missed ones.
            let passed = wait.probes_due(now);
            if passed > wait.probes_started {
                wait.probes_started = passed;
                due.push(name.clone());
            }
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GrantName, ProbeSchedule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of probes that are due at this age.
fn probes_due_at_age(age: Duration) -> usize {
    PROBE_DELAYS.iter().filter(|after| **after <= age).count()
}
