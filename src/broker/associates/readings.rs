//! Reading what is not at hand, once for everybody who waits for it.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use super::cache::{AtHand, Cache, CacheRules, Key, Reading};
use crate::{
    broker::{BrokerError, error::RETRY_SOON, flights::Flights},
    domain::{AssociateId, ContextIdentifier},
    ports::Clock,
};

/// On whose account the upstream budget puts what nobody waits for.
const BACKGROUND: &str = "";

/// A call that finds a reading under way which began before it, and accepts none so old, waits for the next.
const MAX_ROUNDS: usize = 2;

/// Reads for a key, on an account.
type Read<T> =
    Arc<dyn Fn(Key, Arc<str>) -> BoxFuture<'static, Result<T, BrokerError>> + Send + Sync>;

/// Readings of one kind.
pub(super) struct Readings<T> {
    cache: Arc<Cache<T>>,
    /// What is read, and when that began.
    flights: Flights<Key, Result<(Arc<T>, Duration), BrokerError>>,
    read: Read<T>,
    clock: Arc<dyn Clock>,
}

impl<T: Reading + Send + Sync + 'static> Readings<T> {
    /// Nothing read yet.
    pub(super) fn new(
        rules: CacheRules,
        read: Read<T>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Self {
        let cache = Arc::new(Cache::new(rules));
        Self { cache, flights: Flights::new(tasks), read, clock }
    }

    /// What is at hand, else what is read for it; no older than `max_staleness` where that is given.
    pub(super) async fn get(
        &self,
        key: &Key,
        account: &Arc<str>,
        max_staleness: Option<Duration>,
    ) -> Result<Arc<T>, BrokerError> {
        let called = self.clock.monotonic();
        for _ in 0..MAX_ROUNDS {
            let overdue = match self.cache.look(key, called, max_staleness) {
                AtHand::Fresh(read) => return Ok(read),
                AtHand::Ageing(read) => {
                    // Nobody waits for it.
                    drop(self.begin(key, BACKGROUND.into()));
                    return Ok(read);
                }
                AtHand::Overdue(read) => Some(read),
                AtHand::Nothing => None,
            };
            let mut landing = self.begin(key, Arc::clone(account));
            let landed = landing.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
            let landed = landed.unwrap_or_else(|| Err(crashed()));
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
        self.cache.kept(key, is_it)
    }

    /// Somebody says that what is known of a tenant is out of date.
    pub(super) fn hint(&self, tenant: ContextIdentifier) {
        self.cache.hint(tenant, self.clock.monotonic());
    }

    /// Those of `ids` for which it is worth asking: we have not just done so in vain.
    pub(super) fn worth_asking(&self, key: &Key, ids: &[AssociateId]) -> Vec<AssociateId> {
        let now = self.clock.monotonic();
        ids.iter().copied().filter(|id| !self.cache.is_absent(key, *id, now)).collect()
    }

    /// Nobody has these ids.
    pub(super) fn absent(&self, key: &Key, ids: impl Iterator<Item = AssociateId>) {
        self.cache.absent(key, ids, self.clock.monotonic());
    }

    /// How much is in memory.
    pub(super) fn weight(&self) -> usize {
        self.cache.weight()
    }

    fn begin(&self, key: &Key, account: Arc<str>) -> Landing<T> {
        self.flights.begin(key.clone(), || {
            let (cache, clock) = (Arc::clone(&self.cache), Arc::clone(&self.clock));
            let (read, key) = (Arc::clone(&self.read), key.clone());
            async move {
                let began = clock.monotonic();
                match read(key.clone(), account).await {
                    Ok(read) => {
                        let read = Arc::new(read);
                        cache.insert(&key, Arc::clone(&read), began);
                        Ok((read, began))
                    }
                    Err(error) => {
                        cache.failed(&key, clock.monotonic());
                        Err(error)
                    }
                }
            }
        })
    }
}

type Landing<T> = tokio::sync::watch::Receiver<Option<Result<(Arc<T>, Duration), BrokerError>>>;

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
        count: Arc<AtomicUsize>,
        fails: Arc<Mutex<Option<BrokerError>>>,
        accounts: Arc<Mutex<Vec<Arc<str>>>>,
        /// While some hold it, readings do not end.
        gate: Arc<tokio::sync::RwLock<()>>,
        begun: Arc<Notify>,
    }

    impl World {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
            let count = Arc::<AtomicUsize>::default();
            let fails = Arc::<Mutex<Option<BrokerError>>>::default();
            let accounts = Arc::<Mutex<Vec<Arc<str>>>>::default();
            let (gate, begun) =
                (Arc::<tokio::sync::RwLock<()>>::default(), Arc::new(Notify::new()));
            let read: Read<Numbered> = {
                let (count, fails, gate) = (count.clone(), fails.clone(), gate.clone());
                let (begun, accounts) = (begun.clone(), accounts.clone());
                Arc::new(move |_: Key, account: Arc<str>| {
                    let (count, fails, gate) = (count.clone(), fails.clone(), gate.clone());
                    accounts.lock().unwrap().push(account);
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
            let readings = Readings::new(rules, read, clock.clone(), TaskTracker::new());
            Self { readings: Arc::new(readings), clock, count, fails, accounts, gate, begun }
        }

        async fn get(&self, max_staleness: Option<Duration>) -> Result<usize, BrokerError> {
            let read = self.readings.get(&key(), &"ada".into(), max_staleness).await;
            read.map(|reading| reading.0)
        }
    }

    fn key() -> Key {
        let tenant = "applications/a/tenants/Cust1".parse().unwrap();
        Key { tenant, eyes: Eyes::SystemUser }
    }

    fn down() -> BrokerError {
        BrokerError::UpstreamUnavailable { retry_after: RETRY_SOON, cause: "down".into() }
    }

    #[tokio::test]
    async fn many_who_wait_cost_one_reading_on_the_account_of_the_first() {
        let world = World::new();
        let waiting = (0..100).map(|_| world.get(None));
        let read = futures_util::future::join_all(waiting).await;
        assert!(read.iter().all(|read| *read == Ok(1)), "{read:?}");
        assert_eq!(*world.accounts.lock().unwrap(), ["ada".into()]);
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
        assert_eq!(*world.accounts.lock().unwrap(), ["ada".into(), BACKGROUND.into()]);
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
        assert_eq!(world.get(None).await, Err(refused));
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
