//! Tests every fault of SuperOffice × every RPC × the cache state: the right status, in time, with the right calls,
//! nothing invalid cached, and recovery without a restart. `cargo test --test it fault_matrix -- --nocapture` prints
//! the table.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::grpc::pb::{
    self, application_service_client::ApplicationServiceClient,
    tenant_service_client::TenantServiceClient, token_service_client::TokenServiceClient,
    web_api_service_client::WebApiServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{World, faults::forged_id_tokens, issue, issue_with, name};

/// The time limit: faults take at most the login time-out (1.5 s) and retries of quick ones.
const IN_TIME: Duration = Duration::from_secs(8);

/// RPCs that may need SuperOffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rpc {
    Issue,
    WatchTicket,
    Report,
    GetStatus,
    WatchStatus,
    Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Nothing,
    Valid,
    Expired,
}

const RPCS: [Rpc; 6] =
    [Rpc::Issue, Rpc::WatchTicket, Rpc::Report, Rpc::GetStatus, Rpc::WatchStatus, Rpc::Call];
const CACHED: [Cached; 3] = [Cached::Nothing, Cached::Valid, Cached::Expired];

const DOWN: &str = "UPSTREAM_UNAVAILABLE";
const ODD: &str = "UPSTREAM_INVALID_RESPONSE";

/// A fault of one endpoint, and the expected reason for calls that need the endpoint.
struct Case {
    endpoint: Endpoint,
    fault: Fault,
    reason: &'static str,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for endpoint in
        [Endpoint::Authenticate, Endpoint::TenantStatus, Endpoint::CurrentPrincipal, Endpoint::Jwks]
    {
        for (fault, reason) in transport() {
            cases.push(Case { endpoint, fault, reason });
        }
    }
    let mut add = |endpoint, faults: Vec<Fault>, reason| {
        cases.extend(faults.into_iter().map(|fault| Case { endpoint, fault, reason }));
    };
    add(Endpoint::Authenticate, forged_id_tokens("Cust9"), ODD);
    add(
        Endpoint::Authenticate,
        vec![
            Fault::WrongTicketContext { context: "Cust9".to_owned() },
            Fault::MissingTicket,
            Fault::MalformedTicket,
        ],
        ODD,
    );
    let refuse =
        |name: &str| vec![Fault::Refuse { message: format!("Authorization error: {name}") }];
    add(Endpoint::Authenticate, refuse("Revoked (1)"), "APPLICATION_REVOKED");
    add(Endpoint::Authenticate, refuse("Expired (3)"), "APPLICATION_EXPIRED");
    add(Endpoint::Authenticate, refuse("Denied (4)"), "SYSTEM_USER_REJECTED");
    add(Endpoint::Authenticate, refuse("NeedsReapproval (5)"), "APPLICATION_NEEDS_REAPPROVAL");
    add(Endpoint::Authenticate, refuse("InvalidTimestamp (6)"), DOWN);
    add(Endpoint::Authenticate, refuse("InvalidSignature (7)"), "APPLICATION_CREDENTIAL_REFUSED");
    add(Endpoint::Authenticate, refuse("?"), "SYSTEM_USER_REJECTED");
    let elsewhere = Some("https://evil.example/x".to_owned());
    add(
        Endpoint::TenantStatus,
        vec![
            Fault::OtherTenant { context: "Cust9".to_owned() },
            Fault::Addresses { api: elsewhere.clone(), endpoint: None },
            Fault::Addresses { api: None, endpoint: elsewhere },
            Fault::MissingFields { fields: vec!["State".to_owned()] },
            Fault::MissingFields { fields: vec!["Api".to_owned()] },
        ],
        ODD,
    );
    cases
}

fn transport() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::status(500), DOWN),
        (Fault::status(503), DOWN),
        (Fault::status(429), DOWN),
        (Fault::status(400), ODD),
        (Fault::delay(Duration::from_secs(20)), DOWN),
        (Fault::Reset, DOWN),
        (Fault::Close, DOWN),
        (Fault::Truncate, DOWN),
        (Fault::Html, ODD),
        (Fault::Huge { mebibytes: 3 }, ODD),
        (Fault::Redirect { location: "http://127.0.0.1:9/".to_owned() }, ODD),
    ]
}

/// Returns the endpoints that an RPC needs in this cache state.
fn needs(rpc: Rpc, cached: Cached) -> &'static [Endpoint] {
    const TICKET: &[Endpoint] = &[Endpoint::TenantStatus, Endpoint::Authenticate, Endpoint::Jwks];
    match (rpc, cached) {
        (Rpc::Report, Cached::Valid) => &[Endpoint::CurrentPrincipal],
        (_, Cached::Valid) | (Rpc::Report, _) => &[],
        (Rpc::Issue | Rpc::WatchTicket | Rpc::Call, _) => TICKET,
        (Rpc::GetStatus | Rpc::WatchStatus, _) => &[Endpoint::TenantStatus],
    }
}

