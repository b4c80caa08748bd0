//! Tests of `TenantService`.

use std::{collections::HashMap, time::Duration};

use superoffice_sandbox::{ApiHost, Endpoint, Fault, FaultScope, TenantState};
use tenant_gateway::grpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::support::{
    Options, World, assert_invalid, assert_status, eventually, issue, issue_with, name,
};

const MINUTE: Duration = Duration::from_mins(1);

/// A second application, which never calls SuperOffice.
const REPORTS: &str = "[[applications]]\nid = \"reports\"\nenvironment = \"sod\"\nclient_id = \"reports\"\n\
     client_secret_file = \"client_secret\"\nprivate_key_file = \"private_key.pem\"\n";

async fn two_applications() -> World {
    World::with(Options { extra_application: REPORTS.to_owned(), ..Default::default() }).await
}

async fn create(world: &World, request: pb::CreateTenantRequest) -> Result<pb::Tenant, Status> {
    let created = world.tenants().await.create_tenant(request).await?;
    Ok(created.into_inner().tenant.unwrap())
}

async fn create_under(world: &World, application: &str, tenant: &str) {
    let parent = format!("applications/{application}");
    let tenant_id = tenant.to_owned();
    create(world, pb::CreateTenantRequest { parent, tenant_id, tenant: None }).await.unwrap();
}

async fn delete(world: &World, tenant: &str, etag: &str) -> Result<(), Status> {
    let request =
        pb::DeleteTenantRequest { name: name(tenant), force: false, etag: etag.to_owned() };
    world.tenants().await.delete_tenant(request).await.map(drop)
}

async fn disable(world: &World, tenant: &str) -> pb::Tenant {
    let request = pb::DisableTenantRequest { name: name(tenant), reason: "an incident".to_owned() };
    let disabled = world.tenants().await.disable_tenant(request).await;
    disabled.unwrap().into_inner().tenant.unwrap()
}

async fn enable(world: &World, tenant: &str) -> pb::Tenant {
    let request = pb::EnableTenantRequest { name: name(tenant) };
    world.tenants().await.enable_tenant(request).await.unwrap().into_inner().tenant.unwrap()
}

async fn status(world: &World, tenant: &str) -> Result<pb::TenantStatus, Status> {
    let request = pb::GetTenantStatusRequest { name: name(tenant) };
    let read = world.tenants().await.get_tenant_status(request).await?;
    Ok(read.into_inner().status.unwrap())
}

async fn status_no_older(
    world: &World,
    tenant: &str,
    than: &str,
) -> Result<pb::TenantStatus, Status> {
    let mut request = Request::new(pb::GetTenantStatusRequest { name: name(tenant) });
    request.metadata_mut().insert("gateway-max-staleness", than.parse().unwrap());
    let read = world.tenants().await.get_tenant_status(request).await?;
    Ok(read.into_inner().status.unwrap())
}

