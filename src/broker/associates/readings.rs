//! Reading what is not at hand, once for everybody who waits for it.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::cache::{AtHand, Cache, CacheRules, Key, Reading};
use crate::{
    broker::{BrokerError, error::RETRY_SOON, flights::Flights},
    domain::{AssociateId, ContextIdentifier, TenantName},
    ports::Clock,
};

/// A call that finds a reading under way which began before it, and accepts none so old, waits for the next.
const MAX_ROUNDS: usize = 2;

/// How long a call waits for a new reading where the old one may still be used.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many readings may be under way: each takes the room of all people of a tenant.
const MAX_READINGS: usize = 32;

/// When the gateway stops, readings that calls may wait for have this long to end. They change nothing.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Reads for a key.
type Read<T> = Arc<dyn Fn(Key) -> BoxFuture<'static, Result<T, BrokerError>> + Send + Sync>;

/// What is read, and when that began.
type Landed<T> = Result<(Arc<T>, Duration), BrokerError>;

/// With what readings are made.
#[derive(Clone)]
pub(super) struct ReadingPorts {
    pub(super) clock: Arc<dyn Clock>,
    /// By which calls wait.
    pub(super) pace: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the gateway stops.
    pub(super) stopping: CancellationToken,
}

/// Readings of one kind.
pub(super) struct Readings<T> {
    cache: Arc<Cache<T>>,
    flights: Flights<Key, Landed<T>>,
    under_way: Arc<Semaphore>,
    read: Read<T>,
    ports: ReadingPorts,
}

impl<T: Reading + Send + Sync + 'static> Readings<T> {
    /// Nothing read yet.
    pub(super) fn new(rules: CacheRules, read: Read<T>, ports: ReadingPorts) -> Self {
        let cache = Arc::new(Cache::new(rules));
        let under_way = Arc::new(Semaphore::new(MAX_READINGS));
        Self { cache, flights: Flights::new(ports.tasks.clone()), under_way, read, ports }
    }

    /// What is at hand, else what is read for it; no older than `max_staleness` where that is given.
    pub(super) async fn get(
        &self,
        key: &Key,
        max_staleness: Option<Duration>,
    ) -> Result<Arc<T>, BrokerError> {
        let called = self.now();
        for _ in 0..MAX_ROUNDS {
            let overdue = match self.cache.look(key, called, max_staleness) {
                AtHand::Fresh(read) => return Ok(read),
                AtHand::Ageing(read) => {
                    // Nobody waits for it.
                    drop(self.begin(key));
                    return Ok(read);
                }
                AtHand::Overdue(read) => Some(read),
                AtHand::Nothing => None,
                AtHand::Failing(error) => return Err(error),
            };
            let landing = self.landing(key);
            let landed = match &overdue {
                None => landing.await,
                Some(overdue) => tokio::select! {
                    biased;
                    landed = landing => landed,
                    () = self.ports.pace.sleep(PATIENCE) => return Ok(Arc::clone(overdue)),
                },
            };
            match (landed, overdue) {
                (Ok((read, began)), _) => {
                    let age = called.saturating_sub(began);
                    if max_staleness.is_none_or(|most| age <= most) {
                        return Ok(read);
                    }
                }
                (Err(error), Some(overdue)) if error.is_passing() => return Ok(overdue),
                (Err(error), _) => return Err(error),
            }
        }
        let cause = "what was read was older than wanted again and again".into();
        Err(BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause })
    }

    /// The last reading or the one before it, if it is that.
    pub(super) fn kept(&self, key: &Key, is_it: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.cache.kept(key, self.now(), is_it)
    }

    /// The last reading of the first that is meant, however old.
    pub(super) fn seen(&self, is_meant: impl Fn(&Key) -> bool) -> Option<Arc<T>> {
        self.cache.seen(is_meant)
    }

    /// Lets go of what is too old to be used.
    pub(super) fn sweep(&self) {
        self.cache.sweep(self.now());
    }

    /// Somebody says that what is known of a tenant is out of date.
    pub(super) fn hint(&self, tenant: ContextIdentifier) {
        self.cache.hint(tenant, self.now());
    }

    /// Lets go of everything of a tenant.
    pub(super) fn forget(&self, tenant: &TenantName) {
        self.cache.forget(tenant);
    }

    /// Tenants of which something is known.
    pub(super) fn tenants(&self) -> Vec<TenantName> {
        self.cache.tenants()
    }

    /// Those of `ids` for which it is worth asking: we have not just done so in vain.
    pub(super) fn worth_asking(&self, key: &Key, ids: &[AssociateId]) -> Vec<AssociateId> {
        let now = self.now();
        ids.iter().copied().filter(|id| !self.cache.is_absent(key, *id, now)).collect()
    }

    /// Nobody has these ids.
    pub(super) fn absent(&self, key: &Key, ids: impl Iterator<Item = AssociateId>) {
        self.cache.absent(key, ids, self.now());
    }

    /// How much is in memory.
    pub(super) fn weight(&self) -> usize {
        self.cache.weight()
    }

    fn now(&self) -> Duration {
        self.ports.clock.monotonic()
    }

    async fn landing(&self, key: &Key) -> Landed<T> {
        let mut landing = self.begin(key);
        let landed = landing.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        landed.unwrap_or_else(|| Err(crashed()))
    }

    fn begin(&self, key: &Key) -> tokio::sync::watch::Receiver<Option<Landed<T>>> {
        self.flights.begin(key.clone(), || {
            let (cache, ports) = (Arc::clone(&self.cache), self.ports.clone());
            let (read, under_way) = (Arc::clone(&self.read), Arc::clone(&self.under_way));
            let key = key.clone();
            async move {
                // Never closed.
                let _place = under_way.acquire().await;
                let began = ports.clock.monotonic();
                let read = tokio::select! {
                    biased;
                    read = read(key.clone()) => read,
                    () = ports.given_up() => return Err(stopped()),
                };
                match read {
                    Ok(read) => {
                        let read = Arc::new(read);
                        cache.insert(&key, Arc::clone(&read), began);
                        Ok((read, began))
                    }
                    Err(error) => {
                        // A refusal is remembered by those who know when it ends.
                        if error.is_upstreams() {
                            cache.failed(&key, &error, ports.clock.monotonic());
                        }
                        Err(error)
                    }
                }
            }
        })
    }
}

