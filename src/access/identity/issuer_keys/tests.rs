//! Tests of fetching keys and of calls that wait for them.

use std::{net::Ipv4Addr, pin::pin};

use futures_util::{future::join_all, poll};

use super::*;
use crate::{
    access::identity::tests::forge::{NoJitter, TestKey, TestKeySource, set},
    domain::TokenAlgorithm,
    ports::ManualClock,
};

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct World {
    clock: Arc<ManualClock>,
    source: Arc<TestKeySource>,
    keys: IssuerKeys,
}

fn world(local: bool) -> World {
    let clock = Arc::new(ManualClock::new("2026-02-23T09:00:00Z".parse().unwrap()));
    let source = Arc::new(TestKeySource::new(&set(&[&TestKey::ed("1")]), local));
    let age = Duration::from_hours(24);
    let all = TokenAlgorithm::ALL.to_vec();
    let random = Arc::new(NoJitter);
    let keys = IssuerKeys::new("i".to_owned(), source.clone(), age, all, clock.clone(), random);
    World { clock, source, keys }
}

impl World {
    fn known(&self) -> bool {
        self.keys.has_usable_keys(self.clock.now())
    }
}

/// Runs the refresh loop until it waits.
macro_rules! settle {
    ($fresh:expr) => {
        for _ in 0..4 {
            tokio::task::yield_now().await;
            assert!(poll!(&mut $fresh).is_pending());
        }
    };
}

#[tokio::test]
async fn fetches_keys_at_once_and_then_every_five_minutes() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    assert!(!world.known());
    settle!(fresh);
    assert!(world.known());
    for fetches in 1..5 {
        assert_eq!(world.source.begun(), fetches);
        world.clock.advance(Duration::from_secs(299));
        settle!(fresh);
        assert_eq!(world.source.begun(), fetches);
        world.clock.advance(Duration::from_secs(1));
        settle!(fresh);
    }
}

#[tokio::test]
async fn reads_a_file_every_ten_seconds_and_at_once_on_reload() {
    let world = world(true);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    world.clock.advance(Duration::from_secs(10));
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
    world.keys.reload().await;
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
}

#[tokio::test]
async fn a_reload_fetches_from_the_issuer_after_the_cool_down() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    world.keys.reload().await;
    settle!(fresh);
    assert_eq!(world.source.begun(), 1);
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
}

#[tokio::test]
async fn retries_a_failing_issuer_with_growing_delays() {
    let world = world(false);
    world.source.fail();
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    for (fetches, pause) in (2..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        world.clock.advance(Duration::from_millis(999 * pause));
        settle!(fresh);
        assert_eq!(world.source.begun(), fetches - 1);
        world.clock.advance(Duration::from_millis(pause));
        settle!(fresh);
        assert_eq!(world.source.begun(), fetches);
    }
    // After the issuer answers again, the keys are known.
    world.source.publish(&set(&[&TestKey::ed("1")]));
    world.clock.advance(MAX_RETRY_DELAY);
    settle!(fresh);
    assert!(world.known());
}

#[tokio::test]
async fn made_up_key_ids_cause_one_fetch_per_cool_down() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    for round in 1..4 {
        let mut calls = pin!(join_all((0..100).map(|_| world.keys.wait_for_next_fetch(SOMEWHERE))));
        assert!(poll!(&mut calls).is_pending());
        world.clock.advance(Duration::from_millis(4999));
        settle!(fresh);
        assert_eq!(world.source.begun(), round);
        world.clock.advance(Duration::from_millis(1));
        settle!(fresh);
        assert_eq!(world.source.begun(), round + 1);
        assert!(calls.await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_call_waits_for_a_fetch_that_starts_after_its_request() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    world.source.open(false);
    world.clock.advance(REFRESH_INTERVAL);
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
    // The running fetch may return an answer from before the key was published.
    let mut call = pin!(world.keys.wait_for_next_fetch(SOMEWHERE));
    assert!(poll!(&mut call).is_pending());
    world.source.open(true);
    settle!(fresh);
    assert!(poll!(&mut call).is_pending());
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
    assert_eq!(call.await, Ok(()));
    // No call waits any more, so the next fetch is the scheduled one.
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
}

#[tokio::test]
async fn calls_wait_only_until_the_first_fetch_has_ended() {
    let world = world(false);
    world.source.open(false);
    world.source.fail();
    let mut fresh = pin!(world.keys.run_refresh());
    let mut call = pin!(world.keys.wait_for_first_fetch(SOMEWHERE, world.clock.now()));
    assert!(poll!(&mut call).is_pending());
    settle!(fresh);
    assert!(poll!(&mut call).is_pending());
    world.source.open(true);
    settle!(fresh);
    assert!(call.await.unwrap_err().cause.contains("out of order"));
    let unavailable =
        world.keys.wait_for_first_fetch(SOMEWHERE, world.clock.now()).await.unwrap_err();
    assert_eq!((unavailable.retry_after, unavailable.has_other_keys), (COOL_DOWN, false));
    // That call has requested the next fetch.
    world.source.publish(&set(&[&TestKey::ed("1")]));
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.keys.wait_for_first_fetch(SOMEWHERE, world.clock.now()).await, Ok(()));
}

