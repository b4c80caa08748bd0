//! `[tenants]`: how long what SuperOffice says of tenants is used.

use std::time::Duration;

use serde::Deserialize;

use super::{error::Problems, value};

/// Beyond this, a tenant that left the customer's hands long ago would still be called.
const MAX_STALE: Duration = Duration::from_hours(7 * 24);

/// `[tenants]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenants {
    /// While tenant status cannot be read again, the last one is used for this long after its time: at most 7 days.
    #[serde(deserialize_with = "value::duration")]
    pub max_stale_status: Duration,
}

impl Default for Tenants {
    fn default() -> Self {
        Self { max_stale_status: Duration::from_hours(24) }
    }
}

impl Tenants {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.max_stale_status > MAX_STALE {
            problems.add("tenants.max_stale_status", "must be at most \"7d\"");
        }
    }
}
