//! Faults: what goes wrong, where, for whom, and how often.

mod kind;
mod perform;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

pub use kind::{Fault, FaultBody};
pub(crate) use perform::{Aborted, Call, Ending};
use serde::Deserialize;

use crate::endpoint::Endpoint;
use crate::lock::hold;

/// Which calls a fault befalls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FaultScope {
    /// Only calls about this tenant. Calls that name no tenant are spared.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Only the next so many calls; without it, until the faults are cleared.
    #[serde(default)]
    pub times: Option<u32>,
}

impl FaultScope {
    /// Every call until the faults are cleared.
    #[must_use]
    pub fn always() -> Self {
        Self::default()
    }

    /// The next so many calls.
    #[must_use]
    pub fn times(times: u32) -> Self {
        Self { tenant: None, times: Some(times) }
    }

    /// Every call about one tenant.
    #[must_use]
    pub fn tenant(tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), times: None }
    }
}

#[derive(Debug)]
struct Injected {
    fault: Fault,
    scope: FaultScope,
}

/// What befalls one call.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    pub(crate) fault: Option<Fault>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    by_endpoint: Mutex<HashMap<Endpoint, Vec<Injected>>>,
}

impl Faults {
    pub(crate) fn inject(&self, endpoint: Endpoint, fault: Fault, scope: FaultScope) {
        let mut faults = hold(&self.by_endpoint);
        faults.entry(endpoint).or_default().push(Injected { fault, scope });
    }

    pub(crate) fn clear(&self) {
        hold(&self.by_endpoint).clear();
    }

    /// Takes what befalls a call: all delays together, and the oldest other fault. Only what is
    /// taken is used up.
    pub(crate) fn take(&self, endpoint: Endpoint, tenant: Option<&str>) -> Plan {
        let mut faults = hold(&self.by_endpoint);
        let Some(injected) = faults.get_mut(&endpoint) else {
            return Plan::default();
        };
        let mut plan = Plan::default();
        for Injected { fault, scope } in injected.iter_mut() {
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
    fn delays_add_up_and_the_oldest_other_fault_wins() {
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
    fn a_fault_for_one_tenant_spares_the_others() {
        let faults = Faults::default();
        faults.inject(HERE, Fault::Reset, FaultScope::tenant("Cust1"));
        assert_eq!(faults.take(HERE, Some("Cust2")).fault, None);
        assert_eq!(faults.take(HERE, None).fault, None);
        assert_eq!(faults.take(Endpoint::ApiRoot, Some("Cust1")).fault, None);
        assert_eq!(faults.take(HERE, Some("Cust1")).fault, Some(Fault::Reset));
    }
}
