//! Tests of aggregated denials.

use super::*;
use crate::{
    audit::denials::{MAX_CALLER_WINDOWS, MAX_DISTINCT_RESOURCES, MAX_WINDOWS, WINDOW},
    domain::{Aggregate, AuditText, Reason},
};

const APPLICATION: &str = "applications/crm-sync";

fn tenant(number: usize) -> AuditText {
    format!("{APPLICATION}/tenants/Cust{number}").into()
}

fn denial(number: usize) -> AuditRecord {
    AuditRecord {
        caller: "mallory".into(),
        caller_method: "jwt".into(),
        caller_issuer: "https://issuer.test".into(),
        resource: tenant(number),
        code: 7,
        error_reason: Some(Reason::PolicyDenied),
        request_id: format!("r-{number}").into(),
        client_address: "192.0.2.1".into(),
        ..AuditRecord::new("issueSystemTicket", Decision::Denied)
    }
}

fn aggregate(event: &AuditRecord) -> &Aggregate {
    event.aggregate.as_deref().unwrap()
}

impl World {
    /// A running trail that records counted denials at the end of their windows.
    fn aggregating() -> Self {
        let mut world = Self::running(Durability::AfterResponse);
        let trail = Arc::clone(&world.trail);
        world.tasks.spawn(async move { trail.run_denials().await });
        world
    }

    async fn deny(&self, denial: AuditRecord) -> Result<(), AuditUnavailable> {
        self.trail.write(denial, EventClass::Change).await
    }

    /// Records a denial whose caller does not wait.
    fn deny_soon(&self, denial: AuditRecord) -> Result<(), AuditUnavailable> {
        self.trail.record(denial, EventClass::Change).map(drop)
    }

    /// Records all counted denials, as the shutdown does.
    async fn flush(&self) {
        self.trail.flush_denials().unwrap();
        self.trail.flush(MAX_WAIT).await.unwrap();
    }

    fn records(&self) -> Vec<AuditRecord> {
        self.store.read("serve-1").into_iter().map(|event| event.record).collect()
    }
}

#[tokio::test]
async fn the_first_denial_is_written_before_its_answer_and_the_others_within_a_minute() {
    let world = World::aggregating();
    world.store.fail([Failure::Refuse]);
    let mut first = Box::pin(world.deny(denial(0)));
    assert!(poll!(&mut first).is_pending());
    world.settle().await;
    assert!(poll!(&mut first).is_pending());
    // The writer tries again after 50 ms.
    world.clock.advance(Duration::from_millis(50));
    first.await.unwrap();
    assert_eq!(world.records(), [denial(0)]);

    for number in 1..10 {
        world.deny(denial(number)).await.unwrap();
    }
    let last_time = world.clock.now();
    world.advance(Duration::from_secs(59)).await;
    assert_eq!(world.records(), [denial(0)]);
    world.advance(Duration::from_secs(1)).await;
    let counted = AuditRecord {
        resource: APPLICATION.into(),
        request_id: AuditText::default(),
        aggregate: Some(Arc::new(Aggregate {
            count: 9,
            last_time,
            resources: (1..10).map(tenant).collect(),
            resource_count: 9,
        })),
        ..denial(1)
    };
    assert_eq!(world.records(), [denial(0), counted]);
    assert_eq!(world.trail.counters().aggregated_denials.get(), 9);

    // The next denial is a first one again. A window without others leaves no further event.
    world.deny(denial(1)).await.unwrap();
    assert_eq!(world.records().split_off(2), [denial(1)]);
    world.advance(2 * WINDOW).await;
    assert_eq!(world.records().len(), 3);
}

#[tokio::test]
async fn a_caller_that_probes_300_tenants_is_seen() {
    let world = World::aggregating();
    for number in 0..300 {
        world.deny(denial(number)).await.unwrap();
        world.deny(denial(number)).await.unwrap();
    }
    world.advance(2 * WINDOW).await;
    let [first, others] = &world.records()[..] else { panic!("expected two events") };
    assert_eq!(*first, denial(0));
    let Aggregate { count, resources, resource_count, .. } = aggregate(others);
    assert_eq!((*count, *resource_count), (599, 300));
    assert_eq!(*resources, (0..32).map(tenant).collect::<Vec<_>>());
}

