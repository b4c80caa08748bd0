//! Tenant status: whether calls to a tenant are allowed, and the address of its Web API.
//!
//! The status is read before first use and again when it expires. For tenants in use a background task reads it, so
//! calls rarely wait; a call that finds an overdue status waits up to 500 ms for the new one. While SuperOffice does
//! not answer, the last status is used for `tenants.max_stale_status`, except after HTTP 421 and after a signed notice
//! that the tenant is suspended or deleted. Calls that fail because their host is dead cause an early read.

mod entry;
mod failures;
mod host_check;
mod invalidated;
mod stale;
mod stopped;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::broadcast;

pub use self::stale::StaleStatuses;
use self::{
    entry::{CachedStatus, StatusEntry, is_recent},
    failures::ReadFailures,
};
use super::{
    Applications, BrokerError, Counters, Runtime, error::RETRY_SOON, single_flight::SingleFlight,
};
use crate::{
    access::{Authorized, ReadTenants},
    broker::TenantDirectory,
    domain::{Tenant, TenantName, TenantStatus, Usability, WebApiUri},
    ports::{Clock, Random, TenantStore},
};

/// The time that a call waits for a new status before it uses the overdue one.
const MAX_REFRESH_WAIT: Duration = Duration::from_millis(500);

/// The time after a failed read in which the old status is used without another attempt. A random part of up to half
/// of it is added, so that tenants do not retry together.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// The interval between background checks for overdue statuses.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Unused entries are removed once in this many checks, because the removal blocks all calls for a moment.
const CHECKS_PER_CLEANUP: u32 = 60;

/// The number of events that a reader may be behind. A stream whose reader is further behind is ended.
const FEED_CAPACITY: usize = 1024;

type StatusResult = Result<Arc<TenantStatus>, BrokerError>;

/// A status that was read, with its tenant.
pub type StatusEvent = (TenantName, Arc<TenantStatus>);

/// The reader of a feed fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader fell too far behind")]
pub struct TooSlow;

/// A stream of all statuses read since it was opened.
pub struct StatusFeed(broadcast::Receiver<StatusEvent>);

impl StatusFeed {
    /// Waits for the next event.
    ///
    /// # Errors
    /// If events were lost because this reader was too slow.
    pub async fn next(&mut self) -> Result<StatusEvent, TooSlow> {
        self.0.recv().await.map_err(|_| TooSlow)
    }
}

/// The cached statuses of recently used tenants. The number of tenants in the store bounds the cache.
pub struct Statuses {
    shared: Arc<Shared>,
    directory: Arc<TenantDirectory>,
    /// Keyed by name and generation, so that a call after a notification does not join an earlier read.
    reads: SingleFlight<(TenantName, u64), StatusResult>,
}

struct Shared {
    /// Boxed, because half of a map's places or more may be empty.
    entries: RwLock<HashMap<TenantName, Box<StatusEntry>>>,
    failures: ReadFailures,
    applications: Arc<Applications>,
    directory: Arc<TenantDirectory>,
    store: Arc<dyn TenantStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    counters: Arc<Counters>,
    feed: broadcast::Sender<StatusEvent>,
    usable_again: broadcast::Sender<TenantName>,
    /// The time after `ValidUntil` for which a status is used while it cannot be read again.
    max_stale: Duration,
}

impl Statuses {
    /// Creates an empty cache. While a status cannot be read again, it is used for `max_stale` after its expiry.
    #[must_use]
    pub fn new(
        applications: Arc<Applications>,
        directory: Arc<TenantDirectory>,
        store: Arc<dyn TenantStore>,
        max_stale: Duration,
        runtime: &Runtime,
    ) -> Self {
        let Runtime { clock, random, counters, tasks, .. } = runtime.clone();
        let entries = RwLock::default();
        let feed = broadcast::Sender::new(FEED_CAPACITY);
        let usable_again = broadcast::Sender::new(FEED_CAPACITY);
        let shared = Shared {
            entries,
            failures: ReadFailures::default(),
            applications,
            directory: Arc::clone(&directory),
            store,
            clock,
            random,
            counters,
            feed,
            usable_again,
            max_stale,
        };
        let shared = Arc::new(shared);
        Self { shared, directory, reads: SingleFlight::new(tasks) }
    }

