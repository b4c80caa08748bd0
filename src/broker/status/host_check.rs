//! Status reads after calls that failed because their host is dead: the tenant may have moved.
//!
//! If a tenant moves because its data centre failed, the old host does not answer HTTP 421. Failed calls cause at most
//! one read in 15 seconds for each tenant.

use std::{sync::PoisonError, time::Duration};

use jiff::Timestamp;

use super::{
    Statuses,
    entry::{StatusEntry, is_recent},
};
use crate::{
    domain::{TenantName, WebApiUri},
    ports::UpstreamError,
};

/// The next step after a call failed because its host is dead.
enum HostCheck {
    /// None: the tenant has got another address since the call was sent.
    Moved,
    /// Read the status of the tenant with this creation time, under this generation.
    StartRead(Timestamp, u64),
    /// Wait for the read of this generation, which another failed call has started recently and which may still run.
    JoinRead(u64),
}

impl Statuses {
    /// Reads the tenant's status after a call failed as if its host were dead, unless a read has just been made, and
    /// waits for the result. Returns whether the tenant has another address than `uri`.
    pub(in crate::broker) async fn check_host(&self, name: &TenantName, uri: &WebApiUri) -> bool {
        match self.begin_host_check(name, uri) {
            Some(HostCheck::Moved) => return true,
            Some(HostCheck::StartRead(create_time, generation)) => {
                // The read logs its own failure. The old status stays in use.
                let _ = self.read_at(name, create_time, generation).await;
            }
            Some(HostCheck::JoinRead(generation)) => {
                let Some(mut result) = self.reads.in_flight(&(name.clone(), generation)) else {
                    return false;
                };
                let _ = result.wait_for(Option::is_some).await;
            }
            None => return false,
        }
        self.has_other_address(name, uri)
    }

    /// Returns whether a probe of a credential at this address failed because the tenant has another address.
    pub(in crate::broker) async fn has_moved(
        &self,
        name: &TenantName,
        uri: &WebApiUri,
        error: &UpstreamError,
    ) -> bool {
        match error {
            UpstreamError::Misdirected => {
                self.report_misdirected(name, uri);
                true
            }
            UpstreamError::HostUnavailable(_) => self.check_host(name, uri).await,
            _ => false,
        }
    }

    /// Does the same as [`Self::check_host`], without waiting for the read.
    pub(in crate::broker) fn check_host_in_background(&self, name: &TenantName, uri: &WebApiUri) {
        if let Some(HostCheck::StartRead(create_time, generation)) =
            self.begin_host_check(name, uri)
        {
            self.start_read(name, create_time, generation);
        }
    }

    /// Reads the status in the background if it is older than `max_age`: for calls whose outcome this gateway does not
    /// see. Calls do not wait for the read, and the old status stays in use.
    pub(in crate::broker) fn refresh(&self, name: &TenantName, max_age: Duration) {
        let now = self.shared.clock.moment();
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        let old = entries
            .get(name)
            .filter(|entry| entry.age(now) > max_age && entry.retry_time() <= now.monotonic);
        let old = old.map(|entry| (entry.tenant_create_time, entry.generation()));
        drop(entries);
        if let Some((create_time, generation)) = old {
            self.start_read(name, create_time, generation);
        }
    }

    fn begin_host_check(&self, name: &TenantName, uri: &WebApiUri) -> Option<HostCheck> {
        let now = self.shared.clock.monotonic();
        let mut entries = self.shared.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry: &mut StatusEntry = entries.get_mut(name)?;
        if !entry.has_address(uri) {
            return Some(HostCheck::Moved);
        }
        if is_recent(entry.host_checked_at(), now) {
            return Some(HostCheck::JoinRead(entry.generation()));
        }
        entry.record_host_check(now);
        entry.request_revalidation();
        Some(HostCheck::StartRead(entry.tenant_create_time, entry.generation()))
    }

    /// Returns whether calls now use another address than `uri`.
    fn has_other_address(&self, name: &TenantName, uri: &WebApiUri) -> bool {
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).is_some_and(|entry| !entry.is_invalidated() && !entry.has_address(uri))
    }
}
