//! Statuses of tenants that were stopped or removed.

use std::sync::PoisonError;

use super::Statuses;
use crate::domain::TenantName;

impl Statuses {
    /// Forgets what is known of a tenant that was stopped or removed. What SuperOffice has refuted stays: the store might
    /// bring it back as good.
    pub(in crate::broker) fn forget(&self, name: &TenantName) {
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_some_and(|known| !known.is_refuted()) {
            known.remove(name);
        }
        drop(known);
        self.shared.failures.forget(name);
    }

    /// Tenants of which a status is known.
    pub(in crate::broker) fn names(&self) -> Vec<TenantName> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys().cloned().collect()
    }
}
