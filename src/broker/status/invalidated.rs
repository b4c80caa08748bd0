//! Statuses that must not be used, although no newer status can be read.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::Shared;
use crate::domain::{TenantName, TenantStatus};

impl Shared {
    /// Marks the stored status of a tenant as expired if it must not be used; otherwise a restart would load it as
    /// valid. The next successful read overwrites it.
    pub(super) async fn store_invalidation(&self, name: &TenantName) {
        let Some(status) = self.newly_invalidated(name) else { return };
        tracing::warn!(
            tenant = %name,
            "the last tenant status must not be used and cannot be read again; calls to the tenant fail until it can"
        );
        let Err(error) = self.store.put_status(name, &status).await else { return };
        tracing::warn!(%error, tenant = %name, "the store still has a tenant status that must not be used");
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name) {
            entry.set_invalidation_stored(false);
        }
    }

    /// Returns the invalidated status to store, if the store does not have it yet.
    fn newly_invalidated(&self, name: &TenantName) -> Option<TenantStatus> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(name)?;
        if !entry.is_invalidated() || entry.set_invalidation_stored(true) {
            return None;
        }
        let status = TenantStatus::clone(&entry.status);
        Some(TenantStatus { valid_until: Timestamp::UNIX_EPOCH, ..status })
    }
}