/// Returns all pages of a list.
async fn list(world: &World, parent: &str, page_size: i32) -> Vec<pb::Tenant> {
    let mut client = world.tenants().await;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let parent = parent.to_owned();
        let request =
            pb::ListTenantsRequest { parent, page_size, page_token, filter: String::new() };
        let page = client.list_tenants(request).await.unwrap().into_inner();
        let full = page.tenants.len() == usize::try_from(page_size).unwrap();
        assert!(full || page.next_page_token.is_empty(), "a short page that is not the last");
        all.extend(page.tenants);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

fn names(tenants: &[pb::Tenant]) -> Vec<&str> {
    tenants.iter().map(|tenant| tenant.name.as_str()).collect()
}

/// Makes tenant status fail until the faults are cleared.
fn take_status_down(world: &World) {
    let down = (Endpoint::TenantStatus, Fault::status(503), FaultScope::always());
    world.sandbox.inject(down.0, down.1, down.2).unwrap();
}

#[tokio::test]
async fn a_new_tenant_has_its_labels_and_nothing_else() {
    let mut world = World::new().await;
    let labels = HashMap::from([
        ("region".to_owned(), "nordic".to_owned()),
        ("navn".to_owned(), "Søndag & Sønner \"1\"".to_owned()),
    ]);
    // Output-only fields of the request are ignored.
    let given = pb::Tenant {
        name: name("Cust9"),
        labels: labels.clone(),
        has_system_user_token: true,
        disabled: true,
        company_name: "Mine".to_owned(),
        ..Default::default()
    };
    let request = pb::CreateTenantRequest {
        parent: "applications/crm-sync".to_owned(),
        tenant_id: "Cust1".to_owned(),
        tenant: Some(given),
    };
    let created = create(&world, request).await.unwrap();
    let wanted = pb::Tenant {
        name: name("Cust1"),
        labels,
        etag: created.etag.clone(),
        create_time: created.create_time,
        update_time: created.create_time,
        ..Default::default()
    };
    assert_eq!(created, wanted);
    assert!(!created.etag.is_empty() && created.create_time.is_some());
    assert_eq!(world.tenant("Cust1").await, wanted);
    world.restart().await;
    assert_eq!(world.tenant("Cust1").await, wanted);
    for endpoint in Endpoint::ALL {
        assert_eq!(world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_tenant_is_added_once() {
    let world = two_applications().await;
    world.enroll("Cust1").await;
    let before = world.tenant("Cust1").await;
    let request = pb::CreateTenantRequest {
        parent: "applications/crm-sync".to_owned(),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    let status = create(&world, request).await.unwrap_err();
    let details = assert_status(&status, Code::AlreadyExists, "ALREADY_EXISTS");
    assert_eq!(details.resource_info().unwrap().resource_name, name("Cust1"));
    assert_eq!(world.tenant("Cust1").await, before);
    create_under(&world, "reports", "Cust1").await;
}

#[tokio::test]
async fn one_of_many_concurrent_creations_succeeds() {
    let world = World::new().await;
    let mut creations = JoinSet::new();
    for _ in 0..20 {
        let mut client = world.tenants().await;
        creations.spawn(async move {
            let request = pb::CreateTenantRequest {
                parent: "applications/crm-sync".to_owned(),
                tenant_id: "Cust1".to_owned(),
                tenant: None,
            };
            client.create_tenant(request).await.map(drop)
        });
    }
    let mut added = 0;
    while let Some(created) = creations.join_next().await {
        match created.unwrap() {
            Ok(()) => added += 1,
            Err(status) => {
                assert_status(&status, Code::AlreadyExists, "ALREADY_EXISTS");
            }
        }
    }
    assert_eq!(added, 1);
}

#[tokio::test]
async fn the_etag_changes_only_with_changes_by_administrators() {
    let mut world = World::new().await;
    let token = world.make_tenant("Cust1");
    let mut etags = vec![world.create("Cust1").await.etag];
    world.set_token("Cust1", &token).await;
    etags.push(world.tenant("Cust1").await.etag);
    let before = world.tenant("Cust1").await;
    world.advance(2 * MINUTE);
    status(&world, "Cust1").await.unwrap();
    world.ticket("Cust1").await.unwrap();
    let after = world.tenant("Cust1").await;
    assert_eq!((after.etag, after.update_time), (before.etag, before.update_time));
    etags.push(disable(&world, "Cust1").await.etag);
    etags.push(enable(&world, "Cust1").await.etag);
    world.set_token("Cust1", &token).await;
    let last = world.tenant("Cust1").await;
    assert!(last.update_time.unwrap().seconds > last.create_time.unwrap().seconds);
    etags.push(last.etag);
    let different: std::collections::BTreeSet<_> = etags.iter().collect();
    assert_eq!(different.len(), 5, "{etags:?}");
}

#[tokio::test]
async fn a_tenant_that_changed_since_it_was_read_is_not_deleted() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let old = world.tenant("Cust1").await.etag;
    disable(&world, "Cust1").await;
    for etag in [&*old, "nonsense", "\"x\"", "\"99999999999999999999\"", "W/\"1\""] {
        let status = delete(&world, "Cust1", etag).await.unwrap_err();
        assert_status(&status, Code::Aborted, "VERSION_CONFLICT");
    }
    let current = world.tenant("Cust1").await.etag;
    delete(&world, "Cust1", &current).await.unwrap();
    for etag in ["", &*current, "nonsense"] {
        let status = delete(&world, "Cust1", etag).await.unwrap_err();
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn deleting_removes_token_ticket_and_cached_data() {
    let mut world = World::new().await;
    let token = world.make_tenant("Cust1");
    world.create("Cust1").await;
    world.set_token("Cust1", &token).await;
    let first = world.ticket("Cust1").await.unwrap();
    for restarted in [false, true] {
        world.advance(Duration::from_secs(1));
        delete(&world, "Cust1", "").await.unwrap();
        let get = pb::GetTenantRequest { name: name("Cust1") };
        let status = world.tenants().await.get_tenant(get).await.unwrap_err();
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
        if restarted {
            world.restart().await;
        }
        let again = world.create("Cust1").await;
        let wanted = pb::Tenant {
            name: name("Cust1"),
            etag: again.etag.clone(),
            create_time: again.create_time,
            update_time: again.create_time,
            ..Default::default()
        };
        assert_eq!(again, wanted);
        assert_eq!(world.tenant("Cust1").await, wanted);
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_NOT_ENROLLED");
        world.sandbox.reset_counts();
        world.set_token("Cust1", &token).await;
        let second = world.ticket("Cust1").await.unwrap();
        assert_ne!(second.credential_id, first.credential_id);
        assert_ne!(second.value, first.value);
        assert_eq!(world.exchanges(), 1);
    }
}

#[tokio::test]
async fn a_new_token_ends_the_ticket_of_the_one_before() {
    let mut world = World::new().await;
    let token = world.make_tenant("Cust1");
    world.create("Cust1").await;
    world.set_token("Cust1", &token).await;
    let first = world.ticket("Cust1").await.unwrap();
    assert!(world.tenant("Cust1").await.has_system_user_token);
    // Setting the same token again also drops the ticket, so that the token is tried.
    world.set_token("Cust1", &format!("  {token}\n")).await;
    let second = world.ticket("Cust1").await.unwrap();
    assert_ne!(second.credential_id, first.credential_id);
    assert_eq!(world.exchanges(), 2);
    world.set_token("Cust1", "Another App-0123456789").await;
    world.restart().await;
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
}

#[tokio::test]
async fn lists_have_every_tenant_once_in_order() {
    let world = two_applications().await;
    let mut tenants: Vec<_> = (0..60).map(|number| format!("Cust{}", number * 7)).collect();
    for tenant in &tenants {
        create_under(&world, "crm-sync", tenant).await;
        create_under(&world, "reports", tenant).await;
    }
    tenants.sort();
    let of = |application: &str| -> Vec<String> {
        let of = |tenant| format!("applications/{application}/tenants/{tenant}");
        tenants.iter().map(of).collect()
    };
    let (crm, reports) = (of("crm-sync"), of("reports"));
    let all = [crm.clone(), reports.clone()].concat();
    for page_size in [7, 60, 120] {
        assert_eq!(names(&list(&world, "applications/crm-sync", page_size).await), crm);
        assert_eq!(names(&list(&world, "applications/reports", page_size).await), reports);
        assert_eq!(names(&list(&world, "", page_size).await), all);
    }
    let request = pb::ListTenantsRequest::default();
    let first = world.tenants().await.list_tenants(request).await.unwrap().into_inner();
    assert_eq!(first.tenants.len(), 50);
}

#[tokio::test]
async fn a_list_continues_at_its_position_despite_changes() {
    let world = World::new().await;
    for tenant in ["Cust1", "Cust2", "Cust3", "Cust4"] {
        world.create(tenant).await;
    }
    let mut client = world.tenants().await;
    let request = pb::ListTenantsRequest { page_size: 2, ..Default::default() };
    let page = client.list_tenants(request.clone()).await.unwrap().into_inner();
    assert_eq!(names(&page.tenants), [name("Cust1"), name("Cust2")]);
    for tenant in ["Cust1", "Cust2"] {
        delete(&world, tenant, "").await.unwrap();
    }
    world.create("Cust0").await;
    let request = pb::ListTenantsRequest { page_token: page.next_page_token, ..request };
    let page = client.list_tenants(request).await.unwrap().into_inner();
    assert_eq!(names(&page.tenants), [name("Cust3"), name("Cust4")]);
    assert_eq!(page.next_page_token, "");
}

#[tokio::test]
async fn a_list_shows_the_same_data_as_get() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.create("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    disable(&world, "Cust2").await;
    let listed = list(&world, "", 10).await;
    assert_eq!(listed, [world.tenant("Cust1").await, world.tenant("Cust2").await]);
}

#[tokio::test]
async fn a_wildcard_name_is_refused_if_several_applications_have_the_tenant() {
    let world = two_applications().await;
    world.create("Cust1").await;
    let get = || pb::GetTenantRequest { name: "applications/-/tenants/Cust1".to_owned() };
    let mut client = world.tenants().await;
    let found = client.get_tenant(get()).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!(found.name, name("Cust1"));
    create_under(&world, "reports", "Cust1").await;
    let status = client.get_tenant(get()).await.unwrap_err();
    let details = assert_status(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert!(details.bad_request().is_some());
    // The violation names the field of this request.
    assert_invalid(&status, &["name"]);
    let request = pb::IssueSystemTicketRequest { tenant: get().name, ..Default::default() };
    let status = issue_with(&mut world.tokens().await, request).await.unwrap_err();
    assert_invalid(&status, &["tenant"]);
}

#[tokio::test]
async fn a_disabled_tenant_is_refused_at_the_next_call_also_after_a_restart() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    assert!(disable(&world, "Cust1").await.disabled);
    for restarted in [false, true] {
        if restarted {
            world.restart().await;
        }
        let status = world.ticket("Cust1").await.unwrap_err();
        let details = assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
        details.precondition_failure().unwrap();
        assert!(world.tenant("Cust1").await.disabled);
        world.ticket("Cust2").await.unwrap();
    }
}

#[tokio::test]
async fn a_ticket_is_not_returned_if_its_tenant_was_disabled_during_the_exchange() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let slow = Fault::delay(Duration::from_millis(400));
    world.sandbox.inject(Endpoint::Authenticate, slow, FaultScope::always()).unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let mut client = world.tokens().await;
        calls.spawn(async move { issue_with(&mut client, issue("Cust1")).await });
    }
    eventually("the exchange begins", || world.sandbox.calls(Endpoint::Authenticate) == 1).await;
    disable(&world, "Cust1").await;
    while let Some(call) = calls.join_next().await {
        let status = call.unwrap().unwrap_err();
        assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
    }
    // The result of the exchange was stored.
    enable(&world, "Cust1").await;
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1);
}

#[tokio::test]
async fn disabling_deletes_nothing_and_enabling_returns_the_same_ticket() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let ticket = world.ticket("Cust1").await.unwrap();
    world.sandbox.reset_counts();
    disable(&world, "Cust1").await;
    assert!(world.tenant("Cust1").await.has_system_user_token);
    let enabled = enable(&world, "Cust1").await;
    assert!(!enabled.disabled && enabled.has_system_user_token);
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    disable(&world, "Cust1").await;
    world.restart().await;
    enable(&world, "Cust1").await;
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    for endpoint in Endpoint::ALL {
        assert_eq!(world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn disabling_and_enabling_are_idempotent() {
    let mut world = World::new().await;
    world.create("Cust1").await;
    let first = disable(&world, "Cust1").await;
    world.advance(MINUTE);
    assert_eq!(disable(&world, "Cust1").await, first);
    let first = enable(&world, "Cust1").await;
    world.advance(MINUTE);
    assert_eq!(enable(&world, "Cust1").await, first);
}

#[tokio::test]
async fn a_tenant_shows_status_and_company_once_they_are_known() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let before = world.tenant("Cust1").await;
    assert_eq!(before.status(), pb::TenantState::Unspecified);
    assert_eq!((before.status_valid_until, &*before.web_api_uri), (None, ""));
    assert_eq!(before.company_name, "");
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 0, "GetTenant calls SuperOffice");

    let read = status(&world, "Cust1").await.unwrap();
    let shown = world.tenant("Cust1").await;
    assert_eq!(shown.status(), pb::TenantState::Running);
    assert_eq!(shown.status_valid_until, read.valid_until);
    assert_eq!(shown.web_api_uri, read.web_api_uri);
    assert_eq!(shown.company_name, "");

    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.tenant("Cust1").await.company_name, "Company of Cust1");
    world.restart().await;
    let after = world.tenant("Cust1").await;
    assert_eq!((after.status(), &*after.company_name), (shown.status(), "Company of Cust1"));
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 1);
}

#[tokio::test]
async fn every_state_is_reported_unchanged() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let host = world.sandbox.api_uri(ApiHost::A);
    for state in TenantState::ALL {
        world.sandbox.set_state("Cust1", state).unwrap();
        world.advance(Duration::from_secs(1));
        let read = status_no_older(&world, "Cust1", "0s").await.unwrap();
        assert_eq!(read.tenant, name("Cust1"));
        // Compares the state names of the API with those of the sandbox.
        let told = read.state().as_str_name().replace("TENANT_STATE_", "").replace('_', "");
        assert_eq!(told, format!("{state:?}").to_uppercase());
        let usable = matches!(state, TenantState::Running | TenantState::OnlineMaintenance);
        let uri = if usable { format!("{host}/Cust1/api") } else { String::new() };
        assert_eq!(read.web_api_uri, uri, "{state:?}");
        assert_eq!(read.read_time.unwrap().seconds, world.clock_seconds());
    }
}

