//! Whether tenants can be used, and where their Web API is (DESIGN section 7, "Tenant status").
//!
//! Asked before first use and again when it runs out. Tenants in use are asked again in the background, so a
//! call rarely waits; one that meets an overdue status waits a moment for the new one. While SuperOffice cannot
//! be asked, the last status holds for an hour, except after a hint that it is wrong.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use super::{Applications, BrokerError, Counters, flights::Flights};
use crate::{
    access::{Authorized, ReadTenants},
    broker::Directory,
    domain::{Tenant, TenantName, TenantStatus, Usability, WebApiUri},
    ports::{Clock, Random, TenantStore},
};

/// How long after `ValidUntil` a status still holds while it cannot be read again.
const STALE: Duration = Duration::from_hours(1);

/// How long a call waits for an overdue status before it goes on with the old one.
const PATIENCE: Duration = Duration::from_millis(500);

/// After a failed read the old status is used without another try for about this long.
const RETRY: Duration = Duration::from_secs(5);

/// How often the background looks for overdue statuses.
const LOOK: Duration = Duration::from_secs(1);

/// What nobody needs is forgotten once in so many looks: it stops all calls for a moment.
const LOOKS_TO_FORGET: u32 = 60;

/// A tenant is in use if a call needed its status within this time.
const IN_USE_SECONDS: i64 = 600;

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
    applications: Arc<Applications>,
    store: Arc<dyn TenantStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
    feed: broadcast::Sender<StatusEvent>,
    came_back: broadcast::Sender<TenantName>,
}

#[derive(Debug)]
struct Known {
    status: Arc<TenantStatus>,
    /// When the tenant was added: one that was deleted and added again is another.
    added: Timestamp,
    /// How often something said that what we know is wrong …
    doubts: u64,
    /// … and how often it had when this was asked for. It is not used if something has said so since.
    doubts_when_asked: u64,
    /// Unix seconds; set by every call, so it needs no exclusive lock.
    last_needed: AtomicI64,
    retry_time: Timestamp,
}

/// What we have at hand.
enum AtHand {
    /// Nothing that may be used.
    Nothing,
    /// Good.
    Fresh(Arc<TenantStatus>),
    /// Good enough while it cannot be read again.
    Overdue(Arc<TenantStatus>),
    /// The same, and a read has just failed.
    OverdueAndTried(Arc<TenantStatus>),
}

