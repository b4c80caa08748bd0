//! Whether tenants can be used, and where their Web API is (DESIGN section 7, "Tenant status").
//!
//! Asked before first use and again when it runs out. Tenants in use are asked again in the background, so a
//! call rarely waits; one that meets an overdue status waits a moment for the new one. While SuperOffice cannot
//! be asked, the last status is used for `tenants.max_stale_status`, except after HTTP 421 and after a signed notice
//! that the tenant is suspended or deleted. Calls that fail because their host is gone make us ask early
//! (`suspicion`).

mod failures;
mod known;
mod refuted;
mod stale;
mod stopped;
mod suspicion;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

pub use self::stale::StaleStatuses;
use self::{
    failures::ReadFailures,
    known::{AtHand, Known, is_recent},
};
use super::{Applications, BrokerError, Counters, error::RETRY_SOON, flights::Flights};
use crate::{
    access::{Authorized, ReadTenants},
    broker::Directory,
    domain::{Tenant, TenantName, TenantStatus, Usability, WebApiUri},
    ports::{Clock, Random, TenantStore},
};

/// How long a call waits for an overdue status before it goes on with the old one.
const PATIENCE: Duration = Duration::from_millis(500);

/// After a failed read the old status is used without another try for this long and, spread over tenants, up to half
/// as long again.
const RETRY: Duration = Duration::from_secs(15);

/// How often the background looks for overdue statuses.
const LOOK: Duration = Duration::from_secs(1);

/// What nobody needs is forgotten once in so many looks: it stops all calls for a moment.
const LOOKS_TO_FORGET: u32 = 60;

/// What was learnt but not read by its readers yet. Who falls behind by more is ended.
const FEED_LENGTH: usize = 1024;

type Read = Result<Arc<TenantStatus>, BrokerError>;

/// Something learnt.
pub type StatusEvent = (TenantName, Arc<TenantStatus>);

/// The reader of a feed fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader fell too far behind")]
pub struct TooSlow;

/// Everything learnt from now on.
pub struct StatusFeed(broadcast::Receiver<StatusEvent>);

impl StatusFeed {
    /// Waits for the next.
    ///
    /// # Errors
    /// If some were lost because this reader fell behind.
    pub async fn next(&mut self) -> Result<StatusEvent, TooSlow> {
        self.0.recv().await.map_err(|_| TooSlow)
    }
}

/// The statuses that we know: of tenants used in the last hours, so bounded by the tenants in the store.
pub struct Statuses {
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    /// By name and doubts: who asks after a hint does not join a read from before it.
    reads: Flights<(TenantName, u64), Read>,
}

struct Shared {
    known: RwLock<HashMap<TenantName, Known>>,
    failures: ReadFailures,
    applications: Arc<Applications>,
    directory: Arc<Directory>,
    store: Arc<dyn TenantStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
    feed: broadcast::Sender<StatusEvent>,
    came_back: broadcast::Sender<TenantName>,
    /// The time after `ValidUntil` for which a status is used while it cannot be read again.
    max_stale: Duration,
}

