//! The retry rules, one test each.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use http::Method;

use super::*;
use crate::{
    broker::fakes::{Reply, World, call_context, request, safe_call, tenant},
    domain::Reason,
    ports::{ApiBody, ApiResponse, BodyCopy, CopyBudget, MAX_COPY_BYTES},
};

const SECOND: Duration = Duration::from_secs(1);

async fn safe_read(world: &World) -> Result<usize, BrokerError> {
    world.finish(world.web_api.read(&call_context(), &safe_call())).await
}

async fn unsafe_call(world: &World) -> Result<ApiResponse, BrokerError> {
    let call = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    send(world, call).await.map(|sent| sent.response)
}

async fn send(world: &World, request: ApiRequest) -> Result<WebApiResponse, BrokerError> {
    world.finish(world.web_api.send(&call_context(), request, &mut |_| {})).await
}

fn stream_of_one() -> ApiBody {
    let parts = stream::iter([Ok(Bytes::from_static(b"part"))]).boxed();
    ApiBody::Stream { parts, length: None, copy: None }
}

/// Returns a body of this many bytes without a known length, which is copied while it is sent.
fn copied(bytes: usize, budget: &CopyBudget) -> ApiBody {
    let parts = stream::iter([Ok(Bytes::from(vec![b'x'; bytes]))]).boxed();
    let (parts, copy) = BodyCopy::new(parts, budget);
    ApiBody::Stream { parts, length: None, copy: Some(copy) }
}

/// Returns the reported steps of a call, and the status of its answer.
async fn steps(
    world: &World,
    request: ApiRequest,
) -> (Vec<&'static str>, Result<u16, BrokerError>) {
    let mut steps = Vec::new();
    let mut used = |progress: SendProgress<'_>| {
        steps.push(match progress {
            SendProgress::Sending(_) => "sends",
            SendProgress::DidNotRun => "did not run",
        });
    };
    let sent = world.finish(world.web_api.send(&call_context(), request, &mut used)).await;
    (steps, sent.map(|sent| sent.response.status.as_u16()))
}

fn reason<T>(result: Result<T, BrokerError>) -> Reason {
    result.err().map(|error| error.reason()).unwrap()
}

#[tokio::test]
async fn a_call_uses_the_tenants_ticket_and_host() {
    let world = World::new();
    assert_eq!(safe_read(&world).await, Ok(4));
    assert_eq!(world.tickets(), ["7T:1"]);
    assert_eq!(world.received()[0].uri, "https://one.superoffice.com/Cust1/api");
    assert_eq!(world.counters.web_api_calls.get(), 1);
    assert_eq!(world.counters.web_api_repeats.get(), 0);
}

