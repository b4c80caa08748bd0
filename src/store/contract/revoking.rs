//! Promises of `GrantStore` and `TenantStore` about the end of grants.

use std::slice::from_ref;

use secrecy::ExposeSecret as _;

use super::{
    Store, StoreLocation, add, at, consent, cust1, granted, lease, name, read, refresh, secret,
    stored_access_token, to_spend,
};
use crate::{
    domain::{Grant, GrantName, GrantState, TenantName},
    ports::{Deletion, RotationOutcome, TenantStore},
};

async fn to_revoke(store: &dyn Store, name: &GrantName) -> Option<(String, i64)> {
    let stored = store.token_to_revoke(name).await.unwrap()?;
    Some((stored.token.expose_secret().to_owned(), stored.version))
}

async fn pending(store: &dyn Store) -> Vec<GrantName> {
    store.pending_revocations(None, 100).await.unwrap()
}

async fn delete(store: &dyn Store, name: &TenantName, force: bool) -> Deletion {
    TenantStore::delete(store, name, None, force).await.unwrap()
}

pub(in crate::store) async fn keeps_the_token_until_it_is_revoked_upstream(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let fresh = refresh(&*store, &grant, 1).await;
    assert_eq!(to_revoke(&*store, &grant.name).await, None);
    assert_eq!(pending(&*store).await, []);

    let revoked = store.revoke(&grant.name).await.unwrap().unwrap();
    let wanted =
        Grant { state: GrantState::Revoked, revocation_pending: true, version: 3, ..fresh };
    assert_eq!(revoked, wanted);
    assert_eq!(store.revoke(&grant.name).await.unwrap(), Some(wanted.clone()));
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
    assert_eq!(to_spend(&*store, &grant.name).await, None);

    let store = place.open().await;
    assert_eq!(pending(&*store).await, from_ref(&grant.name));
    assert_eq!(to_revoke(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1)));
    let done = store.mark_revoked_upstream(&grant.name, 1).await.unwrap();
    let wanted = Grant { revocation_pending: false, version: 4, ..wanted };
    assert_eq!(done.as_ref(), Some(&wanted));
    assert_eq!(read(&*store, &grant.name).await.as_ref(), Some(&wanted));
    assert_eq!(to_revoke(&*store, &grant.name).await, None);
    assert_eq!(pending(&*store).await, []);
    assert_eq!(store.mark_revoked_upstream(&grant.name, 1).await.unwrap(), None);
    assert_eq!(store.revoke(&grant.name).await.unwrap(), Some(wanted));
}

pub(in crate::store) async fn detects_a_revocation_by_another_process(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let before = store.external_version().await.unwrap();
    place.open().await.revoke(&grant.name).await.unwrap();
    assert_ne!(store.external_version().await.unwrap(), before);
    assert_eq!(to_spend(&*store, &grant.name).await, None);
}

pub(in crate::store) async fn revoking_an_unknown_grant_is_none(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let unknown = GrantName { grant: "other".parse().unwrap(), ..grant.name };
    assert_eq!(store.revoke(&unknown).await.unwrap(), None);
    assert_eq!(store.mark_revoked_upstream(&unknown, 1).await.unwrap(), None);
    assert_eq!(to_revoke(&*store, &unknown).await, None);
}

pub(in crate::store) async fn a_consent_after_a_revocation_keeps_the_name_and_is_not_revoked(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    store.revoke(&grant.name).await.unwrap();
    let again = consent(&*store, &cust1(), 5, "refresh-2").await;
    assert_eq!((again.grant.name, again.created), (grant.name.clone(), false));
    // The former token was revoked at SuperOffice in the meantime.
    assert_eq!(store.mark_revoked_upstream(&grant.name, 1).await.unwrap(), None);
    assert_eq!(pending(&*store).await, []);
    let now = read(&*store, &grant.name).await.unwrap();
    assert_eq!((now.state, now.revocation_pending), (GrantState::Active, false));
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-2".to_owned(), 2, None)));
}

