//! Promises of `GrantStore` about consents and finding grants, and helpers for other tests of grants.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::task::JoinSet;

use super::{Store, StoreLocation, add, at, cust1, name, secret};
use crate::{
    domain::{
        AccessToken, AssociateId, CredentialId, Grant, GrantFailure, GrantId, GrantName,
        GrantScope, GrantState, Reason, TenantName, VerifiedIdentity,
    },
    ports::{GrantStore, Lease, RefreshIntent, RefreshOutcome, StoredConsent},
};

pub(in crate::store) fn person(
    tenant: &TenantName,
    id: i32,
    user_principal_name: &str,
) -> VerifiedIdentity {
    VerifiedIdentity {
        tenant: tenant.tenant,
        associate_id: AssociateId::new(id).unwrap(),
        user_principal_name: user_principal_name.to_owned(),
        full_name: "Tony Yates".to_owned(),
        email: String::new(),
        is_administrator: false,
        system_user_token: None,
        company_name: String::new(),
    }
}

/// Creates a grant for each associate, with the associate's number.
pub(in crate::store) async fn consent(
    store: &dyn Store,
    tenant: &TenantName,
    associate: u8,
    token: &str,
) -> StoredConsent {
    let person = person(tenant, associate.into(), "Tony@Example.com");
    let id = GrantId::new([associate; 16]);
    let kept = store.store_consent(&tenant.application, &person, &secret(token), &id, at(5)).await;
    kept.unwrap().unwrap()
}

/// Returns a store with a tenant and a grant whose refresh token is `refresh-1`.
pub(super) async fn granted(place: &dyn StoreLocation) -> (Arc<dyn Store>, Grant) {
    let store = place.open().await;
    add(&*store, &cust1()).await;
    let grant = consent(&*store, &cust1(), 5, "refresh-1").await.grant;
    (store, grant)
}

pub(in crate::store) async fn read(store: &dyn Store, name: &GrantName) -> Option<Grant> {
    GrantStore::get(store, name).await.unwrap()
}

/// Takes over the lease of a grant from any previous holder.
pub(in crate::store) async fn lease(store: &dyn Store, name: &GrantName, second: i64) -> Lease {
    let life = Duration::from_secs(15);
    store.acquire(&name.to_string(), "replica", life, at(second)).await.unwrap().unwrap()
}

/// The compared fields of a refresh token: text, version and intent.
pub(in crate::store) async fn to_spend(
    store: &dyn Store,
    name: &GrantName,
) -> Option<(String, i64, Option<RefreshIntent>)> {
    let stored = store.refresh_token(name).await.unwrap()?;
    Some((stored.token.expose_secret().to_owned(), stored.version, stored.intent))
}

pub(super) fn an_access_token(grant: &Grant, number: u8) -> AccessToken {
    AccessToken {
        value: format!("8A:Cust1.access-{number}").into(),
        credential_id: CredentialId::of_access_token(&grant.name.grant, [number; 16]),
        issue_time: at(30),
        expire_time: at(3630),
        token_version: grant.token_version,
    }
}

pub(super) fn refreshed(grant: &Grant, number: u8) -> RefreshOutcome {
    RefreshOutcome::Refreshed {
        access_token: an_access_token(grant, number),
        user_principal_name: "tony@new.example.com".to_owned(),
        full_name: "Tony Yates Jr.".to_owned(),
    }
}

/// The compared fields of an access token: value, id, issue time, expiry and version.
pub(super) type PlainToken = (String, CredentialId, Timestamp, Timestamp, i64);

pub(super) fn plain_token(token: &AccessToken) -> PlainToken {
    let value = token.value.expose_secret().to_owned();
    let id = token.credential_id.clone();
    (value, id, token.issue_time, token.expire_time, token.token_version)
}

pub(super) async fn stored_access_token(store: &dyn Store, name: &GrantName) -> Option<PlainToken> {
    store.access_token(name).await.unwrap().as_ref().map(plain_token)
}

/// Refreshes once, from acquiring to releasing the lease.
pub(in crate::store) async fn refresh(store: &dyn Store, grant: &Grant, number: u8) -> Grant {
    let lease = lease(store, &grant.name, 20).await;
    assert!(store.record_intent(&grant.name, &lease, grant.token_version, at(21)).await.unwrap());
    let outcome = refreshed(grant, number);
    let settled =
        store.record_outcome(&grant.name, &lease, grant.token_version, &outcome, at(31)).await;
    store.release(&lease).await.unwrap();
    settled.unwrap().unwrap()
}

