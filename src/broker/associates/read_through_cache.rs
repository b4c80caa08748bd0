//! Reads through the cache: all concurrent callers share one upstream read.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::cache::{Cache, CacheEntry, CacheLookup, Key};
use crate::{
    broker::{BrokerError, error::RETRY_SOON, single_flight::SingleFlight},
    domain::{AssociateId, ContextIdentifier, TenantName},
    ports::Clock,
};

/// The most reads that a call waits for. If the running read began too early for the call, it waits for the next one.
const MAX_READS: usize = 2;

/// The longest time that a call waits for a new value while the old one is still usable.
const REFRESH_WAIT: Duration = Duration::from_millis(500);

/// The most concurrent reads, because each needs memory for all associates of a tenant.
const MAX_CONCURRENT_READS: usize = 32;

/// The time for reads in progress to finish when the gateway shuts down. Reads change nothing upstream.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Reads the value of a key.
type Read<T> = Arc<dyn Fn(Key) -> BoxFuture<'static, Result<T, BrokerError>> + Send + Sync>;

/// The value that was read and the time at which the read began.
type ReadResult<T> = Result<(Arc<T>, Duration), BrokerError>;

/// The dependencies of reads.
#[derive(Clone)]
pub(super) struct ReadDependencies {
    pub(super) clock: Arc<dyn Clock>,
    /// The timer for waits.
    pub(super) timer: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    /// Cancelled during shutdown, when connections get a GOAWAY, and watches and incomplete requests end.
    pub(super) stopping: CancellationToken,
}

/// Cached values of one type, and their reads.
pub(super) struct ReadThroughCache<T> {
    cache: Arc<Cache<T>>,
    flights: SingleFlight<Key, ReadResult<T>>,
    permits: Arc<Semaphore>,
    read: Read<T>,
    ports: ReadDependencies,
}

impl<T: CacheEntry + Send + Sync + 'static> ReadThroughCache<T> {
    /// Creates the reads of this cache.
    pub(super) fn new(cache: Arc<Cache<T>>, read: Read<T>, ports: ReadDependencies) -> Self {
        let under_way = Arc::new(Semaphore::new(MAX_CONCURRENT_READS));
        Self {
            cache,
            flights: SingleFlight::new(ports.tasks.clone()),
            permits: under_way,
            read,
            ports,
        }
    }

    /// Returns the cached value, or reads it. The value is not older than `max_staleness`, if given.
    pub(super) async fn get(
        &self,
        key: &Key,
        max_staleness: Option<Duration>,
    ) -> Result<Arc<T>, BrokerError> {
        let called = self.now();
        for _ in 0..MAX_READS {
            let overdue = match self.cache.look_up(key, called, max_staleness) {
                CacheLookup::Fresh(read) => return Ok(read),
                CacheLookup::Ageing(read) => {
                    // Refreshes in the background.
                    drop(self.begin(key));
                    return Ok(read);
                }
                CacheLookup::Overdue(read) => Some(read),
                CacheLookup::Nothing => None,
                CacheLookup::Failing(error) => return Err(error),
            };
            let reading = self.wait_for_read(key);
            let result = match &overdue {
                None => reading.await,
                Some(overdue) => tokio::select! {
                    biased;
                    result = reading => result,
                    () = self.ports.timer.sleep(REFRESH_WAIT) => return Ok(Arc::clone(overdue)),
                },
            };
            match (result, overdue) {
                (Ok((read, began)), _) => {
                    let age = called.saturating_sub(began);
                    if max_staleness.is_none_or(|most| age <= most) {
                        return Ok(read);
                    }
                }
                (Err(error), Some(overdue)) if error.is_temporary() => return Ok(overdue),
                (Err(error), _) => return Err(error),
            }
        }
        let cause = "the data is older than accepted after several reads".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// Returns the last or previous value for which `is_it` is true.
    pub(super) fn find(&self, key: &Key, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.cache.find(key, self.now(), is_it)
    }

    /// Removes expired values.
    pub(super) fn sweep(&self) {
        self.cache.sweep(self.now());
    }

    /// Records a hint that the data of a customer is outdated.
    pub(super) fn hint(&self, tenant: ContextIdentifier) {
        self.cache.hint(tenant, self.now());
    }

    /// Removes all values of a tenant.
    pub(super) fn forget(&self, tenant: &TenantName) {
        self.cache.forget(tenant);
    }

    /// Returns the tenants that have a value or a failure.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        self.cache.tenants()
    }

    /// Returns those of `ids` that are not known to be absent.
    pub(super) fn not_known_absent(&self, key: &Key, ids: &[AssociateId]) -> Vec<AssociateId> {
        let now = self.now();
        ids.iter().copied().filter(|id| !self.cache.is_absent(key, *id, now)).collect()
    }

    /// Records that SuperOffice does not have these ids.
    pub(super) fn record_absent(&self, key: &Key, ids: impl Iterator<Item = AssociateId>) {
        self.cache.record_absent(key, ids, self.now());
    }

    /// Returns the size of all values, counted in associates.
    pub(super) fn weight(&self) -> usize {
        self.cache.weight()
    }

    fn now(&self) -> Duration {
        self.ports.clock.monotonic()
    }

    async fn wait_for_read(&self, key: &Key) -> ReadResult<T> {
        let mut reading = self.begin(key);
        let result = reading.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        result.unwrap_or_else(|| Err(crashed()))
    }

    fn begin(&self, key: &Key) -> tokio::sync::watch::Receiver<Option<ReadResult<T>>> {
        self.flights.start(key.clone(), || {
            let (cache, ports) = (Arc::clone(&self.cache), self.ports.clone());
            let (read, under_way) = (Arc::clone(&self.read), Arc::clone(&self.permits));
            let key = key.clone();
            async move {
                // The semaphore is never closed.
                let _permit = under_way.acquire().await;
                let began = ports.clock.monotonic();
                let read = tokio::select! {
                    biased;
                    read = read(key.clone()) => read,
                    () = ports.shutdown_grace_expired() => return Err(shutting_down()),
                };
                match read {
                    Ok(read) => {
                        let read = Arc::new(read);
                        cache.insert(&key, Arc::clone(&read), began);
                        Ok((read, began))
                    }
                    Err(error) => {
                        // Other errors, such as rejected credentials, are cached by their own modules.
                        if error.is_upstream_failure() {
                            cache.record_failure(&key, &error, ports.clock.monotonic());
                        }
                        Err(error)
                    }
                }
            }
        })
    }
}

