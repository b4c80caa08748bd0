//! Removes the statuses of tenants that were disabled or removed.

use std::sync::PoisonError;

use super::Statuses;
use crate::domain::TenantName;

impl Statuses {
    /// Removes the status of a tenant that was disabled or removed. An invalidated entry stays: without it, a stored
    /// status might be loaded as valid.
    pub(in crate::broker) fn forget(&self, name: &TenantName) {
        let mut known = self.shared.entries.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_some_and(|known| !known.is_invalidated()) {
            known.remove(name);
        }
        drop(known);
        self.shared.failures.forget(name);
    }

    /// Returns the tenants that have a cached status.
    pub(in crate::broker) fn tenants(&self) -> Vec<TenantName> {
        let known = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().cloned().collect()
    }
}