pub(in crate::store) async fn a_consent_creates_a_grant(place: &dyn StoreLocation) {
    let store = place.open().await;
    add(&*store, &cust1()).await;
    let StoredConsent { grant, created, replaced } =
        consent(&*store, &cust1(), 5, "refresh-1").await;
    assert!(created && replaced.is_none());
    let wanted = Grant {
        name: GrantName { tenant: cust1(), grant: GrantId::new([5; 16]) },
        associate_id: AssociateId::new(5).unwrap(),
        user_principal_name: "Tony@Example.com".to_owned(),
        full_name: "Tony Yates".to_owned(),
        state: GrantState::Active,
        create_time: at(5),
        last_refresh_time: None,
        last_failure: None,
        failing: None,
        revocation_pending: false,
        identity_unconfirmed: false,
        token_version: 1,
        version: 1,
    };
    assert_eq!(grant, wanted);
    let again = place.open().await;
    assert_eq!(read(&*again, &grant.name).await, Some(wanted));
    let token = to_spend(&*again, &grant.name).await;
    assert_eq!(token, Some(("refresh-1".to_owned(), 1, None)));
    assert_eq!(stored_access_token(&*again, &grant.name).await, None);
}

pub(in crate::store) async fn rejects_a_consent_for_an_unknown_tenant(place: &dyn StoreLocation) {
    let store = place.open().await;
    add(&*store, &name("portal", "Cust1")).await;
    let (id, tony) = (GrantId::new([5; 16]), person(&cust1(), 5, "tony"));
    let application = cust1().application;
    let kept = store.store_consent(&application, &tony, &secret("x"), &id, at(5)).await.unwrap();
    assert!(kept.is_none());
    assert_eq!(read(&*store, &GrantName { tenant: cust1(), grant: id }).await, None);
}

pub(in crate::store) async fn a_new_consent_replaces_the_token_and_keeps_the_name(
    place: &dyn StoreLocation,
) {
    let (store, first) = granted(place).await;
    let name = first.name.clone();
    let fresh = refresh(&*store, &first, 1).await;
    let lease = lease(&*store, &name, 40).await;
    assert!(store.record_intent(&name, &lease, 1, at(41)).await.unwrap());
    let failure = RefreshOutcome::Failed { reason: Reason::UpstreamUnavailable };
    store.record_outcome(&name, &lease, 1, &failure, at(42)).await.unwrap().unwrap();
    assert!(store.record_intent(&name, &lease, 1, at(43)).await.unwrap());

    let person = person(&cust1(), 5, "tony.yates@example.com");
    let (id, application) = (GrantId::new([6; 16]), cust1().application);
    let again = store.store_consent(&application, &person, &secret("refresh-2"), &id, at(50)).await;
    let wanted = Grant {
        user_principal_name: "tony.yates@example.com".to_owned(),
        full_name: "Tony Yates".to_owned(),
        token_version: 2,
        version: 4,
        ..fresh
    };
    let StoredConsent { grant, created, replaced } = again.unwrap().unwrap();
    assert_eq!((grant, created), (wanted, false));
    // The replaced token is returned, so that it can be revoked at SuperOffice.
    assert_eq!(replaced.unwrap().expose_secret(), "refresh-1");
    assert_eq!(to_spend(&*store, &name).await, Some(("refresh-2".to_owned(), 2, None)));
    assert_eq!(stored_access_token(&*store, &name).await, None);
}