#[tokio::test]
async fn shutdown_records_what_was_counted() {
    let world = World::running(Durability::BeforeResponse);
    for number in 0..3 {
        world.deny(denial(number)).await.unwrap();
    }
    assert_eq!(world.trail.unwritten(), UncommittedEvents { answered: 1, unanswered: 0 });
    world.flush().await;
    assert_eq!(world.trail.unwritten(), UncommittedEvents { answered: 0, unanswered: 0 });
    let [first, others] = &world.records()[..] else { panic!("expected two events") };
    assert_eq!(*first, denial(0));
    assert_eq!((aggregate(others).count, aggregate(others).resource_count), (2, 2));
}

#[tokio::test]
async fn an_aggregated_event_has_the_fields_in_which_its_denials_are_equal() {
    let world = World::running(Durability::BeforeResponse);
    let full = AuditRecord {
        acting_as: "system".into(),
        policy_ids: ["outcasts".into()].into(),
        reason: "nightly".into(),
        credential_id: "t-1".into(),
        trace_id: "trace".into(),
        method: "GET".into(),
        path: "/v1/Contact".into(),
        ..denial(1)
    };
    world.deny(full.clone()).await.unwrap();
    world.deny(full.clone()).await.unwrap();
    world.flush().await;
    let event = world.records().pop().unwrap();
    assert_eq!(aggregate(&event).resources, [tenant(1)]);
    assert_eq!(AuditRecord { aggregate: None, ..event }, full);

    let other = AuditRecord {
        acting_as: "associates/1".into(),
        policy_ids: Arc::default(),
        reason: "daily".into(),
        credential_id: "t-2".into(),
        request_id: "r-x".into(),
        trace_id: "other".into(),
        client_address: "192.0.2.2".into(),
        method: "PUT".into(),
        path: "/v1/Person".into(),
        ..denial(2)
    };
    for denial in [&full, &full, &other, &full] {
        world.deny(denial.clone()).await.unwrap();
    }
    world.flush().await;
    let event = world.records().pop().unwrap();
    let [one, two] = &aggregate(&event).resources[..] else { panic!("expected two resources") };
    assert_eq!((one, two), (&tenant(1), &tenant(2)));
    let common = AuditRecord {
        resource: APPLICATION.into(),
        request_id: AuditText::default(),
        client_address: AuditText::default(),
        ..denial(0)
    };
    assert_eq!(AuditRecord { aggregate: None, ..event }, common);
}

#[tokio::test]
async fn callers_actions_reasons_and_applications_are_counted_apart() {
    let world = World::running(Durability::BeforeResponse);
    let kinds = [
        denial(1),
        AuditRecord { caller: "eve".into(), ..denial(1) },
        AuditRecord { caller_method: "mtls".into(), ..denial(1) },
        AuditRecord { caller_issuer: "https://other.test".into(), ..denial(1) },
        AuditRecord { action: "readTenants".into(), ..denial(1) },
        AuditRecord { error_reason: Some(Reason::PathNotAllowed), ..denial(1) },
        AuditRecord { error_reason: None, code: 1, ..denial(1) },
        AuditRecord { resource: "applications/crm-sync2/tenants/Cust1".into(), ..denial(1) },
        AuditRecord { resource: "gateway".into(), ..denial(1) },
        AuditRecord { resource: AuditText::default(), action: "manageGrants".into(), ..denial(1) },
    ];
    for _ in 0..3 {
        for kind in &kinds {
            world.deny(kind.clone()).await.unwrap();
        }
    }
    assert_eq!(world.records(), kinds);
    world.flush().await;
    let events = world.records().split_off(kinds.len());
    assert!(events.iter().all(|event| aggregate(event).count == 2), "{events:?}");
    let events = events.into_iter().map(|event| AuditRecord { aggregate: None, ..event });
    assert_eq!(events.collect::<Vec<_>>(), kinds);
}

