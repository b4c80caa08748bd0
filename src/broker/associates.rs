//! Associates: the users of a tenant.
//!
//! SuperOffice asks to fetch users "very infrequently". So all users of a tenant are read at once into a snapshot,
//! which answers all calls. There is one snapshot for each tenant and credential, so that a person never sees data that
//! only the system user may read. A snapshot is refreshed in the background while it is in use, at once if a caller
//! asks for newer data, and after a hint that associates have changed.

mod cache;
mod listing;
mod people;
mod read_through_cache;
mod snapshot;
mod snapshots;
mod unreadable_rows;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use self::{
    cache::{Cache, CacheEntry, CacheRules, Key, MIN_HINT_INTERVAL},
    people::{AssociateSource, Upstream, read_all},
    read_through_cache::{ReadDependencies, ReadThroughCache},
    snapshot::Snapshot,
    unreadable_rows::{UnreadableRowLog, UnreadableRows},
};
pub use self::{
    listing::{AssociateListPage, AssociatePosition, AssociateQuery, InvalidAssociatePosition},
    snapshots::{AssociateRules, AssociateSnapshots},
};
use super::{
    Applications, BrokerError, Impersonation, Runtime, Statuses, Tickets, WebApi, WebApiCallContext,
};
use crate::{
    access::{Authorized, ReadAssociates},
    domain::{
        Actor, Associate, AssociateId, AssociateName, ContextIdentifier, LookupKey, Owner,
        Principal, Role, TenantName, Usability, UserGroup,
    },
    ports::{Clock, MAX_ASSOCIATES_BY_ID},
};

/// The longest time for reading all users: enough for the largest tenants at the platform's ten calls per second, with
/// a reserve for its pauses.
const READ_LIMIT: Duration = Duration::from_mins(5);

/// The key of the queue in the upstream rate limit for reads that serve all callers.
const SHARED_QUEUE_KEY: &str = "";

/// The interval between removals of expired snapshots.
const SWEEP_INTERVAL: Duration = Duration::from_mins(5);

/// The time for which a tenant status may be used after it has expired.
const MAX_STATUS_STALENESS: Duration = Duration::from_hours(1);

/// The most cached principals.
const MAX_PRINCIPALS: usize = 10_000;

/// The options of a read.
#[derive(Debug, Clone)]
pub struct AssociateReadOptions {
    /// The user for whom SuperOffice runs the calls.
    pub actor: Actor,
    /// The key of the queue in the rate limit: the caller's id.
    pub queue_key: Arc<str>,
    /// The age of the data that the caller accepts, if it gives one.
    pub max_staleness: Option<Duration>,
    /// The longest time that the caller waits.
    pub max_wait: Duration,
}

/// An associate and the time at which it was read.
#[derive(Debug, Clone)]
pub struct AssociateReading {
    /// The associate.
    pub associate: Arc<Associate>,
    /// The time at which it was read.
    pub read_time: Timestamp,
}

/// The use cases of associates.
pub struct Associates {
    people: Arc<dyn AssociateSource>,
    tickets: Arc<Tickets>,
    impersonation: Arc<Impersonation>,
    statuses: Arc<Statuses>,
    snapshots: ReadThroughCache<Snapshot>,
    principals: ReadThroughCache<Principal>,
    clock: Arc<dyn Clock>,
}