#[tokio::test]
async fn a_status_is_read_once_while_valid_and_again_on_request() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let first = status(&world, "Cust1").await.unwrap();
    world.advance(Duration::from_secs(30));
    world.sandbox.set_state("Cust1", TenantState::Suspended).unwrap();
    assert_eq!(status(&world, "Cust1").await.unwrap(), first);
    assert_eq!(status_no_older(&world, "Cust1", "30s").await.unwrap(), first);
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 1);
    let newer = status_no_older(&world, "Cust1", "29s").await.unwrap();
    assert_eq!(newer.state(), pb::TenantState::Suspended);
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 2);
    // A status that one caller had read is cached for all.
    assert_eq!(status(&world, "Cust1").await.unwrap(), newer);
    world.advance(Duration::from_secs(1));
    status_no_older(&world, "Cust1", "0s").await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 3);
}

#[tokio::test]
async fn concurrent_status_requests_cost_one_read() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let slow = Fault::delay(Duration::from_millis(300));
    world.sandbox.inject(Endpoint::TenantStatus, slow, FaultScope::always()).unwrap();
    let mut reads = JoinSet::new();
    let client = world.tenants().await;
    for _ in 0..100 {
        let mut client = client.clone();
        reads.spawn(async move {
            let request = pb::GetTenantStatusRequest { name: name("Cust1") };
            client.get_tenant_status(request).await.map(drop)
        });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap().unwrap();
    }
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 1);
}

