mod denials;
mod tampering;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{future::join_all, poll};
use jiff::Timestamp;
use tokio::task::{JoinSet, yield_now};

use super::{
    fakes::{Failure, MemoryAudit, keys},
    trail::BURST_CAPACITY,
    *,
};
use crate::{
    crypto::SystemRandom,
    domain::{AuditEvent, AuditRecord, Decision, NO_HASH},
    ports::{Clock as _, ManualClock},
};

const MAX_WAIT: Duration = Duration::from_secs(2);

struct World {
    store: Arc<MemoryAudit>,
    clock: Arc<ManualClock>,
    trail: Arc<Trail>,
    /// Owns the writer's task.
    tasks: JoinSet<()>,
}

impl World {
    fn new(durability: Durability) -> Self {
        let store = Arc::new(MemoryAudit::default());
        let clock = Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()));
        let ports = TrailPorts {
            store: store.clone(),
            signer: keys(),
            clock: clock.clone(),
            timer: clock.clone(),
        };
        let rules = TrailRules { durability, max_wait: MAX_WAIT };
        let trail = Trail::new(ports, "serve-1".into(), rules);
        Self { store, clock, trail: Arc::new(trail), tasks: JoinSet::new() }
    }

    fn running(durability: Durability) -> Self {
        let mut world = Self::new(durability);
        world.start();
        world
    }

    fn start(&mut self) {
        let trail = Arc::clone(&self.trail);
        self.tasks.spawn(async move { trail.run().await });
    }

    fn record(&self, number: usize) -> Result<PendingEvent, AuditUnavailable> {
        self.trail.record(event(number), EventClass::Credential)
    }

    /// Lets all tasks run until they wait.
    async fn settle(&self) {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    async fn advance(&self, by: Duration) {
        // In small steps, because a task that wakes up may sleep again.
        for _ in 0..20 {
            self.settle().await;
            self.clock.advance(by / 20);
        }
        self.settle().await;
    }

    /// Returns the stored events after checking that their numbers and hash chain have no gap.
    fn kept(&self) -> Vec<usize> {
        let events = self.store.read("serve-1");
        let mut previous_hash = NO_HASH;
        for (sequence, event) in (1..).zip(&events) {
            assert_eq!((event.sequence, event.previous_hash), (sequence, previous_hash));
            previous_hash = event.hash;
        }
        events.iter().map(|event: &AuditEvent| event.record.caller.parse().unwrap()).collect()
    }
}

fn event(number: usize) -> AuditRecord {
    AuditRecord {
        caller: number.to_string().into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Allowed)
    }
}

