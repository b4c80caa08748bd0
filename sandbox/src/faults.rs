//! Injected faults: kind, endpoint, tenant, and number of calls.

mod kind;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

pub use kind::{Fault, FaultBody};
use serde::Deserialize;

use crate::endpoint::Endpoint;
use crate::lock::lock;

/// The calls that a fault affects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FaultScope {
    /// Only calls about this tenant. Calls that name no tenant are not affected.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The number of calls; without it, every call until the faults are cleared.
    #[serde(default)]
    pub times: Option<u32>,
}

impl FaultScope {
    /// Affects every call until the faults are cleared.
    #[must_use]
    pub fn always() -> Self {
        Self::default()
    }

    /// Affects a number of calls.
    #[must_use]
    pub fn times(times: u32) -> Self {
        Self { tenant: None, times: Some(times) }
    }

    /// Affects every call about one tenant.
    #[must_use]
    pub fn tenant(tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), times: None }
    }
}

#[derive(Debug)]
struct InjectedFault {
    fault: Fault,
    scope: FaultScope,
}

/// The faults of one call.
#[derive(Debug, Default)]
pub(crate) struct CallFaults {
    pub(crate) delay: Duration,
    pub(crate) fault: Option<Fault>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    by_endpoint: Mutex<HashMap<Endpoint, Vec<InjectedFault>>>,
}

impl Faults {
    pub(crate) fn inject(&self, endpoint: Endpoint, fault: Fault, scope: FaultScope) {
        let mut faults = lock(&self.by_endpoint);
        faults.entry(endpoint).or_default().push(InjectedFault { fault, scope });
    }

    pub(crate) fn clear(&self) {
        lock(&self.by_endpoint).clear();
    }

    /// Takes the faults of a call: the sum of all delays, and the oldest other fault. Decreases the
    /// counts of these faults only.
    pub(crate) fn take(&self, endpoint: Endpoint, tenant: Option<&str>) -> CallFaults {
        let mut faults = lock(&self.by_endpoint);
        let Some(injected) = faults.get_mut(&endpoint) else {
            return CallFaults::default();
        };
        let mut plan = CallFaults::default();
        for InjectedFault { fault, scope } in injected.iter_mut() {
            if scope.tenant.is_some() && scope.tenant.as_deref() != tenant {
                continue;
            }
            match fault {
                Fault::Delay { milliseconds } => plan.delay += Duration::from_millis(*milliseconds),
                _ if plan.fault.is_some() => continue,
                fault => plan.fault = Some(fault.clone()),
            }
            if let Some(times) = &mut scope.times {
                *times = times.saturating_sub(1);
            }
        }
        injected.retain(|injected| injected.scope.times != Some(0));
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Endpoint = Endpoint::TenantStatus;

    #[test]
    fn adds_up_delays_and_takes_the_oldest_other_fault() {
        let faults = Faults::default();
        faults.inject(HERE, Fault::delay(Duration::from_millis(2)), FaultScope::always());
        faults.inject(HERE, Fault::Reset, FaultScope::times(1));
        faults.inject(HERE, Fault::delay(Duration::from_millis(3)), FaultScope::always());
        faults.inject(HERE, Fault::Close, FaultScope::times(1));
        let delay = Duration::from_millis(5);
        for expected in [Some(Fault::Reset), Some(Fault::Close), None] {
            let plan = faults.take(HERE, None);
            assert_eq!((plan.delay, plan.fault), (delay, expected));
        }
    }

    #[test]
    fn a_fault_for_one_tenant_does_not_affect_others() {
        let faults = Faults::default();
        faults.inject(HERE, Fault::Reset, FaultScope::tenant("Cust1"));
        assert_eq!(faults.take(HERE, Some("Cust2")).fault, None);
        assert_eq!(faults.take(HERE, None).fault, None);
        assert_eq!(faults.take(Endpoint::ApiRoot, Some("Cust1")).fault, None);
        assert_eq!(faults.take(HERE, Some("Cust1")).fault, Some(Fault::Reset));
    }
}
