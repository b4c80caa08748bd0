//! Tenants whose host is gone without a word.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;

use super::*;
use crate::{
    broker::fakes::{Told, World, asking, question, request},
    ports::ApiBody,
};

const SECOND: Duration = Duration::from_secs(1);
const OLD: &str = "https://one.superoffice.com/Cust1/api";
const NEW: &str = "https://two.superoffice.com/Cust1/api";

/// A tenant that was used at host one, which is gone; tenant status names host two.
async fn gone(how: Told) -> World {
    let world = World::new();
    ask(&world).await.unwrap();
    *world.upstream.gone.lock().unwrap() = Some(("one", how));
    *world.upstream.host.lock().unwrap() = "two";
    world.upstream.arrived.lock().unwrap().clear();
    world
}

async fn ask(world: &World) -> Result<usize, BrokerError> {
    world.in_time(world.web_api.read(&asking(), &question())).await
}

async fn order(world: &World) -> Result<Sent, BrokerError> {
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    world.in_time(world.web_api.send(&asking(), order, &mut |_| {})).await
}

fn uris(world: &World) -> Vec<String> {
    world.arrived().into_iter().map(|arrived| arrived.uri).collect()
}

fn reads(world: &World) -> u64 {
    world.upstream.status_reads.load(Ordering::SeqCst)
}

fn not_sent() -> Told {
    Told::Fail(SendError::NotSent(String::new()))
}

/// Calls that may have been carried out.
fn perhaps_done() -> Vec<Told> {
    let mut all = vec![
        Told::Fail(SendError::Broken(String::new())),
        Told::Fail(SendError::TimedOut(String::new())),
    ];
    all.extend([502, 503, 504].map(Told::Status));
    all
}

#[tokio::test]
async fn a_question_follows_a_tenant_whose_host_is_gone() {
    for how in perhaps_done().into_iter().chain([not_sent(), Told::Hang]) {
        let world = gone(how.clone()).await;
        assert_eq!(ask(&world).await, Ok(4), "{how:?}");
        assert_eq!(uris(&world), [OLD, NEW], "{how:?}");
        assert_eq!(reads(&world), 2, "{how:?}");
    }
}

#[tokio::test]
async fn an_order_that_did_not_leave_follows_its_tenant() {
    let world = gone(not_sent()).await;
    assert_eq!(order(&world).await.unwrap().response.status, 200);
    assert_eq!(uris(&world), [OLD, NEW]);
}

#[tokio::test]
async fn an_order_that_may_have_been_carried_out_is_not_repeated_and_the_next_call_finds_the_tenant()
 {
    for how in perhaps_done() {
        let world = gone(how.clone()).await;
        let _ = order(&world).await;
        world.settled().await;
        assert_eq!(uris(&world), [OLD], "{how:?}");
        assert_eq!(order(&world).await.unwrap().response.status, 200, "{how:?}");
        assert_eq!(uris(&world), [OLD, NEW], "{how:?}");
    }
}

#[tokio::test]
async fn a_silent_host_makes_us_ask_while_an_order_waits_and_the_order_goes_on() {
    let world = gone(Told::Hang).await;
    let asking = world.asking_within(30 * SECOND);
    let order = request(Method::POST, ApiBody::Whole(Bytes::from_static(b"{}")));
    let mut no = |_: SendProgress<'_>| {};
    let mut waiting = Box::pin(world.web_api.send(&asking, order, &mut no));
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
        world.clock.advance(Duration::from_millis(100));
    }
    world.settled().await;
    assert_eq!((reads(&world), uris(&world).len()), (2, 1));
}

#[tokio::test]
async fn callers_that_give_up_early_make_us_ask_too_and_those_that_leave_at_once_do_not() {
    for (patience, asked) in [(SECOND / 2, 1), (2 * SECOND, 2)] {
        let world = gone(Told::Hang).await;
        let (asking, question) = (asking(), question());
        let mut waiting = Box::pin(world.web_api.read(&asking, &question));
        for _ in 0..20 {
            assert!(futures_util::poll!(&mut waiting).is_pending());
            tokio::task::yield_now().await;
        }
        world.clock.advance(patience);
        drop(waiting);
        world.settled().await;
        assert_eq!(reads(&world), asked, "{patience:?}");
    }
}