#[tokio::test]
async fn a_stale_status_is_used_for_a_day_while_superoffice_is_down() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let read = status(&world, "Cust1").await.unwrap();
    take_status_down(&world);
    world.advance(2 * MINUTE);
    assert_eq!(status(&world, "Cust1").await.unwrap(), read);
    // A caller that needs a newer status gets an error.
    let refused = status_no_older(&world, "Cust1", "90s").await.unwrap_err();
    let details = assert_status(&refused, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // Valid for a minute, and usable for 24 more hours.
    world.advance((24 * 60 - 2) * MINUTE);
    assert_eq!(status(&world, "Cust1").await.unwrap(), read);
    world.advance(2 * MINUTE);
    let refused = status(&world, "Cust1").await.unwrap_err();
    let details = assert_status(&refused, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    world.sandbox.clear_faults();
    world.advance(Duration::from_secs(5));
    let again = status(&world, "Cust1").await.unwrap();
    assert_eq!(again.state(), pb::TenantState::Running);
    assert!(again.read_time.unwrap().seconds > read.read_time.unwrap().seconds);
}

#[tokio::test]
async fn an_invalid_status_changes_nothing() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let unbelievable = [
        Fault::Html,
        Fault::OtherTenant { context: "Cust2".to_owned() },
        Fault::MissingFields { fields: vec!["State".to_owned()] },
        Fault::Addresses { api: Some("https://evil.example/Cust1/api".to_owned()), endpoint: None },
    ];
    for fault in &unbelievable {
        world.sandbox.inject(Endpoint::TenantStatus, fault.clone(), FaultScope::always()).unwrap();
        let refused = status(&world, "Cust1").await.unwrap_err();
        let details = assert_status(&refused, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
        details.retry_info().unwrap();
        assert!(!refused.message().contains("evil"), "{}", refused.message());
        assert_eq!(world.tenant("Cust1").await.status(), pb::TenantState::Unspecified);
        world.sandbox.clear_faults();
        // The failure is cached for a moment.
        world.advance(Duration::from_secs(5));
    }
    let read = status(&world, "Cust1").await.unwrap();
    for fault in unbelievable {
        world.sandbox.inject(Endpoint::TenantStatus, fault.clone(), FaultScope::always()).unwrap();
        world.advance(2 * MINUTE);
        assert_eq!(status(&world, "Cust1").await.unwrap(), read, "{fault:?}");
        world.sandbox.clear_faults();
    }
}

#[tokio::test]
async fn the_validity_of_a_status_is_limited_to_15_seconds_to_an_hour() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    for (said, held) in [(0, 15), (1, 15), (600, 600), (86_400, 3600)] {
        world.sandbox.set_status_validity(Duration::from_secs(said));
        world.advance(Duration::from_secs(1));
        let read = status_no_older(&world, "Cust1", "0s").await.unwrap();
        let holds = read.valid_until.unwrap().seconds - read.read_time.unwrap().seconds;
        // The clocks of SuperOffice and the gateway may differ a little.
        assert!((held - 1..=held + 5).contains(&holds), "{said} s: {holds} s");
    }
}

