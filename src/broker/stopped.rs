//! Tenants that are stopped or removed: nothing of them stays in memory.
//!
//! No use case hands anything of such a tenant out. But what is not in memory cannot be read from a memory dump, and
//! cannot be handed out by mistake.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{Associates, BrokerError, Impersonation, Statuses, Tickets};
use crate::{domain::TenantName, ports::TenantStore};

/// Tenants that the store is asked about at a time.
const BATCH: usize = 1000;

/// Lets go of what is in memory of tenants that are stopped or removed: tickets, access tokens, statuses, associates,
/// and refusals of all these.
pub struct StoppedTenants {
    store: Arc<dyn TenantStore>,
    tickets: Arc<Tickets>,
    statuses: Arc<Statuses>,
    impersonation: Arc<Impersonation>,
    associates: Arc<Associates>,
}

impl StoppedTenants {
    /// Over the memories of these use cases.
    #[must_use]
    pub fn new(
        store: Arc<dyn TenantStore>,
        tickets: Arc<Tickets>,
        statuses: Arc<Statuses>,
        impersonation: Arc<Impersonation>,
        associates: Arc<Associates>,
    ) -> Self {
        Self { store, tickets, statuses, impersonation, associates }
    }

    /// Forgets what is known of a tenant that was stopped or removed by this process.
    pub fn forget(&self, name: &TenantName) {
        self.tickets.forget_tenant(name);
        self.impersonation.forget_tenant(name);
        self.statuses.forget(name);
        self.associates.forget(name);
    }

    /// Another process has changed the store: forgets those that it has stopped or removed.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn look(&self) -> Result<(), BrokerError> {
        let mut known: BTreeSet<TenantName> = self.tickets.names().into_iter().collect();
        known.extend(self.impersonation.tenants());
        known.extend(self.statuses.names());
        known.extend(self.associates.tenants());
        let known: Vec<TenantName> = known.into_iter().collect();
        for names in known.chunks(BATCH) {
            for name in self.store.stopped_of(names).await? {
                self.forget(&name);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StoppedTenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppedTenants").finish_non_exhaustive()
    }
}