struct Clients {
    tokens: TokenServiceClient<Channel>,
    tenants: TenantServiceClient<Channel>,
    applications: ApplicationServiceClient<Channel>,
    web_api: WebApiServiceClient<Channel>,
}

impl Clients {
    async fn call(&mut self, rpc: Rpc, tenant: &str, id: &str) -> Result<(), Status> {
        let parent = name(tenant);
        match rpc {
            Rpc::Issue => issue_with(&mut self.tokens, issue(tenant)).await.map(drop),
            Rpc::WatchTicket => {
                let request = pb::WatchSystemTicketRequest { tenant: parent, ..Default::default() };
                let mut stream = self.tokens.watch_system_ticket(request).await?.into_inner();
                stream.message().await.map(drop)
            }
            Rpc::Report => {
                let credential_id = id.to_owned();
                let request = pb::ReportRejectedCredentialRequest { tenant: parent, credential_id };
                self.tokens.report_rejected_credential(request).await.map(drop)
            }
            Rpc::GetStatus => {
                let request = pb::GetTenantStatusRequest { name: parent };
                self.tenants.get_tenant_status(request).await.map(drop)
            }
            Rpc::WatchStatus => {
                let request = pb::WatchTenantStatusRequest { parent };
                let mut stream = self.tenants.watch_tenant_status(request).await?.into_inner();
                stream.message().await.map(drop)
            }
            Rpc::Call => {
                // SuperOffice answers 404 for this path; other responses are passed on, too.
                let request = pb::CallRequest {
                    tenant: parent,
                    method: "GET".to_owned(),
                    path: "/api/v1/Contact/5".to_owned(),
                    ..Default::default()
                };
                let answer = self.web_api.call(request).await?.into_inner();
                assert_eq!(answer.status, 404);
                Ok(())
            }
        }
    }
}

/// Brings a new tenant into this cache state. Returns the id of its ticket, if it ever had one.
async fn prepare(world: &mut World, tenant: &str, cached: Cached) -> String {
    world.enroll(tenant).await;
    if cached == Cached::Nothing {
        return "t-0".to_owned();
    }
    let id = world.ticket(tenant).await.unwrap().credential_id.clone();
    if cached == Cached::Expired {
        world.advance(Duration::from_hours(13));
        // Waits until expired entries are removed in the background.
        while world.metric("tickets_cached").await > 0 {}
    }
    id
}

fn outcome(result: &Result<(), Status>) -> String {
    match result {
        Ok(()) => "OK".to_owned(),
        Err(status) => {
            let details = status.get_error_details();
            details.error_info().map_or_else(|| "?".to_owned(), |info| info.reason.clone())
        }
    }
}

async fn world() -> (World, Clients) {
    let world = World::with_short_timeout().await;
    let clients = Clients {
        tokens: world.tokens().await,
        tenants: world.tenants().await,
        applications: world.applications().await,
        web_api: WebApiServiceClient::new(world.channel().await),
    };
    (world, clients)
}

/// The number of concurrent groups. Rows are independent, so each group has its own environment, and groups wait for
/// time-outs together.
const GROUPS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_by_every_rpc_by_what_is_cached() {
    let mut groups: [Vec<(usize, Case)>; GROUPS] = Default::default();
    for (index, case) in cases().into_iter().enumerate() {
        groups[index % GROUPS].push((index, case));
    }
    let mut running: JoinSet<_> = groups.into_iter().map(rows).collect();
    let mut table = BTreeMap::new();
    while let Some(rows) = running.join_next().await {
        table.extend(rows.unwrap());
    }
    let combinations = table.len() * RPCS.len() * CACHED.len();
    let rows: Vec<_> = table.into_values().collect();
    println!("{}\n{}\n{combinations} combinations", head(), rows.join("\n"));
}

async fn rows(cases: Vec<(usize, Case)>) -> Vec<(usize, String)> {
    let (mut world, mut clients) = world().await;
    let mut rows = Vec::new();
    for (index, case) in cases {
        rows.push((index, row(&mut world, &mut clients, index, &case).await));
    }
    rows
}

async fn row(world: &mut World, clients: &mut Clients, index: usize, case: &Case) -> String {
    let Case { endpoint, fault, reason } = case;
    let mut row =
        format!("{:<72}", format!("{endpoint:?} {fault:?}").chars().take(70).collect::<String>());
    for (column, rpc) in RPCS.into_iter().enumerate() {
        for (state, cached) in CACHED.into_iter().enumerate() {
            let tenant = format!("Cust{}", 100 * index + 10 * column + state);
            let id = prepare(world, &tenant, cached).await;
            let needed = needs(rpc, cached).contains(endpoint);
            if needed && *endpoint == Endpoint::Jwks {
                // Otherwise the key set is already cached.
                tokio::task::block_in_place(|| world.sandbox.roll_signing_key(true)).unwrap();
                world.advance(Duration::from_secs(11));
            }
            world.sandbox.reset_counts();
            world.sandbox.inject(*endpoint, fault.clone(), FaultScope::always()).unwrap();
            let begin = Instant::now();
            let result = clients.call(rpc, &tenant, &id).await;
            let what = format!("{rpc:?} with {cached:?} cached, {endpoint:?} {fault:?}");
            assert!(begin.elapsed() < IN_TIME, "{what}: {:?}", begin.elapsed());
            // An expired status is used for a day if it cannot be read again.
            let is_survived = *endpoint == Endpoint::TenantStatus && cached == Cached::Expired;
            let wanted = if needed && !is_survived { reason } else { "OK" };
            assert_eq!(outcome(&result), wanted, "{what}");
            if !needed {
                assert_eq!(world.sandbox.calls_for(*endpoint, &tenant), 0, "{what}");
            }
            if needed && *endpoint == Endpoint::Authenticate {
                // Exactly one exchange: a second one would cost the customer.
                assert_eq!(world.sandbox.calls(*endpoint), 1, "{what}");
            }
            let _ = write!(row, "{:<6}", if wanted == "OK" { "ok" } else { short(reason) });
            recover(world, clients, rpc, &tenant, &what).await;
        }
    }
    row
}

