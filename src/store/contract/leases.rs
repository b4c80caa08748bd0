//! Promises of `LeaseStore`.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{Place, Store, at};
use crate::ports::{HeldLease, Lease};

const LIFE: Duration = Duration::from_secs(15);

async fn take(store: &dyn Store, key: &str, owner: &str, second: i64) -> Option<Lease> {
    store.acquire(key, owner, LIFE, at(second)).await.unwrap()
}

pub(in crate::store) async fn of_many_who_want_a_lease_one_gets_it(place: &dyn Place) {
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

pub(in crate::store) async fn a_lease_is_its_owners_until_it_expires_or_is_given_back(
    place: &dyn Place,
) {
    let store = place.open().await;
    let first = take(&*store, "a", "one", 0).await.unwrap();
    assert_eq!((first.key.as_str(), first.owner.as_str(), first.took_over), ("a", "one", None));
    // Two tasks of one process are two.
    for owner in ["one", "two"] {
        assert_eq!(take(&*store, "a", owner, 14).await, None);
    }
    assert!(take(&*store, "b", "two", 0).await.is_some());
    store.release(&first).await.unwrap();
    let second = take(&*store, "a", "two", 1).await.unwrap();
    assert_eq!(second.took_over, None);
}

pub(in crate::store) async fn whoever_takes_over_is_told_when_the_former_lease_expired(
    place: &dyn Place,
) {
    let store = place.open().await;
    let first = take(&*store, "a", "one", 0).await.unwrap();
    assert!(store.renew(&first, LIFE, at(10)).await.unwrap());
    assert_eq!(take(&*store, "a", "two", 24).await, None);
    let second = take(&*store, "a", "two", 25).await.unwrap();
    assert_eq!(second.took_over, Some(at(25)));
    let third = take(&*store, "a", "one", 70).await.unwrap();
    assert_eq!(third.took_over, Some(at(40)));
}

pub(in crate::store) async fn a_fence_grows_with_every_acquisition_for_ever(place: &dyn Place) {
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

pub(in crate::store) async fn only_the_present_lease_is_renewed_or_given_back(place: &dyn Place) {
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

pub(in crate::store) async fn an_expired_lease_that_nobody_took_can_be_renewed(place: &dyn Place) {
    let store = place.open().await;
    let lease = take(&*store, "a", "one", 0).await.unwrap();
    assert!(store.renew(&lease, LIFE, at(60)).await.unwrap());
    assert_eq!(take(&*store, "a", "two", 70).await, None);
}

pub(in crate::store) async fn a_lease_that_seems_to_last_for_ever_is_taken_over_only_as_it_was_seen(
    place: &dyn Place,
) {
    let day = Duration::from_hours(24);
    let store = place.open().await;
    assert_eq!(store.present("a").await.unwrap(), None);
    let ahead = store.acquire("a", "one", LIFE, at(0) + day).await.unwrap().unwrap();
    assert_eq!(take(&*store, "a", "two", 0).await, None);
    let seen = store.present("a").await.unwrap().unwrap();
    assert_eq!(seen, HeldLease { fence: ahead.fence, expire_time: at(15) + day });
    // Its holder lives.
    assert!(store.renew(&ahead, LIFE, at(1) + day).await.unwrap());
    assert_eq!(store.take_over("a", "two", seen, LIFE, at(30)).await.unwrap(), None);
    let seen = store.present("a").await.unwrap().unwrap();
    let second = store.take_over("a", "two", seen, LIFE, at(60)).await.unwrap().unwrap();
    assert!(second.fence > ahead.fence);
    assert_eq!(second.took_over, Some(seen.expire_time));
    // The former holder is late, and of two who saw the same only one takes over.
    assert!(!store.renew(&ahead, LIFE, at(61)).await.unwrap());
    assert_eq!(store.take_over("a", "three", seen, LIFE, at(61)).await.unwrap(), None);
    assert_eq!(take(&*store, "a", "three", 74).await, None);
    assert!(take(&*store, "a", "three", 75).await.is_some());
}
