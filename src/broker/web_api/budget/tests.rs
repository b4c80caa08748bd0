use std::{future::Future, num::NonZeroU32, pin::Pin};

use futures_util::poll;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::task::{AbortHandle, JoinSet};

use super::*;
use crate::ports::ManualClock;

type Waiting<'b> = Pin<Box<dyn Future<Output = Result<Permit, OverLimit>> + Send + 'b>>;

struct World {
    clock: Arc<ManualClock>,
    budget: Budget,
    tenant: TenantName,
    rate: CallRate,
}

/// Creates a budget of ten calls a second with this burst.
fn world(burst: u32) -> World {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let whole = |number| NonZeroU32::new(number).unwrap();
    World {
        budget: Budget::new(clock.clone()),
        clock,
        tenant: "applications/crm-sync/tenants/Cust1".parse().unwrap(),
        rate: CallRate { per_second: whole(10), burst: whole(burst) },
    }
}

impl World {
    fn acquire(&self, queue_key: &str) -> Waiting<'_> {
        self.acquire_by(queue_key, None)
    }

    fn acquire_by(&self, queue_key: &str, deadline: Option<Duration>) -> Waiting<'_> {
        let queue_key: Arc<str> = queue_key.into();
        Box::pin(
            async move { self.budget.acquire(&self.tenant, self.rate, &queue_key, deadline).await },
        )
    }

    /// Starts a call that has to wait.
    async fn waiting(&self, queue_key: &str) -> Waiting<'_> {
        let mut waiting = self.acquire(queue_key);
        assert!(poll!(&mut waiting).is_pending());
        waiting
    }

    async fn use_up(&self) {
        while poll!(&mut self.acquire("before")).is_ready() {}
    }

    fn advance(&self, milliseconds: u64) {
        self.clock.advance(Duration::from_millis(milliseconds));
    }
}

#[tokio::test]
async fn calls_within_budget_get_a_permit_at_once_and_others_wait() {
    let world = world(2);
    for _ in 0..2 {
        assert_eq!(world.acquire("a").await, Ok(Permit::Immediate));
    }
    let mut third = world.waiting("a").await;
    world.advance(99);
    assert!(poll!(&mut third).is_pending());
    world.advance(1);
    assert_eq!(third.await, Ok(Permit::AfterWaiting));
}

#[tokio::test]
async fn a_thousand_calls_of_one_queue_delay_another_by_one_call() {
    let world = world(1);
    world.use_up().await;
    let mut greedy = Vec::new();
    for _ in 0..1_000 {
        // Calls that get no permit within a minute are rejected.
        let mut call = world.acquire("greedy");
        if poll!(&mut call).is_pending() {
            greedy.push(call);
        }
    }
    assert_eq!(greedy.len(), 600);
    let mut single = world.waiting("single").await;
    world.advance(100);
    assert!(poll!(&mut single).is_pending());
    assert_eq!(greedy.remove(0).await, Ok(Permit::AfterWaiting));
    world.advance(100);
    assert_eq!(single.await, Ok(Permit::AfterWaiting));
}

#[tokio::test]
async fn a_call_without_a_permit_before_its_deadline_is_rejected_at_once() {
    let world = world(1);
    world.use_up().await;
    let in_time = |milliseconds| Some(Duration::from_millis(milliseconds));
    let late = world.acquire_by("a", in_time(99)).await;
    assert_eq!(late, Err(OverLimit { retry_after: Duration::from_millis(100) }));
    let mut first = world.acquire_by("a", in_time(100));
    assert!(poll!(&mut first).is_pending());
    // In the same queue, and in another queue.
    for queue_key in ["a", "b"] {
        let late = world.acquire_by(queue_key, in_time(199)).await;
        assert_eq!(late, Err(OverLimit { retry_after: Duration::from_millis(200) }), "{queue_key}");
    }
    world.advance(100);
    assert_eq!(first.await, Ok(Permit::AfterWaiting));
}

#[tokio::test]
async fn a_waiting_call_is_rejected_at_its_deadline() {
    let world = world(1);
    world.use_up().await;
    let _first = world.waiting("a").await;
    let mut second = world.acquire_by("a", Some(Duration::from_millis(250)));
    assert!(poll!(&mut second).is_pending());
    let _others = [world.waiting("b").await, world.waiting("c").await];
    world.advance(249);
    assert!(poll!(&mut second).is_pending());
    world.advance(1);
    assert!(second.await.is_err());
}

#[tokio::test]
async fn a_cancelled_call_does_not_delay_the_others() {
    for given_up in 0..3 {
        let world = world(1);
        world.use_up().await;
        let mut waiting = Vec::new();
        for queue_key in ["a", "b", "c"] {
            waiting.push(world.waiting(queue_key).await);
        }
        drop(waiting.remove(given_up));
        for mut left in waiting {
            assert!(poll!(&mut left).is_pending(), "{given_up}");
            world.advance(100);
            assert_eq!(left.await, Ok(Permit::AfterWaiting), "{given_up}");
        }
        assert!(world.budget.lock().by_tenant[&world.tenant].has_no_waiters());
    }
}

#[tokio::test]
async fn a_call_cancelled_after_its_time_does_not_use_up_a_permit() {
    let world = world(1);
    world.use_up().await;
    let (next, mut other) = (world.waiting("a").await, world.waiting("b").await);
    world.advance(100);
    drop(next);
    assert_eq!(poll!(&mut other), std::task::Poll::Ready(Ok(Permit::AfterWaiting)));
}

