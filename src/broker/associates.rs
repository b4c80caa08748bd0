//! Who the users of a tenant are (DESIGN section 7, "Associates").
//!
//! SuperOffice asks to fetch users "very infrequently", so everybody of a tenant is read at once and answers come from
//! that reading: one per tenant and credential, so that a person's eyes never see what the system user's saw. It is
//! read again in the background while it is in use, at once where a caller wants it newer, and when somebody says that
//! something has changed.

mod cache;
mod listing;
mod oddities;
mod people;
mod readings;
mod snapshot;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::listing::{AssociateListPage, AssociatePlace, AssociateQuery, NoPlace};
use self::{
    cache::{CacheRules, HINT_PAUSE, Key, Reading},
    oddities::{OddRows, Oddities},
    people::{People, Upstream, read_all},
    readings::{ReadingPorts, Readings},
    snapshot::Snapshot,
};
use super::{
    Applications, Asking, BrokerError, Counters, Impersonation, Statuses, Tickets, WebApi,
};
use crate::{
    access::{Authorized, ReadAssociates},
    domain::{
        Associate, AssociateId, AssociateName, AssociateType, ContextIdentifier, Eyes, LookupKey,
        Owner, Principal, Role, TenantName, Usability, UserGroup,
    },
    ports::{Clock, MAX_ASSOCIATES_BY_ID, Random},
};

/// The longest that reading everybody may take: the largest tenants at the platform's ten calls a second, with time to
/// spare for its pauses.
const READ_LIMIT: Duration = Duration::from_mins(5);

/// On whose account the upstream budget puts what is read for all.
const FOR_ALL: &str = "";

/// How often what is too old is let go.
const SWEEP: Duration = Duration::from_mins(5);

/// How long after its time a status may still speak for itself.
const STATUS_STALE: Duration = Duration::from_hours(1);

/// How many answers to "who is this credential" are kept.
const MAX_PRINCIPALS: usize = 10_000;

/// The configurable part.
#[derive(Debug, Clone, Copy)]
pub struct AssociateRules {
    /// What was read is used for this long.
    pub max_age: Duration,
    /// At most so many associates are in memory, over all tenants; one tenant's are always kept, however many.
    pub max_in_memory: usize,
}

/// How a caller looks.
#[derive(Debug, Clone)]
pub struct Look {
    /// Through whose eyes.
    pub eyes: Eyes,
    /// On whose account: the caller's id.
    pub account: Arc<str>,
    /// How old what it sees may be, if it says so.
    pub max_staleness: Option<Duration>,
    /// How long it waits.
    pub patience: Duration,
}

/// An associate as it was at a time.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The associate.
    pub associate: Arc<Associate>,
    /// When it was read.
    pub read_time: Timestamp,
}

/// The use cases of associates.
pub struct Associates {
    people: Arc<dyn People>,
    tickets: Arc<Tickets>,
    impersonation: Arc<Impersonation>,
    statuses: Arc<Statuses>,
    snapshots: Readings<Snapshot>,
    principals: Readings<Principal>,
    clock: Arc<dyn Clock>,
}

