//! Promises of `TicketStore`.

use super::{StoreLocation, a_ticket, add, at, cust1, enroll, name, plain, secret, stored_ticket};
use crate::{
    domain::SystemTicket,
    ports::{TenantStore, TicketStore},
};

pub(in crate::store) async fn a_new_ticket_replaces_the_previous_one(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
    for number in [1, 2] {
        let ticket = a_ticket(number, 1);
        assert!(TicketStore::put(&*store, &cust1(), &ticket).await.unwrap());
        assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&ticket)));
    }
    let other = name("portal", "Cust1");
    enroll(&*store, &other).await;
    assert_eq!(stored_ticket(&*store, &other).await, None);
}

pub(in crate::store) async fn rejects_a_ticket_of_another_token_version(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let token = secret("second");
    store.set_system_user_token(&cust1(), &token, at(2)).await.unwrap();
    let current = a_ticket(1, 2);
    assert!(TicketStore::put(&*store, &cust1(), &current).await.unwrap());
    for token_version in [0, 1, 3] {
        let ticket = a_ticket(9, token_version);
        assert!(!TicketStore::put(&*store, &cust1(), &ticket).await.unwrap());
    }
    assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&current)));
}

pub(in crate::store) async fn rejects_a_ticket_of_an_unknown_tenant(place: &dyn StoreLocation) {
    let store = place.open().await;
    for token_version in [0, 1] {
        let ticket = a_ticket(1, token_version);
        assert!(!TicketStore::put(&*store, &cust1(), &ticket).await.unwrap());
    }
    add(&*store, &cust1()).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
}

pub(in crate::store) async fn extend_changes_only_the_named_ticket_and_never_shortens_it(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let (ticket, other) = (a_ticket(1, 1), a_ticket(2, 1));
    TicketStore::put(&*store, &cust1(), &ticket).await.unwrap();
    let extend = async |id, end| store.extend(&cust1(), id, end).await.unwrap();
    extend(&other.credential_id, at(500)).await;
    extend(&ticket.credential_id, at(99)).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&ticket)));
    extend(&ticket.credential_id, at(200)).await;
    let longer = SystemTicket { expire_time: at(200), ..ticket };
    assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&longer)));
    let unknown = name("portal", "Cust1");
    store.extend(&unknown, &longer.credential_id, at(300)).await.unwrap();
}

pub(in crate::store) async fn delete_removes_only_the_named_ticket(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let (ticket, other) = (a_ticket(1, 1), a_ticket(2, 1));
    TicketStore::put(&*store, &cust1(), &ticket).await.unwrap();
    let delete = async |id| TicketStore::delete(&*store, &cust1(), id).await.unwrap();
    delete(&other.credential_id).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&ticket)));
    delete(&ticket.credential_id).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
    delete(&ticket.credential_id).await;
}

pub(in crate::store) async fn a_ticket_is_deleted_with_its_tenant(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let ticket = a_ticket(1, 1);
    TicketStore::put(&*store, &cust1(), &ticket).await.unwrap();
    TenantStore::delete(&*store, &cust1(), None, false).await.unwrap();
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
    enroll(&*store, &cust1()).await;
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
}

pub(in crate::store) async fn finds_disabled_and_deleted_tenants(place: &dyn StoreLocation) {
    let store = place.open().await;
    let names = ["Cust1", "Cust2", "Cust3", "Cust4"].map(|tenant| name("crm-sync", tenant));
    for name in &names[..3] {
        enroll(&*store, name).await;
    }
    store.set_disabled(&names[1], true, at(2)).await.unwrap();
    TenantStore::delete(&*store, &names[2], None, false).await.unwrap();
    // A tenant with the same id in another application is another tenant.
    let elsewhere = name("portal", "Cust1");
    let asked = [&names[..], std::slice::from_ref(&elsewhere)].concat();
    let stopped = store.find_stopped(&asked).await.unwrap();
    assert_eq!(stopped, [&names[1..], &[elsewhere]].concat());
    assert!(store.find_stopped(&[]).await.unwrap().is_empty());
}