    /// Implements `GetTenantStatus`: returns a status that is at most `max_staleness` old, if that is given.
    ///
    /// # Errors
    /// If the tenant does not exist, or if SuperOffice does not answer and no usable status is cached.
    pub async fn get(
        &self,
        authorized: &Authorized<ReadTenants, TenantName>,
        max_staleness: Option<Duration>,
    ) -> StatusResult {
        let name = authorized.resource();
        self.shared.applications.get(&name.application)?;
        let tenant = self.directory.get(name).await?;
        let status = self.current(&tenant).await?;
        let now = self.shared.clock.moment();
        let age = {
            let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.get(name).map_or(Duration::MAX, |entry| entry.age(now))
        };
        match max_staleness {
            Some(limit) if age > limit => self.read(name, tenant.create_time).await,
            _ => Ok(status),
        }
    }

    /// Returns the last known status of a tenant without reading it from SuperOffice.
    #[must_use]
    pub fn last_known(&self, tenant: &Tenant) -> Option<Arc<TenantStatus>> {
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(&tenant.name);
        let entry = entry.filter(|entry| entry.tenant_create_time == tenant.create_time);
        let status = entry.map(|entry| Arc::clone(&entry.status));
        status.or_else(|| tenant.last_status.clone())
    }

    /// Opens a stream of all statuses that are read from now on.
    #[must_use]
    pub fn feed(&self) -> StatusFeed {
        StatusFeed(self.shared.feed.subscribe())
    }

    /// Opens a stream of tenants whose status changes from not usable to usable.
    pub(super) fn usable_again(&self) -> broadcast::Receiver<TenantName> {
        self.shared.usable_again.subscribe()
    }

