//! Reads of tenant status that failed while no older status may be used.
//!
//! The failure is repeated to callers for a moment. Otherwise each call of such a tenant would be a read.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{broker::BrokerError, domain::TenantName};

/// The latest failures, by tenant. Only tenants of the store are in it.
#[derive(Default)]
pub(super) struct ReadFailures(Mutex<HashMap<TenantName, Failure>>);

struct Failure {
    /// When the tenant was added: one that was deleted and added again is another.
    added: Timestamp,
    /// The number of events that had questioned the status: a later event is a reason to read.
    doubts: u64,
    /// The end of the failure, by the monotonic clock.
    until: Duration,
    error: BrokerError,
}

impl ReadFailures {
    /// Notes that a read failed, and that the failure stands until `until`. Forgets failures that have ended.
    pub(super) fn note(
        &self,
        name: TenantName,
        (added, doubts): (Timestamp, u64),
        (now, until): (Duration, Duration),
        error: BrokerError,
    ) {
        let mut failures = self.lock();
        failures.retain(|_, failure| now < failure.until);
        failures.insert(name, Failure { added, doubts, until, error });
    }

    /// Returns the failure that stands for a tenant, with the time until its end.
    pub(super) fn standing(
        &self,
        name: &TenantName,
        (added, doubts): (Timestamp, u64),
        now: Duration,
    ) -> Option<BrokerError> {
        let failures = self.lock();
        let failure = failures.get(name)?;
        let stands = failure.added == added && failure.doubts == doubts && now < failure.until;
        stands.then(|| failure.error.clone().after(failure.until.saturating_sub(now)))
    }

    pub(super) fn forget(&self, name: &TenantName) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantName, Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_stands_until_its_end_or_until_the_status_is_questioned_again() {
        let (failures, second) = (ReadFailures::default(), Duration::from_secs(1));
        let name: TenantName = "applications/a/tenants/Cust1".parse().unwrap();
        let cause = || BrokerError::UpstreamInvalid("cause".into());
        let added = Timestamp::UNIX_EPOCH;
        failures.note(name.clone(), (added, 1), (second, 3 * second), cause());
        let stands = |doubts, now| failures.standing(&name, (added, doubts), now).is_some();
        assert!(stands(1, 2 * second));
        assert!(!stands(2, 2 * second));
        assert!(!stands(1, 3 * second));
        let other: TenantName = "applications/a/tenants/Cust2".parse().unwrap();
        failures.note(other, (added, 0), (3 * second, 4 * second), cause());
        assert_eq!(failures.lock().len(), 1);
    }
}
