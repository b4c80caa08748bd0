//! Clears everything about disabled or removed tenants from memory.
//!
//! No use case returns credentials of such a tenant. But data that is not in memory can neither be read from a memory
//! dump nor be returned by mistake.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{Associates, BrokerError, Impersonation, Statuses, Tickets};
use crate::{domain::TenantName, ports::TenantStore};

/// The number of tenants in one query to the store.
const BATCH_SIZE: usize = 1000;

/// Clears the cached tickets, access tokens, statuses, associates and refusals of tenants that are disabled or
/// removed.
pub struct StoppedTenants {
    store: Arc<dyn TenantStore>,
    tickets: Arc<Tickets>,
    statuses: Arc<Statuses>,
    impersonation: Arc<Impersonation>,
    associates: Arc<Associates>,
}

impl StoppedTenants {
    /// Creates the use case for the caches of these use cases.
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

    /// Clears the caches of a tenant that this process has disabled or removed.
    pub fn forget(&self, name: &TenantName) {
        self.tickets.forget_tenant(name);
        self.impersonation.forget_tenant(name);
        self.statuses.forget(name);
        self.associates.forget(name);
    }

    /// Clears the caches of tenants that another process has disabled or removed, after it has changed the store.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn forget_stopped(&self) -> Result<(), BrokerError> {
        let mut known: BTreeSet<TenantName> = self.tickets.tenants().into_iter().collect();
        known.extend(self.impersonation.tenants());
        known.extend(self.statuses.tenants());
        known.extend(self.associates.tenants());
        let known: Vec<TenantName> = known.into_iter().collect();
        for names in known.chunks(BATCH_SIZE) {
            for name in self.store.find_stopped(names).await? {
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
