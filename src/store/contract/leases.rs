//! Promises of `LeaseStore`.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Store, StoreLocation, at};
use crate::ports::{HeldLease, Lease};

const LIFE: Duration = Duration::from_secs(15);

async fn take(store: &dyn Store, key: &str, owner: &str, second: i64) -> Option<Lease> {
    store.acquire(key, owner, LIFE, at(second)).await.unwrap()
}

pub(in crate::store) async fn concurrent_acquisitions_give_one_lease(place: &dyn StoreLocation) {
    let (ours, theirs) = (place.open().await, place.open().await);
    for second in [0, 15, 30] {
        let mut wanting = JoinSet::new();
        for number in 0..10 {
            let store = Arc::clone(if number % 2 == 0 { &ours } else { &theirs });
            wanting.spawn(
                async move { take(&*store, "a", &format!("replica-{number}"), second).await },
            );
        }
        let got: Vec<Lease> = wanting.join_all().await.into_iter().flatten().collect();
        assert_eq!(got.len(), 1, "{got:?}");
    }
}

pub(in crate::store) async fn a_lease_is_exclusive_until_it_expires_or_is_released(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let first = take(&*store, "a", "one", 0).await.unwrap();
    assert_eq!(
        (first.key.as_str(), first.owner.as_str(), first.previous_expire_time),
        ("a", "one", None)
    );
    // Two tasks of one process are two owners.
    for owner in ["one", "two"] {
        assert_eq!(take(&*store, "a", owner, 14).await, None);
    }
    assert!(take(&*store, "b", "two", 0).await.is_some());
    store.release(&first).await.unwrap();
    let second = take(&*store, "a", "two", 1).await.unwrap();
    assert_eq!(second.previous_expire_time, None);
}

pub(in crate::store) async fn a_takeover_returns_the_expiry_of_the_previous_lease(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let first = take(&*store, "a", "one", 0).await.unwrap();
    assert!(store.renew(&first, LIFE, at(10)).await.unwrap());
    assert_eq!(take(&*store, "a", "two", 24).await, None);
    let second = take(&*store, "a", "two", 25).await.unwrap();
    assert_eq!(second.previous_expire_time, Some(at(25)));
    let third = take(&*store, "a", "one", 70).await.unwrap();
    assert_eq!(third.previous_expire_time, Some(at(40)));
}

pub(in crate::store) async fn every_acquisition_increments_the_fence(place: &dyn StoreLocation) {
    let mut last = 0;
    for round in 0..3 {
        let store = place.open().await;
        for key in ["a", "b"] {
            let lease = take(&*store, key, "one", 100 * round).await.unwrap();
            assert!(lease.fence > last);
            last = lease.fence;
            store.release(&lease).await.unwrap();
        }
        store.close().await;
    }
}

pub(in crate::store) async fn only_the_current_lease_can_be_renewed_or_released(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let former = take(&*store, "a", "one", 0).await.unwrap();
    let present = take(&*store, "a", "two", 20).await.unwrap();
    let stolen = Lease { owner: "one".to_owned(), ..present.clone() };
    let guessed = Lease { fence: present.fence + 1, ..present.clone() };
    for lease in [&former, &stolen, &guessed] {
        assert!(!store.renew(lease, LIFE, at(21)).await.unwrap());
        store.release(lease).await.unwrap();
    }
    assert_eq!(take(&*store, "a", "one", 34).await, None);
    assert!(store.renew(&present, LIFE, at(22)).await.unwrap());
    store.release(&present).await.unwrap();
    assert!(!store.renew(&present, LIFE, at(23)).await.unwrap());
}

pub(in crate::store) async fn an_expired_lease_can_be_renewed_until_it_is_taken_over(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let lease = take(&*store, "a", "one", 0).await.unwrap();
    assert!(store.renew(&lease, LIFE, at(60)).await.unwrap());
    assert_eq!(take(&*store, "a", "two", 70).await, None);
}

pub(in crate::store) async fn takes_over_a_lease_only_if_it_is_unchanged(
    place: &dyn StoreLocation,
) {
    let day = Duration::from_hours(24);
    let store = place.open().await;
    assert_eq!(store.current("a").await.unwrap(), None);
    let ahead = store.acquire("a", "one", LIFE, at(0) + day).await.unwrap().unwrap();
    assert_eq!(take(&*store, "a", "two", 0).await, None);
    let seen = store.current("a").await.unwrap().unwrap();
    assert_eq!(seen, HeldLease { fence: ahead.fence, expire_time: at(15) + day });
    // The holder has renewed the lease.
    assert!(store.renew(&ahead, LIFE, at(1) + day).await.unwrap());
    assert_eq!(store.take_over("a", "two", seen, LIFE, at(30)).await.unwrap(), None);
    let seen = store.current("a").await.unwrap().unwrap();
    let second = store.take_over("a", "two", seen, LIFE, at(60)).await.unwrap().unwrap();
    assert!(second.fence > ahead.fence);
    assert_eq!(second.previous_expire_time, Some(seen.expire_time));
    // The former holder is too late, and only one of two takeovers with the same state succeeds.
    assert!(!store.renew(&ahead, LIFE, at(61)).await.unwrap());
    assert_eq!(store.take_over("a", "three", seen, LIFE, at(61)).await.unwrap(), None);
    assert_eq!(take(&*store, "a", "three", 74).await, None);
    assert!(take(&*store, "a", "three", 75).await.is_some());
}