impl ReadingPorts {
    async fn given_up(&self) {
        self.stopping.cancelled().await;
        self.pace.sleep(LAST_WORDS).await;
    }
}

fn stopped() -> BrokerError {
    let cause = "the gateway stops".into();
    BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause }
}

fn crashed() -> BrokerError {
    BrokerError::Internal("reading the people of a tenant panicked".into())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use jiff::Timestamp;
    use tokio::sync::Notify;

    use super::*;
    use crate::{domain::Eyes, ports::ManualClock};

    #[derive(Debug, PartialEq)]
    struct Numbered(usize);

    impl Reading for Numbered {
        fn weight(&self) -> usize {
            1
        }

        fn is_paged(&self) -> bool {
            false
        }
    }

    /// Reads 1, 2, 3 and so on, or fails.
    struct World {
        readings: Arc<Readings<Numbered>>,
        clock: Arc<ManualClock>,
        pace: Arc<ManualClock>,
        ports: ReadingPorts,
        count: Arc<AtomicUsize>,
        fails: Arc<Mutex<Option<BrokerError>>>,
        /// While some hold it, readings do not end.
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
            let ports = ReadingPorts {
                clock: clock.clone(),
                pace: pace.clone(),
                tasks: TaskTracker::new(),
                stopping: CancellationToken::new(),
            };
            let readings = Arc::new(Readings::new(rules, read, ports.clone()));
            Self { readings, clock, pace, ports, count, fails, gate, begun }
        }

        async fn get(&self, max_staleness: Option<Duration>) -> Result<usize, BrokerError> {
            let read = self.readings.get(&key(), max_staleness).await;
            read.map(|reading| reading.0)
        }
    }

    fn key() -> Key {
        let tenant = "applications/a/tenants/Cust1".parse().unwrap();
        Key { tenant, eyes: Eyes::SystemUser, life: (Timestamp::UNIX_EPOCH, 1) }
    }

    fn down() -> BrokerError {
        BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause: "down".into() }
    }

    #[tokio::test]
    async fn many_who_wait_cost_one_reading() {
        let world = World::new();
        let waiting = (0..100).map(|_| world.get(None));
        let read = futures_util::future::join_all(waiting).await;
        assert!(read.iter().all(|read| *read == Ok(1)), "{read:?}");
    }

    #[tokio::test]
    async fn an_ageing_reading_is_renewed_behind_those_who_use_it() {
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
    async fn while_superoffice_is_down_the_last_reading_is_used_for_an_hour_more() {
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
    async fn a_refusal_is_not_answered_from_what_was_read_before_it() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        let refused = BrokerError::NotEnrolled(key().tenant);
        *world.fails.lock().unwrap() = Some(refused.clone());
        world.clock.advance(Duration::from_mins(16));
        assert_eq!(world.get(None).await, Err(refused.clone()));
        assert_eq!(world.get(None).await, Err(refused), "nor by the next call");
    }

    #[tokio::test]
    async fn who_could_use_what_is_at_hand_waits_half_a_second_for_newer() {
        let world = World::new();
        assert_eq!(world.get(None).await, Ok(1));
        world.clock.advance(Duration::from_mins(16));
        let _hangs = world.gate.write().await;
        let mut call = Box::pin(world.get(None));
        assert!(futures_util::poll!(&mut call).is_pending());
        world.pace.advance(PATIENCE);
        assert_eq!(call.await, Ok(1));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_not_tried_by_each_who_asks() {
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
    async fn a_reading_does_not_hold_up_the_gateway_when_it_stops() {
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
        world.pace.advance(LAST_WORDS);
        end.await;
        assert_eq!(call.await, Err(stopped()));
    }

    #[tokio::test]
    async fn who_wants_it_as_of_now_is_not_given_a_reading_that_began_before() {
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
