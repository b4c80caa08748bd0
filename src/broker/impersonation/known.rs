//! What we know of grants, at hand without asking the store.
//!
//! As with tenants: every change in this process is learnt at once, and a change by another process forgets all.
//! Bounded by the grants in the store.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use crate::{
    broker::BrokerError,
    domain::{AssociateId, Grant, GrantName, Tenant, TenantName},
    ports::GrantStore,
};

/// Grants as the store last told them.
pub(super) struct KnownGrants {
    known: RwLock<Known>,
    store: Arc<dyn GrantStore>,
}

#[derive(Default)]
struct Known {
    grants: HashMap<GrantName, Arc<Grant>>,
    of_associates: HashMap<(TenantName, AssociateId), GrantName>,
    /// Counts what was forgotten: a read that began before is not kept.
    forgotten: u64,
}

impl KnownGrants {
    pub(super) fn new(store: Arc<dyn GrantStore>) -> Self {
        Self { known: RwLock::default(), store }
    }

    /// The grant, if the tenant has it.
    pub(super) async fn get(
        &self,
        tenant: &Tenant,
        name: &GrantName,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        let forgotten = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let grant = known.grants.get(name);
            // One from before the tenant was added is of another tenant of that name, which was deleted.
            if let Some(grant) = grant.filter(|grant| grant.create_time >= tenant.create_time) {
                return Ok(Some(Arc::clone(grant)));
            }
            known.forgotten
        };
        let grant = self.store.get(name).await?;
        Ok(self.keep(name, grant, forgotten))
    }

    /// The grant of an associate.
    pub(super) async fn find(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        let forgotten = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let name = known.of_associates.get(&(tenant.clone(), associate));
            if let Some(grant) = name.and_then(|name| known.grants.get(name)) {
                return Ok(Some(Arc::clone(grant)));
            }
            known.forgotten
        };
        let Some(grant) = self.store.find(tenant, associate).await? else { return Ok(None) };
        let name = grant.name.clone();
        Ok(self.keep(&name, Some(grant), forgotten))
    }

    /// The grant as the store has it now.
    pub(super) async fn read_again(
        &self,
        name: &GrantName,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        let forgotten = self.known.read().unwrap_or_else(PoisonError::into_inner).forgotten;
        let grant = self.store.get(name).await?;
        Ok(self.keep(name, grant, forgotten))
    }

    /// The store told this of a change just now.
    pub(super) fn learn(&self, grant: Grant) -> Arc<Grant> {
        let mut known = self.write();
        known.learn(grant)
    }

    /// Looks again at this grant before its next use.
    pub(super) fn forget(&self, name: &GrantName) {
        let mut known = self.write();
        known.forgotten += 1;
        known.forget(name);
    }

    /// Looks again at every grant: another process changed the store.
    pub(super) fn forget_all(&self) {
        let mut known = self.write();
        let forgotten = known.forgotten + 1;
        *known = Known { forgotten, ..Known::default() };
    }

    /// The tenant was stopped or removed.
    pub(super) fn forget_tenant(&self, tenant: &TenantName) {
        let mut known = self.write();
        known.forgotten += 1;
        known.grants.retain(|name, _| name.tenant != *tenant);
        known.of_associates.retain(|(name, _), _| name != tenant);
    }

    /// Tenants of which grants are known.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.grants.keys().map(|name| name.tenant.clone()).collect()
    }

    fn keep(&self, name: &GrantName, grant: Option<Grant>, forgotten: u64) -> Option<Arc<Grant>> {
        let mut known = self.write();
        match grant {
            Some(grant) if known.forgotten == forgotten => Some(known.learn(grant)),
            Some(grant) => Some(Arc::new(grant)),
            None => {
                known.forget(name);
                None
            }
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Never goes back to what was before.
    fn learn(&mut self, grant: Grant) -> Arc<Grant> {
        if let Some(newer) = self.grants.get(&grant.name).filter(|it| it.version > grant.version) {
            return Arc::clone(newer);
        }
        let grant = Arc::new(grant);
        let associate = (grant.name.tenant.clone(), grant.associate_id);
        self.of_associates.insert(associate, grant.name.clone());
        self.grants.insert(grant.name.clone(), Arc::clone(&grant));
        grant
    }

    fn forget(&mut self, name: &GrantName) {
        if let Some(grant) = self.grants.remove(name) {
            self.of_associates.remove(&(name.tenant.clone(), grant.associate_id));
        }
    }
}
