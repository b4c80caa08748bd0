//! Statuses that must not be used, though none can be had in their place.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::Shared;
use crate::domain::{TenantName, TenantStatus};

impl Shared {
    /// Lets the stored status of a tenant hold no longer if it must not be used: a restart would bring it back. A
    /// later read overwrites it.
    pub(super) async fn store_refutation(&self, name: &TenantName) {
        let Some(refuted) = self.newly_refuted(name) else { return };
        tracing::warn!(
            tenant = %name,
            "the last tenant status must not be used and cannot be read again; calls to the tenant fail until it can"
        );
        let Err(error) = self.store.put_status(name, &refuted).await else { return };
        tracing::warn!(%error, tenant = %name, "the store keeps a tenant status that must not be used");
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name) {
            known.refutation_stored = false;
        }
    }

    /// The status as it is to be stored, if the store has not been told.
    fn newly_refuted(&self, name: &TenantName) -> Option<TenantStatus> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_mut(name)?;
        if !known.is_refuted() || std::mem::replace(&mut known.refutation_stored, true) {
            return None;
        }
        let status = TenantStatus::clone(&known.status);
        Some(TenantStatus { valid_until: Timestamp::UNIX_EPOCH, ..status })
    }
}