impl ReadDependencies {
    async fn shutdown_grace_expired(&self) {
        self.stopping.cancelled().await;
        self.timer.sleep(SHUTDOWN_GRACE).await;
    }
}

fn shutting_down() -> BrokerError {
    let cause = "the gateway is shutting down".into();
    BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
}

fn crashed() -> BrokerError {
    BrokerError::Internal("the task that reads the associates of a tenant panicked".into())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use jiff::Timestamp;
    use tokio::sync::Notify;

    use super::{super::cache::CacheRules, *};
    use crate::{domain::Actor, ports::ManualClock};

    #[derive(Debug, PartialEq)]
    struct Numbered(usize);

    impl CacheEntry for Numbered {
        fn weight(&self) -> usize {
            1
        }

        fn is_paged(&self) -> bool {
            false
        }
    }

    /// Test fixture whose reads return 1, 2, 3 and so on, or fail.
    struct World {
        readings: Arc<ReadThroughCache<Numbered>>,
        clock: Arc<ManualClock>,
        pace: Arc<ManualClock>,
        ports: ReadDependencies,
        count: Arc<AtomicUsize>,
        fails: Arc<Mutex<Option<BrokerError>>>,
        /// Reads do not end while a test holds the write lock.
        gate: Arc<tokio::sync::RwLock<()>>,
        begun: Arc<Notify>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
            let count = Arc::<AtomicUsize>::default();
            let fails = Arc::<Mutex<Option<BrokerError>>>::default();
            let (gate, begun) =
                (Arc::<tokio::sync::RwLock<()>>::default(), Arc::new(Notify::new()));
            let read: Read<Numbered> = {
                let (count, fails, gate) = (count.clone(), fails.clone(), gate.clone());
                let begun = begun.clone();
                Arc::new(move |_: Key| {
                    let (count, fails, gate) = (count.clone(), fails.clone(), gate.clone());
                    begun.notify_one();
                    Box::pin(async move {
                        let _open = gate.read().await;
                        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                        let failure = fails.lock().unwrap().clone();
                        failure.map_or(Ok(Numbered(number)), Err)
                    })
                })
            };
            let rules = CacheRules { max_age: Duration::from_mins(15), max_weight: 10 };
            let pace = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
            let ports = ReadDependencies {
                clock: clock.clone(),
                timer: pace.clone(),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
            };
            let readings =
                Arc::new(ReadThroughCache::new(Arc::new(Cache::new(rules)), read, ports.clone()));
            Self { readings, clock, pace, ports, count, fails, gate, begun }
        }

        async fn get(&self, max_staleness: Option<Duration>) -> Result<usize, BrokerError> {
            let read = self.readings.get(&key(), max_staleness).await;
            read.map(|reading| reading.0)
        }
    }

    fn key() -> Key {
        let tenant = "applications/a/tenants/Cust1".parse().unwrap();
        Key { tenant, actor: Actor::SystemUser, lifetime: (Timestamp::UNIX_EPOCH, 1) }
    }

    fn down() -> BrokerError {
        BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause: "down".into() }
    }

    #[tokio::test]
    async fn concurrent_calls_share_one_read() {
        let world = World::new();
        let waiting = (0..100).map(|_| world.get(None));
        let read = futures_util::future::join_all(waiting).await;
        assert!(read.iter().all(|read| *read == Ok(1)), "{read:?}");
    }

    #[tokio::test]
    async fn refreshes_an_ageing_value_in_the_background() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        world.clock.advance(Duration::from_mins(14));
        let closed = world.gate.write().await;
        assert_eq!(world.get(None).await, Ok(1));
        assert_eq!(world.get(None).await, Ok(1));
        drop(closed);
        while world.count.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn uses_the_last_value_for_one_more_hour_while_superoffice_is_down() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        *world.fails.lock().unwrap() = Some(down());
        world.clock.advance(Duration::from_mins(74));
        assert_eq!(world.get(None).await, Ok(1));
        assert_eq!(world.get(Some(Duration::from_mins(1))).await, Err(down()));
        world.clock.advance(Duration::from_mins(2));
        assert_eq!(world.get(None).await, Err(down()));
    }

    #[tokio::test]
    async fn does_not_hide_a_permanent_error_behind_the_last_value() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        let refused = BrokerError::NotEnrolled(key().tenant);
        *world.fails.lock().unwrap() = Some(refused.clone());
        world.clock.advance(Duration::from_mins(16));
        assert_eq!(world.get(None).await, Err(refused.clone()));
        assert_eq!(world.get(None).await, Err(refused), "the next call gets the error, too");
    }

    #[tokio::test]
    async fn waits_half_a_second_for_a_newer_value() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        world.clock.advance(Duration::from_mins(16));
        let _hangs = world.gate.write().await;
        let mut call = Box::pin(world.get(None));
        assert!(futures_util::poll!(&mut call).is_pending());
        world.pace.advance(REFRESH_WAIT);
        assert_eq!(call.await, Ok(1));
    }

    #[tokio::test]
    async fn backs_off_after_a_failed_read() {
        let world = World::new();
        *world.fails.lock().unwrap() = Some(down());
        for _ in 0..10 {
            assert_eq!(world.get(Some(Duration::ZERO)).await, Err(down()));
        }
        assert_eq!(world.count.load(Ordering::SeqCst), 1);
        world.clock.advance(Duration::from_secs(6));
        *world.fails.lock().unwrap() = None;
        assert_eq!(world.get(None).await, Ok(2));
    }

    #[tokio::test]
    async fn a_read_does_not_delay_shutdown() {
        let world = World::new();
        let _hangs = world.gate.write().await;
        let mut call = Box::pin(world.get(None));
        assert!(futures_util::poll!(&mut call).is_pending());
        world.begun.notified().await;
        world.ports.stopping.cancel();
        world.ports.tasks.close();
        let mut end = Box::pin(world.ports.tasks.wait());
        for _ in 0..20 {
            assert!(futures_util::poll!(&mut end).is_pending());
            tokio::task::yield_now().await;
        }
        world.pace.advance(SHUTDOWN_GRACE);
        end.await;
        assert_eq!(call.await, Err(shutting_down()));
    }

    #[tokio::test]
    async fn zero_staleness_rejects_a_read_that_began_before_the_call() {
        let world = Arc::new(World::new());
        let closed = Arc::clone(&world.gate).write_owned().await;
        let mut first = Box::pin(world.get(None));
        assert!(futures_util::poll!(&mut first).is_pending());
        world.begun.notified().await;
        world.clock.advance(Duration::from_secs(1));
        let mut second = Box::pin(world.get(Some(Duration::ZERO)));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(closed);
        assert_eq!(first.await, Ok(1));
        assert_eq!(second.await, Ok(2));
    }
}
