//! Promises of `StoreHealth`, and of durability.

use super::{
    StoreLocation, a_ticket, add, at, cust1, enroll, name, plain, stored_ticket, tenant, token,
};
use crate::{
    domain::{Environment, SystemTicket, TenantState, TenantStatus},
    ports::{StoreError, TenantStore, TicketStore},
};

pub(in crate::store) async fn a_new_store_is_writable(place: &dyn StoreLocation) {
    let store = place.open().await;
    store.check_writable().await.unwrap();
    store.check_writable().await.unwrap();
}

pub(in crate::store) async fn acknowledged_writes_survive_reopening(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let ticket = a_ticket(1, 1);
    TicketStore::put(&*store, &cust1(), &ticket).await.unwrap();
    let id = cust1().application;
    store.bind(&id, Environment::Sod, "client").await.unwrap();
    let written = tenant(&*store, &cust1()).await;
    let secret = token(&*store, &cust1()).await;

    for close in [false, true] {
        if close {
            store.close().await;
        }
        let again = place.open().await;
        assert_eq!(tenant(&*again, &cust1()).await, written);
        assert_eq!(token(&*again, &cust1()).await, secret);
        assert_eq!(stored_ticket(&*again, &cust1()).await, Some(plain(&ticket)));
        let binding = again.binding(&id).await.unwrap();
        assert_eq!(binding.unwrap().client_id, "client");
    }
}

pub(in crate::store) async fn external_version_changes_only_with_writes_of_other_processes(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let version = async || store.external_version().await.unwrap();
    let before = version().await;
    enroll(&*store, &cust1()).await;
    store.check_writable().await.unwrap();
    TenantStore::delete(&*store, &cust1(), None, false).await.unwrap();
    add(&*store, &cust1()).await;
    assert_eq!(version().await, before);

    let other = place.open().await;
    other.set_disabled(&cust1(), true, at(5)).await.unwrap();
    let changed = version().await;
    assert_ne!(changed, before);
    assert!(tenant(&*store, &cust1()).await.unwrap().disabled);
    assert_eq!(version().await, changed);
    add(&*other, &name("portal", "Cust7")).await;
    assert_ne!(version().await, changed);
}

pub(in crate::store) async fn a_closed_store_is_unavailable(place: &dyn StoreLocation) {
    let store = place.open().await;
    add(&*store, &cust1()).await;
    store.close().await;
    let read = TenantStore::get(&*store, &cust1()).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
    let write = store.set_disabled(&cust1(), true, at(5)).await;
    assert!(matches!(write, Err(StoreError::Unavailable(_))));
    let ready = store.check_writable().await;
    assert!(matches!(ready, Err(StoreError::Unavailable(_))));
    store.close().await;
}

pub(in crate::store) async fn deletes_only_credentials_issued_in_the_future(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let other = name("crm-sync", "Cust2");
    for (tenant, issued) in [(&cust1(), at(10)), (&other, at(86_400))] {
        let token_version = enroll(&*store, tenant).await;
        let ticket = SystemTicket { issue_time: issued, ..a_ticket(1, token_version) };
        TicketStore::put(&*store, tenant, &ticket).await.unwrap();
        let status = TenantStatus {
            state: TenantState::Suspended,
            valid_until: issued,
            web_api_uri: None,
            version: String::new(),
            read_time: issued,
        };
        store.put_status(tenant, &status).await.unwrap();
    }
    assert_eq!(store.delete_issued_after(at(86_400)).await.unwrap(), 0);
    assert_eq!(store.delete_issued_after(at(60)).await.unwrap(), 2);
    assert!(TicketStore::get(&*store, &cust1()).await.unwrap().is_some());
    assert!(tenant(&*store, &cust1()).await.unwrap().last_status.is_some());
    assert!(TicketStore::get(&*store, &other).await.unwrap().is_none());
    assert!(tenant(&*store, &other).await.unwrap().last_status.is_none());
}