pub(in crate::store) async fn a_token_rotated_after_a_revocation_is_revoked_too(
    place: &dyn StoreLocation,
) {
    // Before and after the former token is revoked.
    for told_before in [false, true] {
        let (store, mut grant) = granted(place).await;
        let version = grant.token_version;
        let lease = lease(&*store, &grant.name, 20).await;
        assert!(store.record_intent(&grant.name, &lease, version, at(21)).await.unwrap());
        store.revoke(&grant.name).await.unwrap();
        if told_before {
            store.mark_revoked_upstream(&grant.name, version).await.unwrap().unwrap();
        }
        let token = secret("refresh-rotated");
        let kept = store.store_rotated_token(&grant.name, &lease, version, &token).await.unwrap();
        assert_eq!(kept, RotationOutcome::ToBeRevoked);
        let again = store.store_rotated_token(&grant.name, &lease, version, &token).await.unwrap();
        assert_eq!(again, RotationOutcome::ToBeRevoked);
        assert_eq!(to_spend(&*store, &grant.name).await, None);
        // Revoking only the former token is not enough any more.
        assert_eq!(store.mark_revoked_upstream(&grant.name, version).await.unwrap(), None);
        assert_eq!(pending(&*store).await, from_ref(&grant.name));
        let wanted = Some(("refresh-rotated".to_owned(), version + 1));
        assert_eq!(to_revoke(&*store, &grant.name).await, wanted);
        grant = store.mark_revoked_upstream(&grant.name, version + 1).await.unwrap().unwrap();
        assert_eq!((grant.state, grant.revocation_pending), (GrantState::Revoked, false));
        store.release(&lease).await.unwrap();
        delete(&*store, &cust1(), false).await;
    }
}

pub(in crate::store) async fn lists_pending_revocations_in_pages(place: &dyn StoreLocation) {
    let store = place.open().await;
    let mut names = Vec::new();
    for tenant in [cust1(), name("crm-sync", "Cust10"), name("portal", "Cust1")] {
        add(&*store, &tenant).await;
        for associate in [5, 6, 7] {
            let grant = consent(&*store, &tenant, associate, "x").await.grant;
            if associate != 6 {
                store.revoke(&grant.name).await.unwrap();
                names.push(grant.name);
            }
        }
    }
    let mut seen: Vec<GrantName> = Vec::new();
    loop {
        let page = store.pending_revocations(seen.last(), 4).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, names);
}

pub(in crate::store) async fn deletes_a_tenant_with_grants_only_by_force(
    place: &dyn StoreLocation,
) {
    let (store, grant) = granted(place).await;
    let other = name("portal", "Cust1");
    add(&*store, &other).await;
    let elsewhere = consent(&*store, &other, 5, "elsewhere").await.grant;
    refresh(&*store, &grant, 1).await;
    assert_eq!(delete(&*store, &cust1(), false).await, Deletion::HasGrants);
    assert_eq!(read(&*store, &grant.name).await.unwrap().state, GrantState::Active);
    assert!(stored_access_token(&*store, &grant.name).await.is_some());

    assert_eq!(delete(&*store, &cust1(), true).await, Deletion::Deleted);
    let left = read(&*store, &grant.name).await.unwrap();
    assert_eq!((left.state, left.revocation_pending), (GrantState::Revoked, true));
    assert_eq!(stored_access_token(&*store, &grant.name).await, None);
    assert_eq!(to_spend(&*store, &grant.name).await, None);
    assert_eq!(read(&*store, &elsewhere.name).await, Some(elsewhere));

    // The data for revoking at SuperOffice is kept until that is done, and then deleted.
    assert_eq!(to_revoke(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1)));
    let end = store.mark_revoked_upstream(&grant.name, 1).await.unwrap().unwrap();
    assert!(!end.revocation_pending);
    assert_eq!(read(&*store, &grant.name).await, None);
    assert_eq!(pending(&*store).await, []);
}

pub(in crate::store) async fn deletes_a_tenant_with_revoked_grants_without_force(
    place: &dyn StoreLocation,
) {
    let (store, done) = granted(place).await;
    let waiting = consent(&*store, &cust1(), 6, "waiting").await.grant;
    for grant in [&done, &waiting] {
        store.revoke(&grant.name).await.unwrap();
    }
    store.mark_revoked_upstream(&done.name, 1).await.unwrap().unwrap();
    assert_eq!(delete(&*store, &cust1(), false).await, Deletion::Deleted);
    assert_eq!(read(&*store, &done.name).await, None);
    assert_eq!(pending(&*store).await, from_ref(&waiting.name));

    // The tenant is added again before the token is revoked: the grant belongs to it again, and stays revoked.
    add(&*store, &cust1()).await;
    store.mark_revoked_upstream(&waiting.name, 1).await.unwrap().unwrap();
    let kept = read(&*store, &waiting.name).await.unwrap();
    assert_eq!((kept.state, kept.revocation_pending), (GrantState::Revoked, false));
}
