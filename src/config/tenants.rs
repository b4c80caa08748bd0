//! `[tenants]`: the use of tenant statuses.

use std::time::Duration;

use serde::Deserialize;

use super::{error::Problems, value};

/// The maximum of `max_stale_status`, so that tenants that were deleted long ago are not called.
const MAX_STALE: Duration = Duration::from_hours(7 * 24);

/// `[tenants]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenants {
    /// The time for which an expired tenant status is used while it cannot be read again: at most 7 days.
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