    /// Returns all cached statuses. The caller of this method must drop those that its client may not see.
    #[must_use]
    pub fn all_known(&self) -> Vec<StatusEvent> {
        let entries = self.shared.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.status))).collect()
    }

    /// Returns the status that decides about a call now: cached if possible, otherwise read.
    pub(super) async fn current(&self, tenant: &Tenant) -> StatusResult {
        match self.shared.cached_status(tenant) {
            CachedStatus::Fresh(status) | CachedStatus::OverdueRetryLater(status) => Ok(status),
            CachedStatus::Unusable => match self.shared.recent_failure(tenant) {
                Some(error) => Err(error),
                None => self.read(&tenant.name, tenant.create_time).await,
            },
            CachedStatus::Overdue(old) => {
                let read = self.read(&tenant.name, tenant.create_time);
                match tokio::time::timeout(MAX_REFRESH_WAIT, read).await {
                    Ok(Ok(status)) => Ok(status),
                    // The old status may have been invalidated in the meantime.
                    Ok(Err(_)) | Err(_) => match self.shared.cached_status(tenant) {
                        CachedStatus::Unusable => self.read(&tenant.name, tenant.create_time).await,
                        _ => Ok(old),
                    },
                }
            }
        }
    }

    /// Reads the status from SuperOffice and returns it if the tenant is usable, otherwise an error.
    pub(super) async fn require_usable_fresh(&self, tenant: &Tenant) -> StatusResult {
        ensure_usable(tenant, self.read(&tenant.name, tenant.create_time).await?)
    }

    /// Returns the current status if the tenant is usable, otherwise an error.
    pub(super) async fn require_usable(&self, tenant: &Tenant) -> StatusResult {
        ensure_usable(tenant, self.current(tenant).await?)
    }

    /// Reads the status at once after a signed notification that the tenant has changed. The old status stays in use
    /// until the read succeeds.
    pub(super) async fn revalidate(&self, tenant: &Tenant) -> StatusResult {
        self.update_entry(tenant, StatusEntry::request_revalidation);
        self.read(&tenant.name, tenant.create_time).await
    }

    /// Reads the status at once after a signed notification that the tenant is suspended or deleted. The old status is
    /// not used any more, even if the read fails.
    pub(super) async fn invalidate(&self, tenant: &Tenant) -> StatusResult {
        self.update_entry(tenant, StatusEntry::invalidate);
        self.read(&tenant.name, tenant.create_time).await
    }

    fn update_entry(&self, tenant: &Tenant, event: impl FnOnce(&mut StatusEntry)) {
        // Loads the stored status into the cache first, so that the event applies to it, too.
        self.shared.cached_status(tenant);
        let mut entries = self.shared.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&tenant.name) {
            event(entry);
        }
    }

    /// Invalidates the status after HTTP 421 (Misdirected Request) from this address. Concurrent 421 answers cause one
    /// read. If a read has just confirmed the address in spite of HTTP 421, the next read happens only after a pause.
    pub(super) fn report_misdirected(&self, name: &TenantName, uri: &WebApiUri) {
        let now = self.shared.clock.monotonic();
        let mut entries = self.shared.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(name)
            && entry.has_address(uri)
            && !entry.is_invalidated()
            && !is_recent(entry.confirmed_at(), now)
        {
            entry.invalidate();
        }
    }

    async fn read(&self, name: &TenantName, create_time: Timestamp) -> StatusResult {
        self.read_at(name, create_time, self.shared.generation(name)).await
    }

    async fn read_at(
        &self,
        name: &TenantName,
        create_time: Timestamp,
        generation: u64,
    ) -> StatusResult {
        let work = || Arc::clone(&self.shared).read(name.clone(), create_time, generation);
        let joined = self.reads.join((name.clone(), generation), work).await;
        joined.unwrap_or_else(|crash| Err(BrokerError::Internal(crash.to_string().into())))
    }

    /// Starts a read on the task tracker and does not wait for it.
    fn start_read(&self, name: &TenantName, create_time: Timestamp, generation: u64) {
        let work = || Arc::clone(&self.shared).read(name.clone(), create_time, generation);
        drop(self.reads.start((name.clone(), generation), work));
    }

    /// Reads overdue statuses of tenants in use again, until this future is dropped.
    pub async fn keep_fresh(&self) {
        let mut checks: u32 = 0;
        let mut stale = false;
        loop {
            self.shared.clock.sleep(CHECK_INTERVAL).await;
            checks = checks.wrapping_add(1);
            let minute = checks.is_multiple_of(CHECKS_PER_CLEANUP);
            if minute {
                self.shared.forget_unused();
            }
            stale = self.log_stale(stale, minute);
            for (name, create_time) in self.shared.overdue_and_in_use() {
                self.start_read(&name, create_time, self.shared.generation(&name));
            }
        }
    }
}

fn ensure_usable(tenant: &Tenant, status: Arc<TenantStatus>) -> StatusResult {
    match status.state.usability() {
        Usability::Usable => Ok(status),
        Usability::RetryAfter(_) | Usability::Unusable => {
            Err(BrokerError::TenantNotRunning(tenant.name.clone(), status.state))
        }
    }
}

