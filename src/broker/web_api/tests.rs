//! The rules of healing, one test each.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use http::Method;

use super::*;
use crate::{
    broker::fakes::{Told, World, asking, question, request, tenant},
    domain::Reason,
    ports::{ApiBody, BodyCopy, COPIED_BYTES, CopyBudget},
};

const SECOND: Duration = Duration::from_secs(1);

async fn ask(world: &World) -> Result<usize, BrokerError> {
    world.in_time(world.web_api.read(&asking(), &question())).await
}

async fn order(world: &World) -> Result<ApiResponse, BrokerError> {
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    send(world, order).await.map(|sent| sent.response)
}

async fn send(world: &World, request: ApiRequest) -> Result<Sent, BrokerError> {
    world.in_time(world.web_api.send(&asking(), request, &mut |_| {})).await
}

fn stream_of_one() -> ApiBody {
    let parts = stream::iter([Ok(Bytes::from_static(b"part"))]).boxed();
    ApiBody::Stream { parts, length: None, copy: None }
}

/// A body of so many bytes without a length, which is copied while it is sent.
fn copied(bytes: usize, budget: &CopyBudget) -> ApiBody {
    let parts = stream::iter([Ok(Bytes::from(vec![b'x'; bytes]))]).boxed();
    let (parts, copy) = BodyCopy::of(parts, budget);
    ApiBody::Stream { parts, length: None, copy: Some(copy) }
}

/// The steps that a call's records received, and the status of its answer.
async fn steps(
    world: &World,
    request: ApiRequest,
) -> (Vec<&'static str>, Result<u16, BrokerError>) {
    let mut steps = Vec::new();
    let mut used = |progress: SendProgress<'_>| {
        steps.push(match progress {
            SendProgress::Sends(_) => "sends",
            SendProgress::DidNotRun => "did not run",
        });
    };
    let sent = world.in_time(world.web_api.send(&asking(), request, &mut used)).await;
    (steps, sent.map(|sent| sent.response.status.as_u16()))
}

fn reason<T>(result: Result<T, BrokerError>) -> Reason {
    result.err().map(|error| error.reason()).unwrap()
}

#[tokio::test]
async fn a_question_is_asked_with_the_tenants_ticket_at_the_tenants_host() {
    let world = World::new();
    assert_eq!(ask(&world).await, Ok(4));
    assert_eq!(world.tickets(), ["7T:1"]);
    assert_eq!(world.arrived()[0].uri, "https://one.superoffice.com/Cust1/api");
    assert_eq!(world.counters.web_api_calls.get(), 1);
    assert_eq!(world.counters.web_api_repeats.get(), 0);
}

