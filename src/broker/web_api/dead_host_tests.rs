//! Calls to tenants whose host is dead.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;

use super::*;
use crate::{
    broker::fakes::{Reply, World, call_context, request, safe_call},
    ports::ApiBody,
};

const SECOND: Duration = Duration::from_secs(1);
const OLD: &str = "https://one.superoffice.com/Cust1/api";
const NEW: &str = "https://two.superoffice.com/Cust1/api";

/// A gateway that has used host one, which is now dead; the tenant status names host two.
async fn with_dead_host(how: Reply) -> World {
    let world = World::new();
    safe_read(&world).await.unwrap();
    *world.upstream.dead_host.lock().unwrap() = Some(("one", how));
    *world.upstream.host.lock().unwrap() = "two";
    world.upstream.received.lock().unwrap().clear();
    world
}

async fn safe_read(world: &World) -> Result<usize, BrokerError> {
    world.finish(world.web_api.read(&call_context(), &safe_call())).await
}

async fn unsafe_call(world: &World) -> Result<WebApiResponse, BrokerError> {
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    world.finish(world.web_api.send(&call_context(), order, &mut |_| {})).await
}

fn uris(world: &World) -> Vec<String> {
    world.received().into_iter().map(|arrived| arrived.uri).collect()
}

fn status_reads(world: &World) -> u64 {
    world.upstream.status_reads.load(Ordering::SeqCst)
}

fn not_sent() -> Reply {
    Reply::Fail(SendError::NotSent(String::new()))
}

/// Answers after which the call may have run.
fn unknown_outcomes() -> Vec<Reply> {
    let mut all = vec![
        Reply::Fail(SendError::Interrupted(String::new())),
        Reply::Fail(SendError::TimedOut(String::new())),
    ];
    all.extend([502, 503, 504].map(Reply::Status));
    all
}

#[tokio::test]
async fn a_safe_call_uses_the_new_address_of_a_dead_host() {
    for how in unknown_outcomes().into_iter().chain([not_sent(), Reply::Hang]) {
        let world = with_dead_host(how.clone()).await;
        assert_eq!(safe_read(&world).await, Ok(4), "{how:?}");
        assert_eq!(uris(&world), [OLD, NEW], "{how:?}");
        assert_eq!(status_reads(&world), 2, "{how:?}");
    }
}

#[tokio::test]
async fn an_unsafe_call_that_was_not_sent_uses_the_new_address() {
    let world = with_dead_host(not_sent()).await;
    assert_eq!(unsafe_call(&world).await.unwrap().response.status, 200);
    assert_eq!(uris(&world), [OLD, NEW]);
}

#[tokio::test]
async fn an_unsafe_call_that_may_have_run_is_not_retried_and_the_next_uses_the_new_address() {
    for how in unknown_outcomes() {
        let world = with_dead_host(how.clone()).await;
        let _ = unsafe_call(&world).await;
        world.wait_idle().await;
        assert_eq!(uris(&world), [OLD], "{how:?}");
        assert_eq!(unsafe_call(&world).await.unwrap().response.status, 200, "{how:?}");
        assert_eq!(uris(&world), [OLD, NEW], "{how:?}");
    }
}

#[tokio::test]
async fn a_silent_host_causes_a_status_read_and_the_unsafe_call_keeps_waiting() {
    let world = with_dead_host(Reply::Hang).await;
    let context = world.asking_within(30 * SECOND);
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    let mut no = |_: SendProgress<'_>| {};
    let mut waiting = Box::pin(world.web_api.send(&context, order, &mut no));
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
        world.clock.advance(Duration::from_millis(100));
    }
    world.wait_idle().await;
    assert_eq!((status_reads(&world), uris(&world).len()), (2, 1));
}

#[tokio::test]
async fn a_cancelled_call_causes_a_status_read_unless_it_was_cancelled_at_once() {
    for (patience, asked) in [(SECOND / 2, 1), (2 * SECOND, 2)] {
        let world = with_dead_host(Reply::Hang).await;
        let (context, question) = (call_context(), safe_call());
        let mut waiting = Box::pin(world.web_api.read(&context, &question));
        for _ in 0..20 {
            assert!(futures_util::poll!(&mut waiting).is_pending());
            tokio::task::yield_now().await;
        }
        world.clock.advance(patience);
        drop(waiting);
        world.wait_idle().await;
        assert_eq!(status_reads(&world), asked, "{patience:?}");
    }
}

