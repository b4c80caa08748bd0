//! Calls that fail because their host is gone: tenant status is asked where the tenant is.
//!
//! A tenant that moves because its data centre died sends no HTTP 421. Whatever callers do, their failures make us ask
//! at most once in 15 seconds and tenant.

use std::{sync::PoisonError, time::Duration};

use jiff::Timestamp;

use super::{
    Statuses,
    known::{Known, is_recent},
};
use crate::{
    domain::{TenantName, WebApiUri},
    ports::UpstreamError,
};

/// The reaction to a suspicion.
enum Suspicion {
    /// Tenant status has named another host since the call was sent.
    Moved,
    /// Ask, under this number of doubts.
    Ask(Timestamp, u64),
    /// Failed calls have made us ask in the last seconds; that read may still run.
    Asked(u64),
}

impl Statuses {
    /// A call to this address failed as calls to a dead host do. Asks for the tenant's status, unless that was done
    /// moments ago, and waits for the answer. Returns whether the tenant is at another address.
    pub(in crate::broker) async fn suspect(&self, name: &TenantName, uri: &WebApiUri) -> bool {
        match self.suspicion(name, uri) {
            Some(Suspicion::Moved) => return true,
            Some(Suspicion::Ask(added, doubts)) => {
                // The failure is logged where it happens. The old status stays in use.
                let _ = self.read_at(name, added, doubts).await;
            }
            Some(Suspicion::Asked(doubts)) => {
                let Some(mut landing) = self.reads.present(&(name.clone(), doubts)) else {
                    return false;
                };
                let _ = landing.wait_for(Option::is_some).await;
            }
            None => return false,
        }
        self.is_elsewhere(name, uri)
    }

    /// Whether a probe of a credential at this address failed because the tenant is elsewhere.
    pub(in crate::broker) async fn has_moved(
        &self,
        name: &TenantName,
        uri: &WebApiUri,
        error: &UpstreamError,
    ) -> bool {
        match error {
            UpstreamError::Misdirected => {
                self.misdirected(name, uri);
                true
            }
            UpstreamError::HostUnavailable(_) => self.suspect(name, uri).await,
            _ => false,
        }
    }

    /// The same as [`Self::suspect`] without waiting.
    pub(in crate::broker) fn suspect_in_background(&self, name: &TenantName, uri: &WebApiUri) {
        if let Some(Suspicion::Ask(added, doubts)) = self.suspicion(name, uri) {
            self.begin_read(name, added, doubts);
        }
    }

    /// Reads the status in the background if it is older than `max_age`: for calls whose outcome we do not see. Calls
    /// do not wait for it, and the status stays in use.
    pub(in crate::broker) fn refresh(&self, name: &TenantName, max_age: Duration) {
        let now = self.shared.clock.moment();
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let old = known
            .get(name)
            .filter(|known| known.age(now) > max_age && known.retry_time <= now.monotonic);
        let old = old.map(|known| (known.added, known.doubts));
        drop(known);
        if let Some((added, doubts)) = old {
            self.begin_read(name, added, doubts);
        }
    }

    fn suspicion(&self, name: &TenantName, uri: &WebApiUri) -> Option<Suspicion> {
        let now = self.shared.clock.monotonic();
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        let known: &mut Known = known.get_mut(name)?;
        if !known.is_at(uri) {
            return Some(Suspicion::Moved);
        }
        if is_recent(known.suspected, now) {
            return Some(Suspicion::Asked(known.doubts));
        }
        known.suspected = Some(now);
        known.doubt();
        Some(Suspicion::Ask(known.added, known.doubts))
    }

    /// Whether calls go to another address by now.
    fn is_elsewhere(&self, name: &TenantName, uri: &WebApiUri) -> bool {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_some_and(|known| !known.is_refuted() && !known.is_at(uri))
    }
}