impl Associates {
    /// Nothing read yet.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        web_api: Arc<WebApi>,
        tickets: Arc<Tickets>,
        impersonation: Arc<Impersonation>,
        statuses: Arc<Statuses>,
        clock: Arc<dyn Clock>,
        pace: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        rules: AssociateRules,
        tasks: TaskTracker,
        stopping: CancellationToken,
        counters: Arc<Counters>,
    ) -> Self {
        let oddities = Arc::new(Oddities::new(counters));
        let people: Arc<dyn People> = Arc::new(Upstream { applications, web_api });
        let ports = ReadingPorts { clock: Arc::clone(&clock), pace, tasks, stopping };
        let read_snapshot = {
            let (people, clock) = (Arc::clone(&people), Arc::clone(&clock));
            let oddities = Arc::clone(&oddities);
            move |key: Key| {
                let (people, clock) = (Arc::clone(&people), Arc::clone(&clock));
                let oddities = Arc::clone(&oddities);
                let asking = reading(&*people, key.clone());
                let id = u128::from_be_bytes(random.bytes());
                Box::pin(async move {
                    let read = read_all(&*people, &asking, &*clock, id).await?;
                    read.odd.into_iter().for_each(|(what, odd)| oddities.note(&key, what, odd));
                    Ok(read.snapshot)
                }) as _
            }
        };
        let read_principal = {
            let people = Arc::clone(&people);
            move |key: Key| {
                let (people, oddities) = (Arc::clone(&people), Arc::clone(&oddities));
                let asking = reading(&*people, key.clone());
                Box::pin(async move {
                    let principal = people.principal(&asking).await?;
                    let mut odd = OddRows::default();
                    odd.see(&principal.warnings);
                    oddities.note(&key, "principal", odd);
                    Ok(principal)
                }) as _
            }
        };
        let AssociateRules { max_age, max_in_memory } = rules;
        let snapshots = CacheRules { max_age, max_weight: max_in_memory };
        let snapshots = Readings::new(snapshots, Arc::new(read_snapshot), ports.clone());
        let principals = CacheRules { max_age, max_weight: MAX_PRINCIPALS };
        let principals = Readings::new(principals, Arc::new(read_principal), ports);
        Self { people, tickets, impersonation, statuses, snapshots, principals, clock }
    }

    /// One associate.
    ///
    /// # Errors
    /// `AssociatesNotFound`; what stands between the tenant and its credential; or SuperOffice cannot be asked.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        id: AssociateId,
    ) -> Result<Seen, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        let mut seen = self.of(&key, look, &[id]).await?;
        seen.pop().ok_or_else(|| not_found(&key.tenant, &[id]))
    }

    /// Several associates, in the order asked.
    ///
    /// # Errors
    /// As above; `AssociatesNotFound` names all that are not there.
    pub async fn batch_get(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        ids: &[AssociateId],
    ) -> Result<Vec<Seen>, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        self.of(&key, look, ids).await
    }

    /// The one associate that has this.
    ///
    /// # Errors
    /// As above; `AssociateAmbiguous` if several have it.
    pub async fn look_up(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        wanted: &LookupKey,
    ) -> Result<Seen, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        let mut snapshot = self.snapshots.get(&key, look.max_staleness).await?;
        if snapshot.find(wanted).is_empty() {
            // Somebody new may have it. Texts are in no filter that goes upstream, so all are read again, but not for
            // each who asks in vain.
            let newer = Some(HINT_PAUSE.min(look.max_staleness.unwrap_or(HINT_PAUSE)));
            snapshot = self.snapshots.get(&key, newer).await?;
        }
        let found = snapshot.find(wanted);
        match &found[..] {
            [] => Err(BrokerError::AssociateNotMatched(key.tenant)),
            [associate] => {
                let associate = Arc::clone(associate);
                Ok(Seen { associate, read_time: snapshot.read_time })
            }
            several => Err(BrokerError::AssociateAmbiguous(key.tenant, several.len())),
        }
    }

    /// Associate and group to write where an associate shall own a record.
    ///
    /// # Errors
    /// As above; `NoOwner` with what stands in the way.
    pub async fn resolve_owner(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        id: AssociateId,
    ) -> Result<Owner, BrokerError> {
        let Seen { associate, .. } = self.get(authorized, look, id).await?;
        let name = || AssociateName { tenant: authorized.resource().clone(), associate: id };
        associate.resolve_owner().map_err(|obstacles| BrokerError::NoOwner(name(), obstacles))
    }

    /// Who the credential is.
    ///
    /// # Errors
    /// As above.
    pub async fn current_principal(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
    ) -> Result<Arc<Principal>, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        self.principals.get(&key, look.max_staleness).await
    }

    /// Groups with a greater id than `after`, at most `limit`, by ascending id; deleted ones included.
    ///
    /// # Errors
    /// As above.
    pub async fn user_groups(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        after: Option<i32>,
        limit: usize,
    ) -> Result<Vec<Arc<UserGroup>>, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        let snapshot = self.snapshots.get(&key, look.max_staleness).await?;
        let behind = snapshot.directory.groups().filter(|group| Some(group.id) > after);
        Ok(behind.take(limit).map(Arc::clone).collect())
    }

    /// Roles, likewise.
    ///
    /// # Errors
    /// As above.
    pub async fn roles(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
        after: Option<i32>,
        limit: usize,
    ) -> Result<Vec<Arc<Role>>, BrokerError> {
        let key = self.permitted(authorized, look).await?;
        let snapshot = self.snapshots.get(&key, look.max_staleness).await?;
        let behind = snapshot.directory.roles().filter(|role| Some(role.id) > after);
        Ok(behind.take(limit).map(Arc::clone).collect())
    }

    /// Somebody says that the people of a tenant have changed: they are read again at their next use, at most once a
    /// minute. Whoever says so cannot make us do more than that, so it need not be believed.
    pub fn hint(&self, tenant: ContextIdentifier) {
        self.snapshots.hint(tenant);
        self.principals.hint(tenant);
    }

    /// The tenant was stopped or removed.
    pub(super) fn forget(&self, tenant: &TenantName) {
        self.snapshots.forget(tenant);
        self.principals.forget(tenant);
    }

    /// Tenants whose people are in memory, or could not be read.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        self.snapshots.tenants().into_iter().chain(self.principals.tenants()).collect()
    }

    /// Of what kind an associate is, if the system user has seen it lately: nobody is asked because of this.
    #[must_use]
    pub fn kind_of(&self, tenant: &TenantName, id: AssociateId) -> Option<AssociateType> {
        let is_it = |key: &Key| key.tenant == *tenant && key.eyes == Eyes::SystemUser;
        let snapshot = self.snapshots.seen(is_it)?;
        snapshot.get(id).map(|associate| associate.kind)
    }

    /// Lets go of what is too old to be used, until it is dropped.
    pub async fn keep_tidy(&self) {
        loop {
            self.clock.sleep(SWEEP).await;
            self.snapshots.sweep();
            self.principals.sweep();
        }
    }

    /// How many associates are in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.snapshots.weight()
    }

    /// The emergency stop, a removal and a customer that left hold for what is in memory too.
    async fn permitted(
        &self,
        authorized: &Authorized<ReadAssociates, TenantName>,
        look: &Look,
    ) -> Result<Key, BrokerError> {
        let name = authorized.resource();
        let tenant = match &look.eyes {
            Eyes::SystemUser => self.tickets.permitted(name).await?,
            Eyes::Grant(grant) => self.impersonation.permitted(grant).await?,
        };
        let status = self.statuses.last_known(&tenant);
        let in_doubt = status.is_none_or(|status| {
            let over = self.clock.now().duration_since(status.valid_until);
            let old = Duration::try_from(over).is_ok_and(|over| over > STATUS_STALE);
            old || status.state.usability() == Usability::Stopped
        });
        // It may be gone for good by now, or back. What passes does not matter to what is in memory.
        if in_doubt
            && let Err(error) = self.statuses.usable(&tenant).await
            && !error.is_passing()
        {
            return Err(error);
        }
        let life = (tenant.create_time, tenant.token_version);
        Ok(Key { tenant: name.clone(), eyes: look.eyes.clone(), life })
    }

    /// These associates, in their order, or the names of those that are not there.
    async fn of(
        &self,
        key: &Key,
        look: &Look,
        ids: &[AssociateId],
    ) -> Result<Vec<Seen>, BrokerError> {
        let deadline = self.people.moment_in(look.patience);
        let snapshot = self.snapshots.get(key, look.max_staleness).await?;
        let missing: Vec<_> =
            ids.iter().copied().filter(|id| snapshot.get(*id).is_none()).collect();
        let newcomers = self.newcomers(key, look, deadline, &snapshot, &missing).await?;
        let known = |id: &AssociateId| {
            let (associate, read_time) = match snapshot.get(*id) {
                Some(associate) => (associate, snapshot.read_time),
                None => newcomers.iter().find(|(one, _)| one.id == *id).map(|(a, t)| (a, *t))?,
            };
            Some(Seen { associate: Arc::clone(associate), read_time })
        };
        let seen: Vec<_> = ids.iter().filter_map(known).collect();
        if seen.len() == ids.len() {
            return Ok(seen);
        }
        let absent =
            missing.into_iter().filter(|id| newcomers.iter().all(|(one, _)| one.id != *id));
        Err(not_found(&key.tenant, &absent.collect::<Vec<_>>()))
    }

    /// Those that a reading does not have because it is older than they are.
    async fn newcomers(
        &self,
        key: &Key,
        look: &Look,
        deadline: Duration,
        snapshot: &Snapshot,
        missing: &[AssociateId],
    ) -> Result<Vec<(Arc<Associate>, Timestamp)>, BrokerError> {
        let recent = self.clock.monotonic().saturating_sub(snapshot.began) < HINT_PAUSE;
        let mut asked = self.snapshots.worth_asking(key, missing);
        if recent || asked.is_empty() {
            return Ok(Vec::new());
        }
        asked.sort_unstable();
        asked.dedup();
        asked.truncate(MAX_ASSOCIATES_BY_ID);
        let Key { tenant, eyes, .. } = key.clone();
        let account = Arc::clone(&look.account);
        let asking = Asking { tenant, eyes, account, deadline: Some(deadline), person: None };
        let read_time = self.clock.now();
        let records = self.people.associates_by_id(&asking, &asked).await?;
        let found = |id: &AssociateId| records.iter().any(|record| record.id == *id);
        self.snapshots.absent(key, asked.into_iter().filter(|id| !found(id)));
        if !records.is_empty() {
            self.hint(key.tenant.tenant);
        }
        let known = |record| (Arc::new(Associate::new(record, &snapshot.directory)), read_time);
        Ok(records.into_iter().map(known).collect())
    }
}

/// For all who will ask, so on an account of its own: nobody's long line holds it up, and nobody's patience ends it.
fn reading(people: &dyn People, key: Key) -> Asking {
    let Key { tenant, eyes, .. } = key;
    let deadline = Some(people.moment_in(READ_LIMIT));
    Asking { tenant, eyes, account: FOR_ALL.into(), deadline, person: None }
}

fn not_found(tenant: &TenantName, ids: &[AssociateId]) -> BrokerError {
    BrokerError::AssociatesNotFound(tenant.clone(), ids.into())
}

impl Reading for Principal {
    fn weight(&self) -> usize {
        1
    }

    fn is_paged(&self) -> bool {
        false
    }
}
