//! The cache of tenants, in front of the store.
//!
//! Each change by this process removes the changed tenant, and a change by another process removes all tenants. So a
//! disabled tenant is rejected at the next call. The number of tenants in the store bounds the cache.

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use super::{BrokerError, Runtime, changes::ChangeNotifier, single_flight::SingleFlight};
use crate::{
    domain::{Tenant, TenantName},
    ports::TenantStore,
};

type TenantResult = Result<Arc<Tenant>, BrokerError>;

/// The tenants as last read from the store.
pub struct TenantDirectory {
    cache: Arc<RwLock<Cache>>,
    store: Arc<dyn TenantStore>,
    reads: SingleFlight<(TenantName, u64), TenantResult>,
    changes: ChangeNotifier,
}

#[derive(Default)]
struct Cache {
    tenants: HashSet<ByName>,
    /// Counts removals. A read that started before the latest removal is not cached: its result may be
    /// outdated.
    generation: u64,
}

/// A cached tenant, found by its name. A map would keep the name twice: as its key and in the tenant.
struct ByName(Arc<Tenant>);

impl Borrow<TenantName> for ByName {
    fn borrow(&self) -> &TenantName {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl TenantDirectory {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(store: Arc<dyn TenantStore>, runtime: &Runtime) -> Self {
        Self {
            cache: Arc::default(),
            store,
            reads: SingleFlight::new(runtime.tasks.clone()),
            changes: ChangeNotifier::default(),
        }
    }

    /// Returns the tenant: from the cache, otherwise from the store.
    pub(super) async fn get(&self, name: &TenantName) -> TenantResult {
        let generation = {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(ByName(tenant)) = cache.tenants.get(name) {
                return Ok(Arc::clone(tenant));
            }
            cache.generation
        };
        // The generation is part of the key: a call after a change does not join a read that started before it.
        let key = (name.clone(), generation);
        let joined = self.reads.join(key, || {
            let (store, cache, name) =
                (Arc::clone(&self.store), Arc::clone(&self.cache), name.clone());
            async move {
                let tenant = store.get(&name).await?;
                let tenant = tenant.ok_or_else(|| BrokerError::TenantNotFound(name.to_string()))?;
                Ok(insert(&cache, generation, tenant))
            }
        });
        joined.await.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Returns the tenant if it is enabled. No caller gets a credential for a disabled tenant.
    pub(super) async fn enabled(&self, name: &TenantName) -> TenantResult {
        let tenant = self.get(name).await?;
        if tenant.disabled { Err(BrokerError::TenantDisabled(name.clone())) } else { Ok(tenant) }
    }

    /// Returns whether the tenant is disabled or does not exist.
    pub(super) async fn is_stopped(&self, name: &TenantName) -> bool {
        matches!(
            self.enabled(name).await,
            Err(BrokerError::TenantDisabled(_) | BrokerError::TenantNotFound(_))
        )
    }

    /// Removes this tenant from the cache, so that its next use reads it again.
    pub(super) fn forget(&self, name: &TenantName) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.generation += 1;
        cache.tenants.remove(name);
        drop(cache);
        self.changes.notify(name);
    }

    /// Updates the cached tenant after its company name was stored. Unlike [`Self::forget`], this does not affect reads
    /// of other tenants: many tenants get their names at a cold start.
    pub(super) fn set_company_name(&self, name: &TenantName, company_name: &str) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let known = cache.tenants.get(name).map(|ByName(tenant)| Arc::clone(tenant));
        let Some(known) = known else {
            // A read may be in progress, and may have found the old name.
            cache.generation += 1;
            return;
        };
        let company_name = company_name.to_owned();
        let renamed = Tenant { company_name, ..Tenant::clone(&known) };
        cache.tenants.replace(ByName(Arc::new(renamed)));
    }

    /// Removes all tenants from the cache after another process changed the store.
    pub fn forget_all(&self) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.generation += 1;
        cache.tenants.clear();
        drop(cache);
        self.changes.notify_all();
    }

    /// Returns the notifier for changes of tenants.
    pub(super) fn changes(&self) -> &ChangeNotifier {
        &self.changes
    }
}

fn insert(cache: &RwLock<Cache>, generation: u64, tenant: Tenant) -> Arc<Tenant> {
    let tenant = Arc::new(tenant);
    let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
    if cache.generation == generation {
        // Keeps a tenant that another read has cached: its company name may have changed since.
        cache.tenants.insert(ByName(Arc::clone(&tenant)));
    }
    tenant
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::fakes::{World, tenant};

    #[tokio::test]
    async fn a_stored_company_name_is_cached_without_another_read() {
        let World { directory, upstream, .. } = World::new();
        let before = directory.get(&tenant()).await.unwrap();
        // The store of the fakes does not keep company names, so another read would return the empty name.
        directory.set_company_name(&tenant(), "Example AS");
        let after = directory.get(&tenant()).await.unwrap();
        assert_eq!(after.company_name, "Example AS");
        assert_eq!(*after, Tenant { company_name: "Example AS".to_owned(), ..(*before).clone() });
        *upstream.disabled.lock().unwrap() = true;
        directory.forget(&tenant());
        directory.set_company_name(&tenant(), "Example AS");
        assert!(directory.is_stopped(&tenant()).await, "a removed tenant is read again");
    }
}
