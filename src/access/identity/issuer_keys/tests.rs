//! When keys are fetched, and who waits for what.

use std::{net::Ipv4Addr, pin::pin};

use futures_util::{future::join_all, poll};

use super::*;
use crate::{
    access::identity::{
        tests::forge::{Forge, NoJitter, Published, set},
        waiting::MAX_WAITING,
    },
    domain::TokenAlgorithm,
    ports::ManualClock,
};

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct World {
    clock: Arc<ManualClock>,
    source: Arc<Published>,
    keys: IssuerKeys,
}

fn world(local: bool) -> World {
    let clock = Arc::new(ManualClock::new("2026-02-23T09:00:00Z".parse().unwrap()));
    let source = Arc::new(Published::new(&set(&[&Forge::ed("1")]), local));
    let age = Duration::from_hours(24);
    let all = TokenAlgorithm::ALL.to_vec();
    let random = Arc::new(NoJitter);
    let keys = IssuerKeys::new("i".to_owned(), source.clone(), age, all, clock.clone(), random);
    World { clock, source, keys }
}

impl World {
    fn known(&self) -> bool {
        self.keys.are_known(self.clock.now())
    }
}

/// Lets the loop come as far as it comes.
macro_rules! settle {
    ($fresh:expr) => {
        for _ in 0..4 {
            tokio::task::yield_now().await;
            assert!(poll!(&mut $fresh).is_pending());
        }
    };
}

#[tokio::test]
async fn keys_are_fetched_at_once_and_then_every_five_minutes() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
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
async fn a_file_is_read_every_ten_seconds_and_at_once_when_asked() {
    let world = world(true);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    world.clock.advance(Duration::from_secs(10));
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
    world.keys.reload().await;
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
}

#[tokio::test]
async fn a_reload_asks_the_issuer_again_after_the_cool_down() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    world.keys.reload().await;
    settle!(fresh);
    assert_eq!(world.source.begun(), 1);
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
}

#[tokio::test]
async fn an_issuer_that_fails_is_asked_ever_less_often() {
    let world = world(false);
    world.source.fail();
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    for (fetches, pause) in (2..).zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        world.clock.advance(Duration::from_millis(999 * pause));
        settle!(fresh);
        assert_eq!(world.source.begun(), fetches - 1);
        world.clock.advance(Duration::from_millis(pause));
        settle!(fresh);
        assert_eq!(world.source.begun(), fetches);
    }
    // And as before once it answers.
    world.source.publish(&set(&[&Forge::ed("1")]));
    world.clock.advance(LONGEST_PAUSE);
    settle!(fresh);
    assert!(world.known());
}

#[tokio::test]
async fn made_up_names_of_keys_cost_the_issuer_one_fetch_a_cool_down() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    for round in 1..4 {
        let mut calls = pin!(join_all((0..100).map(|_| world.keys.look_again(SOMEWHERE))));
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
async fn a_call_waits_for_a_fetch_that_began_after_it_asked() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    world.source.open(false);
    world.clock.advance(FRESH);
    settle!(fresh);
    assert_eq!(world.source.begun(), 2);
    // This fetch may have been answered before the key was published.
    let mut call = pin!(world.keys.look_again(SOMEWHERE));
    assert!(poll!(&mut call).is_pending());
    world.source.open(true);
    settle!(fresh);
    assert!(poll!(&mut call).is_pending());
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
    assert_eq!(call.await, Ok(()));
    // Nobody waits any more: the next comes in its time.
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.source.begun(), 3);
}

#[tokio::test]
async fn before_the_first_fetch_has_ended_calls_wait_and_after_it_failed_they_do_not() {
    let world = world(false);
    world.source.open(false);
    world.source.fail();
    let mut fresh = pin!(world.keys.keep_fresh());
    let mut call = pin!(world.keys.first(SOMEWHERE, world.clock.now()));
    assert!(poll!(&mut call).is_pending());
    settle!(fresh);
    assert!(poll!(&mut call).is_pending());
    world.source.open(true);
    settle!(fresh);
    assert!(call.await.unwrap_err().cause.contains("out of order"));
    let unavailable = world.keys.first(SOMEWHERE, world.clock.now()).await.unwrap_err();
    assert_eq!((unavailable.retry_after, unavailable.others_known), (COOL_DOWN, false));
    // That call has asked for the next fetch.
    world.source.publish(&set(&[&Forge::ed("1")]));
    world.clock.advance(COOL_DOWN);
    settle!(fresh);
    assert_eq!(world.keys.first(SOMEWHERE, world.clock.now()).await, Ok(()));
}

#[tokio::test]
async fn more_calls_than_can_wait_are_turned_away_at_once() {
    let world = world(false);
    let site = |number| IpAddr::V4(Ipv4Addr::from_bits(number));
    let mut waiting: Vec<_> = (1..)
        .map(|number| Box::pin(world.keys.look_again(site(number))))
        .take(MAX_WAITING)
        .collect();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    assert!(world.keys.look_again(SOMEWHERE).await.unwrap_err().cause.contains("too many"));
    let now = world.clock.now();
    assert!(world.keys.first(SOMEWHERE, now).await.unwrap_err().cause.contains("too many"));
    // Who gives up makes place.
    waiting.pop();
    let mut call = pin!(world.keys.look_again(SOMEWHERE));
    assert!(poll!(&mut call).is_pending());
}

#[tokio::test]
async fn however_many_calls_come_from_one_address_others_find_a_place() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    let [one, same_site, two]: [IpAddr; 3] =
        ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|address| address.parse().unwrap());
    let mut waiting = Vec::new();
    let mut crowd = async |from| {
        let mut places = 0;
        loop {
            let mut call = Box::pin(world.keys.look_again(from));
            match poll!(&mut call) {
                std::task::Poll::Pending => waiting.push(call),
                std::task::Poll::Ready(turned_away) => {
                    // It is this one's key that is not known: guessing, perhaps.
                    assert!(turned_away.unwrap_err().others_known);
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
    assert!(world.keys.waiting.take(one).is_some());
}

#[tokio::test]
async fn keys_outlive_the_outage_of_their_issuer_until_they_are_too_old() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    for nonsense in ["", "{\"keys\":", "[]", "{\"keys\":{}}", "<html>"] {
        world.source.publish(nonsense);
        world.clock.advance(FRESH);
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
async fn keys_that_the_issuer_withdrew_are_gone_even_if_it_has_no_others() {
    let world = world(false);
    let mut fresh = pin!(world.keys.keep_fresh());
    settle!(fresh);
    world.source.publish("{\"keys\":[]}");
    world.clock.advance(FRESH);
    settle!(fresh);
    assert!(!world.known());
}
