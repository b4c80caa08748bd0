//! The cache of grants.
//!
//! Like the tenant cache: a change by this process updates it at once, and a change by another process clears it.
//! Bounded by the number of grants in the store.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use crate::{
    broker::BrokerError,
    domain::{AssociateId, Grant, GrantName, Tenant, TenantName},
    ports::GrantStore,
};

/// Grants as they were last read from the store.
pub(super) struct GrantCache {
    cached: RwLock<CachedGrants>,
    store: Arc<dyn GrantStore>,
}

#[derive(Default)]
struct CachedGrants {
    grants: HashMap<GrantName, Arc<Grant>>,
    by_associate: HashMap<(TenantName, AssociateId), GrantName>,
    /// The number of invalidations. The result of a read that began before the last one is not cached.
    generation: u64,
}

impl GrantCache {
    pub(super) fn new(store: Arc<dyn GrantStore>) -> Self {
        Self { cached: RwLock::default(), store }
    }

    /// Returns the grant, if the tenant has it.
    pub(super) async fn get(
        &self,
        tenant: &Tenant,
        name: &GrantName,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        let generation = {
            let known = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            let grant = known.grants.get(name);
            // A grant that is older than the tenant belongs to a deleted tenant of the same name.
            if let Some(grant) = grant.filter(|grant| grant.create_time >= tenant.create_time) {
                return Ok(Some(Arc::clone(grant)));
            }
            known.generation
        };
        let grant = self.store.get(name).await?;
        Ok(self.record_read(name, grant, generation))
    }

    /// Returns the grant of an associate.
    pub(super) async fn find(
        &self,
        tenant: &TenantName,
        associate: AssociateId,
    ) -> Result<Option<Arc<Grant>>, BrokerError> {
        let generation = {
            let known = self.cached.read().unwrap_or_else(PoisonError::into_inner);
            let name = known.by_associate.get(&(tenant.clone(), associate));
            if let Some(grant) = name.and_then(|name| known.grants.get(name)) {
                return Ok(Some(Arc::clone(grant)));
            }
            known.generation
        };
        let Some(grant) = self.store.find_by_associate(tenant, associate).await? else {
            return Ok(None);
        };
        let name = grant.name.clone();
        Ok(self.record_read(&name, Some(grant), generation))
    }

    /// Reads the grant from the store.
    pub(super) async fn reload(&self, name: &GrantName) -> Result<Option<Arc<Grant>>, BrokerError> {
        let generation = self.cached.read().unwrap_or_else(PoisonError::into_inner).generation;
        let grant = self.store.get(name).await?;
        Ok(self.record_read(name, grant, generation))
    }

    /// Caches a grant that a write has just returned.
    pub(super) fn record(&self, grant: Grant) -> Arc<Grant> {
        let mut known = self.write();
        known.record(grant)
    }

    /// Drops one grant.
    pub(super) fn forget(&self, name: &GrantName) {
        let mut known = self.write();
        known.generation += 1;
        known.forget(name);
    }

    /// Drops all grants, because another process changed the store.
    pub(super) fn forget_all(&self) {
        let mut known = self.write();
        let generation = known.generation + 1;
        *known = CachedGrants { generation, ..CachedGrants::default() };
    }

    /// Drops the grants of a tenant.
    pub(super) fn forget_tenant(&self, tenant: &TenantName) {
        let mut known = self.write();
        known.generation += 1;
        known.grants.retain(|name, _| name.tenant != *tenant);
        known.by_associate.retain(|(name, _), _| name != tenant);
    }

    /// Returns the tenants of the cached grants.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        let known = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        known.grants.keys().map(|name| name.tenant.clone()).collect()
    }

    fn record_read(
        &self,
        name: &GrantName,
        grant: Option<Grant>,
        generation: u64,
    ) -> Option<Arc<Grant>> {
        let mut known = self.write();
        match grant {
            Some(grant) if known.generation == generation => Some(known.record(grant)),
            Some(grant) => Some(Arc::new(grant)),
            None => {
                known.forget(name);
                None
            }
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, CachedGrants> {
        self.cached.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedGrants {
    /// Caches a grant unless a newer version is cached.
    fn record(&mut self, grant: Grant) -> Arc<Grant> {
        if let Some(newer) = self.grants.get(&grant.name).filter(|it| it.version > grant.version) {
            return Arc::clone(newer);
        }
        let grant = Arc::new(grant);
        let associate = (grant.name.tenant.clone(), grant.associate_id);
        self.by_associate.insert(associate, grant.name.clone());
        self.grants.insert(grant.name.clone(), Arc::clone(&grant));
        grant
    }

    fn forget(&mut self, name: &GrantName) {
        if let Some(grant) = self.grants.remove(name) {
            self.by_associate.remove(&(name.tenant.clone(), grant.associate_id));
        }
    }
}
