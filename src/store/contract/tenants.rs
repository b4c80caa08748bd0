//! Promises of `TenantStore`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Store, StoreLocation, add, at, cust1, enroll, name, tenant, token, usual_applications,
};
use crate::{
    domain::{AllowedApiHosts, Tenant, TenantState, TenantStatus, WebApiUri},
    ports::{Deletion, StoreError, TenantStore},
};

pub(in crate::store) async fn create_adds_a_tenant(place: &dyn StoreLocation) {
    let store = place.open().await;
    let labels: BTreeMap<_, _> = [("tier", "gold \"1\""), ("région", "é")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let now: Timestamp = "2026-11-22T08:00:00.123456Z".parse().unwrap();
    let created = store.create(&cust1(), &labels, now).await.unwrap();
    let wanted = Tenant {
        name: cust1(),
        labels,
        company_name: String::new(),
        disabled: false,
        token_version: 0,
        version: 1,
        create_time: now,
        update_time: now,
        last_status: None,
    };
    assert_eq!(created, wanted);
    assert_eq!(tenant(&*store, &cust1()).await, Some(wanted));
}

pub(in crate::store) async fn create_rejects_a_second_tenant_with_the_same_name(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let first = add(&*store, &cust1()).await;
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let second = store.create(&cust1(), &labels, at(5)).await;
    assert!(matches!(second, Err(StoreError::AlreadyExists)));
    assert_eq!(tenant(&*store, &cust1()).await, Some(first));
    // The same tenant through another application is another tenant.
    add(&*store, &name("portal", "Cust1")).await;
    // Leading zeros count.
    add(&*store, &name("crm-sync", "Cust01")).await;
}

pub(in crate::store) async fn get_of_an_unknown_tenant_is_none(place: &dyn StoreLocation) {
    let store = place.open().await;
    assert_eq!(tenant(&*store, &cust1()).await, None);
}

async fn listed(
    store: &dyn Store,
    application: Option<&str>,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Vec<String> {
    let application = application.map(|id| id.parse().unwrap());
    let after = after.map(|(application, tenant)| name(application, tenant));
    let tenants = TenantStore::list(store, application.as_ref(), after.as_ref(), limit);
    let short = |t: &Tenant| format!("{} {}", t.name.application, t.name.tenant);
    tenants.await.unwrap().iter().map(short).collect()
}

async fn six_tenants(store: &dyn Store) {
    for (application, tenant) in [
        ("portal", "Cust2"),
        ("crm-sync", "Cust9"),
        ("crm-sync", "Cust10"),
        ("crm", "Cust3"),
        ("portal", "Cust10"),
        ("crm-sync", "Cust010"),
    ] {
        add(store, &name(application, tenant)).await;
    }
}

pub(in crate::store) async fn list_is_ordered_by_application_and_tenant(place: &dyn StoreLocation) {
    let store = place.open().await;
    six_tenants(&*store).await;
    assert_eq!(
        listed(&*store, None, None, 100).await,
        [
            "crm Cust3",
            "crm-sync Cust010",
            "crm-sync Cust10",
            "crm-sync Cust9",
            "portal Cust10",
            "portal Cust2"
        ]
    );
    assert_eq!(
        listed(&*store, Some("crm-sync"), None, 100).await,
        ["crm-sync Cust010", "crm-sync Cust10", "crm-sync Cust9"]
    );
    assert!(listed(&*store, Some("other"), None, 100).await.is_empty());
}

pub(in crate::store) async fn list_starts_after_a_name_and_respects_the_limit(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    six_tenants(&*store).await;
    for (application, after, wanted) in [
        (None, None, ["crm Cust3", "crm-sync Cust010"].as_slice()),
        (None, Some(("crm-sync", "Cust10")), &["crm-sync Cust9", "portal Cust10"]),
        // The name itself need not exist (any more).
        (None, Some(("crm-sync", "Cust2")), &["crm-sync Cust9", "portal Cust10"]),
        (None, Some(("portal", "Cust2")), &[]),
        (Some("crm-sync"), Some(("crm-sync", "Cust10")), &["crm-sync Cust9"]),
        (Some("crm-sync"), Some(("crm", "Cust9")), &["crm-sync Cust010", "crm-sync Cust10"]),
        (Some("crm-sync"), Some(("portal", "Cust0")), &[]),
    ] {
        let found = listed(&*store, application, after, 2).await;
        assert_eq!(found, wanted, "{application:?} after {after:?}");
    }
    assert!(listed(&*store, None, None, 0).await.is_empty());
}

pub(in crate::store) async fn applications_of_a_tenant_are_ordered(place: &dyn StoreLocation) {
    let store = place.open().await;
    six_tenants(&*store).await;
    let ids = store.applications_of("Cust10".parse().unwrap()).await;
    let ids: Vec<_> = ids.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["crm-sync", "portal"]);
    let none = store.applications_of("Cust11".parse().unwrap()).await;
    assert!(none.unwrap().is_empty());
}

pub(in crate::store) async fn set_disabled_counts_only_changes(place: &dyn StoreLocation) {
    let store = place.open().await;
    let created = add(&*store, &cust1()).await;
    let lifted = store.set_disabled(&cust1(), false, at(5)).await.unwrap();
    assert_eq!(lifted.as_ref(), Some(&created));
    let stopped = store.set_disabled(&cust1(), true, at(6)).await.unwrap();
    let wanted = Tenant { disabled: true, version: 2, update_time: at(6), ..created };
    assert_eq!(stopped.as_ref(), Some(&wanted));
    let again = store.set_disabled(&cust1(), true, at(7)).await.unwrap();
    assert_eq!(again.as_ref(), Some(&wanted));
    assert_eq!(tenant(&*store, &cust1()).await, Some(wanted));
    let unknown = name("portal", "Cust1");
    assert_eq!(store.set_disabled(&unknown, true, at(8)).await.unwrap(), None);
}

fn running(uri: &str, hosts: &AllowedApiHosts) -> TenantStatus {
    TenantStatus {
        state: TenantState::Running,
        valid_until: at(50),
        web_api_uri: Some(WebApiUri::check_api(uri, cust1().tenant, hosts).unwrap()),
        version: "10.3.5".to_owned(),
        read_time: at(20),
    }
}

fn usual_hosts() -> AllowedApiHosts {
    usual_applications()[&cust1().application].allowed_api_hosts.clone()
}

pub(in crate::store) async fn put_status_and_company_name_do_not_change_the_version(
    place: &dyn StoreLocation,
) {
    let store = place.open().await;
    let created = add(&*store, &cust1()).await;
    let mut status = running("https://online2.superoffice.com/Cust1/api", &usual_hosts());
    store.put_status(&cust1(), &status).await.unwrap();
    store.put_company_name(&cust1(), "Contoso A/S").await.unwrap();
    let wanted = Tenant {
        company_name: "Contoso A/S".to_owned(),
        last_status: Some(status.clone().into()),
        ..created
    };
    assert_eq!(tenant(&*store, &cust1()).await, Some(wanted.clone()));
    status.state = TenantState::Deleted;
    status.web_api_uri = None;
    status.version = String::new();
    store.put_status(&cust1(), &status).await.unwrap();
    let wanted = Tenant { last_status: Some(status.into()), ..wanted };
    assert_eq!(tenant(&*store, &cust1()).await, Some(wanted));
}

pub(in crate::store) async fn put_of_an_unknown_tenant_does_nothing(place: &dyn StoreLocation) {
    let store = place.open().await;
    let status = running("https://online2.superoffice.com/Cust1/api", &usual_hosts());
    store.put_status(&cust1(), &status).await.unwrap();
    store.put_company_name(&cust1(), "Contoso").await.unwrap();
    assert_eq!(tenant(&*store, &cust1()).await, None);
}

pub(in crate::store) async fn a_status_is_ignored_if_its_address_is_no_longer_allowed(
    place: &dyn StoreLocation,
) {
    let local = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut lenient = usual_applications();
    lenient.get_mut(&cust1().application).unwrap().allowed_api_hosts = local.clone();
    let store = place.open_with(lenient).await;
    add(&*store, &cust1()).await;
    let status = running("http://127.0.0.1:4711/Cust1/api", &local);
    store.put_status(&cust1(), &status).await.unwrap();
    let read = tenant(&*store, &cust1()).await.unwrap();
    assert_eq!(read.last_status, Some(status.into()));

    for known in [usual_applications(), BTreeMap::new()] {
        let store = place.open_with(known).await;
        let read = tenant(&*store, &cust1()).await.unwrap();
        assert_eq!(read.last_status, None);
        assert_eq!(TenantStore::list(&*store, None, None, 9).await.unwrap(), [read]);
    }
}

pub(in crate::store) async fn delete_cannot_be_undone(place: &dyn StoreLocation) {
    let store = place.open().await;
    let unknown = TenantStore::delete(&*store, &cust1(), None, false).await.unwrap();
    assert_eq!(unknown, Deletion::NotFound);
    enroll(&*store, &cust1()).await;
    let deleted = TenantStore::delete(&*store, &cust1(), None, false).await.unwrap();
    assert_eq!(deleted, Deletion::Deleted);
    assert_eq!(tenant(&*store, &cust1()).await, None);
    assert_eq!(token(&*store, &cust1()).await, None);
    let again = add(&*store, &cust1()).await;
    assert!(!again.has_system_user_token());
    assert_eq!(token(&*store, &cust1()).await, None);
}

pub(in crate::store) async fn delete_with_another_version_is_a_conflict(place: &dyn StoreLocation) {
    let store = place.open().await;
    enroll(&*store, &cust1()).await;
    for version in [1, 3] {
        let refused = TenantStore::delete(&*store, &cust1(), Some(version), false).await;
        assert!(matches!(refused, Err(StoreError::Conflict)));
    }
    assert!(token(&*store, &cust1()).await.is_some());
    let deleted = TenantStore::delete(&*store, &cust1(), Some(2), false).await;
    assert_eq!(deleted.unwrap(), Deletion::Deleted);
    let gone = TenantStore::delete(&*store, &cust1(), Some(2), false).await;
    assert_eq!(gone.unwrap(), Deletion::NotFound);
}