impl Associates {
    /// Creates the use cases, which read into `snapshots`.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        web_api: Arc<WebApi>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        statuses: Arc<Statuses>,
        snapshots: &AssociateSnapshots,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, timer, random, counters, tasks, stopping } = runtime.clone();
        let unreadable_rows = Arc::new(UnreadableRowLog::new(counters));
        let people: Arc<dyn AssociateSource> = Arc::new(Upstream { applications, web_api });
        let ports = ReadDependencies { clock: Arc::clone(&clock), timer, tasks, stopping };
        let read_snapshot = {
            let (people, clock) = (Arc::clone(&people), Arc::clone(&clock));
            let oddities = Arc::clone(&unreadable_rows);
            move |key: Key| {
                let (people, clock) = (Arc::clone(&people), Arc::clone(&clock));
                let oddities = Arc::clone(&oddities);
                let context = shared_read(&*people, key.clone());
                let id = u128::from_be_bytes(random.bytes());
                Box::pin(async move {
                    let read = read_all(&*people, &context, &*clock, id).await?;
                    read.odd.into_iter().for_each(|(what, odd)| oddities.record(&key, what, odd));
                    Ok(read.snapshot)
                }) as _
            }
        };
        let read_principal = {
            let people = Arc::clone(&people);
            move |key: Key| {
                let (people, oddities) = (Arc::clone(&people), Arc::clone(&unreadable_rows));
                let context = shared_read(&*people, key.clone());
                Box::pin(async move {
                    let principal = people.principal(&context).await?;
                    let mut odd = UnreadableRows::default();
                    odd.count(&principal.warnings);
                    oddities.record(&key, "principal", odd);
                    Ok(principal)
                }) as _
            }
        };
        let principals = CacheRules { max_age: snapshots.max_age, max_weight: MAX_PRINCIPALS };
        let principals = Arc::new(Cache::new(principals));
        let principals = ReadThroughCache::new(principals, Arc::new(read_principal), ports.clone());
        let snapshots = Arc::clone(&snapshots.cache);
        let snapshots = ReadThroughCache::new(snapshots, Arc::new(read_snapshot), ports);
        Self { people, tickets, impersonation, statuses, snapshots, principals, clock }
    }

    /// Returns one associate.
    ///
    /// # Errors
    /// `AssociatesNotFound`; the tenant or the credential is not usable; or SuperOffice does not answer.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        id: AssociateId,
    ) -> Result<AssociateReading, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        let mut seen = self.get_all(&key, options, &[id]).await?;
        seen.pop().ok_or_else(|| not_found(&key.tenant, &[id]))
    }

    /// Returns several associates, in the order of `ids`.
    ///
    /// # Errors
    /// As above; `AssociatesNotFound` names all missing associates.
    pub async fn batch_get(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateReading>, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        self.get_all(&key, options, ids).await
    }

    /// Returns the only associate that matches `wanted`.
    ///
    /// # Errors
    /// As above; `AssociateAmbiguous` if several match.
    pub async fn look_up(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        wanted: &LookupKey,
    ) -> Result<AssociateReading, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        let mut snapshot = self.snapshots.get(&key, options.max_staleness).await?;
        if snapshot.find(wanted).is_empty() {
            // A new associate may match. The upstream query cannot filter by text, so all associates are read again, at
            // most once a minute.
            let newer =
                Some(MIN_HINT_INTERVAL.min(options.max_staleness.unwrap_or(MIN_HINT_INTERVAL)));
            snapshot = self.snapshots.get(&key, newer).await?;
        }
        let found = snapshot.find(wanted);
        match &found[..] {
            [] => Err(BrokerError::AssociateNotMatched(key.tenant)),
            [associate] => {
                let associate = Arc::clone(associate);
                Ok(AssociateReading { associate, read_time: snapshot.read_time })
            }
            several => Err(BrokerError::AssociateAmbiguous(key.tenant, several.len())),
        }
    }

    /// Returns the associate and group ids to write into a record that this associate is to own.
    ///
    /// # Errors
    /// As above; `OwnerUnknown` with the obstacles.
    pub async fn resolve_owner(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        id: AssociateId,
    ) -> Result<Owner, BrokerError> {
        let AssociateReading { associate, .. } = self.get(authorized, options, id).await?;
        let name = || AssociateName { tenant: authorized.resource().clone(), associate: id };
        associate.resolve_owner().map_err(|obstacles| BrokerError::OwnerUnknown(name(), obstacles))
    }

    /// Returns the principal of the credential.
    ///
    /// # Errors
    /// As above.
    pub async fn current_principal(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
    ) -> Result<Arc<Principal>, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        self.principals.get(&key, options.max_staleness).await
    }

    /// Returns groups with a greater id than `after`, at most `limit`, by ascending id, including deleted groups.
    ///
    /// # Errors
    /// As above.
    pub async fn user_groups(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        after: Option<i32>,
        limit: usize,
    ) -> Result<Vec<Arc<UserGroup>>, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        let snapshot = self.snapshots.get(&key, options.max_staleness).await?;
        let behind = snapshot.directory.groups().filter(|group| Some(group.id) > after);
        Ok(behind.take(limit).map(Arc::clone).collect())
    }

    /// Returns roles with a greater id than `after`, at most `limit`, by ascending id, including deleted roles.
    ///
    /// # Errors
    /// As above.
    pub async fn roles(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
        after: Option<i32>,
        limit: usize,
    ) -> Result<Vec<Arc<Role>>, BrokerError> {
        let key = self.check_access(authorized, options).await?;
        let snapshot = self.snapshots.get(&key, options.max_staleness).await?;
        let behind = snapshot.directory.roles().filter(|role| Some(role.id) > after);
        Ok(behind.take(limit).map(Arc::clone).collect())
    }

    /// Handles a hint that the associates of a tenant have changed: they are read again at their next use, at most once
    /// a minute. A hint has no other effect, so it needs no authentication.
    pub fn hint(&self, tenant: ContextIdentifier) {
        self.snapshots.hint(tenant);
        self.principals.hint(tenant);
    }

    /// Removes the data of a tenant that was disabled or deleted.
    pub(super) fn forget(&self, tenant: &TenantName) {
        self.snapshots.forget(tenant);
        self.principals.forget(tenant);
    }

    /// Returns the tenants whose associates are in memory or could not be read.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        self.snapshots.tenants().into_iter().chain(self.principals.tenants()).collect()
    }

    /// Removes expired data from the caches periodically, for as long as it is polled.
    pub async fn run_sweeps(&self) {
        loop {
            self.clock.sleep(SWEEP_INTERVAL).await;
            self.snapshots.sweep();
            self.principals.sweep();
        }
    }

    /// Returns the number of associates in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.snapshots.weight()
    }

    /// Checks that tenant and credential are usable, also for data in memory: the tenant may be disabled or deleted.
    async fn check_access(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        options: &AssociateReadOptions,
    ) -> Result<Key, BrokerError> {
        let name = authorized.resource();
        let tenant = match &options.actor {
            Actor::SystemUser => self.tickets.enrolled_tenant(name).await?,
            Actor::Grant(grant) => self.impersonation.require_active_grant(grant).await?,
        };
        let status = self.statuses.last_known(&tenant);
        let in_doubt = status.is_none_or(|status| {
            let over = self.clock.now().duration_since(status.valid_until);
            let old = Duration::try_from(over).is_ok_and(|over| over > MAX_STATUS_STALENESS);
            old || status.state.usability() == Usability::Unusable
        });
        // The tenant may be gone or back by now. Transient errors do not matter for data in memory.
        if in_doubt
            && let Err(error) = self.statuses.require_usable(&tenant).await
            && !error.is_temporary()
        {
            return Err(error);
        }
        let life = (tenant.create_time, tenant.token_version);
        Ok(Key { tenant: name.clone(), actor: options.actor.clone(), lifetime: life })
    }

    /// Returns these associates in their order, or an error that names the missing ones.
    async fn get_all(
        &self,
        key: &Key,
        options: &AssociateReadOptions,
        ids: &[AssociateId],
    ) -> Result<Vec<AssociateReading>, BrokerError> {
        let deadline = self.people.deadline_in(options.max_wait);
        let snapshot = self.snapshots.get(key, options.max_staleness).await?;
        let missing: Vec<_> =
            ids.iter().copied().filter(|id| snapshot.get(*id).is_none()).collect();
        let newcomers = self.read_missing(key, options, deadline, &snapshot, &missing).await?;
        let known = |id: &AssociateId| {
            let (associate, read_time) = match snapshot.get(*id) {
                Some(associate) => (associate, snapshot.read_time),
                None => newcomers.iter().find(|(one, _)| one.id == *id).map(|(a, t)| (a, *t))?,
            };
            Some(AssociateReading { associate: Arc::clone(associate), read_time })
        };
        let seen: Vec<_> = ids.iter().filter_map(known).collect();
        if seen.len() == ids.len() {
            return Ok(seen);
        }
        let absent =
            missing.into_iter().filter(|id| newcomers.iter().all(|(one, _)| one.id != *id));
        Err(not_found(&key.tenant, &absent.collect::<Vec<_>>()))
    }

    /// Reads associates that are missing in the snapshot because they were created after it.
    async fn read_missing(
        &self,
        key: &Key,
        options: &AssociateReadOptions,
        deadline: Duration,
        snapshot: &Snapshot,
        missing: &[AssociateId],
    ) -> Result<Vec<(Arc<Associate>, Timestamp)>, BrokerError> {
        let recent = self.clock.monotonic().saturating_sub(snapshot.began) < MIN_HINT_INTERVAL;
        let mut requested = self.snapshots.not_known_absent(key, missing);
        if recent || requested.is_empty() {
            return Ok(Vec::new());
        }
        requested.sort_unstable();
        requested.dedup();
        requested.truncate(MAX_ASSOCIATES_BY_ID);
        let Key { tenant, actor, .. } = key.clone();
        let queue_key = Arc::clone(&options.queue_key);
        let context =
            WebApiCallContext { tenant, actor, queue_key, deadline: Some(deadline), person: None };
        let read_time = self.clock.now();
        let records = self.people.associates_by_id(&context, &requested).await?;
        let found = |id: &AssociateId| records.iter().any(|record| record.id == *id);
        self.snapshots.record_absent(key, requested.into_iter().filter(|id| !found(id)));
        if !records.is_empty() {
            self.hint(key.tenant.tenant);
        }
        let known = |record| (Arc::new(Associate::new(record, &snapshot.directory)), read_time);
        Ok(records.into_iter().map(known).collect())
    }
}

/// Returns the options of a read that serves all callers. It has its own queue and deadline, so that no caller's rate
/// limit or deadline affects it.
fn shared_read(people: &dyn AssociateSource, key: Key) -> WebApiCallContext {
    let Key { tenant, actor, .. } = key;
    let deadline = Some(people.deadline_in(READ_LIMIT));
    let queue_key = SHARED_QUEUE_KEY.into();
    WebApiCallContext { tenant, actor, queue_key, deadline, person: None }
}

fn not_found(tenant: &TenantName, ids: &[AssociateId]) -> BrokerError {
    BrokerError::AssociatesNotFound(tenant.clone(), ids.into())
}

impl CacheEntry for Principal {
    fn weight(&self) -> usize {
        1
    }

    fn is_paged(&self) -> bool {
        false
    }
}
