use std::{future::Future, num::NonZeroU32, pin::Pin};

use futures_util::poll;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::task::{AbortHandle, JoinSet};

use super::*;
use crate::ports::ManualClock;

type Waiting<'b> = Pin<Box<dyn Future<Output = Result<Turn, NoTurn>> + Send + 'b>>;

struct World {
    clock: Arc<ManualClock>,
    budget: Budget,
    tenant: TenantName,
    rate: CallRate,
}

/// Ten a second, and so many at once.
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
    fn turn(&self, account: &str) -> Waiting<'_> {
        self.turn_by(account, None)
    }

    fn turn_by(&self, account: &str, deadline: Option<Duration>) -> Waiting<'_> {
        let account: Arc<str> = account.into();
        Box::pin(async move { self.budget.turn(&self.tenant, self.rate, &account, deadline).await })
    }

    /// Begins to wait.
    async fn waiting(&self, account: &str) -> Waiting<'_> {
        let mut waiting = self.turn(account);
        assert!(poll!(&mut waiting).is_pending());
        waiting
    }

    async fn use_up(&self) {
        while poll!(&mut self.turn("before")).is_ready() {}
    }

    fn advance(&self, milliseconds: u64) {
        self.clock.advance(Duration::from_millis(milliseconds));
    }
}

#[tokio::test]
async fn a_call_goes_at_once_while_there_is_budget_and_then_waits_for_its_turn() {
    let world = world(2);
    for _ in 0..2 {
        assert_eq!(world.turn("a").await, Ok(Turn::AtOnce));
    }
    let mut third = world.waiting("a").await;
    world.advance(99);
    assert!(poll!(&mut third).is_pending());
    world.advance(1);
    assert_eq!(third.await, Ok(Turn::Waited));
}

#[tokio::test]
async fn a_thousand_calls_of_one_account_delay_the_single_call_of_another_by_one_turn() {
    let world = world(1);
    world.use_up().await;
    let mut greedy = Vec::new();
    for _ in 0..1_000 {
        // Those that would not have their turn in a minute are refused.
        let mut call = world.turn("greedy");
        if poll!(&mut call).is_pending() {
            greedy.push(call);
        }
    }
    assert_eq!(greedy.len(), 600);
    let mut single = world.waiting("single").await;
    world.advance(100);
    assert!(poll!(&mut single).is_pending());
    assert_eq!(greedy.remove(0).await, Ok(Turn::Waited));
    world.advance(100);
    assert_eq!(single.await, Ok(Turn::Waited));
}

#[tokio::test]
async fn a_call_that_cannot_have_its_turn_before_its_deadline_is_refused_at_once() {
    let world = world(1);
    world.use_up().await;
    let in_time = |milliseconds| Some(Duration::from_millis(milliseconds));
    let late = world.turn_by("a", in_time(99)).await;
    assert_eq!(late, Err(NoTurn { retry_after: Duration::from_millis(100) }));
    let mut first = world.turn_by("a", in_time(100));
    assert!(poll!(&mut first).is_pending());
    // Behind it, and beside it.
    for account in ["a", "b"] {
        let late = world.turn_by(account, in_time(199)).await;
        assert_eq!(late, Err(NoTurn { retry_after: Duration::from_millis(200) }), "{account}");
    }
    world.advance(100);
    assert_eq!(first.await, Ok(Turn::Waited));
}

#[tokio::test]
async fn one_that_is_overtaken_until_its_deadline_is_refused_then() {
    let world = world(1);
    world.use_up().await;
    let _first = world.waiting("a").await;
    let mut second = world.turn_by("a", Some(Duration::from_millis(250)));
    assert!(poll!(&mut second).is_pending());
    let _others = [world.waiting("b").await, world.waiting("c").await];
    world.advance(249);
    assert!(poll!(&mut second).is_pending());
    world.advance(1);
    assert!(second.await.is_err());
}

#[tokio::test]
async fn whoever_gives_up_the_others_have_their_turns_as_if_it_had_never_come() {
    for given_up in 0..3 {
        let world = world(1);
        world.use_up().await;
        let mut waiting = Vec::new();
        for account in ["a", "b", "c"] {
            waiting.push(world.waiting(account).await);
        }
        drop(waiting.remove(given_up));
        for mut left in waiting {
            assert!(poll!(&mut left).is_pending(), "{given_up}");
            world.advance(100);
            assert_eq!(left.await, Ok(Turn::Waited), "{given_up}");
        }
        assert!(world.budget.lock().of[&world.tenant].nobody_waits());
    }
}

#[tokio::test]
async fn one_that_gives_up_after_its_time_has_come_takes_nobodys_turn_with_it() {
    let world = world(1);
    world.use_up().await;
    let (next, mut other) = (world.waiting("a").await, world.waiting("b").await);
    world.advance(100);
    drop(next);
    assert_eq!(poll!(&mut other), std::task::Poll::Ready(Ok(Turn::Waited)));
}

