//! Tests of invalid input: all violations are reported at once, and SuperOffice gets no call.

use std::collections::HashMap;

use prost::Message as _;
use superoffice_sandbox::Endpoint;
use tenant_gateway::grpc::pb::{
    self, application_service_client::ApplicationServiceClient,
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
    web_api_service_client::WebApiServiceClient,
};
use tonic::{Code, Request, Status, transport::Channel};

use crate::support::{
    Options, World, assert_invalid, assert_status, issue, issue_with, name, wire,
};

const ISSUE: &str = "tenantgateway.v1.TokenService/IssueSystemTicket";

/// Larger than any name, and smaller than the largest message.
const HUGE: usize = 1 << 20;

/// The RPCs with a resource name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rpc {
    IssueSystemTicket,
    WatchSystemTicket,
    ReportRejectedCredential,
    CreateTenant,
    GetTenant,
    ListTenants,
    DeleteTenant,
    SetSystemUserToken,
    DisableTenant,
    EnableTenant,
    GetTenantStatus,
    Call,
}

impl Rpc {
    const ALL: [Self; 12] = [
        Self::IssueSystemTicket,
        Self::WatchSystemTicket,
        Self::ReportRejectedCredential,
        Self::CreateTenant,
        Self::GetTenant,
        Self::ListTenants,
        Self::DeleteTenant,
        Self::SetSystemUserToken,
        Self::DisableTenant,
        Self::EnableTenant,
        Self::GetTenantStatus,
        Self::Call,
    ];

    /// Returns the field with the name.
    fn field(self) -> &'static str {
        match self {
            Self::IssueSystemTicket
            | Self::WatchSystemTicket
            | Self::ReportRejectedCredential
            | Self::Call => "tenant",
            Self::CreateTenant | Self::ListTenants => "parent",
            _ => "name",
        }
    }

    /// Returns whether the name is that of an application instead of a tenant.
    fn names_an_application(self) -> bool {
        matches!(self, Self::CreateTenant | Self::ListTenants)
    }

    /// Returns whether the application may be a wildcard.
    fn takes_wildcard(self) -> bool {
        matches!(
            self,
            Self::IssueSystemTicket
                | Self::WatchSystemTicket
                | Self::GetTenant
                | Self::GetTenantStatus
        )
    }

    /// Calls the RPC with this name and otherwise valid fields.
    async fn call(self, channel: &Channel, name: String) -> Result<(), Status> {
        let mut tokens = TokenServiceClient::new(channel.clone());
        let mut tenants = TenantServiceClient::new(channel.clone());
        match self {
            Self::IssueSystemTicket => {
                let request = pb::IssueSystemTicketRequest { tenant: name, ..Default::default() };
                tokens.issue_system_ticket(request).await.map(drop)
            }
            Self::WatchSystemTicket => {
                let request = pb::WatchSystemTicketRequest { tenant: name, ..Default::default() };
                tokens.watch_system_ticket(request).await.map(drop)
            }
            Self::ReportRejectedCredential => {
                let credential_id = "t-0".to_owned();
                let request = pb::ReportRejectedCredentialRequest { tenant: name, credential_id };
                tokens.report_rejected_credential(request).await.map(drop)
            }
            Self::CreateTenant => {
                let tenant_id = "Cust9".to_owned();
                let request = pb::CreateTenantRequest { parent: name, tenant_id, tenant: None };
                tenants.create_tenant(request).await.map(drop)
            }
            Self::GetTenant => tenants.get_tenant(pb::GetTenantRequest { name }).await.map(drop),
            Self::ListTenants => {
                let request = pb::ListTenantsRequest { parent: name, ..Default::default() };
                tenants.list_tenants(request).await.map(drop)
            }
            Self::DeleteTenant => {
                let request = pb::DeleteTenantRequest { name, ..Default::default() };
                tenants.delete_tenant(request).await.map(drop)
            }
            Self::SetSystemUserToken => {
                let system_user_token = "App-0123456789".to_owned();
                let request = pb::SetSystemUserTokenRequest { name, system_user_token };
                tenants.set_system_user_token(request).await.map(drop)
            }
            Self::DisableTenant => {
                let request = pb::DisableTenantRequest { name, ..Default::default() };
                tenants.disable_tenant(request).await.map(drop)
            }
            Self::EnableTenant => {
                tenants.enable_tenant(pb::EnableTenantRequest { name }).await.map(drop)
            }
            Self::GetTenantStatus => {
                tenants.get_tenant_status(pb::GetTenantStatusRequest { name }).await.map(drop)
            }
            Self::Call => {
                let request = pb::CallRequest {
                    tenant: name,
                    method: "GET".to_owned(),
                    path: "/api/v1/Contact/5".to_owned(),
                    ..Default::default()
                };
                WebApiServiceClient::new(channel.clone()).call(request).await.map(drop)
            }
        }
    }
}