impl Statuses {
    /// Knows nothing yet. While a status cannot be read again, it is used for `max_stale` after its time.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "wiring: every collaborator is named once, in app"
    )]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        store: Arc<dyn TenantStore>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        max_stale: Duration,
        tasks: TaskTracker,
    ) -> Self {
        let known = RwLock::default();
        let feed = broadcast::Sender::new(FEED_LENGTH);
        let came_back = broadcast::Sender::new(FEED_LENGTH);
        let shared = Shared {
            known,
            failures: ReadFailures::default(),
            applications,
            directory: Arc::clone(&directory),
            store,
            clock,
            random,
            counters,
            feed,
            came_back,
            max_stale,
        };
        let shared = Arc::new(shared);
        Self { shared, directory, reads: Flights::new(tasks) }
    }

    /// The use case behind `GetTenantStatus`: the status, no older than `max_staleness` where that is given.
    ///
    /// # Errors
    /// If there is no such tenant, or if SuperOffice cannot be asked and nothing usable is known.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadTenants, TenantName>,
        max_staleness: Option<Duration>,
    ) -> Read {
        let name = authorized.resource();
        self.shared.applications.get(&name.application)?;
        let tenant = self.directory.get(name).await?;
        let status = self.current(&tenant).await?;
        let now = self.shared.clock.moment();
        let age = {
            let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
            known.get(name).map_or(Duration::MAX, |known| known.age(now))
        };
        match max_staleness {
            Some(limit) if age > limit => self.read(name, tenant.create_time).await,
            _ => Ok(status),
        }
    }

    /// The last known status of a tenant, without asking anybody.
    #[must_use]
    pub fn last_known(&self, tenant: &Tenant) -> Option<Arc<TenantStatus>> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&tenant.name).filter(|known| known.added == tenant.create_time);
        let status = known.map(|known| Arc::clone(&known.status));
        status.or_else(|| tenant.last_status.clone())
    }

    /// Everything learnt from now on.
    #[must_use]
    pub fn feed(&self) -> StatusFeed {
        StatusFeed(self.shared.feed.subscribe())
    }

    /// Tenants that could not be used and can be again, from now on.
    pub(super) fn came_back(&self) -> broadcast::Receiver<TenantName> {
        self.shared.came_back.subscribe()
    }

    /// Everything known now. Only for what the caller is permitted to see.
    #[must_use]
    pub fn all_known(&self) -> Vec<StatusEvent> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, known)| (name.clone(), Arc::clone(&known.status))).collect()
    }

    /// The status that a call goes by.
    pub(super) async fn current(&self, tenant: &Tenant) -> Read {
        match self.shared.at_hand(tenant) {
            AtHand::Fresh(status) | AtHand::OverdueAndTried(status) => Ok(status),
            AtHand::Nothing => match self.shared.standing_failure(tenant) {
                Some(error) => Err(error),
                None => self.read(&tenant.name, tenant.create_time).await,
            },
            AtHand::Overdue(old) => {
                let read = self.read(&tenant.name, tenant.create_time);
                match tokio::time::timeout(PATIENCE, read).await {
                    Ok(Ok(status)) => Ok(status),
                    // It may have been refuted in the meantime.
                    Ok(Err(_)) | Err(_) => match self.shared.at_hand(tenant) {
                        AtHand::Nothing => self.read(&tenant.name, tenant.create_time).await,
                        _ => Ok(old),
                    },
                }
            }
        }
    }

    /// Whether calls can go to the tenant, as SuperOffice says now.
    pub(super) async fn usable_by_now(&self, tenant: &Tenant) -> Read {
        usable(tenant, self.read(&tenant.name, tenant.create_time).await?)
    }

    /// Whether calls can go to the tenant now.
    pub(super) async fn usable(&self, tenant: &Tenant) -> Read {
        usable(tenant, self.current(tenant).await?)
    }

    /// SuperOffice has signed a notice that the tenant has changed. Asks at once; the old status is used until the
    /// answer comes, and while none can be had.
    pub(super) async fn look_again(&self, tenant: &Tenant) -> Read {
        self.note(tenant, Known::doubt);
        self.read(&tenant.name, tenant.create_time).await
    }

    /// SuperOffice has signed a notice that the tenant is suspended or deleted. Asks at once; the old status is not
    /// used any more, whether SuperOffice can be asked or not.
    pub(super) async fn refute(&self, tenant: &Tenant) -> Read {
        self.note(tenant, Known::refute);
        self.read(&tenant.name, tenant.create_time).await
    }

    fn note(&self, tenant: &Tenant, event: impl FnOnce(&mut Known)) {
        // Brings in the stored status, so that it is questioned too.
        self.shared.at_hand(tenant);
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(&tenant.name) {
            event(known);
        }
    }

    /// A call to this address was answered with HTTP 421: the tenant is elsewhere, so its status must not be used any
    /// more. Many such answers at one time cost one read. Where tenant status has just confirmed the address in
    /// spite of HTTP 421, it is asked again only after a pause.
    pub(super) fn misdirected(&self, name: &TenantName, uri: &WebApiUri) {
        let now = self.shared.clock.monotonic();
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name)
            && known.is_at(uri)
            && !known.is_refuted()
            && !is_recent(known.confirmed, now)
        {
            known.refute();
        }
    }

    async fn read(&self, name: &TenantName, added: Timestamp) -> Read {
        self.read_at(name, added, self.shared.doubts(name)).await
    }

    async fn read_at(&self, name: &TenantName, added: Timestamp, doubts: u64) -> Read {
        let work = || Arc::clone(&self.shared).read(name.clone(), added, doubts);
        let joined = self.reads.join((name.clone(), doubts), work).await;
        joined.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Not waited for: the flight belongs to the task tracker.
    fn begin_read(&self, name: &TenantName, added: Timestamp, doubts: u64) {
        let work = || Arc::clone(&self.shared).read(name.clone(), added, doubts);
        drop(self.reads.begin((name.clone(), doubts), work));
    }

    /// Keeps the statuses of tenants in use fresh, until it is dropped.
    pub async fn keep_fresh(&self) {
        let mut looks: u32 = 0;
        let mut stale = false;
        loop {
            self.shared.clock.sleep(LOOK).await;
            looks = looks.wrapping_add(1);
            let minute = looks.is_multiple_of(LOOKS_TO_FORGET);
            if minute {
                self.shared.forget_unused();
            }
            stale = self.log_stale(stale, minute);
            for (name, added) in self.shared.overdue_and_in_use() {
                self.begin_read(&name, added, self.shared.doubts(&name));
            }
        }
    }
}

fn usable(tenant: &Tenant, status: Arc<TenantStatus>) -> Read {
    match status.state.usability() {
        Usability::Usable => Ok(status),
        Usability::ComesBack(_) | Usability::Stopped => {
            Err(BrokerError::TenantNotRunning(tenant.name.clone(), status.state))
        }
    }
}