#[tokio::test]
async fn rejects_calls_beyond_the_limit_of_waiting_calls() {
    let world = world(false);
    let site = |number| IpAddr::V4(Ipv4Addr::from_bits(number));
    let mut waiting: Vec<_> = (1..)
        .map(|number| Box::pin(world.keys.wait_for_next_fetch(site(number))))
        .take(MAX_WAITING)
        .collect();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    assert!(
        world.keys.wait_for_next_fetch(SOMEWHERE).await.unwrap_err().cause.contains("too many")
    );
    let now = world.clock.now();
    assert!(
        world
            .keys
            .wait_for_first_fetch(SOMEWHERE, now)
            .await
            .unwrap_err()
            .cause
            .contains("too many")
    );
    // A cancelled call frees its slot.
    waiting.pop();
    let mut call = pin!(world.keys.wait_for_next_fetch(SOMEWHERE));
    assert!(poll!(&mut call).is_pending());
}

#[tokio::test]
async fn one_address_cannot_take_all_waiting_slots() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    let [one, same_site, two]: [IpAddr; 3] =
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|address| address.parse().unwrap());
    let mut waiting = Vec::new();
    let mut crowd = async |from| {
        let mut places = 0;
        loop {
            let mut call = Box::pin(world.keys.wait_for_next_fetch(from));
            match poll!(&mut call) {
                std::task::Poll::Pending => waiting.push(call),
                std::task::Poll::Ready(turned_away) => {
                    // Other keys of the issuer are known, so this key id may be a guess.
                    assert!(turned_away.unwrap_err().has_other_keys);
                    return places;
                }
            }
            places += 1;
        }
    };
    assert_eq!(crowd(one).await, MAX_WAITING / 2);
    assert_eq!(crowd(same_site).await, 0);
    assert_eq!(crowd(two).await, MAX_WAITING / 4);
    assert_ne!(crowd(SOMEWHERE).await, 0);
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    for call in waiting {
        assert_eq!(call.await, Ok(()));
    }
    assert!(world.keys.waiting_slot(one).is_ok());
}

#[tokio::test]
async fn keeps_keys_during_an_outage_until_they_are_too_old() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    for nonsense in ["", "{\"keys\":", "[]", "{\"keys\":{}}", "<html>"] {
        world.source.publish(nonsense);
        world.clock.advance(REFRESH_INTERVAL);
        settle!(fresh);
        assert!(world.known(), "{nonsense}");
    }
    world.source.fail();
    world.clock.advance(Duration::from_mins(24 * 60 - 5 * 5));
    settle!(fresh);
    assert!(world.known());
    world.clock.advance(Duration::from_secs(1));
    assert!(!world.known());
}

#[tokio::test]
async fn drops_withdrawn_keys_even_if_none_is_left() {
    let world = world(false);
    let mut fresh = pin!(world.keys.run_refresh());
    settle!(fresh);
    world.source.publish("{\"keys\":[]}");
    world.clock.advance(REFRESH_INTERVAL);
    settle!(fresh);
    assert!(!world.known());
}