#[tokio::test]
async fn a_tenant_unknown_to_superoffice_has_state_unknown() {
    let mut world = World::new().await;
    world.create("Cust1").await;
    for not_found in [false, true] {
        world.sandbox.set_unknown_tenant_is_404(not_found);
        world.advance(Duration::from_secs(1));
        let read = status_no_older(&world, "Cust1", "0s").await.unwrap();
        assert_eq!((read.state(), &*read.web_api_uri), (pb::TenantState::Unknown, ""));
    }
}

#[tokio::test]
async fn tenants_of_an_application_that_is_no_longer_configured_are_kept() {
    let mut world = two_applications().await;
    world.create("Cust1").await;
    create_under(&world, "reports", "Cust1").await;
    world.reconfigure(REPORTS, "").await;
    let request = pb::GetTenantRequest { name: "applications/reports/tenants/Cust1".to_owned() };
    let status = world.tenants().await.get_tenant(request).await.unwrap_err();
    assert_status(&status, Code::NotFound, "APPLICATION_NOT_CONFIGURED");
    // One application is left, so the name is not ambiguous.
    let request = pb::GetTenantRequest { name: "applications/-/tenants/Cust1".to_owned() };
    let found = world.tenants().await.get_tenant(request).await.unwrap().into_inner();
    assert_eq!(found.tenant.unwrap().name, name("Cust1"));
    assert_eq!(list(&world, "", 10).await.len(), 2);
}