impl Shared {
    fn at_hand(&self, tenant: &Tenant) -> AtHand {
        let now = self.clock.moment();
        let added = tenant.create_time;
        if let Some(known) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant.name)
            .filter(|known| known.added == added)
        {
            known.needed(now);
            return known.at_hand(now, self.max_stale);
        }
        // After a restart the stored status is as good as it was before.
        let Some(stored) = &tenant.last_status else {
            return AtHand::Nothing;
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Known::new(Arc::clone(stored), added, now);
        let known = known.entry(tenant.name.clone()).or_insert_with(fresh);
        if known.added != added {
            *known = fresh();
        }
        known.at_hand(now, self.max_stale)
    }

    /// Returns the failure of a read that is too recent for another one.
    fn standing_failure(&self, tenant: &Tenant) -> Option<BrokerError> {
        let events = (tenant.create_time, self.doubts(&tenant.name));
        self.failures.standing(&tenant.name, events, self.clock.monotonic())
    }

    /// How often something said that what we know of the tenant is wrong.
    fn doubts(&self, name: &TenantName) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map_or(0, |known| known.doubts)
    }

    async fn read(self: Arc<Self>, name: TenantName, added: Timestamp, doubts: u64) -> Read {
        let application = self.applications.get(&name.application)?;
        let result = application.tenant_status.read(name.tenant).await;
        let now = self.clock.moment();
        match result {
            Ok(status) => {
                self.counters.status_reads.increment();
                let status = Arc::new(status);
                let kept = self.keep(&name, Known::new(Arc::clone(&status), added, now), doubts);
                if kept && let Err(error) = self.store.put_status(&name, &status).await {
                    // Only a restart misses it.
                    tracing::warn!(%error, tenant = %name, "tenant status not stored");
                }
                Ok(status)
            }
            Err(error) => {
                self.counters.status_failures.increment();
                if self.failed(&name, now.monotonic) {
                    tracing::warn!(%error, tenant = %name, "tenant status not read");
                } else {
                    // While a login host is down this happens to every tenant all the time.
                    tracing::debug!(%error, tenant = %name, "tenant status still not read");
                }
                self.store_refutation(&name).await;
                let error = BrokerError::from_upstream(&name, &error);
                let now = self.clock.monotonic();
                let until = now + self.random.jitter(RETRY_SOON);
                self.failures.note(name, (added, doubts), (now, until), error.clone());
                Err(error)
            }
        }
    }

    /// Notes that a read failed. Returns whether that is news.
    fn failed(&self, name: &TenantName, now: Duration) -> bool {
        let pause = RETRY + self.random.jitter(RETRY / 2) / 2;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.get_mut(name).is_none_or(|known| {
            known.retry_time = now.saturating_add(pause);
            !std::mem::replace(&mut known.failing, true)
        })
    }

    /// Takes a status that was read. Returns `false` for one that is older than what is known.
    fn keep(&self, name: &TenantName, mut fresh: Known, doubts: u64) -> bool {
        let status = Arc::clone(&fresh.status);
        let now = self.clock.monotonic();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |it: &Known| it.added == fresh.added && it.doubts_when_asked > doubts;
        if known.get(name).is_some_and(is_newer) {
            // A read that began after a later event was answered first.
            return false;
        }
        (fresh.doubts, fresh.doubts_when_asked) = (doubts, doubts);
        if let Some(before) = known.get(name) {
            fresh.replaces(before, doubts, now);
        }
        let usable = |known: &Known| matches!(known.status.state.usability(), Usability::Usable);
        let is_usable = usable(&fresh);
        let before = known.insert(name.clone(), fresh);
        drop(known);
        let moved = |before: &Known| {
            let (from, to) = (&before.status.web_api_uri, &status.web_api_uri);
            from.is_some() && to.is_some() && from != to
        };
        if before.as_ref().is_some_and(moved) {
            tracing::info!(tenant = %name, "the tenant's Web API is at another address now");
        }
        if before.as_ref().is_some_and(|before| before.status.web_api_uri != status.web_api_uri) {
            self.directory.changes().tell(name);
        }
        if is_usable && before.is_some_and(|before| !usable(&before)) {
            let _ = self.came_back.send(name.clone());
        }
        // Nobody listening is no error.
        let _ = self.feed.send((name.clone(), status));
        true
    }

    /// What nobody needs and nobody may use any more: of tenants that were removed, too.
    fn forget_unused(&self) {
        let now = self.clock.moment();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // A refuted status stays: forgotten, the store might bring it back as good.
        known.retain(|_, known| {
            known.in_use(now)
                || known.is_refuted()
                || !matches!(known.at_hand(now, self.max_stale), AtHand::Nothing)
        });
    }

    fn overdue_and_in_use(&self) -> Vec<(TenantName, Timestamp)> {
        let now = self.clock.moment();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let due = |known: &Known| {
            known.is_overdue(now) && known.retry_time <= now.monotonic && known.in_use(now)
        };
        known
            .iter()
            .filter(|(_, known)| due(known))
            .map(|(name, known)| (name.clone(), known.added))
            .collect()
    }
}