#[tokio::test]
async fn an_event_names_resources_of_one_application_only() {
    let world = World::running(Durability::BeforeResponse);
    for number in 0..20 {
        let application = ["applications/one", "applications/two"][number % 2];
        let resource = format!("{application}/tenants/Cust{number}").into();
        world.deny(AuditRecord { resource, ..denial(0) }).await.unwrap();
    }
    world.flush().await;
    let events = world.records().split_off(2);
    assert_eq!(events.len(), 2);
    for event in events {
        let below = format!("{}/", event.resource);
        let resources = &aggregate(&event).resources;
        assert_eq!(resources.len(), 9);
        assert!(resources.iter().all(|name| name.starts_with(&below)), "{resources:?}");
    }
}

#[tokio::test]
async fn allowed_decisions_are_never_aggregated() {
    let world = World::running(Durability::BeforeResponse);
    let failed = AuditRecord { decision: Decision::Allowed, ..denial(0) };
    for _ in 0..10 {
        world.deny(failed.clone()).await.unwrap();
    }
    world.flush().await;
    assert_eq!(world.records(), vec![failed; 10]);
}

#[tokio::test]
async fn of_denials_at_the_same_time_one_is_the_first_and_all_wait_for_its_event() {
    let world = World::running(Durability::AfterResponse);
    world.store.fail([Failure::Refuse]);
    let mut calls: Vec<_> = (0..5).map(|number| Box::pin(world.deny(denial(number)))).collect();
    for _ in 0..2 {
        for call in &mut calls {
            assert!(poll!(call).is_pending());
        }
        world.settle().await;
    }
    world.clock.advance(Duration::from_millis(50));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(world.records(), [denial(0)]);
    world.flush().await;
    assert_eq!(aggregate(&world.records()[1]).count, 4);
}

#[tokio::test]
async fn a_denial_fails_while_the_first_one_of_its_window_is_not_written() {
    let world = World::aggregating();
    world.store.fail([Failure::Hang]);
    let mut first = Box::pin(world.deny(denial(0)));
    assert!(poll!(&mut first).is_pending());
    world.advance(MAX_WAIT).await;
    assert_eq!(first.await, Err(AuditUnavailable));
    let mut second = Box::pin(world.deny(denial(1)));
    assert!(poll!(&mut second).is_pending());
    world.advance(MAX_WAIT).await;
    assert_eq!(second.await, Err(AuditUnavailable));
    // The writer gives up the attempt after 10 s.
    world.advance(Duration::from_secs(15)).await;
    assert_eq!(world.records(), [denial(0)]);
    world.deny(denial(2)).await.unwrap();
    world.advance(WINDOW).await;
    assert_eq!(aggregate(&world.records()[1]).count, 2);
}

#[tokio::test]
async fn a_counted_denial_fails_while_the_trail_is_stalled() {
    let world = World::running(Durability::AfterResponse);
    world.deny(denial(0)).await.unwrap();
    world.store.fail([Failure::Hang]);
    world.deny_soon(AuditRecord { caller: "eve".into(), ..denial(0) }).unwrap();
    world.advance(MAX_WAIT).await;
    assert!(world.trail.stalled());
    let mut counted = Box::pin(world.deny(denial(1)));
    assert!(poll!(&mut counted).is_pending());
    world.advance(MAX_WAIT).await;
    assert_eq!(counted.await, Err(AuditUnavailable));
    world.advance(Duration::from_secs(15)).await;
    assert!(!world.trail.stalled());
    world.deny(denial(2)).await.unwrap();
}

#[tokio::test]
async fn a_refusing_trail_rejects_denials_and_keeps_the_counts() {
    let world = World::aggregating();
    for number in 0..3 {
        world.deny(denial(number)).await.unwrap();
    }
    world.trail.set_refusing(true);
    for caller in ["mallory", "eve"] {
        let denied = world.deny(AuditRecord { caller: caller.into(), ..denial(3) }).await;
        assert_eq!(denied, Err(AuditUnavailable));
    }
    assert_eq!(world.trail.flush_denials(), Err(AuditUnavailable));
    world.advance(2 * WINDOW).await;
    assert_eq!(world.records(), [denial(0)]);
    world.trail.set_refusing(false);
    world.advance(Duration::from_secs(3)).await;
    let [_, others] = &world.records()[..] else { panic!("expected two events") };
    assert_eq!(aggregate(others).count, 2);
}