#[tokio::test]
async fn after_401_a_dead_ticket_is_replaced_and_the_call_made_once_more() {
    let world = World::new();
    ask(&world).await.unwrap();
    world.upstream.dead.lock().unwrap().insert("7T:1".to_owned());
    assert_eq!(order(&world).await.unwrap().status, 200);
    assert_eq!(world.tickets(), ["7T:1", "7T:1", "7T:2"]);
    assert_eq!(world.upstream.probes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn after_401_a_ticket_that_works_is_kept_and_the_call_made_once_more_with_it() {
    let world = World::told([Told::Status(401)]);
    assert_eq!(ask(&world).await, Ok(4));
    assert_eq!(world.tickets(), ["7T:1", "7T:1"]);
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_401_is_final() {
    let world = World::told([Told::Status(401), Told::Status(401)]);
    assert_eq!(reason(ask(&world).await), Reason::SystemUserRejected);
    assert_eq!(world.arrived().len(), 2);
    let world = World::told([Told::Status(401), Told::Status(401)]);
    assert_eq!(order(&world).await.unwrap().status, 401);
    assert_eq!(world.arrived().len(), 2);
}

#[tokio::test]
async fn a_dead_ticket_is_replaced_once_for_everybody_who_meets_it() {
    let world = World::new();
    ask(&world).await.unwrap();
    world.upstream.dead.lock().unwrap().insert("7T:1".to_owned());
    let calls = join_all((0..8).map(|_| ask(&world))).await;
    assert!(calls.iter().all(|call| *call == Ok(4)));
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_body_that_comes_only_once_is_never_sent_twice_and_the_ticket_is_proven_all_the_same() {
    for status in [401, 421, 429, 500] {
        let world = World::told([Told::Status(status)]);
        for method in [Method::PUT, Method::GET] {
            let upload = request(method, stream_of_one());
            assert!(send(&world, upload).await.is_ok());
        }
        // The second call was answered at once.
        assert_eq!(world.arrived().len(), 2, "{status}");
        let probes = world.upstream.probes.load(Ordering::SeqCst);
        assert_eq!(probes, u64::from(status == 401), "{status}");
    }
}

#[tokio::test]
async fn a_copied_body_is_sent_once_more_only_if_the_request_did_not_run_and_only_up_to_64_kib() {
    let budget = CopyBudget::new(1 << 20);
    for (status, bytes, calls) in [
        (401, 0, 2),
        (401, 15, 2),
        (401, COPIED_BYTES, 2),
        (401, COPIED_BYTES + 1, 1),
        (421, 15, 2),
        (421, COPIED_BYTES + 1, 1),
        (200, 15, 1),
        (403, 15, 1),
        (429, 15, 1),
        (500, 15, 1),
        (503, 15, 1),
    ] {
        let world = World::told([Told::Status(status)]);
        let upload = request(Method::POST, copied(bytes, &budget));
        let (_, answered) = steps(&world, upload).await;
        assert_eq!(world.arrived().len(), calls, "{status} {bytes}");
        assert_eq!(answered, Ok(if calls == 2 { 200 } else { status }), "{status} {bytes}");
        assert_eq!(budget.free(), 1 << 20, "{status} {bytes}");
    }
}

#[tokio::test]
async fn without_room_for_its_copy_a_body_is_sent_once() {
    let world = World::told([Told::Status(401)]);
    let upload = request(Method::POST, copied(15, &CopyBudget::new(0)));
    assert_eq!(steps(&world, upload).await.1, Ok(401));
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn the_rest_of_a_body_that_never_comes_is_not_waited_for() {
    let world = World::told([Told::Status(401)]);
    let (parts, copy) = BodyCopy::of(stream::pending().boxed(), &CopyBudget::new(1 << 20));
    let body = ApiBody::Stream { parts, length: None, copy: Some(copy) };
    let (_, answered) = steps(&world, request(Method::POST, body)).await;
    assert_eq!(answered, Ok(401));
    assert!(world.clock.monotonic() <= 2 * REST_OF_BODY);
}

#[tokio::test]
async fn a_safe_call_with_a_copied_body_is_healed_like_any_other_safe_call() {
    let world = World::told([Told::Status(503)]);
    let read = request(Method::GET, copied(15, &CopyBudget::new(1 << 20)));
    assert_eq!(steps(&world, read).await.1, Ok(200));
    assert_eq!(world.arrived().len(), 2);
}

#[tokio::test]
async fn each_step_of_a_call_says_whether_the_last_request_may_have_run() {
    let broken = || Told::Fail(SendError::Broken(String::new()));
    let not_sent = || Told::Fail(SendError::NotSent(String::new()));
    let timed_out = || Told::Fail(SendError::TimedOut(String::new()));
    for (script, wanted, reason) in [
        (vec![Told::Status(200)], &["sends"][..], None),
        (vec![Told::Status(503)], &["sends"], None),
        (vec![broken()], &["sends"], Some(Reason::UpstreamUnavailable)),
        (vec![timed_out()], &["sends"], Some(Reason::DeadlineExceeded)),
        (vec![Told::Status(401)], &["sends", "did not run", "sends"], None),
        (
            vec![Told::Status(421), timed_out()],
            &["sends", "did not run", "sends"],
            Some(Reason::DeadlineExceeded),
        ),
        (
            vec![Told::Status(401), Told::Status(401)],
            &["sends", "did not run", "sends", "did not run"],
            None,
        ),
        (vec![not_sent()], &["sends", "did not run"], Some(Reason::UpstreamUnavailable)),
    ] {
        let world = World::told(script);
        let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
        let (steps, answered) = steps(&world, order).await;
        assert_eq!(steps, wanted, "{answered:?}");
        assert_eq!(answered.as_ref().err().map(BrokerError::reason), reason);
        if let Err(error) = answered {
            let ran = steps.last() == Some(&"sends");
            assert_eq!(error.outcome_is_unknown(), ran, "{error:?}");
            assert_eq!(error.retry_after().is_none(), ran, "{error:?}");
        }
    }
}

#[tokio::test]
async fn an_order_that_is_not_answered_by_its_deadline_has_an_unknown_outcome() {
    let world = World::told([Told::Hang]);
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    let asking = world.asking_within(3 * SECOND);
    let sent = world.in_time(world.web_api.send(&asking, order, &mut |_| {})).await;
    let error = sent.err().unwrap();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert!(error.outcome_is_unknown() && error.retry_after().is_none());
}

#[tokio::test]
async fn after_403_nothing_is_tried_with_the_system_user() {
    let world = World::told([Told::Status(403)]);
    assert_eq!(reason(ask(&world).await), Reason::SystemUserRejected);
    assert_eq!((world.arrived().len(), world.upstream.probes.load(Ordering::SeqCst)), (1, 0));
    let world = World::told([Told::Status(403)]);
    assert_eq!(order(&world).await.unwrap().status, 403);
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn after_421_the_tenant_is_looked_for_and_the_call_made_once_more() {
    let world = World::new();
    ask(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    assert_eq!(order(&world).await.unwrap().status, 200);
    assert_eq!(world.arrived().last().unwrap().uri, "https://two.superoffice.com/Cust1/api");
    assert_eq!(world.upstream.status_reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn many_calls_that_are_told_421_at_one_time_cost_one_look() {
    let world = World::new();
    ask(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    let calls = join_all((0..4).map(|_| ask(&world))).await;
    assert!(calls.iter().all(|call| *call == Ok(4)));
    assert_eq!(world.upstream.status_reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_ticket_that_is_about_to_expire_is_not_sent_on_the_way() {
    let world = World::new();
    ask(&world).await.unwrap();
    world.clock.advance(Duration::from_hours(6) - Duration::from_secs(20));
    ask(&world).await.unwrap();
    assert_eq!(world.tickets(), ["7T:1", "7T:2"]);
}

#[tokio::test]
async fn a_second_421_is_final() {
    let twice = || [Told::Status(421), Told::Status(421)];
    let world = World::told(twice());
    assert_eq!(reason(ask(&world).await), Reason::UpstreamUnavailable);
    assert_eq!(world.arrived().len(), 2);
    assert_eq!(order(&World::told(twice())).await.unwrap().status, 421);
}

#[tokio::test]
async fn a_question_is_asked_at_most_twice_more_after_failures_with_growing_pauses() {
    for failure in [
        Told::Status(500),
        Told::Status(503),
        Told::Fail(SendError::Broken(String::new())),
        Told::Fail(SendError::NotSent(String::new())),
        Told::CutBody,
    ] {
        let world = World::told([failure.clone(), failure.clone()]);
        assert_eq!(ask(&world).await, Ok(4), "{failure:?}");
        let at: Vec<_> = world.arrived().iter().map(|arrived| arrived.at).collect();
        assert!(at[1].saturating_sub(at[0]) >= Duration::from_millis(50), "{failure:?}: {at:?}");
        assert!(at[2].saturating_sub(at[1]) >= Duration::from_millis(200), "{failure:?}: {at:?}");
        assert_eq!(world.counters.web_api_repeats.get(), 2);
        let world = World::told([failure.clone(), failure.clone(), failure.clone()]);
        assert_eq!(reason(ask(&world).await), Reason::UpstreamUnavailable, "{failure:?}");
        assert_eq!(world.arrived().len(), 3, "{failure:?}");
    }
}

#[tokio::test]
async fn an_order_is_never_repeated_after_a_failure() {
    for failure in [SendError::Broken(String::new()), SendError::NotSent(String::new())] {
        let world = World::told([Told::Fail(failure)]);
        assert_eq!(reason(order(&world).await), Reason::UpstreamUnavailable);
        assert_eq!(world.arrived().len(), 1);
    }
    let world = World::told([Told::Status(503)]);
    assert_eq!(order(&world).await.unwrap().status, 503);
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn after_a_time_out_nothing_is_repeated() {
    let world = World::told([Told::Fail(SendError::TimedOut(String::new()))]);
    assert_eq!(reason(ask(&world).await), Reason::UpstreamUnavailable);
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn failures_are_repeated_within_the_deadline_only() {
    let world = World::told([Told::Status(500), Told::Status(500)]);
    let asking = world.asking_within(Duration::from_millis(40));
    let asked = world.in_time(world.web_api.read(&asking, &question())).await;
    assert_eq!(reason(asked), Reason::UpstreamUnavailable);
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_at_its_deadline_and_a_question_after_a_minute() {
    let world = World::told([Told::Hang]);
    let asking = world.asking_within(3 * SECOND);
    let asked = world.in_time(world.web_api.read(&asking, &question())).await;
    assert_eq!(reason(asked), Reason::UpstreamUnavailable);
    assert!(world.clock.monotonic() < 4 * SECOND);
    let world = World::told([Told::Hang]);
    assert_eq!(reason(ask(&world).await), Reason::UpstreamUnavailable);
    assert!(world.clock.monotonic() < 70 * SECOND);
}

#[tokio::test]
async fn after_429_nobody_calls_for_the_time_asked_and_a_question_comes_once_more() {
    let world = World::told([Told::Throttle(7 * SECOND)]);
    assert_eq!(ask(&world).await, Ok(4));
    let arrived = world.arrived();
    assert!(arrived[1].at.saturating_sub(arrived[0].at) >= 7 * SECOND);
    assert_eq!(world.counters.web_api_throttled.get(), 1);

    let world = World::told([Told::Throttle(7 * SECOND)]);
    assert_eq!(order(&world).await.unwrap().status, 429);
    let before = world.clock.monotonic();
    ask(&world).await.unwrap();
    assert!(world.clock.monotonic().saturating_sub(before) >= 6 * SECOND);
}

#[tokio::test]
async fn a_question_that_cannot_wait_for_the_end_of_the_pause_is_told_when_that_is() {
    let world = World::told([Told::Throttle(7 * SECOND)]);
    let asking = world.asking_within(2 * SECOND);
    let asked = world.in_time(world.web_api.read(&asking, &question())).await;
    let wait = BrokerError::BudgetExhausted { tenant: tenant(), retry_after: 7 * SECOND };
    assert_eq!(asked, Err(wait));
    let again = world.in_time(world.web_api.read(&world.asking_within(SECOND), &question())).await;
    assert_eq!(reason(again), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.arrived().len(), 1);
}

#[tokio::test]
async fn a_second_429_is_final_and_still_holds_everybody_back() {
    let world = World::told([Told::Throttle(SECOND), Told::Throttle(9 * SECOND)]);
    assert_eq!(reason(ask(&world).await), Reason::UpstreamBudgetExhausted);
    let again = world.in_time(world.web_api.read(&world.asking_within(SECOND), &question())).await;
    assert_eq!(reason(again), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.arrived().len(), 2);
}

#[tokio::test]
async fn repeated_calls_and_probes_come_out_of_the_same_budget() {
    let world = World::told([Told::Status(401)]);
    // A call, a probe and the call again, of ten.
    ask(&world).await.unwrap();
    for _ in 0..7 {
        ask(&world).await.unwrap();
    }
    let asking = world.asking_within(Duration::from_millis(10));
    let refused = world.in_time(world.web_api.read(&asking, &question())).await;
    assert_eq!(reason(refused), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.counters.web_api_refused.get(), 1);
}

#[tokio::test]
async fn the_emergency_stop_holds_for_a_call_that_waits_for_its_turn() {
    let world = World::new();
    for _ in 0..10 {
        ask(&world).await.unwrap();
    }
    let (asking, question) = (asking(), question());
    let mut waiting = Box::pin(world.web_api.read(&asking, &question));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    *world.upstream.disabled.lock().unwrap() = true;
    world.directory.forget(&tenant());
    assert_eq!(reason(world.in_time(waiting).await), Reason::TenantDisabled);
    assert_eq!(world.arrived().len(), 10);
}

#[tokio::test]
async fn a_use_that_is_seen_makes_the_ticket_live_on_from_when_the_call_was_sent() {
    let world = World::new();
    ask(&world).await.unwrap();
    let kept = || world.upstream.kept.lock().unwrap().clone().unwrap();
    let first = kept().expire_time;
    world.clock.advance(Duration::from_mins(9));
    ask(&world).await.unwrap();
    world.settled().await;
    // Too little to be worth a write.
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 0);
    world.clock.advance(Duration::from_hours(2));
    let sent = world.clock.now();
    for _ in 0..5 {
        ask(&world).await.unwrap();
    }
    world.settled().await;
    assert_eq!(kept().expire_time, sent + Duration::from_hours(6));
    assert!(kept().expire_time > first);
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 1);
    // Never past its maximal age.
    for _ in 0..3 {
        world.clock.advance(Duration::from_hours(3));
        ask(&world).await.unwrap();
    }
    world.settled().await;
    assert_eq!(kept().expire_time, kept().issue_time + Duration::from_hours(12));
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_success_makes_no_ticket_live_on() {
    let world = World::new();
    ask(&world).await.unwrap();
    world.clock.advance(Duration::from_hours(2));
    world.upstream.script.lock().unwrap().push_back(Told::Status(404));
    order(&world).await.unwrap();
    world.settled().await;
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_that_cannot_be_believed_is_an_error_and_not_asked_for_again() {
    const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                        0123456789012345678901234567890123456789";
    for told in [Told::Body("nonsense"), Told::Body(LONG), Told::Status(204), Told::Status(302)] {
        let world = World::told([told.clone()]);
        assert_eq!(reason(ask(&world).await), Reason::UpstreamInvalidResponse, "{told:?}");
        assert_eq!(world.arrived().len(), 1, "{told:?}");
    }
}

#[tokio::test]
async fn an_answer_to_pass_on_comes_as_it_is_sent() {
    let world = World::told([Told::CutBody]);
    let response = order(&world).await.unwrap();
    let parts: Vec<_> = response.body.collect().await;
    assert_eq!(parts[0], Ok(Bytes::from_static(b"fi")));
    assert!(matches!(parts[1], Err(SendError::Broken(_))));
    let whole: Vec<_> = order(&world).await.unwrap().body.try_collect().await.unwrap();
    assert_eq!(whole.concat(), b"fine");
}
