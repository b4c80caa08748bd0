//! Removes the statuses of tenants that were disabled or removed.

use std::sync::PoisonError;

use super::Statuses;
use crate::domain::TenantName;

impl Statuses {
    /// Removes the status of a tenant that was disabled or removed. An invalidated entry stays: without it, a stored
    /// status might be loaded as valid.
    pub(in crate::broker) fn forget(&self, name: &TenantName) {
        let mut entries = self.shared.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.get(name).is_some_and(|entry| !entry.is_invalidated()) {
            entries.remove(name);
        }
        drop(entries);
        self.shared.failures.forget(name);
    }

    /// Returns the tenants that have a cached status.
    pub(in crate::broker) fn tenants(&self) -> Vec<TenantName> {
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().cloned().collect()
    }
}