/// Asserts that SuperOffice got no call.
#[track_caller]
fn assert_superoffice_was_not_asked(world: &World) {
    for endpoint in Endpoint::ALL {
        assert_eq!(world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

fn bad_application_ids() -> Vec<String> {
    let ids = ["", "A", "1a", "a_b", "a.b", "crm sync", "å", "crm-sync\n", "crm-sync\0", "a%2Fb"];
    let mut ids: Vec<_> = ids.map(str::to_owned).into();
    ids.push("a".repeat(64));
    ids.push("a".repeat(HUGE));
    ids
}

fn bad_tenant_ids() -> Vec<String> {
    let ids = [
        "",
        "Cust",
        "cust1",
        "CUST1",
        "Cust-1",
        "Cust+1",
        "Cust1.0",
        "Cust12345678901",
        "Cust１",
        "Cust1 ",
        "Cust1\n",
        "Cust1\u{7f}",
        "Cust1/",
        "Cust1/associates/1",
        "12345",
        "*",
        "-",
        "Cust1%00",
    ];
    let mut ids: Vec<_> = ids.map(str::to_owned).into();
    ids.push(format!("Cust{}", "1".repeat(HUGE)));
    ids
}

#[tokio::test]
async fn an_invalid_name_is_refused_by_every_rpc() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let channel = world.channel().await;
    let mut tenant_names = vec![
        String::new(),
        "Cust1".to_owned(),
        "applications/crm-sync".to_owned(),
        "applications/crm-sync/tenants".to_owned(),
        "/applications/crm-sync/tenants/Cust1".to_owned(),
        " applications/crm-sync/tenants/Cust1".to_owned(),
        "applications/crm-sync//tenants/Cust1".to_owned(),
        "applications/crm-sync/tenants/Cust1/tenants/Cust1".to_owned(),
        "//gateway.example/applications/crm-sync/tenants/Cust1".to_owned(),
        "Applications/crm-sync/tenants/Cust1".to_owned(),
        "æ".repeat(HUGE / 2),
    ];
    let tenant_of = |application| format!("applications/{application}/tenants/Cust1");
    tenant_names.extend(bad_application_ids().into_iter().map(tenant_of));
    tenant_names.extend(bad_tenant_ids().iter().map(|id| name(id)));
    let mut application_names = vec![
        "crm-sync".to_owned(),
        "applications".to_owned(),
        "applications/crm-sync/".to_owned(),
        "applications/-".to_owned(),
        "applications/crm-sync/tenants/Cust1".to_owned(),
        "æ".repeat(HUGE / 2),
    ];
    let ids = bad_application_ids().into_iter();
    application_names.extend(ids.map(|id| format!("applications/{id}")));
    for rpc in Rpc::ALL {
        let names = if rpc.names_an_application() { &application_names } else { &tenant_names };
        for name in names {
            let status = rpc.call(&channel, name.clone()).await;
            let begin: String = name.chars().take(80).collect();
            let status = status.expect_err(&format!("{rpc:?} took {begin:?}"));
            assert_invalid(&status, &[rpc.field()]);
            // The message does not repeat the input.
            assert!(status.message().len() < 400, "{rpc:?}: {}", status.message().len());
        }
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn a_write_needs_the_application_in_the_name() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let channel = world.channel().await;
    for rpc in Rpc::ALL.into_iter().filter(|rpc| !rpc.names_an_application()) {
        let answer = rpc.call(&channel, "applications/-/tenants/Cust1".to_owned()).await;
        if rpc.takes_wildcard() {
            answer.unwrap_or_else(|status| panic!("{rpc:?}: {status:?}"));
        } else {
            assert_invalid(&answer.unwrap_err(), &[rpc.field()]);
        }
    }
}

#[tokio::test]
async fn digits_of_a_tenant_id_are_kept_unchanged() {
    let world = World::new().await;
    for tenant in ["Cust007", "Cust7", "Cust0000000007"] {
        assert_eq!(world.create(tenant).await.name, name(tenant));
        assert_eq!(world.tenant(tenant).await.name, name(tenant));
    }
}

#[tokio::test]
async fn an_unknown_application_is_reported_by_every_rpc() {
    let world = World::new().await;
    let channel = world.channel().await;
    for rpc in Rpc::ALL {
        let tenant = if rpc.names_an_application() { "" } else { "/tenants/Cust1" };
        let status = rpc.call(&channel, format!("applications/unknown{tenant}")).await;
        let status = status.expect_err(&format!("{rpc:?}"));
        let details = assert_status(&status, Code::NotFound, "APPLICATION_NOT_CONFIGURED");
        let resource = details.resource_info().unwrap();
        assert_eq!(resource.resource_name, "applications/unknown", "{rpc:?}");
        assert_eq!(resource.resource_type, "tenantgateway.v1.Application", "{rpc:?}");
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn an_unknown_tenant_is_reported_by_every_rpc() {
    let world = World::new().await;
    let channel = world.channel().await;
    for rpc in Rpc::ALL.into_iter().filter(|rpc| !rpc.names_an_application()) {
        let status = rpc.call(&channel, name("Cust404")).await;
        let status = status.expect_err(&format!("{rpc:?}"));
        let details = assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
        let resource = details.resource_info().unwrap();
        assert_eq!(resource.resource_name, name("Cust404"), "{rpc:?}");
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::new().await;
    let (mut tokens, mut tenants) = (world.tokens().await, world.tenants().await);
    let bad = || "nonsense".to_owned();

    let request = pb::IssueSystemTicketRequest {
        tenant: bad(),
        min_ttl: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        reason: "a\u{1b}[31mb".to_owned(),
        include_application_token: true,
    };
    let status = issue_with(&mut tokens, request).await.unwrap_err();
    assert_invalid(&status, &["tenant", "min_ttl", "reason"]);

    let request = pb::WatchSystemTicketRequest {
        tenant: bad(),
        reason: "\0".to_owned(),
        include_application_token: true,
    };
    let status = tokens.watch_system_ticket(request).await.map(drop).unwrap_err();
    assert_invalid(&status, &["tenant", "reason"]);

    let request = pb::ReportRejectedCredentialRequest { tenant: bad(), credential_id: bad() };
    let status = tokens.report_rejected_credential(request).await.unwrap_err();
    assert_invalid(&status, &["tenant", "credential_id"]);

    let labels = HashMap::from([(String::new(), "x".to_owned())]);
    let tenant = Some(pb::Tenant { labels, ..Default::default() });
    let request = pb::CreateTenantRequest { parent: bad(), tenant_id: bad(), tenant };
    let status = tenants.create_tenant(request).await.unwrap_err();
    assert_invalid(&status, &["parent", "tenant_id", "tenant.labels"]);

    let request = pb::ListTenantsRequest {
        parent: bad(),
        page_size: -1,
        page_token: bad(),
        filter: String::new(),
    };
    let status = tenants.list_tenants(request).await.unwrap_err();
    assert_invalid(&status, &["parent", "page_size", "page_token"]);

    let request = pb::SetSystemUserTokenRequest { name: bad(), system_user_token: String::new() };
    let status = tenants.set_system_user_token(request).await.unwrap_err();
    assert_invalid(&status, &["name", "system_user_token"]);

    let request = pb::DisableTenantRequest { name: bad(), reason: "\n".to_owned() };
    let status = tenants.disable_tenant(request).await.unwrap_err();
    assert_invalid(&status, &["name", "reason"]);

    let mut request = Request::new(pb::GetTenantStatusRequest { name: bad() });
    request.metadata_mut().insert("gateway-max-staleness", "soon".parse().unwrap());
    let status = tenants.get_tenant_status(request).await.unwrap_err();
    assert_invalid(&status, &["name", "gateway-max-staleness"]);

    let request = pb::ListApplicationsRequest { page_size: i32::MIN, page_token: bad() };
    let status = world.applications().await.list_applications(request).await.unwrap_err();
    assert_invalid(&status, &["page_size", "page_token"]);
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn min_ttl_is_limited_to_half_the_lifetime() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let mut client = world.tokens().await;
    let with = |seconds, nanos| pb::IssueSystemTicketRequest {
        min_ttl: Some(prost_types::Duration { seconds, nanos }),
        ..issue("Cust1")
    };
    for (seconds, nanos) in [
        (-1, 0),
        (0, -1),
        (-1, 1),
        (1, -1),
        (0, 1_000_000_000),
        (0, i32::MAX),
        (0, i32::MIN),
        (3 * 3600 + 1, 0),
        (3 * 3600, 1),
        (315_576_000_000, 0),
        (i64::MAX, 0),
        (i64::MAX, 999_999_999),
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
    ] {
        let status = issue_with(&mut client, with(seconds, nanos)).await.unwrap_err();
        assert_invalid(&status, &["min_ttl"]);
    }
    assert_superoffice_was_not_asked(&world);
    for (seconds, nanos) in [(0, 0), (0, 999_999_999), (3 * 3600, 0)] {
        issue_with(&mut client, with(seconds, nanos)).await.unwrap();
    }
}

#[tokio::test]
async fn a_reason_has_at_most_256_printable_characters() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let (mut tokens, mut tenants) = (world.tokens().await, world.tenants().await);
    let disable =
        |reason: &str| pb::DisableTenantRequest { name: name("Cust1"), reason: reason.to_owned() };
    let with =
        |reason: &str| pb::IssueSystemTicketRequest { reason: reason.to_owned(), ..issue("Cust1") };
    let huge = "x".repeat(HUGE);
    for reason in
        [&*"x".repeat(257), &"ø".repeat(257), &"😀".repeat(257), "\0", "a\nb", "\u{85}", &huge]
    {
        let status = issue_with(&mut tokens, with(reason)).await.unwrap_err();
        assert_invalid(&status, &["reason"]);
        let status = tenants.disable_tenant(disable(reason)).await.unwrap_err();
        assert_invalid(&status, &["reason"]);
    }
    assert_superoffice_was_not_asked(&world);
    for reason in ["", &*"x".repeat(256), &"ø".repeat(256), &"😀".repeat(256)] {
        issue_with(&mut tokens, with(reason)).await.unwrap();
    }
    tenants.disable_tenant(disable(&"ø".repeat(256))).await.unwrap();
}

#[tokio::test]
async fn a_malformed_credential_id_is_refused() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let ticket = world.ticket("Cust1").await.unwrap();
    world.sandbox.reset_counts();
    let mut client = world.tokens().await;
    let report = |credential_id: &str| pb::ReportRejectedCredentialRequest {
        tenant: name("Cust1"),
        credential_id: credential_id.to_owned(),
    };
    let upper = ticket.credential_id.to_uppercase();
    let long = format!("t-{}", "0".repeat(255));
    let huge = format!("t-{}", "0".repeat(HUGE));
    for id in ["", "t", "0", "7T:x", "x-0", "t-\0", "t-a b", "t-å", "t-a\n", &upper, &long, &huge]
    {
        let status = client.report_rejected_credential(report(id)).await.unwrap_err();
        assert_invalid(&status, &["credential_id"]);
        assert!(status.message().len() < 400);
    }
    // An invented, stale or foreign id changes nothing.
    for id in ["t-", "t-0", "t-00000000000000000000000000000000"] {
        client.report_rejected_credential(report(id)).await.unwrap();
    }
    assert_superoffice_was_not_asked(&world);
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
}

#[tokio::test]
async fn a_negative_page_size_is_refused_and_a_page_has_at_most_1000_items() {
    let world = World::new().await;
    let mut tenants = world.tenants().await;
    for number in 0..1001 {
        let request = pb::CreateTenantRequest {
            parent: "applications/crm-sync".to_owned(),
            tenant_id: format!("Cust{number}"),
            tenant: None,
        };
        tenants.create_tenant(request).await.unwrap();
    }
    for page_size in [-1, i32::MIN] {
        let request = pb::ListTenantsRequest { page_size, ..Default::default() };
        let status = tenants.list_tenants(request).await.unwrap_err();
        assert_invalid(&status, &["page_size"]);
    }
    for (page_size, items) in [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
        let request = pb::ListTenantsRequest { page_size, ..Default::default() };
        let page = tenants.list_tenants(request).await.unwrap().into_inner();
        assert_eq!(page.tenants.len(), items, "{page_size}");
        assert!(!page.next_page_token.is_empty(), "{page_size}");
    }
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_own_list_only() {
    let more = "[[applications]]\nid = \"reports\"\nenvironment = \"sod\"\nclient_id = \"reports\"\n\
                client_secret_file = \"client_secret\"\nprivate_key_file = \"private_key.pem\"\n";
    let extra_application = more.to_owned();
    let world = World::with(Options { extra_application, ..Default::default() }).await;
    world.create("Cust1").await;
    world.create("Cust2").await;
    let (mut tenants, mut applications) = (world.tenants().await, world.applications().await);
    let list = |parent: &str, page_token: &str| pb::ListTenantsRequest {
        parent: parent.to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        filter: String::new(),
    };
    let first = tenants.list_tenants(list("", "")).await.unwrap().into_inner();
    let token = first.next_page_token;
    let request = pb::ListApplicationsRequest { page_size: 1, ..Default::default() };
    let first = applications.list_applications(request).await.unwrap().into_inner();
    let of_applications = first.next_page_token;
    assert!(!token.is_empty() && !of_applications.is_empty());

    // A token of another parent, and of another list.
    for (parent, token) in [
        ("applications/crm-sync", &token),
        ("", &of_applications),
        ("applications/reports", &token),
    ] {
        let status = tenants.list_tenants(list(parent, token)).await.unwrap_err();
        assert_invalid(&status, &["page_token"]);
    }
    let request = pb::ListApplicationsRequest { page_size: 1, page_token: token.clone() };
    let status = applications.list_applications(request).await.unwrap_err();
    assert_invalid(&status, &["page_token"]);

    // Changed at each position, truncated, extended, invented.
    let mut changed: Vec<String> = (0..token.len())
        .map(|at| {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    changed.extend([
        token[..token.len() - 1].to_owned(),
        format!("{token}A"),
        format!("{token}="),
        format!(" {token}"),
        "Cust1".to_owned(),
        "å".to_owned(),
        "\0".to_owned(),
        "A".repeat(1024),
        "A".repeat(HUGE),
    ]);
    for token in changed {
        let status = tenants.list_tenants(list("", &token)).await.unwrap_err();
        assert_invalid(&status, &["page_token"]);
    }
    // The page size may change between pages.
    let request = pb::ListTenantsRequest { page_size: 10, ..list("", &token) };
    let rest = tenants.list_tenants(request).await.unwrap().into_inner();
    assert_eq!((rest.tenants.len(), &*rest.tenants[0].name), (1, &*name("Cust2")));
}

#[tokio::test]
async fn a_watch_of_tenants_needs_a_known_name() {
    let world = World::new().await;
    let mut tenants = world.tenants().await;
    let huge = "æ".repeat(HUGE / 2);
    for parent in [
        "nonsense",
        "applications/",
        "applications/-",
        "applications/crm-sync/tenants/",
        "applications/crm-sync/tenants/cust1",
        "applications/-/tenants/Cust1",
        "/tenants/",
        &huge,
    ] {
        let request = pb::WatchTenantStatusRequest { parent: parent.to_owned() };
        let status = tenants.watch_tenant_status(request).await.map(drop).unwrap_err();
        assert_invalid(&status, &["parent"]);
    }
    for parent in ["applications/unknown", "applications/unknown/tenants/Cust1"] {
        let request = pb::WatchTenantStatusRequest { parent: parent.to_owned() };
        let status = tenants.watch_tenant_status(request).await.map(drop).unwrap_err();
        assert_status(&status, Code::NotFound, "APPLICATION_NOT_CONFIGURED");
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn a_tenant_id_is_cust_and_digits() {
    let world = World::new().await;
    let mut tenants = world.tenants().await;
    for tenant_id in bad_tenant_ids() {
        let parent = "applications/crm-sync".to_owned();
        let request = pb::CreateTenantRequest { parent, tenant_id, tenant: None };
        let status = tenants.create_tenant(request).await.unwrap_err();
        assert_invalid(&status, &["tenant_id"]);
    }
    let listed = tenants.list_tenants(pb::ListTenantsRequest::default()).await.unwrap();
    assert!(listed.into_inner().tenants.is_empty());
}

#[tokio::test]
async fn labels_are_bounded_in_number_and_length() {
    let world = World::new().await;
    let mut tenants = world.tenants().await;
    let create = |labels: HashMap<String, String>| pb::CreateTenantRequest {
        parent: "applications/crm-sync".to_owned(),
        tenant_id: "Cust1".to_owned(),
        tenant: Some(pb::Tenant { labels, ..Default::default() }),
    };
    let one = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let many = |count: usize| (0..count).map(|i| (i.to_string(), String::new())).collect();
    let long = "x".repeat(257);
    for labels in [
        many(65),
        many(10_000),
        one("", "x"),
        one(&long, "x"),
        one("x", &long),
        one("a\0", "x"),
        one("x", "a\nb"),
        one("x", &"x".repeat(HUGE)),
    ] {
        let status = tenants.create_tenant(create(labels)).await.unwrap_err();
        assert_invalid(&status, &["tenant.labels"]);
    }
    tenants.create_tenant(create(many(64))).await.unwrap();
}

#[tokio::test]
async fn an_invalid_system_user_token_is_refused_and_not_repeated() {
    let world = World::new().await;
    world.create("Cust1").await;
    let mut tenants = world.tenants().await;
    let canary = "Canary App-8k8Q7DmBgo";
    let long = format!("{canary}{}", "x".repeat(1024));
    let huge = format!("{canary}{}", "x".repeat(HUGE));
    for token in
        ["", " ", "\t\r\n", "\u{a0}", &format!("{canary}\0"), &format!("{canary}\nX"), &long, &huge]
    {
        let request = pb::SetSystemUserTokenRequest {
            name: name("Cust1"),
            system_user_token: token.to_owned(),
        };
        let status = tenants.set_system_user_token(request).await.unwrap_err();
        assert_invalid(&status, &["system_user_token"]);
        let everything = format!("{status:?}{}", String::from_utf8_lossy(status.details()));
        assert!(!everything.contains("Canary") && !everything.contains("8k8Q7"), "{everything}");
    }
    assert!(!world.tenant("Cust1").await.has_system_user_token);
}

#[tokio::test]
async fn an_invalid_staleness_is_refused() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let method = "tenantgateway.v1.TenantService/GetTenantStatus";
    let message = pb::GetTenantStatusRequest { name: name("Cust1") }.encode_to_vec();
    for value in ["", "30", "-30s", "soon", "30 bananas", "å", "1e9s", "99999999999999999999h"] {
        let headers = [("gateway-max-staleness", value)];
        let address = world.gateway().grpc_address;
        let (status, _) = wire::send(address, method, &headers, &message).await;
        assert_invalid(&status, &["gateway-max-staleness"]);
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_its_reason() {
    let world = World::new().await;
    let mut client = world.tokens().await;
    let reason = "x".repeat(4 * 1024 * 1024 + 1);
    let request = pb::IssueSystemTicketRequest { reason, ..issue("Cust1") };
    let status = issue_with(&mut client, request).await.unwrap_err();
    assert_status(&status, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn a_response_that_is_too_large_is_refused_with_its_reason() {
    let world = World::new().await;
    let mut tenants = world.tenants().await;
    let labels: HashMap<_, _> = (0..64).map(|i| (format!("{i:0>256}"), "x".repeat(256))).collect();
    for number in 0..130 {
        let request = pb::CreateTenantRequest {
            parent: "applications/crm-sync".to_owned(),
            tenant_id: format!("Cust{number}"),
            tenant: Some(pb::Tenant { labels: labels.clone(), ..Default::default() }),
        };
        tenants.create_tenant(request).await.unwrap();
    }
    let list = |page_size| pb::ListTenantsRequest { page_size, ..Default::default() };
    let status = tenants.list_tenants(list(1000)).await.unwrap_err();
    assert_status(&status, Code::ResourceExhausted, "RESPONSE_TOO_LARGE");
    // A smaller page fits.
    let page = tenants.list_tenants(list(100)).await.unwrap().into_inner();
    assert_eq!(page.tenants.len(), 100);
}

#[tokio::test]
async fn malformed_messages_are_refused() {
    let world = World::new().await;
    let address = world.gateway().grpc_address;
    // An endless varint, a length beyond the end, text that is not UTF-8, a wrong wire type.
    for bytes in
        [&[0xff; 11][..], &[0x0a, 0x7f, b'x'], &[0x0a, 0x02, 0xff, 0xfe], &[0x08, 0x01], b"<html>"]
    {
        let (status, _) = wire::send(address, ISSUE, &[], bytes).await;
        assert_status(&status, Code::InvalidArgument, "INVALID_ARGUMENT").bad_request().unwrap();
    }
    assert_superoffice_was_not_asked(&world);
}

#[tokio::test]
async fn unimplemented_and_unknown_methods_are_reported() {
    let world = World::new().await;
    let channel = world.channel().await;
    for method in [
        "tenantgateway.v1.TokenService/NoSuchMethod",
        "tenantgateway.v1.TokenService/",
        "tenantgateway.v1.TokenService",
        "tenantgateway.v2.TokenService/IssueSystemTicket",
        "no.such.Service/Method",
        "",
    ] {
        let (status, _) = wire::send(world.gateway().grpc_address, method, &[], b"").await;
        assert_status(&status, Code::Unimplemented, "UNIMPLEMENTED");
    }
    let mut applications = ApplicationServiceClient::new(channel);
    applications.list_applications(pb::ListApplicationsRequest::default()).await.unwrap();
    assert_superoffice_was_not_asked(&world);
}
