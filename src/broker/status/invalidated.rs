//! Statuses that must not be used, although no newer status can be read.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::Shared;
use crate::domain::{TenantName, TenantStatus};

impl Shared {
    /// Marks the stored status of a tenant as expired if it must not be used; otherwise a restart would load it as
    /// valid. The next successful read overwrites it.
    pub(super) async fn store_invalidation(&self, name: &TenantName) {
        let Some(refuted) = self.newly_invalidated(name) else { return };
        tracing::warn!(
            tenant = %name,
            "the last tenant status must not be used and cannot be read again; calls to the tenant fail until it can"
        );
        let Err(error) = self.store.put_status(name, &refuted).await else { return };
        tracing::warn!(%error, tenant = %name, "the store still has a tenant status that must not be used");
        let mut known = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name) {
            known.invalidation_stored = false;
        }
    }

    /// Returns the invalidated status to store, if the store does not have it yet.
    fn newly_invalidated(&self, name: &TenantName) -> Option<TenantStatus> {
        let mut known = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_mut(name)?;
        if !known.is_invalidated() || std::mem::replace(&mut known.invalidation_stored, true) {
            return None;
        }
        let status = TenantStatus::clone(&known.status);
        Some(TenantStatus { valid_until: Timestamp::UNIX_EPOCH, ..status })
    }
}