#[tokio::test]
async fn a_pause_holds_everybody_back_and_refuses_at_once_whom_it_makes_too_late() {
    let world = world(5);
    world.use_up().await;
    let mut patient = world.waiting("a").await;
    let mut hurried = world.turn_by("b", Some(Duration::from_secs(1)));
    assert!(poll!(&mut hurried).is_pending());
    world.budget.pause(&world.tenant, world.rate, Duration::from_secs(3));
    assert!(hurried.await.unwrap_err().retry_after >= Duration::from_secs(3));
    world.advance(2_999);
    assert!(poll!(&mut patient).is_pending());
    world.advance(1);
    assert_eq!(patient.await, Ok(Turn::Waited));
    assert!(poll!(&mut world.turn("c")).is_pending());
}

#[tokio::test]
async fn tenants_have_budgets_of_their_own_and_idle_ones_are_forgotten() {
    let world = world(1);
    world.use_up().await;
    let account = "a".into();
    for number in 2..MANY_LANES * 3 {
        world.advance(1);
        let tenant = format!("applications/crm-sync/tenants/Cust{number}").parse().unwrap();
        assert_eq!(world.budget.turn(&tenant, world.rate, &account, None).await, Ok(Turn::AtOnce));
    }
    assert!(world.budget.lock().of.len() <= MANY_LANES);
}

#[tokio::test]
async fn a_single_call_of_an_account_is_never_delayed_by_more_than_its_fair_share() {
    let world = world(3);
    let mut calls: Vec<(Duration, bool, Waiting<'_>)> = Vec::new();
    // Two that always have twenty calls waiting, and one that calls now and then.
    for tick in 0..600_u64 {
        let now = world.clock.monotonic();
        for account in ["greedy", "also"] {
            if tick % 20 == 0 {
                calls.extend((0..20).map(|_| (now, false, world.turn(account))));
            }
        }
        if tick % 37 == 0 {
            calls.push((now, true, world.turn("modest")));
        }
        let mut waiting = Vec::new();
        for (since, modest, mut call) in calls {
            match poll!(&mut call) {
                std::task::Poll::Ready(turn) => {
                    // One turn of each of the two others, and its own. They may have to wait too long.
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

/// What happens while calls wait.
#[derive(Debug, Clone)]
enum Happening {
    Comes { account: u8, patience: Option<u64> },
    GivesUp(prop::sample::Index),
    Passes(u64),
    Paused(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0_u8..4, prop::option::of(0_u64..2_000))
            .prop_map(|(account, patience)| Happening::Comes { account, patience }),
        2 => any::<prop::sample::Index>().prop_map(Happening::GivesUp),
        3 => (0_u64..300).prop_map(Happening::Passes),
        1 => (0_u64..500).prop_map(Happening::Paused),
    ]
}

/// Calls as tasks, which are only looked at when somebody wakes them.
async fn play(happenings: Vec<Happening>, burst: u32) -> Vec<Duration> {
    let World { clock, budget, tenant, rate } = world(burst);
    let budget = Arc::new(budget);
    let mut calls: JoinSet<Result<Duration, NoTurn>> = JoinSet::new();
    let mut handles: Vec<AbortHandle> = Vec::new();
    let mut went = Vec::new();
    let milliseconds = Duration::from_millis;
    for happening in happenings {
        match happening {
            Happening::Comes { account, patience } => {
                let (budget, tenant, clock) = (budget.clone(), tenant.clone(), clock.clone());
                let deadline = patience.map(|patience| clock.monotonic() + milliseconds(patience));
                handles.push(calls.spawn(async move {
                    let account = account.to_string().into();
                    let turn = budget.turn(&tenant, rate, &account, deadline).await;
                    let now = clock.monotonic();
                    assert!(turn.is_err() || deadline.is_none_or(|deadline| now <= deadline));
                    turn.map(|_| now)
                }));
            }
            Happening::GivesUp(which) if !handles.is_empty() => which.get(&handles).abort(),
            Happening::GivesUp(_) => {}
            Happening::Passes(time) => clock.advance(milliseconds(time)),
            Happening::Paused(time) => budget.pause(&tenant, rate, milliseconds(time)),
        }
        // Long enough for each to wake the next, all the way through.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    // In the end everybody has its turn or is refused, though nobody comes any more.
    for _ in 0..1_000 {
        while let Some(ended) = calls.try_join_next() {
            went.extend(ended.ok().and_then(Result::ok));
        }
        if calls.is_empty() {
            assert!(budget.lock().of.values().all(Lane::nobody_waits));
            return went;
        }
        clock.advance(milliseconds(100));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    panic!("{} still wait", calls.len());
}

proptest! {
    #[test]
    fn whatever_happens_nobody_is_forgotten_and_no_more_go_than_may(
        happenings in prop::collection::vec(happening(), 0..60),
        burst in 1_u32..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut went = runtime.block_on(play(happenings, burst));
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