#[tokio::test]
async fn a_pause_delays_all_calls_and_rejects_those_it_makes_too_late() {
    let world = world(5);
    world.use_up().await;
    let mut patient = world.waiting("a").await;
    let mut hurried = world.acquire_by("b", Some(Duration::from_secs(1)));
    assert!(poll!(&mut hurried).is_pending());
    world.budget.pause(&world.tenant, world.rate, Duration::from_secs(3));
    assert!(hurried.await.unwrap_err().retry_after >= Duration::from_secs(3));
    world.advance(2_999);
    assert!(poll!(&mut patient).is_pending());
    world.advance(1);
    assert_eq!(patient.await, Ok(Permit::AfterWaiting));
    assert!(poll!(&mut world.acquire("c")).is_pending());
}

#[tokio::test]
async fn tenants_have_separate_budgets_and_idle_ones_are_removed() {
    let world = world(1);
    world.use_up().await;
    let queue_key = "a".into();
    for number in 2..MIN_CLEANUP_SIZE * 3 {
        world.advance(1);
        let tenant = format!("applications/crm-sync/tenants/Cust{number}").parse().unwrap();
        assert_eq!(
            world.budget.acquire(&tenant, world.rate, &queue_key, None).await,
            Ok(Permit::Immediate)
        );
    }
    assert!(world.budget.lock().by_tenant.len() <= MIN_CLEANUP_SIZE);
}

#[tokio::test]
async fn a_single_call_of_a_queue_is_never_delayed_by_more_than_its_fair_share() {
    let world = world(3);
    let mut calls: Vec<(Duration, bool, Waiting<'_>)> = Vec::new();
    // Two queues always have waiting calls, and one queue has a single call at times.
    for tick in 0..600_u64 {
        let now = world.clock.monotonic();
        for queue_key in ["greedy", "also"] {
            if tick % 20 == 0 {
                calls.extend((0..20).map(|_| (now, false, world.acquire(queue_key))));
            }
        }
        if tick % 37 == 0 {
            calls.push((now, true, world.acquire("modest")));
        }
        let mut waiting = Vec::new();
        for (since, modest, mut call) in calls {
            match poll!(&mut call) {
                std::task::Poll::Ready(turn) => {
                    // Its own call and one call of each other queue. Only the others may wait too long.
                    let delay = world.clock.monotonic().saturating_sub(since);
                    let fair = turn.is_ok() && delay <= Duration::from_millis(320);
                    assert!(!modest || fair, "{turn:?} after {delay:?}");
                }
                std::task::Poll::Pending => waiting.push((since, modest, call)),
            }
        }
        calls = waiting;
        world.advance(10);
    }
}

/// An event while calls wait.
#[derive(Debug, Clone)]
enum Event {
    Arrives { queue_key: u8, patience: Option<u64> },
    IsCancelled(prop::sample::Index),
    TimePasses(u64),
    IsPaused(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..4, prop::option::of(0_u64..2_000))
            .prop_map(|(queue_key, patience)| Event::Arrives { queue_key, patience }),
        2 => any::<prop::sample::Index>().prop_map(Event::IsCancelled),
        3 => (0_u64..300).prop_map(Event::TimePasses),
        1 => (0_u64..500).prop_map(Event::IsPaused),
    ]
}

/// Runs each call as a task, which is polled only after it was woken.
async fn simulate(happenings: Vec<Event>, burst: u32) -> Vec<Duration> {
    let World { clock, budget, tenant, rate } = world(burst);
    let budget = Arc::new(budget);
    let mut calls: JoinSet<Result<Duration, OverLimit>> = JoinSet::new();
    let mut handles: Vec<AbortHandle> = Vec::new();
    let mut went = Vec::new();
    let milliseconds = Duration::from_millis;
    for happening in happenings {
        match happening {
            Event::Arrives { queue_key, patience } => {
                let (budget, tenant, clock) = (budget.clone(), tenant.clone(), clock.clone());
                let deadline = patience.map(|patience| clock.monotonic() + milliseconds(patience));
                handles.push(calls.spawn(async move {
                    let queue_key = queue_key.to_string().into();
                    let turn = budget.acquire(&tenant, rate, &queue_key, deadline).await;
                    let now = clock.monotonic();
                    assert!(turn.is_err() || deadline.is_none_or(|deadline| now <= deadline));
                    turn.map(|_| now)
                }));
            }
            Event::IsCancelled(which) if !handles.is_empty() => which.get(&handles).abort(),
            Event::IsCancelled(_) => {}
            Event::TimePasses(time) => clock.advance(milliseconds(time)),
            Event::IsPaused(time) => budget.pause(&tenant, rate, milliseconds(time)),
        }
        // Enough polls for each call to wake the next one.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    // In the end each call gets a permit or is rejected, although no further call arrives.
    for _ in 0..1_000 {
        while let Some(ended) = calls.try_join_next() {
            went.extend(ended.ok().and_then(Result::ok));
        }
        if calls.is_empty() {
            assert!(budget.lock().by_tenant.values().all(TenantLimiter::has_no_waiters));
            return went;
        }
        clock.advance(milliseconds(100));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    panic!("{} calls still wait", calls.len());
}

proptest! {
    #[test]
    fn every_call_is_answered_and_the_rate_is_never_exceeded(
        happenings in prop::collection::vec(event(), 0..60),
        burst in 1_u32..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut went = runtime.block_on(simulate(happenings, burst));
        went.sort_unstable();
        for (first, begin) in went.iter().enumerate() {
            for (last, end) in went.iter().enumerate().skip(first) {
                let refilled = end.saturating_sub(*begin).as_secs_f64() * 10.0;
                let number = u32::try_from(last - first + 1).unwrap();
                prop_assert!(f64::from(number) <= f64::from(burst) + refilled + 1e-6, "{went:?}");
            }
        }
    }
}
