//! What we know of tenants, at hand without asking the store.
//!
//! Every change in this process forgets the tenant it touched, and a change by another process forgets all, so
//! the emergency stop holds for the next call. Bounded by the number of tenants in the store.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tokio_util::task::TaskTracker;

use super::{BrokerError, changes::Changes, flights::Flights};
use crate::{
    domain::{Tenant, TenantName},
    ports::TenantStore,
};

type Found = Result<Arc<Tenant>, BrokerError>;

/// Tenants as the store last told them.
pub struct Directory {
    known: Arc<RwLock<Known>>,
    store: Arc<dyn TenantStore>,
    reads: Flights<(TenantName, u64), Found>,
    changes: Changes,
}

#[derive(Default)]
struct Known {
    tenants: HashMap<TenantName, Arc<Tenant>>,
    /// Counts what was forgotten. A read that began before is not kept: it may be older than what it would
    /// bring back.
    forgotten: u64,
}

impl Directory {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(store: Arc<dyn TenantStore>, tasks: TaskTracker) -> Self {
        Self {
            known: Arc::default(),
            store,
            reads: Flights::new(tasks),
            changes: Changes::default(),
        }
    }

    /// The tenant, from memory where it is known.
    pub(super) async fn get(&self, name: &TenantName) -> Found {
        let forgotten = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(tenant) = known.tenants.get(name) {
                return Ok(Arc::clone(tenant));
            }
            known.forgotten
        };
        // The count is part of the key: who asks after a change does not join a read from before it.
        let key = (name.clone(), forgotten);
        let joined = self.reads.join(key, || {
            let (store, known, name) =
                (Arc::clone(&self.store), Arc::clone(&self.known), name.clone());
            async move {
                let tenant = store.get(&name).await?;
                let tenant = tenant.ok_or_else(|| BrokerError::TenantNotFound(name.to_string()))?;
                Ok(keep(&known, forgotten, tenant))
            }
        });
        joined.await.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// The tenant, unless the emergency stop is on: nobody is given a credential of it then.
    pub(super) async fn enabled(&self, name: &TenantName) -> Found {
        let tenant = self.get(name).await?;
        if tenant.disabled { Err(BrokerError::TenantDisabled(name.clone())) } else { Ok(tenant) }
    }

    /// Whether the tenant is known to be stopped or not to be there.
    pub(super) async fn is_stopped(&self, name: &TenantName) -> bool {
        matches!(
            self.enabled(name).await,
            Err(BrokerError::TenantDisabled(_) | BrokerError::TenantNotFound(_))
        )
    }

    /// Looks again at this tenant before the next use.
    pub(super) fn forget(&self, name: &TenantName) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.forgotten += 1;
        known.tenants.remove(name);
        drop(known);
        self.changes.tell(name);
    }

    /// Looks again at every tenant before its next use: another process changed the store.
    pub fn forget_all(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.forgotten += 1;
        known.tenants.clear();
        drop(known);
        self.changes.tell_all();
    }

    /// Those who watch tenants.
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }
}

fn keep(known: &RwLock<Known>, forgotten: u64, tenant: Tenant) -> Arc<Tenant> {
    let tenant = Arc::new(tenant);
    let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
    if known.forgotten == forgotten {
        known.tenants.insert(tenant.name.clone(), Arc::clone(&tenant));
    }
    tenant
}