pub(in crate::store) async fn concurrent_consents_of_one_person_create_one_grant(
    place: &dyn StoreLocation,
) {
    let (ours, theirs) = (place.open().await, place.open().await);
    add(&*ours, &cust1()).await;
    let mut consenting = JoinSet::new();
    for number in 0..10_u8 {
        let store = Arc::clone(if number % 2 == 0 { &ours } else { &theirs });
        consenting.spawn(async move {
            let person = person(&cust1(), 5, "tony");
            let (id, token) = (GrantId::new([number; 16]), secret(&format!("refresh-{number}")));
            let kept = store.store_consent(&cust1().application, &person, &token, &id, at(5)).await;
            kept.unwrap().unwrap()
        });
    }
    let all = consenting.join_all().await;
    assert_eq!(all.iter().filter(|kept| kept.created).count(), 1);
    let scope = GrantScope::Tenant(cust1());
    let listed = GrantStore::list(&*ours, &scope, None, 10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(all.iter().all(|kept| kept.grant.name == listed[0].name));
    assert_eq!(to_spend(&*ours, &listed[0].name).await.unwrap().1, 10);
}

pub(in crate::store) async fn finds_a_grant_by_associate(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let other = name("portal", "Cust1");
    add(&*store, &other).await;
    let find = async |tenant: TenantName, id| {
        store.find_by_associate(&tenant, AssociateId::new(id).unwrap()).await.unwrap()
    };
    assert_eq!(find(cust1(), 5).await, Some(grant));
    assert_eq!(find(cust1(), 6).await, None);
    assert_eq!(find(other, 5).await, None);
}

pub(in crate::store) async fn finds_grants_by_user_name_ignoring_case(place: &dyn StoreLocation) {
    let (store, tony) = granted(place).await;
    let add = async |id: u8, user: &str| {
        let person = person(&cust1(), id.into(), user);
        let id = GrantId::new([id; 16]);
        store.store_consent(&cust1().application, &person, &secret("x"), &id, at(5)).await.unwrap();
    };
    add(6, "søren@example.com").await;
    // The user name has moved from one person to another.
    add(7, "tony@example.com").await;
    // The Kelvin sign, whose normal form is `K`.
    add(8, "\u{212a}arl@example.com").await;
    add(9, "Stra\u{df}e@example.com").await;
    add(10, "A\u{30a}se@example.com").await;
    add(11, "\u{c5}SE@example.com").await;
    let found = async |user: &str| {
        let found = store.find_by_user_principal_name(&cust1(), user).await.unwrap();
        let mut ids: Vec<i32> = found.iter().map(|grant| grant.associate_id.get()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(found("TONY@example.COM").await, [5, 7]);
    assert_eq!(found("SØREN@example.com").await, [6]);
    assert_eq!(found("karl@example.com").await, [8]);
    assert_eq!(found("STRASSE@example.com").await, [9]);
    assert_eq!(found("\u{e5}se@example.com").await, [10, 11]);
    assert_eq!(found("").await, [0_i32; 0]);
    refresh(&*store, &tony, 1).await;
    assert_eq!(found("tony@example.com").await, [7]);
    assert_eq!(found("Tony@New.example.com").await, [5]);
}

pub(in crate::store) async fn lists_grants_in_order_and_in_pages(place: &dyn StoreLocation) {
    let store = place.open().await;
    let tenants = [cust1(), name("crm-sync", "Cust10"), name("portal", "Cust1")];
    let mut all = Vec::new();
    for tenant in &tenants {
        add(&*store, tenant).await;
        for associate in [7, 6, 5] {
            all.push(consent(&*store, tenant, associate, "x").await.grant);
        }
    }
    all.sort_by_key(|grant| grant.name.to_string());
    let pages = async |scope: GrantScope| {
        let mut seen: Vec<Grant> = Vec::new();
        loop {
            let after = seen.last().map(|grant| &grant.name);
            let page = GrantStore::list(&*store, &scope, after, 2).await.unwrap();
            assert!(page.len() <= 2);
            if page.is_empty() {
                return seen;
            }
            seen.extend(page);
        }
    };
    let [first, _, last] = tenants;
    assert_eq!(pages(GrantScope::Tenant(last)).await, all[6..]);
    assert_eq!(pages(GrantScope::Application(first.application.clone())).await, all[..6]);
    assert_eq!(pages(GrantScope::Tenant(first)).await, all[..3]);
}

pub(in crate::store) async fn stores_every_failure_reason(place: &dyn StoreLocation) {
    let (store, grant) = granted(place).await;
    let lease = lease(&*store, &grant.name, 20).await;
    for reason in Reason::ALL {
        let outcome = RefreshOutcome::Failed { reason: *reason };
        let settled = store.record_outcome(&grant.name, &lease, 1, &outcome, at(21)).await.unwrap();
        let wanted = Some(GrantFailure { reason: *reason, time: at(21) });
        assert_eq!(settled.unwrap().last_failure, wanted);
    }
}