/// Asserts the recovery: at once, or for a refusal after an administrator's action.
async fn recover(world: &mut World, clients: &mut Clients, rpc: Rpc, tenant: &str, what: &str) {
    world.sandbox.clear_faults();
    world.advance(Duration::from_mins(2));
    let ticket = issue_with(&mut clients.tokens, issue(tenant)).await;
    let ticket = ticket.unwrap_or_else(|status| panic!("{what}: no recovery: {status:?}"));
    clients.call(rpc, tenant, &ticket.credential_id).await.unwrap();
    // The cached ticket is valid: SuperOffice accepts it.
    clients.call(Rpc::Report, tenant, &ticket.credential_id).await.unwrap();
    let again = issue_with(&mut clients.tokens, issue(tenant)).await.unwrap();
    assert_eq!(again.credential_id, ticket.credential_id, "{what}");
}

fn short(reason: &str) -> &'static str {
    match reason {
        DOWN => "DOWN",
        ODD => "ODD",
        "APPLICATION_REVOKED" => "REVOK",
        "APPLICATION_EXPIRED" => "EXPIR",
        "APPLICATION_NEEDS_REAPPROVAL" => "REAPP",
        "APPLICATION_CREDENTIAL_REFUSED" => "CREDE",
        _ => "REJEC",
    }
}

fn head() -> String {
    let mut rpcs = format!("{:<72}", "");
    let mut states = format!("{:<72}", "endpoint, fault");
    for rpc in RPCS {
        let _ = write!(rpcs, "{:<18}", format!("{rpc:?}"));
        states.push_str("none  valid exp.  ");
    }
    format!("{rpcs}\n{states}")
}

#[tokio::test]
async fn rpcs_that_do_not_need_superoffice_work_through_every_fault() {
    let (world, mut clients) = world().await;
    let mut number = 0;
    for (fault, _) in transport() {
        for endpoint in Endpoint::ALL {
            world.sandbox.inject(endpoint, fault.clone(), FaultScope::always()).unwrap();
        }
        number += 1;
        let tenant = format!("Cust{number}");
        world.sandbox.reset_counts();
        every_other_rpc(&mut clients, &tenant).await.unwrap_or_else(|s| panic!("{fault:?}: {s:?}"));
        for endpoint in Endpoint::ALL {
            assert_eq!(world.sandbox.calls(endpoint), 0, "{fault:?} {endpoint:?}");
        }
        world.sandbox.clear_faults();
    }
}

async fn every_other_rpc(clients: &mut Clients, tenant: &str) -> Result<(), Status> {
    let Clients { tenants, applications, .. } = clients;
    let create = pb::CreateTenantRequest {
        parent: "applications/crm-sync".to_owned(),
        tenant_id: tenant.to_owned(),
        tenant: None,
    };
    let name = name(tenant);
    tenants.create_tenant(create).await?;
    let system_user_token = "App-0123456789".to_owned();
    let set = pb::SetSystemUserTokenRequest { name: name.clone(), system_user_token };
    tenants.set_system_user_token(set).await?;
    let disable = pb::DisableTenantRequest { name: name.clone(), ..Default::default() };
    tenants.disable_tenant(disable).await?;
    tenants.enable_tenant(pb::EnableTenantRequest { name: name.clone() }).await?;
    tenants.get_tenant(pb::GetTenantRequest { name: name.clone() }).await?;
    tenants.list_tenants(pb::ListTenantsRequest::default()).await?;
    applications.list_applications(pb::ListApplicationsRequest::default()).await?;
    tenants.delete_tenant(pb::DeleteTenantRequest { name, ..Default::default() }).await?;
    Ok(())
}

#[test]
fn the_matrix_has_every_rpc_of_the_services_that_are_served() {
    let served = RPCS.len() + 8;
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(tenant_gateway::grpc::pb::DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let built = ["TokenService", "TenantService", "ApplicationService", "WebApiService"];
    let rpcs: usize =
        services.filter(|s| built.contains(&s.name())).map(|service| service.method.len()).sum();
    assert_eq!(served, rpcs, "add the new RPC to the matrix");
}