#[tokio::test]
async fn a_dead_host_causes_at_most_one_read_in_fifteen_seconds() {
    let world = with_dead_host(not_sent()).await;
    *world.upstream.host.lock().unwrap() = "one";
    let calls = join_all((0..8).map(|_| safe_read(&world))).await;
    assert!(calls.iter().all(Result::is_err));
    assert_eq!(status_reads(&world), 2);
    let begun = world.clock.monotonic();
    while world.clock.monotonic() < begun + 14 * SECOND {
        assert!(safe_read(&world).await.is_err());
        let _ = unsafe_call(&world).await;
    }
    assert!(status_reads(&world) <= 3, "{}", status_reads(&world));
    let before = status_reads(&world);
    world.clock.advance(16 * SECOND);
    *world.upstream.host.lock().unwrap() = "two";
    assert_eq!(safe_read(&world).await, Ok(4));
    assert_eq!(status_reads(&world), before + 1);
}

#[tokio::test]
async fn a_confirmed_host_that_answers_421_causes_one_read_in_fifteen_seconds() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    let answers = std::iter::repeat_n(Reply::Status(421), 40);
    world.upstream.script.lock().unwrap().extend(answers);
    for _ in 0..5 {
        assert!(safe_read(&world).await.is_err());
    }
    assert_eq!(status_reads(&world), 2);
    world.clock.advance(15 * SECOND);
    assert!(safe_read(&world).await.is_err());
    assert_eq!(status_reads(&world), 3);
}

#[tokio::test]
async fn while_the_login_host_is_down_too_the_old_address_stays_in_use() {
    let world = with_dead_host(not_sent()).await;
    *world.upstream.login_down.lock().unwrap() = true;
    assert!(safe_read(&world).await.is_err());
    // The host comes back.
    *world.upstream.dead_host.lock().unwrap() = None;
    *world.upstream.host.lock().unwrap() = "one";
    assert_eq!(safe_read(&world).await, Ok(4));
}

#[tokio::test]
async fn after_421_the_old_address_is_never_used_even_if_status_reads_fail() {
    let world = World::new();
    safe_read(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    *world.upstream.login_down.lock().unwrap() = true;
    assert!(safe_read(&world).await.is_err());
    assert!(safe_read(&world).await.is_err());
    assert_eq!(world.received().len(), 2);
    // The stored status is expired, too, so a restart does not load it as valid.
    let stored = world.upstream.last_status.lock().unwrap().clone().unwrap();
    assert_eq!(stored.valid_until, jiff::Timestamp::UNIX_EPOCH);
    *world.upstream.login_down.lock().unwrap() = false;
    // The failed read is cached for a moment.
    world.clock.advance(5 * SECOND);
    assert_eq!(safe_read(&world).await, Ok(4));
    assert_eq!(world.received().last().unwrap().uri, NEW);
}

#[tokio::test]
async fn a_500_does_not_count_as_a_dead_host() {
    let world = with_dead_host(Reply::Status(500)).await;
    let _ = unsafe_call(&world).await;
    world.wait_idle().await;
    assert_eq!(status_reads(&world), 1);
}

#[tokio::test]
async fn a_ticket_probe_uses_the_new_address() {
    let world = with_dead_host(Reply::Status(401)).await;
    // The call gets 401; the probe fails because the host is dead.
    assert_eq!(safe_read(&world).await, Ok(4));
    assert_eq!(uris(&world), [OLD, NEW]);
    assert_eq!(world.upstream.probes.load(Ordering::SeqCst), 2);
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unsendable_call_does_not_count_as_a_dead_host() {
    let world = with_dead_host(Reply::Fail(SendError::InvalidRequest(String::new()))).await;
    assert!(safe_read(&world).await.is_err());
    assert_eq!((status_reads(&world), uris(&world).len()), (1, 1));
}
