//! Rate limits and times: `[quotas]`, `[tickets]`, `[associates]`, `[login]`, `[web_api]`, `[lifecycle]`.

use std::time::Duration;

use serde::Deserialize;

use super::{error::Problems, value};
use crate::domain::TICKET_LIFETIME;

const HOUR: Duration = Duration::from_hours(1);
/// The minimum of `tickets.max_age`. SuperOffice asks clients not to replace tickets more often.
const MIN_TICKET_AGE: Duration = HOUR;
/// The maximum of `tickets.max_age`: an older ticket can hardly be traced to its first use.
const MAX_TICKET_AGE: Duration = Duration::from_hours(7 * 24);

/// `[quotas]`: rate limits of callers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// The limit of each caller, over all tenants; unlimited by default.
    pub per_caller: Option<Quota>,
    /// The limit of each caller in one tenant; unlimited by default.
    pub per_caller_and_tenant: Option<Quota>,
    /// The limit of rejected (unauthenticated or denied) calls of each source: the caller, or the address of an
    /// unauthenticated client.
    pub refused_per_source: Quota,
}

/// A rate limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// The average number of calls per second.
    pub per_second: u32,
    /// The burst size; `per_second` by default.
    pub burst: Option<u32>,
}

/// `[tickets]`: the lifetime and renewal of system user tickets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tickets {
    /// The age at which a ticket is replaced, even if it is in use: 1 hour to 7 days.
    #[serde(deserialize_with = "value::duration")]
    pub max_age: Duration,
    /// A ticket is renewed in the background only if it was requested within this time; at most a ticket's lifetime.
    #[serde(deserialize_with = "value::duration")]
    pub renew_if_used_within: Duration,
}

/// `[associates]`: the cache of the users of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Associates {
    /// The maximum age of cached users: 1 minute to 24 hours. Users in use are refreshed in the background before.
    #[serde(deserialize_with = "value::duration")]
    pub max_age: Duration,
    /// The maximum number of associates in memory, over all tenants.
    pub max_in_memory: u32,
}

/// `[login]`: calls to SuperOffice's login host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// The maximum number of concurrent calls.
    pub max_concurrent: u32,
    /// The timeout of one call.
    #[serde(deserialize_with = "value::duration")]
    pub timeout: Duration,
}

/// `[web_api]`: calls to the Web API of tenants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebApi {
    /// The timeout of a call without its own deadline, until the start of its response.
    #[serde(deserialize_with = "value::duration")]
    pub timeout: Duration,
}

/// `[lifecycle]`: the shutdown of the process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifecycle {
    /// The time between "not ready" and the end of accepting calls, so that load balancers notice.
    #[serde(deserialize_with = "value::duration")]
    pub drain_delay: Duration,
    /// The maximum time from the signal to the end, even if calls still run.
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
                    format!("must be at least 1; remove {key} to use its default"),
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
                "must be at most \"6h\", the lifetime of a ticket",
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
            problems.add("login.timeout", "must be greater than zero");
        }
    }
}

impl WebApi {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.timeout.is_zero() {
            problems.add("web_api.timeout", "must be greater than zero");
        }
    }
}

impl Lifecycle {
    pub(super) fn check(&self, login: &Login, problems: &mut Problems) {
        if self.hard_deadline < self.drain_delay + login.timeout {
            problems.add(
                "lifecycle.hard_deadline",
                "must be at least the sum of lifecycle.drain_delay and login.timeout, or a request to SuperOffice \
                 would be aborted",
            );
        }
    }
}
