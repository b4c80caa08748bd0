//! The cached snapshots. [`Associates`](super::Associates) fills the cache. Impersonation only looks up types of
//! associates in it, so that neither use case needs the other for this.

use std::{sync::Arc, time::Duration};

use super::{
    cache::{Cache, CacheRules, Key},
    snapshot::Snapshot,
};
use crate::domain::{Actor, AssociateId, AssociateType, TenantName};

/// The configuration of the cache.
#[derive(Debug, Clone, Copy)]
pub struct AssociateRules {
    /// The age at which a snapshot must be read again.
    pub max_age: Duration,
    /// The most associates in memory over all tenants. The last snapshot is kept whatever its size.
    pub max_in_memory: usize,
}

/// The cached snapshots of all tenants. A clone shares the cache.
#[derive(Clone)]
pub struct AssociateSnapshots {
    pub(super) cache: Arc<Cache<Snapshot>>,
    pub(super) max_age: Duration,
}

impl AssociateSnapshots {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(AssociateRules { max_age, max_in_memory }: AssociateRules) -> Self {
        let cache = Cache::new(CacheRules { max_age, max_weight: max_in_memory });
        Self { cache: Arc::new(cache), max_age }
    }

    /// Returns the type of an associate if it is in a snapshot of the system user. Never asks SuperOffice.
    #[must_use]
    pub fn associate_type(&self, tenant: &TenantName, id: AssociateId) -> Option<AssociateType> {
        let is_it = |key: &Key| key.tenant == *tenant && key.actor == Actor::SystemUser;
        let snapshot = self.cache.last_value(is_it)?;
        snapshot.get(id).map(|associate| associate.kind)
    }
}
