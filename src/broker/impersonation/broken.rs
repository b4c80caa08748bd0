//! Grants that are broken, and when each is tried again: what SuperOffice refuses may have been refused by mistake.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{domain::GrantName, ports::Moment};

/// How long after it broke a grant is tried again (DESIGN section 7).
const PROBES: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(6), Duration::from_hours(24)];

/// Those whose next try is still to come. Bounded by the grants in the store.
#[derive(Default)]
pub(super) struct Broken(Mutex<HashMap<GrantName, Wait>>);

/// By the monotonic clock: the wall clock may be set meanwhile.
struct Wait {
    /// When it was noted here.
    noted: Duration,
    /// How long it had been broken by then.
    age: Duration,
    probes: usize,
}

impl Wait {
    /// How many tries were due by now.
    fn passed(&self, now: Duration) -> usize {
        passed(self.age.saturating_add(now.saturating_sub(self.noted)))
    }
}

impl Broken {
    /// Found broken; that it still is changes nothing.
    pub(super) fn found(&self, name: &GrantName, now: Duration) {
        let fresh = Wait { noted: now, age: Duration::ZERO, probes: 0 };
        self.lock().entry(name.clone()).or_insert(fresh);
    }

    /// Known to be broken after a start: what was to be tried before now was tried, or is passed over. Else each
    /// start would try them all. One that seems to have broken in the future has just been found.
    pub(super) fn remembered(&self, name: &GrantName, since: Timestamp, now: Moment) {
        let age = Duration::try_from(now.wall.duration_since(since)).unwrap_or_default();
        let probes = passed(age);
        if probes < PROBES.len() {
            let wait = Wait { noted: now.monotonic, age, probes };
            self.lock().entry(name.clone()).or_insert(wait);
        }
    }

    /// The try that was due found nothing out: it is due again.
    pub(super) fn not_found_out(&self, name: &GrantName) {
        if let Some(wait) = self.lock().get_mut(name) {
            wait.probes = wait.probes.saturating_sub(1);
        }
    }

    /// It works, or there is nothing to try any more.
    pub(super) fn mended(&self, name: &GrantName) {
        self.lock().remove(name);
    }

    /// Those to be tried now, each once for each time.
    pub(super) fn due(&self, now: Duration) -> Vec<GrantName> {
        let mut due = Vec::new();
        for (name, wait) in &mut *self.lock() {
            // After a long sleep one try stands for all that were missed.
            let passed = wait.passed(now);
            if passed > wait.probes {
                wait.probes = passed;
                due.push(name.clone());
            }
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GrantName, Wait>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many tries are due at this age.
fn passed(age: Duration) -> usize {
    PROBES.iter().filter(|after| **after <= age).count()
}