#[tokio::test]
async fn a_full_queue_rejects_denials_and_keeps_the_counts() {
    let mut world = World::new(Durability::AfterResponse);
    world.deny_soon(denial(0)).unwrap();
    world.deny_soon(denial(1)).unwrap();
    while world.trail.record_in_background(event(0), EventClass::Change).is_ok() {}
    assert!(world.deny_soon(denial(2)).is_err(), "a counted one");
    let other = || AuditRecord { caller: "eve".into(), ..denial(2) };
    assert!(world.deny_soon(other()).is_err(), "a first one");
    assert_eq!(world.trail.flush_denials(), Err(AuditUnavailable));
    world.start();
    world.trail.flush(MAX_WAIT).await.unwrap();
    // The rejected first one has opened no window.
    world.deny(other()).await.unwrap();
    world.flush().await;
    let mut events = world.records().split_off(BURST_CAPACITY);
    let others = events.pop().unwrap();
    assert_eq!(events, [other()]);
    assert_eq!((aggregate(&others).count, &others.resource), (1, &tenant(1)));
}

#[tokio::test]
async fn too_many_windows_end_the_oldest_one_early() {
    let mut world = World::new(Durability::AfterResponse);
    let of = |number: usize| AuditRecord { caller: format!("c-{number}").into(), ..denial(0) };
    for number in 0..MAX_WINDOWS {
        world.deny_soon(of(number)).unwrap();
        world.deny_soon(of(number)).unwrap();
    }
    assert_eq!(world.trail.queued(), MAX_WINDOWS);
    world.deny_soon(of(MAX_WINDOWS)).unwrap();
    assert_eq!(world.trail.queued(), MAX_WINDOWS + 2);
    // The removed window opens again, and ends the next one.
    world.deny_soon(of(0)).unwrap();
    world.start();
    world.trail.flush(MAX_WAIT).await.unwrap();
    let events = world.records().split_off(MAX_WINDOWS);
    let callers = events.iter().map(|event| (&*event.caller, event.aggregate.is_some()));
    let newest = format!("c-{MAX_WINDOWS}");
    assert_eq!(
        callers.collect::<Vec<_>>(),
        [(&*newest, false), ("c-0", true), ("c-0", false), ("c-1", true)]
    );
}

#[tokio::test]
async fn a_caller_that_makes_up_applications_leaves_few_events() {
    let mut world = World::new(Durability::AfterResponse);
    let of = |number: usize| {
        let resource = format!("applications/made-up-{number}/tenants/Cust1").into();
        AuditRecord { resource, ..denial(0) }
    };
    for _ in 0..2 {
        (0..1000).for_each(|number| world.deny_soon(of(number)).unwrap());
    }
    assert_eq!(world.trail.queued(), MAX_CALLER_WINDOWS + 1);
    world.deny_soon(AuditRecord { caller: "eve".into(), ..of(0) }).unwrap();
    assert_eq!(world.trail.queued(), MAX_CALLER_WINDOWS + 2, "other callers are counted apart");
    world.start();
    world.flush().await;
    let events = world.records().split_off(MAX_CALLER_WINDOWS + 2);
    let (several, apart): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| event.resource.is_empty());
    assert_eq!(apart.len(), MAX_CALLER_WINDOWS);
    assert!(apart.iter().all(|event| aggregate(event).count == 1));
    let [several] = several[..] else { panic!("{several:?}") };
    let others = 1000 - MAX_CALLER_WINDOWS as u64;
    let Aggregate { count, resources, resource_count, .. } = aggregate(several);
    assert_eq!((*count, *resource_count, resources.len()), (2 * others - 1, others, 32));
}

#[tokio::test]
async fn limits_the_resources_that_a_window_tells_apart() {
    let mut world = World::new(Durability::AfterResponse);
    for number in 0..=MAX_DISTINCT_RESOURCES + 10 {
        world.deny_soon(denial(number)).unwrap();
    }
    world.start();
    world.flush().await;
    let others = &world.records()[1];
    let Aggregate { count, resource_count, .. } = aggregate(others);
    let limit = MAX_DISTINCT_RESOURCES as u64;
    assert_eq!((*count, *resource_count), (limit + 10, limit));
}
