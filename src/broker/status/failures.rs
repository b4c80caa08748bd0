//! Failed reads of tenant status, for tenants without a usable cached status.
//!
//! The failure is cached briefly and returned to callers. Otherwise each call to such a tenant would cause a read.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{broker::BrokerError, domain::TenantName};

/// The latest failure of each tenant. Contains only tenants that are in the store.
#[derive(Default)]
pub(super) struct ReadFailures(Mutex<HashMap<TenantName, Failure>>);

struct Failure {
    /// The creation time of the tenant: it differs after a tenant was deleted and added again.
    tenant_create_time: Timestamp,
    /// The number of events that had questioned the status. A later event causes a new read.
    generation: u64,
    /// The time until which the failure is returned, on the monotonic clock.
    until: Duration,
    error: BrokerError,
}

impl ReadFailures {
    /// Records a failed read, which is returned to callers until `until`. Removes expired failures.
    pub(super) fn record(
        &self,
        name: TenantName,
        (tenant_create_time, generation): (Timestamp, u64),
        (now, until): (Duration, Duration),
        error: BrokerError,
    ) {
        let mut failures = self.lock();
        failures.retain(|_, failure| now < failure.until);
        failures.insert(name, Failure { tenant_create_time, generation, until, error });
    }

    /// Returns the unexpired failure of a tenant, with the remaining time as its retry delay.
    pub(super) fn current(
        &self,
        name: &TenantName,
        (tenant_create_time, generation): (Timestamp, u64),
        now: Duration,
    ) -> Option<BrokerError> {
        let failures = self.lock();
        let failure = failures.get(name)?;
        let is_current =
            (failure.tenant_create_time, failure.generation) == (tenant_create_time, generation);
        let stands = is_current && now < failure.until;
        stands.then(|| failure.error.clone().with_retry_after(failure.until.saturating_sub(now)))
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
    fn a_failure_is_returned_until_it_expires_or_the_status_is_questioned_again() {
        let (failures, second) = (ReadFailures::default(), Duration::from_secs(1));
        let name: TenantName = "applications/a/tenants/Cust1".parse().unwrap();
        let cause = || BrokerError::upstream_invalid("cause");
        let tenant_create_time = Timestamp::UNIX_EPOCH;
        failures.record(name.clone(), (tenant_create_time, 1), (second, 3 * second), cause());
        let stands = |generation, now| {
            failures.current(&name, (tenant_create_time, generation), now).is_some()
        };
        assert!(stands(1, 2 * second));
        let remaining = failures.current(&name, (tenant_create_time, 1), 2 * second).unwrap();
        assert_eq!(remaining.retry_after(), Some(second));
        assert!(!stands(2, 2 * second));
        assert!(!stands(1, 3 * second));
        let other: TenantName = "applications/a/tenants/Cust2".parse().unwrap();
        failures.record(other, (tenant_create_time, 0), (3 * second, 4 * second), cause());
        assert_eq!(failures.lock().len(), 1);
    }
}
