//! Promises of `TenantStore` about system user tokens.

use std::collections::BTreeMap;

use super::{
    StoreLocation, a_ticket, add, at, cust1, enroll, name, plain, secret, stored_ticket, tenant,
    token,
};
use crate::{
    domain::{Environment, Tenant},
    ports::{TenantStore, TicketStore},
};

pub(in crate::store) async fn set_system_user_token_increments_the_version_and_deletes_the_ticket(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let created = add(&*store, &cust1()).await;
    let set = store.set_system_user_token(&cust1(), &secret("first"), at(3)).await;
    let first = Tenant { token_version: 1, version: 2, update_time: at(3), ..created };
    assert_eq!(set.unwrap(), Some(first.clone()));
    assert_eq!(token(&*store, &cust1()).await, Some(("first".to_owned(), 1)));
    let ticket = a_ticket(1, 1);
    assert!(TicketStore::put(&*store, &cust1(), &ticket).await.unwrap());
    assert_eq!(stored_ticket(&*store, &cust1()).await, Some(plain(&ticket)));

    let set = store.set_system_user_token(&cust1(), &secret("second"), at(4)).await;
    let second = Tenant { token_version: 2, version: 3, update_time: at(4), ..first };
    assert_eq!(set.unwrap(), Some(second.clone()));
    assert_eq!(token(&*store, &cust1()).await, Some(("second".to_owned(), 2)));
    assert_eq!(stored_ticket(&*store, &cust1()).await, None);
    assert_eq!(tenant(&*store, &cust1()).await, Some(second));
}

pub(in crate::store) async fn system_user_token_is_none_until_it_is_set(place: &dyn StoreLocation) {
    let store = place.open().await;
    let set = store.set_system_user_token(&cust1(), &secret("token"), at(3)).await;
    assert_eq!(set.unwrap(), None);
    assert_eq!(token(&*store, &cust1()).await, None);
    add(&*store, &cust1()).await;
    assert_eq!(token(&*store, &cust1()).await, None);
}

pub(in crate::store) async fn a_token_is_stored_for_its_tenant_only(place: &dyn StoreLocation) {
    let store = place.open().await;
    let others = [name("portal", "Cust1"), name("crm-sync", "Cust01")];
    let mut versions = Vec::new();
    for other in &others {
        versions.push(enroll(&*store, other).await);
    }
    add(&*store, &cust1()).await;
    assert_eq!(token(&*store, &cust1()).await, None);
    store.set_system_user_token(&cust1(), &secret("mine"), at(3)).await.unwrap();
    assert_eq!(token(&*store, &cust1()).await, Some(("mine".to_owned(), 3)));
    for (other, given) in others.iter().zip(versions) {
        let (text, version) = token(&*store, other).await.unwrap();
        assert_ne!(text, "mine");
        assert_eq!(version, given);
    }
}

pub(in crate::store) async fn secrets_of_an_unconfigured_application_still_open(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    store.bind(&cust1().application, Environment::Sod, "client").await.unwrap();
    let before = token(&*store, &cust1()).await;
    let store = place.open_with(BTreeMap::new()).await;
    assert!(before.is_some());
    assert_eq!(token(&*store, &cust1()).await, before);
}

pub(in crate::store) async fn a_recreated_tenant_rejects_tickets_of_the_deleted_one(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    let former = tenant(&*store, &cust1()).await.unwrap().token_version;
    TenantStore::delete(&*store, &cust1(), None, false).await.unwrap();
    enroll(&*store, &cust1()).await;
    assert_ne!(tenant(&*store, &cust1()).await.unwrap().token_version, former);
    assert!(!TicketStore::put(&*store, &cust1(), &a_ticket(1, former)).await.unwrap());
}