fn numbers(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[tokio::test]
async fn commits_queued_events_as_one_group_and_notifies_all_callers() {
    let mut world = World::new(Durability::BeforeResponse);
    let pending: Vec<_> = (0..100).map(|number| world.record(number).unwrap()).collect();
    world.start();
    for answer in join_all(pending.into_iter().map(PendingEvent::committed)).await {
        answer.unwrap();
    }
    assert_eq!(world.kept(), numbers(100));
    assert_eq!(*world.store.groups.lock().unwrap(), [100]);
    assert_eq!(world.trail.counters().events.get(), 100);
    assert_eq!(world.trail.counters().groups.get(), 1);
}

#[tokio::test]
async fn a_group_is_what_was_queued_during_the_last_commit() {
    let world = World::running(Durability::BeforeResponse);
    world.store.fail([Failure::Refuse]);
    let first = world.record(0).unwrap();
    world.settle().await;
    // The pause before the next attempt lasts 50 ms. Meanwhile these are queued.
    let second: Vec<_> = (1..11).map(|number| world.record(number).unwrap()).collect();
    world.settle().await;
    world.clock.advance(Duration::from_millis(50));
    first.committed().await.unwrap();
    for answer in join_all(second.into_iter().map(PendingEvent::committed)).await {
        answer.unwrap();
    }
    // No event with a waiting caller waits for a timer: the clock stands still.
    for number in 11..15 {
        world.record(number).unwrap().committed().await.unwrap();
    }
    assert_eq!(*world.store.groups.lock().unwrap(), [1, 10, 1, 1, 1, 1]);
    assert_eq!(world.kept(), numbers(15));
}

#[tokio::test]
async fn events_without_a_waiting_caller_are_collected() {
    let world = World::running(Durability::BeforeResponse);
    for number in 0..5 {
        world.trail.record_in_background(event(number), EventClass::Change).unwrap();
        world.settle().await;
    }
    assert!(world.kept().is_empty());
    world.clock.advance(Duration::from_millis(10));
    world.settle().await;
    assert_eq!(*world.store.groups.lock().unwrap(), [5]);
    world.trail.record_in_background(event(5), EventClass::Change).unwrap();
    world.settle().await;
    world.record(6).unwrap().committed().await.unwrap();
    assert_eq!(*world.store.groups.lock().unwrap(), [5, 2], "a waiting caller ends the delay");
}

#[tokio::test]
async fn limits_the_group_size() {
    let mut world = World::new(Durability::BeforeResponse);
    let pending: Vec<_> = (0..1500).map(|number| world.record(number).unwrap()).collect();
    world.start();
    for answer in join_all(pending.into_iter().map(PendingEvent::committed)).await {
        answer.unwrap();
    }
    assert_eq!(*world.store.groups.lock().unwrap(), [512, 512, 476]);
    assert_eq!(world.kept(), numbers(1500));
}

#[tokio::test]
async fn a_failing_store_neither_loses_nor_doubles_events() {
    for failures in [
        vec![Failure::Refuse; 5],
        vec![Failure::KeepAndReport],
        vec![Failure::Refuse, Failure::KeepAndReport, Failure::Refuse],
        vec![Failure::Hang, Failure::KeepAndHang],
    ] {
        let world = World::running(Durability::BeforeResponse);
        world.store.fail(failures.clone());
        let first: Vec<_> = (0..10).map(|number| world.record(number).unwrap()).collect();
        world.settle().await;
        let second: Vec<_> = (10..20).map(|number| world.record(number).unwrap()).collect();
        world.advance(Duration::from_mins(1)).await;
        // Events whose callers timed out are stored, too.
        drop((first, second));
        assert_eq!(world.kept(), numbers(20), "{failures:?}");
        assert_eq!(world.trail.counters().failures.get(), failures.len() as u64);
        assert!(!world.trail.stalled());
        world.record(20).unwrap().committed().await.unwrap();
    }
}

#[tokio::test]
async fn a_hanging_store_fails_calls_after_max_wait_and_stalls_the_trail() {
    let world = World::running(Durability::BeforeResponse);
    world.store.fail([Failure::Hang]);
    let mut told = world.trail.watch_stalled();
    let mut answer = Box::pin(world.record(0).unwrap().committed());
    assert!(poll!(&mut answer).is_pending());
    world.advance(MAX_WAIT.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert!(poll!(&mut answer).is_pending());
    assert!(!world.trail.stalled());
    world.advance(Duration::from_millis(1)).await;
    assert_eq!(answer.await, Err(AuditUnavailable));
    assert!(*told.wait_for(|stalled| *stalled).await.unwrap());
    assert!(world.kept().is_empty());
    world.advance(Duration::from_secs(15)).await;
    assert!(!*told.borrow());
    assert_eq!(world.kept(), [0]);
}

#[tokio::test]
async fn a_call_with_several_events_waits_no_longer_than_max_wait() {
    let world = World::running(Durability::BeforeResponse);
    world.store.fail([Failure::Hang]);
    let (first, second) = (world.record(0).unwrap(), world.record(1).unwrap());
    world.advance(MAX_WAIT).await;
    for event in [first, second] {
        let mut answer = Box::pin(event.committed());
        assert_eq!(poll!(&mut answer), std::task::Poll::Ready(Err(AuditUnavailable)));
    }
}

#[tokio::test]
async fn a_full_queue_rejects_events_at_once() {
    let mut world = World::new(Durability::AfterResponse);
    for number in 0..QUEUE_CAPACITY {
        world.record(number).unwrap().committed().await.unwrap();
    }
    assert!(world.record(QUEUE_CAPACITY).is_err());
    assert_eq!(world.trail.queued(), QUEUE_CAPACITY);
    world.start();
    world.trail.flush(MAX_WAIT).await.unwrap();
    assert_eq!(world.kept(), numbers(QUEUE_CAPACITY));
    world.record(QUEUE_CAPACITY).unwrap().committed().await.unwrap();
}

#[tokio::test]
async fn accepts_a_burst_beyond_the_queue_while_the_store_keeps_up() {
    let mut world = World::new(Durability::BeforeResponse);
    let calls: Vec<_> =
        (0..BURST_CAPACITY).map(|number| world.record(number).unwrap().committed()).collect();
    assert!(world.record(BURST_CAPACITY).is_err());
    world.start();
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(world.kept(), numbers(BURST_CAPACITY));
}

#[tokio::test]
async fn dropping_a_pending_event_does_not_lose_it() {
    let world = World::running(Durability::BeforeResponse);
    drop(world.record(0).unwrap());
    world.record(1).unwrap().committed().await.unwrap();
    assert_eq!(world.kept(), [0, 1]);
}

#[tokio::test]
async fn a_restarted_writer_continues_where_it_stopped() {
    for failure in [Failure::Hang, Failure::KeepAndHang] {
        let mut world = World::running(Durability::BeforeResponse);
        world.store.fail([failure]);
        let pending = world.record(0).unwrap();
        world.settle().await;
        world.tasks.shutdown().await;
        world.start();
        pending.committed().await.unwrap();
        world.record(1).unwrap().committed().await.unwrap();
        assert_eq!(world.kept(), [0, 1]);
    }
}

#[tokio::test]
async fn with_after_response_only_changes_wait() {
    let world = World::running(Durability::AfterResponse);
    world.settle().await;
    world.record(0).unwrap().committed().await.unwrap();
    world.settle().await;
    assert!(world.kept().is_empty(), "collected for a while first");
    world.clock.advance(Duration::from_millis(10));
    world.settle().await;
    assert_eq!(world.kept(), [0]);
    world.record(1).unwrap().committed().await.unwrap();
    let change = world.trail.record(event(2), EventClass::Change).unwrap();
    change.committed().await.unwrap();
    assert_eq!(world.kept(), [0, 1, 2]);

    world.store.fail([Failure::Hang]);
    let mut change = Box::pin(world.trail.write(event(3), EventClass::Change));
    assert!(poll!(&mut change).is_pending());
    world.record(4).unwrap().committed().await.unwrap();
    world.advance(MAX_WAIT).await;
    assert_eq!(change.await, Err(AuditUnavailable));
    world.advance(Duration::from_secs(15)).await;
    assert_eq!(world.kept(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn flush_gives_up_at_its_deadline() {
    let world = World::running(Durability::AfterResponse);
    world.trail.flush(MAX_WAIT).await.unwrap();
    world.store.fail([Failure::Refuse; 100]);
    world.record(0).unwrap().committed().await.unwrap();
    let mut flush = Box::pin(world.trail.flush(MAX_WAIT));
    assert!(poll!(&mut flush).is_pending());
    world.advance(MAX_WAIT).await;
    assert_eq!(flush.await, Err(AuditUnavailable));
    // The writer holds the event: it is neither queued nor stored. Its call was already answered.
    let waits = UncommittedEvents { answered: 1, unanswered: 0 };
    assert_eq!((world.trail.queued(), world.trail.unwritten()), (0, waits));
}

#[tokio::test]
async fn counts_unwritten_events_by_whether_their_call_was_answered() {
    let world = World::running(Durability::AfterResponse);
    world.store.fail([Failure::Refuse; 100]);
    let (credential, change) = (EventClass::Credential, EventClass::Change);
    // Answered already: a credential under `AfterResponse`, and an event without a waiting caller.
    let handed_out = world.trail.record(event(0), credential).unwrap();
    handed_out.committed().await.unwrap();
    world.trail.record_in_background(event(1), change).unwrap();
    // Not answered: a change, whether its caller still waits or has gone.
    let waiting = world.trail.record(event(2), change).unwrap();
    drop(world.trail.record(event(3), change).unwrap());
    let mut waiting = Box::pin(waiting.committed());
    assert!(poll!(&mut waiting).is_pending());
    world.advance(MAX_WAIT).await;
    assert_eq!(world.trail.unwritten(), UncommittedEvents { answered: 2, unanswered: 2 });
}

#[tokio::test]
async fn a_refusing_trail_rejects_events_until_it_is_reset() {
    for durability in [Durability::BeforeResponse, Durability::AfterResponse] {
        let world = World::running(durability);
        let mut stalled = world.trail.watch_stalled();
        world.trail.set_refusing(true);
        assert!(*stalled.borrow_and_update() && world.trail.stalled());
        for weight in [EventClass::Credential, EventClass::Change] {
            assert_eq!(world.trail.check(weight), Err(AuditUnavailable));
            assert!(world.trail.record(event(0), weight).is_err());
            assert!(world.trail.record_in_background(event(0), weight).is_err());
        }
        world.trail.set_refusing(false);
        assert!(!*stalled.borrow_and_update());
        world.trail.check(EventClass::Credential).unwrap();
        world.record(1).unwrap().committed().await.unwrap();
    }
}

#[tokio::test]
async fn ignores_small_backward_clock_steps_and_follows_large_ones() {
    let world = World::running(Durability::BeforeResponse);
    let mut tip = chain::Tip::find(&*world.store, &"serve-2".into()).await.unwrap();
    let times =
        [5, 9, 7, 69, 9, 8, 99_999, 10, 11].map(|second| Timestamp::from_second(second).unwrap());
    let records = times.into_iter().map(|time| (event(0), time));
    let signer = keys();
    let Ok(group) = tip.group(records, &*signer).sign(&*signer) else { panic!("not signed") };
    let times: Vec<_> = group.rows.iter().map(|row| row.time.as_second()).collect();
    assert_eq!(times, [5, 9, 9, 69, 69, 8, 99_999, 10, 11]);
}

#[tokio::test]
async fn the_first_event_links_to_the_heads_of_all_other_chains() {
    let world = World::running(Durability::BeforeResponse);
    let commands = {
        let (store, clock) = (world.store.clone(), world.clock.clone());
        CommandTrail::new(store, keys(), clock, Arc::new(SystemRandom))
    };
    for number in 0..3 {
        commands.write(event(number)).await.unwrap();
    }
    world.record(0).unwrap().committed().await.unwrap();
    world.record(1).unwrap().committed().await.unwrap();
    let cli = world.store.read(COMMAND_CHAIN);
    assert_eq!(cli.len(), 3);
    assert!(cli.iter().all(|event| event.links.is_empty()));
    let [first, second] = &world.store.read("serve-1")[..] else { panic!("expected two events") };
    let [link] = &first.links[..] else { panic!("expected one link") };
    assert_eq!((&*link.chain, link.sequence, link.hash), (COMMAND_CHAIN, 3, cli[2].hash));
    assert!(second.links.is_empty());
}

#[tokio::test]
async fn records_one_event_per_source_and_minute_for_attempts() {
    let mut world = World::running(Durability::BeforeResponse);
    let attempts = Arc::new(UnauthenticatedAttempts::new(world.clock.clone()));
    let (counter, trail) = (Arc::clone(&attempts), Arc::clone(&world.trail));
    world.tasks.spawn(async move { counter.run(&trail).await });
    let begin = world.clock.now();
    for _ in 0..1000 {
        attempts.count("192.0.2.1");
    }
    attempts.count("192.0.2.2");
    world.advance(Duration::from_mins(1)).await;
    world.advance(Duration::from_mins(1)).await;
    let events = world.store.read("serve-1");
    let told: Vec<_> = events
        .iter()
        .map(|event| (&*event.record.client_address, attempts_of(event), event.record.code))
        .collect();
    assert_eq!(told, [("192.0.2.1", 1000, 16), ("192.0.2.2", 1, 16)]);
    for event in &events {
        assert_eq!((&*event.record.action, &*event.record.reason), ("authenticate", ""));
        let aggregate = event.record.aggregate.as_deref().unwrap();
        assert_eq!((aggregate.last_time, aggregate.resource_count), (begin, 0));
    }
}

#[tokio::test]
async fn limits_events_in_a_flood_of_sources_and_keeps_counts_while_the_queue_is_full() {
    let mut world = World::new(Durability::AfterResponse);
    let attempts = UnauthenticatedAttempts::new(world.clock.clone());
    for number in 0..10_000 {
        attempts.count(&format!("source-{number}"));
    }
    // Recorded by name, because it has more attempts than the others.
    attempts.count("source-4000");
    while world.record(0).is_ok() {}
    attempts.flush(&world.trail);
    world.start();
    world.trail.flush(MAX_WAIT).await.unwrap();
    attempts.flush(&world.trail);
    world.trail.flush(MAX_WAIT).await.unwrap();
    let events = world.store.read("serve-1").split_off(QUEUE_CAPACITY);
    let sources: BTreeSet<_> =
        events.iter().map(|event| event.record.client_address.to_string()).collect();
    assert_eq!(events.len(), sources.len());
    assert_eq!(sources.len(), 65, "those with most attempts, and one for all others");
    assert!(sources.contains("source-4000") && sources.contains("others"));
    assert_eq!(events.iter().map(attempts_of).sum::<u64>(), 10_001);
}

/// Returns the number of attempts that an event stands for.
fn attempts_of(event: &AuditEvent) -> u64 {
    event.record.aggregate.as_deref().unwrap().count
}
