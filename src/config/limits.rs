//! Rates and times: `[quotas]`, `[tickets]`, `[associates]`, `[login]`, `[web_api]`, `[lifecycle]`.

use std::time::Duration;

use serde::Deserialize;

use super::{error::Problems, value};
use crate::domain::TICKET_LIFETIME;

const HOUR: Duration = Duration::from_hours(1);
/// Below this a ticket would be replaced about as often as SuperOffice asks us not to.
const MIN_TICKET_AGE: Duration = HOUR;
/// Above this a ticket would outlive what anybody still connects with its first use.
const MAX_TICKET_AGE: Duration = Duration::from_hours(7 * 24);

/// `[quotas]`: how often callers may ask. None by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Of one caller, over all tenants.
    pub per_caller: Option<Quota>,
    /// Of one caller in one tenant.
    pub per_caller_and_tenant: Option<Quota>,
    /// Refused calls (unauthenticated, denied) of one source: an address as long as nobody knows who calls, else the
    /// caller.
    pub refused_per_source: Quota,
}

/// A rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Calls a second over time.
    pub per_second: u32,
    /// Calls at once after a pause; `per_second` if not given.
    pub burst: Option<u32>,
}

/// `[tickets]`: how long system user tickets are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tickets {
    /// A ticket is replaced at this age, however much it is used: 1 hour to 7 days.
    #[serde(deserialize_with = "value::duration")]
    pub max_age: Duration,
    /// Renewed in the background only if asked for within this time; at most a ticket's life.
    #[serde(deserialize_with = "value::duration")]
    pub renew_if_used_within: Duration,
}

/// `[associates]`: for how long what was read of a tenant's users is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Associates {
    /// 1 minute to 24 hours; read again in the background before that while in use.
    #[serde(deserialize_with = "value::duration")]
    pub max_age: Duration,
    /// So many associates are kept in memory, over all tenants.
    pub max_in_memory: u32,
}

/// `[login]`: calls to SuperOffice's login host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// Calls at the same time.
    pub max_concurrent: u32,
    /// Of one call.
    #[serde(deserialize_with = "value::duration")]
    pub timeout: Duration,
}

/// `[web_api]`: calls to the Web API of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebApi {
    /// The limit of a call without a deadline of its own, to the beginning of its answer.
    #[serde(deserialize_with = "value::duration")]
    pub timeout: Duration,
}

/// `[lifecycle]`: how the process stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifecycle {
    /// Between "not ready" and the end of accepting calls, so that load balancers notice.
    #[serde(deserialize_with = "value::duration")]
    pub drain_delay: Duration,
    /// From the signal to the end, whatever still runs.
    #[serde(deserialize_with = "value::duration")]
    pub hard_deadline: Duration,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            per_caller: None,
            per_caller_and_tenant: None,
            refused_per_source: Quota { per_second: 50, burst: Some(200) },
        }
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self { max_age: Duration::from_hours(12), renew_if_used_within: Duration::from_hours(2) }
    }
}

impl Default for Associates {
    fn default() -> Self {
        Self { max_age: Duration::from_mins(15), max_in_memory: 200_000 }
    }
}

impl Default for Login {
    fn default() -> Self {
        Self { max_concurrent: 32, timeout: Duration::from_secs(10) }
    }
}

impl Default for WebApi {
    fn default() -> Self {
        Self { timeout: Duration::from_mins(5) }
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { drain_delay: Duration::from_secs(5), hard_deadline: Duration::from_secs(25) }
    }
}

impl Quotas {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, quota) in [
            ("quotas.per_caller", self.per_caller),
            ("quotas.per_caller_and_tenant", self.per_caller_and_tenant),
            ("quotas.refused_per_source", Some(self.refused_per_source)),
        ] {
            let Some(quota) = quota else { continue };
            if quota.per_second == 0 {
                problems.add(
                    format!("{key}.per_second"),
                    format!("must be at least 1; leave {key} out for its default"),
                );
            }
            if quota.burst == Some(0) {
                problems.add(format!("{key}.burst"), "must be at least 1");
            }
        }
    }
}

impl Tickets {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !(MIN_TICKET_AGE..=MAX_TICKET_AGE).contains(&self.max_age) {
            problems.add("tickets.max_age", "must be from \"1h\" to \"7d\"");
        }
        if self.renew_if_used_within > TICKET_LIFETIME {
            problems.add(
                "tickets.renew_if_used_within",
                "must be at most \"6h\", the life of a ticket",
            );
        }
    }
}

impl Associates {
    pub(super) fn check(&self, problems: &mut Problems) {
        if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&self.max_age) {
            problems.add("associates.max_age", "must be from \"1m\" to \"24h\"");
        }
        if self.max_in_memory == 0 {
            problems.add("associates.max_in_memory", "must be at least 1");
        }
    }
}

impl Login {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.max_concurrent == 0 {
            problems.add("login.max_concurrent", "must be at least 1");
        }
        if self.timeout.is_zero() {
            problems.add("login.timeout", "must be longer than nothing");
        }
    }
}

impl WebApi {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.timeout.is_zero() {
            problems.add("web_api.timeout", "must be longer than nothing");
        }
    }
}

impl Lifecycle {
    pub(super) fn check(&self, login: &Login, problems: &mut Problems) {
        if self.hard_deadline < self.drain_delay + login.timeout {
            problems.add(
                "lifecycle.hard_deadline",
                "must be at least lifecycle.drain_delay and login.timeout together, or an exchange with SuperOffice \
                 would be cut off",
            );
        }
    }
}
