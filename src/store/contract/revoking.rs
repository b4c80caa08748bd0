//! Promises of `GrantStore` and `TenantStore` about the end of grants.

use std::slice::from_ref;

use secrecy::ExposeSecret as _;

use super::{
    Place, Store, add, at, consent, cust1, granted, kept_token, lease, name, read, refresh, secret,
    to_spend,
};
use crate::{
    domain::{Grant, GrantName, GrantState, TenantName},
    ports::{Deletion, Rotation, TenantStore},
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

pub(in crate::store) async fn a_revoked_grant_keeps_its_token_until_it_is_revoked_upstream(
    place: &dyn Place,
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
    assert_eq!(kept_token(&*store, &grant.name).await, None);
    assert_eq!(to_spend(&*store, &grant.name).await, None);

    let store = place.open().await;
    assert_eq!(pending(&*store).await, from_ref(&grant.name));
    assert_eq!(to_revoke(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1)));
    let done = store.revoked_upstream(&grant.name, 1).await.unwrap();
    let wanted = Grant { revocation_pending: false, version: 4, ..wanted };
    assert_eq!(done.as_ref(), Some(&wanted));
    assert_eq!(read(&*store, &grant.name).await.as_ref(), Some(&wanted));
    assert_eq!(to_revoke(&*store, &grant.name).await, None);
    assert_eq!(pending(&*store).await, []);
    assert_eq!(store.revoked_upstream(&grant.name, 1).await.unwrap(), None);
    assert_eq!(store.revoke(&grant.name).await.unwrap(), Some(wanted));
}

pub(in crate::store) async fn a_revocation_by_another_process_is_noticed(place: &dyn Place) {
    let (store, grant) = granted(place).await;
    let before = store.external_version().await.unwrap();
    place.open().await.revoke(&grant.name).await.unwrap();
    assert_ne!(store.external_version().await.unwrap(), before);
    assert_eq!(to_spend(&*store, &grant.name).await, None);
}

pub(in crate::store) async fn revoking_an_unknown_grant_is_none(place: &dyn Place) {
    let (store, grant) = granted(place).await;
    let unknown = GrantName { grant: "other".parse().unwrap(), ..grant.name };
    assert_eq!(store.revoke(&unknown).await.unwrap(), None);
    assert_eq!(store.revoked_upstream(&unknown, 1).await.unwrap(), None);
    assert_eq!(to_revoke(&*store, &unknown).await, None);
}

pub(in crate::store) async fn a_consent_after_a_revocation_keeps_the_name_and_is_not_revoked(
    place: &dyn Place,
) {
    let (store, grant) = granted(place).await;
    store.revoke(&grant.name).await.unwrap();
    let again = consent(&*store, &cust1(), 5, "refresh-2").await;
    assert_eq!((again.grant.name, again.created), (grant.name.clone(), false));
    // SuperOffice was told of the former token meanwhile.
    assert_eq!(store.revoked_upstream(&grant.name, 1).await.unwrap(), None);
    assert_eq!(pending(&*store).await, []);
    let now = read(&*store, &grant.name).await.unwrap();
    assert_eq!((now.state, now.revocation_pending), (GrantState::Active, false));
    assert_eq!(to_spend(&*store, &grant.name).await, Some(("refresh-2".to_owned(), 2, None)));
}

pub(in crate::store) async fn a_rotated_token_that_meets_a_revoked_grant_is_revoked_too(
    place: &dyn Place,
) {
    // While the former one is still to be revoked, and after that.
    for told_before in [false, true] {
        let (store, mut grant) = granted(place).await;
        let version = grant.token_version;
        let lease = lease(&*store, &grant.name, 20).await;
        assert!(store.intend(&grant.name, &lease, version, at(21)).await.unwrap());
        store.revoke(&grant.name).await.unwrap();
        if told_before {
            store.revoked_upstream(&grant.name, version).await.unwrap().unwrap();
        }
        let token = secret("refresh-rotated");
        let kept = store.keep_rotated(&grant.name, &lease, version, &token).await.unwrap();
        assert_eq!(kept, Rotation::ToBeRevoked);
        let again = store.keep_rotated(&grant.name, &lease, version, &token).await.unwrap();
        assert_eq!(again, Rotation::ToBeRevoked);
        assert_eq!(to_spend(&*store, &grant.name).await, None);
        // It is too late to have told of the former one only.
        assert_eq!(store.revoked_upstream(&grant.name, version).await.unwrap(), None);
        assert_eq!(pending(&*store).await, from_ref(&grant.name));
        let wanted = Some(("refresh-rotated".to_owned(), version + 1));
        assert_eq!(to_revoke(&*store, &grant.name).await, wanted);
        grant = store.revoked_upstream(&grant.name, version + 1).await.unwrap().unwrap();
        assert_eq!((grant.state, grant.revocation_pending), (GrantState::Revoked, false));
        store.release(&lease).await.unwrap();
        delete(&*store, &cust1(), false).await;
    }
}

pub(in crate::store) async fn pending_revocations_come_in_pages(place: &dyn Place) {
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

pub(in crate::store) async fn a_tenant_with_grants_is_deleted_by_force_only(place: &dyn Place) {
    let (store, grant) = granted(place).await;
    let other = name("portal", "Cust1");
    add(&*store, &other).await;
    let elsewhere = consent(&*store, &other, 5, "elsewhere").await.grant;
    refresh(&*store, &grant, 1).await;
    assert_eq!(delete(&*store, &cust1(), false).await, Deletion::HasGrants);
    assert_eq!(read(&*store, &grant.name).await.unwrap().state, GrantState::Active);
    assert!(kept_token(&*store, &grant.name).await.is_some());

    assert_eq!(delete(&*store, &cust1(), true).await, Deletion::Deleted);
    let left = read(&*store, &grant.name).await.unwrap();
    assert_eq!((left.state, left.revocation_pending), (GrantState::Revoked, true));
    assert_eq!(kept_token(&*store, &grant.name).await, None);
    assert_eq!(to_spend(&*store, &grant.name).await, None);
    assert_eq!(read(&*store, &elsewhere.name).await, Some(elsewhere));

    // What is needed to tell SuperOffice is kept until that is done, and no longer.
    assert_eq!(to_revoke(&*store, &grant.name).await, Some(("refresh-1".to_owned(), 1)));
    let end = store.revoked_upstream(&grant.name, 1).await.unwrap().unwrap();
    assert!(!end.revocation_pending);
    assert_eq!(read(&*store, &grant.name).await, None);
    assert_eq!(pending(&*store).await, []);
}

pub(in crate::store) async fn a_tenant_whose_grants_are_all_revoked_needs_no_force(
    place: &dyn Place,
) {
    let (store, done) = granted(place).await;
    let waiting = consent(&*store, &cust1(), 6, "waiting").await.grant;
    for grant in [&done, &waiting] {
        store.revoke(&grant.name).await.unwrap();
    }
    store.revoked_upstream(&done.name, 1).await.unwrap().unwrap();
    assert_eq!(delete(&*store, &cust1(), false).await, Deletion::Deleted);
    assert_eq!(read(&*store, &done.name).await, None);
    assert_eq!(pending(&*store).await, from_ref(&waiting.name));

    // The tenant comes back before SuperOffice was told: the grant is its again, and stays revoked.
    add(&*store, &cust1()).await;
    store.revoked_upstream(&waiting.name, 1).await.unwrap().unwrap();
    let kept = read(&*store, &waiting.name).await.unwrap();
    assert_eq!((kept.state, kept.revocation_pending), (GrantState::Revoked, false));
}