impl Statuses {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<Directory>,
        store: Arc<dyn TenantStore>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
    ) -> Self {
        let known = RwLock::default();
        let feed = broadcast::Sender::new(FEED_LENGTH);
        let came_back = broadcast::Sender::new(FEED_LENGTH);
        let shared =
            Shared { known, applications, store, clock, random, counters, feed, came_back };
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
        let age = self.shared.clock.now().duration_since(status.read_time);
        match max_staleness {
            Some(limit) if age > jiff::SignedDuration::try_from(limit).unwrap_or_default() => {
                self.read(name, tenant.create_time).await
            }
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
            AtHand::Nothing => self.read(&tenant.name, tenant.create_time).await,
            AtHand::Overdue(old) => {
                let read = self.read(&tenant.name, tenant.create_time);
                match tokio::time::timeout(PATIENCE, read).await {
                    Ok(Ok(status)) => Ok(status),
                    Ok(Err(_)) | Err(_) => Ok(old),
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

    /// Something (HTTP 421, a notification) says that what we know is wrong.
    pub(super) fn distrust(&self, name: &TenantName) {
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name) {
            known.doubts += 1;
        }
    }

    /// The same, and asks at once: what is known is not used any more, whether SuperOffice can be asked or not.
    pub(super) async fn look_again(&self, tenant: &Tenant) -> Read {
        // What is stored counts as known, so that it is doubted too.
        self.shared.at_hand(tenant);
        self.distrust(&tenant.name);
        self.read(&tenant.name, tenant.create_time).await
    }

    /// A call to this address was told that the tenant is elsewhere (HTTP 421). Many calls that are told so at one time
    /// cost one look.
    pub(super) fn misdirected(&self, name: &TenantName, uri: &WebApiUri) {
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(name)
            && known.status.web_api_uri.as_ref() == Some(uri)
            && !known.is_doubted()
        {
            known.doubts += 1;
        }
    }

    async fn read(&self, name: &TenantName, added: Timestamp) -> Read {
        let doubts = self.shared.doubts(name);
        let work = || Arc::clone(&self.shared).read(name.clone(), added, doubts);
        let joined = self.reads.join((name.clone(), doubts), work).await;
        joined.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Keeps the statuses of tenants in use fresh, until it is dropped.
    pub async fn keep_fresh(&self) {
        let mut looks: u32 = 0;
        loop {
            self.shared.clock.sleep(LOOK).await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_TO_FORGET) {
                self.shared.forget_unused();
            }
            for (name, added) in self.shared.overdue_and_in_use() {
                // Not waited for: the flight belongs to the task tracker.
                let doubts = self.shared.doubts(&name);
                let work = || Arc::clone(&self.shared).read(name.clone(), added, doubts);
                drop(self.reads.begin((name.clone(), doubts), work));
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
        let now = self.clock.now();
        let added = tenant.create_time;
        if let Some(known) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant.name)
            .filter(|known| known.added == added)
        {
            known.needed(now);
            return known.at_hand(now);
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
        known.at_hand(now)
    }

    /// How often something said that what we know of the tenant is wrong.
    fn doubts(&self, name: &TenantName) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map_or(0, |known| known.doubts)
    }

    async fn read(self: Arc<Self>, name: TenantName, added: Timestamp, doubts: u64) -> Read {
        let application = self.applications.get(&name.application)?;
        let result = application.tenant_status.read(name.tenant).await;
        let now = self.clock.now();
        match result {
            Ok(status) => {
                self.counters.status_reads.increment();
                let status = Arc::new(status);
                self.keep(&name, Known::new(Arc::clone(&status), added, now), doubts);
                if let Err(error) = self.store.put_status(&name, &status).await {
                    // Only a restart misses it.
                    tracing::warn!(%error, tenant = %name, "tenant status not stored");
                }
                Ok(status)
            }
            Err(error) => {
                self.counters.status_failures.increment();
                tracing::warn!(%error, tenant = %name, "tenant status not read");
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = known.get_mut(&name) {
                    known.retry_time =
                        now.saturating_add(self.random.jitter(RETRY)).unwrap_or(Timestamp::MAX);
                }
                Err(BrokerError::from_upstream(&name, &error))
            }
        }
    }

    fn keep(&self, name: &TenantName, mut fresh: Known, doubts: u64) {
        let status = Arc::clone(&fresh.status);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        (fresh.doubts, fresh.doubts_when_asked) = (doubts, doubts);
        // Reading in the background is not a use.
        if let Some(before) = known.get(name) {
            fresh.last_needed.store(before.last_needed.load(Ordering::Relaxed), Ordering::Relaxed);
            fresh.doubts = before.doubts.max(doubts);
        }
        let usable = |known: &Known| matches!(known.status.state.usability(), Usability::Usable);
        let is_usable = usable(&fresh);
        let before = known.insert(name.clone(), fresh);
        drop(known);
        if is_usable && before.is_some_and(|before| !usable(&before)) {
            let _ = self.came_back.send(name.clone());
        }
        // Nobody listening is no error.
        let _ = self.feed.send((name.clone(), status));
    }

    /// What nobody needs and nobody may use any more: of tenants that were removed, too.
    fn forget_unused(&self) {
        let now = self.clock.now();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // What is doubted stays: forgotten, the store would bring it back as good.
        known.retain(|_, known| {
            known.in_use(now)
                || known.is_doubted()
                || !matches!(known.at_hand(now), AtHand::Nothing)
        });
    }

    fn overdue_and_in_use(&self) -> Vec<(TenantName, Timestamp)> {
        let now = self.clock.now();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let due = |known: &Known| {
            known.status.valid_until <= now && known.retry_time <= now && known.in_use(now)
        };
        known
            .iter()
            .filter(|(_, known)| due(known))
            .map(|(name, known)| (name.clone(), known.added))
            .collect()
    }
}

impl Known {
    fn new(status: Arc<TenantStatus>, added: Timestamp, now: Timestamp) -> Self {
        Self {
            status,
            added,
            doubts: 0,
            doubts_when_asked: 0,
            last_needed: AtomicI64::new(now.as_second()),
            retry_time: now,
        }
    }

    /// Written once a second at most: every call reads this, on every core.
    fn needed(&self, now: Timestamp) {
        if self.last_needed.load(Ordering::Relaxed) != now.as_second() {
            self.last_needed.store(now.as_second(), Ordering::Relaxed);
        }
    }

    fn is_doubted(&self) -> bool {
        self.doubts_when_asked < self.doubts
    }

    fn in_use(&self, now: Timestamp) -> bool {
        now.as_second() - self.last_needed.load(Ordering::Relaxed) < IN_USE_SECONDS
    }

    fn at_hand(&self, now: Timestamp) -> AtHand {
        let status = Arc::clone(&self.status);
        let stale_until = status.valid_until.saturating_add(STALE).unwrap_or(Timestamp::MAX);
        if self.is_doubted() || stale_until <= now {
            AtHand::Nothing
        } else if now < status.valid_until {
            AtHand::Fresh(status)
        } else if now < self.retry_time {
            AtHand::OverdueAndTried(status)
        } else {
            AtHand::Overdue(status)
        }
    }
}