#[tokio::test]
async fn after_401_a_dead_ticket_is_replaced_and_the_call_is_retried() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    world.upstream.dead_tickets.lock().unwrap().insert("7T:1".to_owned());
    assert_eq!(unsafe_call(&world).await.unwrap().status, 200);
    assert_eq!(world.tickets(), ["7T:1", "7T:1", "7T:2"]);
    assert_eq!(world.upstream.probes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn after_401_a_working_ticket_is_kept_and_the_call_is_retried() {
    let world = World::with_script([Reply::Status(401)]);
    assert_eq!(safe_read(&world).await, Ok(4));
    assert_eq!(world.tickets(), ["7T:1", "7T:1"]);
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_401_is_final() {
    let world = World::with_script([Reply::Status(401), Reply::Status(401)]);
    assert_eq!(reason(safe_read(&world).await), Reason::SystemUserRejected);
    assert_eq!(world.received().len(), 2);
    let world = World::with_script([Reply::Status(401), Reply::Status(401)]);
    assert_eq!(unsafe_call(&world).await.unwrap().status, 401);
    assert_eq!(world.received().len(), 2);
}

#[tokio::test]
async fn concurrent_calls_replace_a_dead_ticket_once() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    world.upstream.dead_tickets.lock().unwrap().insert("7T:1".to_owned());
    let calls = join_all((0..8).map(|_| safe_read(&world))).await;
    assert!(calls.iter().all(|call| *call == Ok(4)));
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_streamed_body_is_never_sent_twice_but_the_ticket_is_verified() {
    for status in [401, 421, 429, 500] {
        let world = World::with_script([Reply::Status(status)]);
        for method in [Method::PUT, Method::GET] {
            let upload = request(method, stream_of_one());
            assert!(send(&world, upload).await.is_ok());
        }
        // Each of the two calls was sent once.
        assert_eq!(world.received().len(), 2, "{status}");
        let probes = world.upstream.probes.load(Ordering::SeqCst);
        assert_eq!(probes, u64::from(status == 401), "{status}");
    }
}

#[tokio::test]
async fn a_copied_body_is_resent_only_if_the_request_did_not_run_and_up_to_64_kib() {
    let budget = CopyBudget::new(1 << 20);
    for (status, bytes, calls) in [
        (401, 0, 2),
        (401, 15, 2),
        (401, MAX_COPY_BYTES, 2),
        (401, MAX_COPY_BYTES + 1, 1),
        (421, 15, 2),
        (421, MAX_COPY_BYTES + 1, 1),
        (200, 15, 1),
        (403, 15, 1),
        (429, 15, 1),
        (500, 15, 1),
        (503, 15, 1),
    ] {
        let world = World::with_script([Reply::Status(status)]);
        let upload = request(Method::POST, copied(bytes, &budget));
        let (_, answered) = steps(&world, upload).await;
        assert_eq!(world.received().len(), calls, "{status} {bytes}");
        assert_eq!(answered, Ok(if calls == 2 { 200 } else { status }), "{status} {bytes}");
        assert_eq!(budget.available(), 1 << 20, "{status} {bytes}");
    }
}

#[tokio::test]
async fn without_room_for_its_copy_a_body_is_sent_once() {
    let world = World::with_script([Reply::Status(401)]);
    let upload = request(Method::POST, copied(15, &CopyBudget::new(0)));
    assert_eq!(steps(&world, upload).await.1, Ok(401));
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn waiting_for_the_rest_of_a_body_times_out() {
    let world = World::with_script([Reply::Status(401)]);
    let (parts, copy) = BodyCopy::new(stream::pending().boxed(), &CopyBudget::new(1 << 20));
    let body = ApiBody::Stream { parts, length: None, copy: Some(copy) };
    let (_, answered) = steps(&world, request(Method::POST, body)).await;
    assert_eq!(answered, Ok(401));
    assert!(world.clock.monotonic() <= 2 * BODY_COPY_TIMEOUT);
}

#[tokio::test]
async fn a_safe_call_with_a_copied_body_is_retried() {
    let world = World::with_script([Reply::Status(503)]);
    let read = request(Method::GET, copied(15, &CopyBudget::new(1 << 20)));
    assert_eq!(steps(&world, read).await.1, Ok(200));
    assert_eq!(world.received().len(), 2);
}

#[tokio::test]
async fn each_step_of_a_call_says_whether_the_last_request_may_have_run() {
    let broken = || Reply::Fail(SendError::Interrupted(String::new()));
    let not_sent = || Reply::Fail(SendError::NotSent(String::new()));
    let timed_out = || Reply::Fail(SendError::TimedOut(String::new()));
    for (script, wanted, reason) in [
        (vec![Reply::Status(200)], &["sends"][..], None),
        (vec![Reply::Status(503)], &["sends"], None),
        (vec![broken()], &["sends"], Some(Reason::UpstreamUnavailable)),
        (vec![timed_out()], &["sends"], Some(Reason::DeadlineExceeded)),
        (vec![Reply::Status(401)], &["sends", "did not run", "sends"], None),
        (
            vec![Reply::Status(421), timed_out()],
            &["sends", "did not run", "sends"],
            Some(Reason::DeadlineExceeded),
        ),
        (
            vec![Reply::Status(401), Reply::Status(401)],
            &["sends", "did not run", "sends", "did not run"],
            None,
        ),
        (vec![not_sent()], &["sends", "did not run"], Some(Reason::UpstreamUnavailable)),
    ] {
        let world = World::with_script(script);
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
async fn an_unsafe_call_without_answer_at_its_deadline_has_an_unknown_outcome() {
    let world = World::with_script([Reply::Hang]);
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    let context = world.asking_within(3 * SECOND);
    let sent = world.finish(world.web_api.send(&context, order, &mut |_| {})).await;
    let error = sent.err().unwrap();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert!(error.outcome_is_unknown() && error.retry_after().is_none());
}

#[tokio::test]
async fn after_403_a_system_user_call_is_not_retried() {
    let world = World::with_script([Reply::Status(403)]);
    assert_eq!(reason(safe_read(&world).await), Reason::SystemUserRejected);
    assert_eq!((world.received().len(), world.upstream.probes.load(Ordering::SeqCst)), (1, 0));
    let world = World::with_script([Reply::Status(403)]);
    assert_eq!(unsafe_call(&world).await.unwrap().status, 403);
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn after_421_the_status_is_read_and_the_call_is_retried() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    assert_eq!(unsafe_call(&world).await.unwrap().status, 200);
    assert_eq!(world.received().last().unwrap().uri, "https://two.superoffice.com/Cust1/api");
    assert_eq!(world.upstream.status_reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn concurrent_421_answers_cause_one_status_read() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    let calls = join_all((0..4).map(|_| safe_read(&world))).await;
    assert!(calls.iter().all(|call| *call == Ok(4)));
    assert_eq!(world.upstream.status_reads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_ticket_about_to_expire_is_not_used() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    world.clock.advance(Duration::from_hours(6) - Duration::from_secs(20));
    safe_read(&world).await.unwrap();
    assert_eq!(world.tickets(), ["7T:1", "7T:2"]);
}

#[tokio::test]
async fn a_second_421_is_final() {
    let twice = || [Reply::Status(421), Reply::Status(421)];
    let world = World::with_script(twice());
    assert_eq!(reason(safe_read(&world).await), Reason::UpstreamUnavailable);
    assert_eq!(world.received().len(), 2);
    assert_eq!(unsafe_call(&World::with_script(twice())).await.unwrap().status, 421);
}

#[tokio::test]
async fn a_failed_safe_call_is_retried_at_most_twice_with_growing_pauses() {
    for failure in [
        Reply::Status(500),
        Reply::Status(503),
        Reply::Fail(SendError::Interrupted(String::new())),
        Reply::Fail(SendError::NotSent(String::new())),
        Reply::CutBody,
    ] {
        let world = World::with_script([failure.clone(), failure.clone()]);
        assert_eq!(safe_read(&world).await, Ok(4), "{failure:?}");
        let at: Vec<_> = world.received().iter().map(|arrived| arrived.at).collect();
        assert!(at[1].saturating_sub(at[0]) >= Duration::from_millis(50), "{failure:?}: {at:?}");
        assert!(at[2].saturating_sub(at[1]) >= Duration::from_millis(200), "{failure:?}: {at:?}");
        assert_eq!(world.counters.web_api_repeats.get(), 2);
        let world = World::with_script([failure.clone(), failure.clone(), failure.clone()]);
        assert_eq!(reason(safe_read(&world).await), Reason::UpstreamUnavailable, "{failure:?}");
        assert_eq!(world.received().len(), 3, "{failure:?}");
    }
}

#[tokio::test]
async fn a_failed_unsafe_call_is_never_retried() {
    for failure in [SendError::Interrupted(String::new()), SendError::NotSent(String::new())] {
        let world = World::with_script([Reply::Fail(failure)]);
        assert_eq!(reason(unsafe_call(&world).await), Reason::UpstreamUnavailable);
        assert_eq!(world.received().len(), 1);
    }
    let world = World::with_script([Reply::Status(503)]);
    assert_eq!(unsafe_call(&world).await.unwrap().status, 503);
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn a_call_is_not_retried_after_a_time_out() {
    let world = World::with_script([Reply::Fail(SendError::TimedOut(String::new()))]);
    assert_eq!(reason(safe_read(&world).await), Reason::UpstreamUnavailable);
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn retries_stop_at_the_deadline() {
    let world = World::with_script([Reply::Status(500), Reply::Status(500)]);
    let context = world.asking_within(Duration::from_millis(40));
    let result = world.finish(world.web_api.read(&context, &safe_call())).await;
    assert_eq!(reason(result), Reason::UpstreamUnavailable);
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn an_unanswered_call_ends_at_its_deadline_and_a_read_after_a_minute() {
    let world = World::with_script([Reply::Hang]);
    let context = world.asking_within(3 * SECOND);
    let result = world.finish(world.web_api.read(&context, &safe_call())).await;
    assert_eq!(reason(result), Reason::UpstreamUnavailable);
    assert!(world.clock.monotonic() < 4 * SECOND);
    let world = World::with_script([Reply::Hang]);
    assert_eq!(reason(safe_read(&world).await), Reason::UpstreamUnavailable);
    assert!(world.clock.monotonic() < 70 * SECOND);
}

#[tokio::test]
async fn after_429_all_calls_pause_and_a_safe_call_is_retried_once() {
    let world = World::with_script([Reply::Throttle(7 * SECOND)]);
    assert_eq!(safe_read(&world).await, Ok(4));
    let arrived = world.received();
    assert!(arrived[1].at.saturating_sub(arrived[0].at) >= 7 * SECOND);
    assert_eq!(world.counters.web_api_throttled.get(), 1);

    let world = World::with_script([Reply::Throttle(7 * SECOND)]);
    assert_eq!(unsafe_call(&world).await.unwrap().status, 429);
    let before = world.clock.monotonic();
    safe_read(&world).await.unwrap();
    assert!(world.clock.monotonic().saturating_sub(before) >= 6 * SECOND);
}

#[tokio::test]
async fn a_safe_call_that_cannot_wait_for_the_pause_gets_its_end_as_retry_delay() {
    let world = World::with_script([Reply::Throttle(7 * SECOND)]);
    let context = world.asking_within(2 * SECOND);
    let result = world.finish(world.web_api.read(&context, &safe_call())).await;
    let wait = BrokerError::BudgetExhausted { tenant: tenant(), retry_after: 7 * SECOND };
    assert_eq!(result, Err(wait));
    let again = world.finish(world.web_api.read(&world.asking_within(SECOND), &safe_call())).await;
    assert_eq!(reason(again), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.received().len(), 1);
}

#[tokio::test]
async fn a_second_429_is_final_and_still_pauses_all_calls() {
    let world = World::with_script([Reply::Throttle(SECOND), Reply::Throttle(9 * SECOND)]);
    assert_eq!(reason(safe_read(&world).await), Reason::UpstreamBudgetExhausted);
    let again = world.finish(world.web_api.read(&world.asking_within(SECOND), &safe_call())).await;
    assert_eq!(reason(again), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.received().len(), 2);
}

#[tokio::test]
async fn retries_and_probes_use_the_same_budget() {
    let world = World::with_script([Reply::Status(401)]);
    // A call, a probe and a retry use three of ten permits.
    safe_read(&world).await.unwrap();
    for _ in 0..7 {
        safe_read(&world).await.unwrap();
    }
    let context = world.asking_within(Duration::from_millis(10));
    let refused = world.finish(world.web_api.read(&context, &safe_call())).await;
    assert_eq!(reason(refused), Reason::UpstreamBudgetExhausted);
    assert_eq!(world.counters.web_api_refused.get(), 1);
}

#[tokio::test]
async fn disabling_a_tenant_stops_calls_that_wait_for_a_permit() {
    let world = World::new();
    for _ in 0..10 {
        safe_read(&world).await.unwrap();
    }
    let (context, question) = (call_context(), safe_call());
    let mut waiting = Box::pin(world.web_api.read(&context, &question));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    *world.upstream.disabled.lock().unwrap() = true;
    world.directory.forget(&tenant());
    assert_eq!(reason(world.finish(waiting).await), Reason::TenantDisabled);
    assert_eq!(world.received().len(), 10);
}

#[tokio::test]
async fn a_successful_call_extends_the_ticket_from_its_send_time() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    let kept = || world.upstream.stored_ticket.lock().unwrap().clone().unwrap();
    let first = kept().expire_time;
    world.clock.advance(Duration::from_mins(9));
    safe_read(&world).await.unwrap();
    world.wait_idle().await;
    // The extension is too short to be stored.
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 0);
    world.clock.advance(Duration::from_hours(2));
    let sent = world.clock.now();
    for _ in 0..5 {
        safe_read(&world).await.unwrap();
    }
    world.wait_idle().await;
    assert_eq!(kept().expire_time, sent + Duration::from_hours(6));
    assert!(kept().expire_time > first);
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 1);
    // A ticket is never extended beyond its maximum age.
    for _ in 0..3 {
        world.clock.advance(Duration::from_hours(3));
        safe_read(&world).await.unwrap();
    }
    world.wait_idle().await;
    assert_eq!(kept().expire_time, kept().issue_time + Duration::from_hours(12));
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failed_call_does_not_extend_the_ticket() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    world.clock.advance(Duration::from_hours(2));
    world.upstream.script.lock().unwrap().push_back(Reply::Status(404));
    unsafe_call(&world).await.unwrap();
    world.wait_idle().await;
    assert_eq!(world.upstream.extended.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_invalid_answer_is_an_error_without_retry() {
    const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                        0123456789012345678901234567890123456789";
    for answer in
        [Reply::Body("nonsense"), Reply::Body(LONG), Reply::Status(204), Reply::Status(302)]
    {
        let world = World::with_script([answer.clone()]);
        assert_eq!(reason(safe_read(&world).await), Reason::UpstreamInvalidResponse, "{answer:?}");
        assert_eq!(world.received().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_forwarded_answer_is_streamed_unchanged() {
    let world = World::with_script([Reply::CutBody]);
    let response = unsafe_call(&world).await.unwrap();
    let parts: Vec<_> = response.body.collect().await;
    assert_eq!(parts[0], Ok(Bytes::from_static(b"fi")));
    assert!(matches!(parts[1], Err(SendError::Interrupted(_))));
    let whole: Vec<_> = unsafe_call(&world).await.unwrap().body.try_collect().await.unwrap();
    assert_eq!(whole.concat(), b"fine");
}