#[tokio::test]
async fn whatever_callers_do_a_dead_host_costs_one_read_in_fifteen_seconds() {
    let world = gone(not_sent()).await;
    *world.upstream.host.lock().unwrap() = "one";
    let calls = join_all((0..8).map(|_| ask(&world))).await;
    assert!(calls.iter().all(Result::is_err));
    assert_eq!(reads(&world), 2);
    let begun = world.clock.monotonic();
    while world.clock.monotonic() < begun + 14 * SECOND {
        assert!(ask(&world).await.is_err());
        let _ = order(&world).await;
    }
    assert!(reads(&world) <= 3, "{}", reads(&world));
    let before = reads(&world);
    world.clock.advance(16 * SECOND);
    *world.upstream.host.lock().unwrap() = "two";
    assert_eq!(ask(&world).await, Ok(4));
    assert_eq!(reads(&world), before + 1);
}

#[tokio::test]
async fn a_host_that_answers_421_though_status_confirms_it_costs_one_read_in_fifteen_seconds() {
    let world = World::new();
    ask(&world).await.unwrap();
    let answers = std::iter::repeat_n(Told::Status(421), 40);
    world.upstream.script.lock().unwrap().extend(answers);
    for _ in 0..5 {
        assert!(ask(&world).await.is_err());
    }
    assert_eq!(reads(&world), 2);
    world.clock.advance(15 * SECOND);
    assert!(ask(&world).await.is_err());
    assert_eq!(reads(&world), 3);
}

#[tokio::test]
async fn while_the_login_host_is_down_too_the_old_address_stays_in_use() {
    let world = gone(not_sent()).await;
    *world.upstream.login_down.lock().unwrap() = true;
    assert!(ask(&world).await.is_err());
    // The host comes back.
    *world.upstream.gone.lock().unwrap() = None;
    *world.upstream.host.lock().unwrap() = "one";
    assert_eq!(ask(&world).await, Ok(4));
}

#[tokio::test]
async fn after_421_the_old_address_is_not_used_again_also_where_status_cannot_be_read() {
    let world = World::new();
    ask(&world).await.unwrap();
    *world.upstream.host.lock().unwrap() = "two";
    *world.upstream.login_down.lock().unwrap() = true;
    assert!(ask(&world).await.is_err());
    assert!(ask(&world).await.is_err());
    assert_eq!(world.arrived().len(), 2);
    // The store does not bring it back after a restart.
    let stored = world.upstream.last_status.lock().unwrap().clone().unwrap();
    assert_eq!(stored.valid_until, jiff::Timestamp::UNIX_EPOCH);
    *world.upstream.login_down.lock().unwrap() = false;
    // The failure is repeated to callers for a moment.
    world.clock.advance(5 * SECOND);
    assert_eq!(ask(&world).await, Ok(4));
    assert_eq!(world.arrived().last().unwrap().uri, NEW);
}

#[tokio::test]
async fn a_500_is_the_answer_of_a_host_that_is_there() {
    let world = gone(Told::Status(500)).await;
    let _ = order(&world).await;
    world.settled().await;
    assert_eq!(reads(&world), 1);
}

#[tokio::test]
async fn a_probe_of_a_ticket_follows_its_tenant() {
    let world = gone(Told::Status(401)).await;
    // The call meets 401; the probe meets a dead host.
    assert_eq!(ask(&world).await, Ok(4));
    assert_eq!(uris(&world), [OLD, NEW]);
    assert_eq!(world.upstream.probes.load(Ordering::SeqCst), 2);
    assert_eq!(world.upstream.issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_says_nothing_of_the_host() {
    let world = gone(Told::Fail(SendError::Unsendable(String::new()))).await;
    assert!(ask(&world).await.is_err());
    assert_eq!((reads(&world), uris(&world).len()), (1, 1));
}