impl Shared {
    fn cached_status(&self, tenant: &Tenant) -> CachedStatus {
        let now = self.clock.moment();
        let create_time = tenant.create_time;
        if let Some(entry) = self
            .entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant.name)
            .filter(|entry| entry.tenant_create_time == create_time)
        {
            entry.record_use(now);
            return entry.classify(now, self.max_stale);
        }
        // After a restart the stored status is used like a cached one.
        let Some(stored) = &tenant.last_status else { return CachedStatus::Unusable };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Box::new(StatusEntry::new(Arc::clone(stored), create_time, now));
        let entry = entries.entry(tenant.name.clone()).or_insert_with(fresh);
        if entry.tenant_create_time != create_time {
            *entry = fresh();
        }
        entry.classify(now, self.max_stale)
    }

    /// Returns the failure of a read that is too recent for another one.
    fn recent_failure(&self, tenant: &Tenant) -> Option<BrokerError> {
        let events = (tenant.create_time, self.generation(&tenant.name));
        self.failures.current(&tenant.name, events, self.clock.monotonic())
    }

    /// Returns the generation: the number of events that questioned the cached status.
    fn generation(&self, name: &TenantName) -> u64 {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).map_or(0, |entry| entry.generation())
    }

    async fn read(
        self: Arc<Self>,
        name: TenantName,
        create_time: Timestamp,
        generation: u64,
    ) -> StatusResult {
        let application = self.applications.get(&name.application)?;
        let result = application.tenant_status.read(name.tenant).await;
        let now = self.clock.moment();
        match result {
            Ok(status) => {
                self.counters.status_reads.increment();
                let status = Arc::new(status);
                let entry = StatusEntry::new(Arc::clone(&status), create_time, now);
                let cached = self.insert(&name, entry, generation);
                if cached && let Err(error) = self.store.put_status(&name, &status).await {
                    // The cache has the status, so only a restart loses it.
                    tracing::warn!(%error, tenant = %name, "tenant status not stored");
                }
                Ok(status)
            }
            Err(error) => {
                self.counters.status_failures.increment();
                if self.record_failure(&name, now.monotonic) {
                    tracing::warn!(%error, tenant = %name, "tenant status not read");
                } else {
                    // While a login host is down, this happens for every tenant repeatedly.
                    tracing::debug!(%error, tenant = %name, "tenant status still not read");
                }
                self.store_invalidation(&name).await;
                let error = BrokerError::from_upstream(&name, &error);
                let now = self.clock.monotonic();
                let until = now + self.random.jitter(RETRY_SOON);
                self.failures.record(name, (create_time, generation), (now, until), error.clone());
                Err(error)
            }
        }
    }

    /// Records a failed read. Returns `false` if the read before it failed, too.
    fn record_failure(&self, name: &TenantName, now: Duration) -> bool {
        let pause = RETRY_INTERVAL + self.random.jitter(RETRY_INTERVAL / 2) / 2;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get_mut(name);
        entry.is_none_or(|entry| !entry.record_failed_read(now.saturating_add(pause)))
    }

    /// Caches a status that was read. Returns `false` if the cached status is newer.
    fn insert(&self, name: &TenantName, mut fresh: StatusEntry, generation: u64) -> bool {
        let status = Arc::clone(&fresh.status);
        let now = self.clock.monotonic();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |it: &StatusEntry| {
            it.tenant_create_time == fresh.tenant_create_time && it.read_generation() > generation
        };
        if entries.get(name).is_some_and(|before| is_newer(before)) {
            // Another read, which started after a later event, has finished first.
            return false;
        }
        fresh.set_read_generation(generation);
        if let Some(before) = entries.get(name) {
            fresh.inherit_from(before, generation, now);
        }
        let usable = |it: &StatusEntry| matches!(it.status.state.usability(), Usability::Usable);
        let is_usable = usable(&fresh);
        let before = entries.insert(name.clone(), Box::new(fresh));
        drop(entries);
        let moved = |before: &StatusEntry| {
            let (from, to) = (&before.status.web_api_uri, &status.web_api_uri);
            from.is_some() && to.is_some() && from != to
        };
        if before.as_deref().is_some_and(moved) {
            tracing::info!(tenant = %name, "the tenant's Web API has moved to another address");
        }
        if before.as_ref().is_some_and(|before| before.status.web_api_uri != status.web_api_uri) {
            self.directory.changes().notify(name);
        }
        if is_usable && before.is_some_and(|before| !usable(&before)) {
            let _ = self.usable_again.send(name.clone());
        }
        // A send without receivers is not an error.
        let _ = self.feed.send((name.clone(), status));
        true
    }

    /// Removes entries that are neither in use nor usable, including those of removed tenants.
    fn forget_unused(&self) {
        let now = self.clock.moment();
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // Invalidated entries stay: without them, a stored status might be loaded as valid.
        entries.retain(|_, entry| {
            entry.in_use(now)
                || entry.is_invalidated()
                || !matches!(entry.classify(now, self.max_stale), CachedStatus::Unusable)
        });
    }

    fn overdue_and_in_use(&self) -> Vec<(TenantName, Timestamp)> {
        let now = self.clock.moment();
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let due = |entry: &StatusEntry| {
            entry.is_overdue(now) && entry.retry_time() <= now.monotonic && entry.in_use(now)
        };
        entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(name, entry)| (name.clone(), entry.tenant_create_time))
            .collect()
    }
}
