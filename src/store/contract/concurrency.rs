//! Promises for concurrent and dropped writes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    Store, StoreLocation, a_ticket, add, at, cust1, enroll, name, secret, stored_ticket, tenant,
    token,
};
use crate::ports::{StoreError, TenantStore, TicketStore};

const WRITERS: usize = 10;

pub(in crate::store) async fn concurrent_writers_lose_nothing(place: &dyn StoreLocation) {
    let ours = place.open().await;
    // Half of them run in another process.
    let theirs = place.open().await;
    add(&*ours, &cust1()).await;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let store = Arc::clone(if number % 2 == 0 { &ours } else { &theirs });
        writers.spawn(async move {
            for round in 0..5 {
                let token = secret(&format!("token-{number}-{round}"));
                let set = store.set_system_user_token(&cust1(), &token, at(1)).await;
                set.unwrap().unwrap();
                let stop = store.set_disabled(&cust1(), true, at(2)).await;
                stop.unwrap().unwrap();
            }
        });
    }
    writers.join_all().await;
    let end = tenant(&*ours, &cust1()).await.unwrap();
    assert_eq!(end.token_version, 50);
    // Created, 50 tokens set, and disabled once.
    assert_eq!(end.version, 52);
    assert!(end.disabled);
    let (text, version) = token(&*theirs, &cust1()).await.unwrap();
    assert!(text.ends_with("-4"), "{text}");
    assert_eq!(version, 50);
}

pub(in crate::store) async fn concurrent_creations_of_a_tenant_have_one_winner(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let mut creators = JoinSet::new();
    for _ in 0..WRITERS {
        let store = Arc::clone(&store);
        creators.spawn(async move { store.create(&cust1(), &BTreeMap::new(), at(0)).await });
    }
    let results = creators.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let lost = |result: &&Result<_, _>| matches!(result, Err(StoreError::AlreadyExists));
    assert_eq!(results.iter().filter(lost).count(), WRITERS - 1);
}

pub(in crate::store) async fn pages_list_every_tenant_once_during_additions(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let even = |number: usize| name("crm-sync", &format!("Cust{}", 1000 + 2 * number));
    for number in 0..60 {
        add(&*store, &even(number)).await;
    }
    let adding = {
        let store: Arc<dyn Store> = Arc::clone(&store);
        async move {
            for number in 0..60 {
                let odd = format!("Cust{}", 1001 + 2 * ((number * 37) % 60));
                add(&*store, &name("crm-sync", &odd)).await;
            }
        }
    };
    let paging = async {
        let mut seen = Vec::new();
        loop {
            let page = TenantStore::list(&*store, None, seen.last(), 7).await.unwrap();
            if page.is_empty() {
                return seen;
            }
            seen.extend(page.into_iter().map(|tenant| tenant.name));
        }
    };
    let (seen, ()) = tokio::join!(paging, adding);
    assert!(seen.is_sorted_by(|a, b| a < b), "twice, or out of order");
    for number in 0..60 {
        assert!(seen.contains(&even(number)));
    }
}

pub(in crate::store) async fn a_dropped_write_is_complete_or_rolled_back(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let external = store.external_version().await.unwrap();
    let mut version = 1;
    // The drop moves from before the write begins until after it is done.
    for step in 0..60 {
        let ticket = a_ticket(1, version);
        assert!(TicketStore::put(&*store, &cust1(), &ticket).await.unwrap());
        let patience = Duration::from_micros(50 * step);
        let (name, token) = (cust1(), secret("next"));
        let write = store.set_system_user_token(&name, &token, at(5));
        let _ = tokio::time::timeout(patience, write).await;
        // Waits for the rollback of the dropped write.
        store.check_writable().await.unwrap();

        let now = tenant(&*store, &cust1()).await.unwrap();
        let done = now.token_version == version + 1;
        assert!(done || now.token_version == version);
        assert_eq!(now.version, now.token_version + 1);
        assert_eq!(stored_ticket(&*store, &cust1()).await.is_none(), done);
        version = now.token_version;
    }
    assert_eq!(store.external_version().await.unwrap(), external);
}
