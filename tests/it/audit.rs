//! Tests of the audit trail: each operation leaves exactly its events, and every answered call has its event, even
//! after a crash or a disk failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{
    app::ShutdownOutcome,
    crypto::SystemRandom,
    domain::{Aggregate, AuditFaultKind, AuditRecord, AuditText, Decision, Reason},
    grpc::pb,
    ports::Random as _,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::support::{
    APPLICATION, CLIENT_ID, CLIENT_SECRET, Options, World,
    audit::SegmentFile,
    binary::{Served, Site},
    callers::{AuthenticatedGateway, ISSUER, call, with_bearer_token},
    eventually, eventually_so,
    full_disk::{limit_files, serve_ignoring_size_limits},
    get, issue, issue_with,
    load::{Load, succeeded},
    name,
    trail::StoredTrail,
    wire,
};

const POLICY: &str = r#"
@id("tickets") permit (principal == Caller::"ada", action == Action::"issueSystemTicket", resource);
@id("tokens") permit (principal == Caller::"ada", action == Action::"revealApplicationToken", resource);
@id("changes") permit (principal == Caller::"ada", action == Action::"manageTenants", resource);
@id("looks") permit (principal == Caller::"ada", action == Action::"readTenants", resource);
@id("people") permit (principal == Caller::"ada", action == Action::"readAssociates", resource);
@id("grants") permit (principal == Caller::"ada", action == Action::"manageGrants", resource);
@id("consents") permit (principal == Caller::"ada", action == Action::"readGrants", resource);
@id("persons") permit (principal == Caller::"ada", action == Action::"issueAccessToken", resource);
@id("calls") permit (principal == Caller::"ada", action == Action::"callWebApiAsSystemUser", resource)
when { context.method == "GET" };
@id("half") permit (principal == Caller::"bob", action == Action::"issueSystemTicket", resource);
@id("outcasts") forbid (principal == Caller::"mallory", action, resource);
"#;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The id of a ticket that never existed.
const UNKNOWN_TICKET_ID: &str = "t-00000000000000000000000000000000";

/// The address at which a front end receives codes.
const FRONT_END: &str = "https://portal.example.com/callback";

/// One event of a call, without the fields that all events of the call share.
#[derive(Clone)]
struct Event {
    action: &'static str,
    resource: String,
    decision: Decision,
    policies: &'static [&'static str],
    credential: Credential,
    reason: &'static str,
}

#[derive(Clone, Copy)]
enum Credential {
    None,
    /// The credential in the response.
    InResponse,
    /// The credential in the previous response, used again.
    InPreviousResponse,
    Named(&'static str),
}

fn allowed(action: &'static str, resource: &str) -> Event {
    let policies: &[_] = match action {
        "issueSystemTicket" => &["tickets"],
        "revealApplicationToken" => &["tokens"],
        "manageTenants" => &["changes"],
        "readAssociates" => &["people"],
        "manageGrants" => &["grants"],
        "issueAccessToken" => &["persons"],
        "callWebApiAsSystemUser" => &["calls"],
        other => panic!("{other}"),
    };
    let (resource, decision) = (resource.to_owned(), Decision::Allowed);
    Event { action, resource, decision, policies, credential: Credential::None, reason: "" }
}

fn denied(action: &'static str, resource: &str) -> Event {
    let (resource, decision) = (resource.to_owned(), Decision::Denied);
    Event { action, resource, decision, policies: &[], credential: Credential::None, reason: "" }
}

/// Two denials that the trail counts together.
fn same_kind(one: &AuditRecord, other: &AuditRecord) -> bool {
    let kind = |record: &AuditRecord| {
        let application = record.resource.strip_prefix("applications/");
        let application = application.map(|rest| rest.split('/').next().unwrap().to_owned());
        (record.caller.clone(), record.action.clone(), record.error_reason, application)
    };
    one.decision == other.decision && kind(one) == kind(other)
}

/// The denials of a kind.
struct Denials {
    /// The denial that has an event of its own.
    first: AuditRecord,
    /// The others, which are counted.
    counted: Vec<AuditRecord>,
}

impl Denials {
    /// Adds a denial to its kind. Returns whether it is the first one.
    fn add(kinds: &mut Vec<Self>, denial: &AuditRecord) -> bool {
        if let Some(kind) = kinds.iter_mut().find(|kind| same_kind(&kind.first, denial)) {
            kind.counted.push(denial.clone());
            return false;
        }
        kinds.push(Self { first: denial.clone(), counted: Vec::new() });
        true
    }

    /// Asserts that the counted denials have one event together.
    #[track_caller]
    fn assert_aggregated(&self, written: &StoredTrail) {
        let events = written.of_calls().map(|event| &event.record);
        let events = events.filter(|event| event.aggregate.is_some());
        let events: Vec<_> = events.filter(|event| same_kind(event, &self.first)).collect();
        let Some(one) = self.counted.first() else {
            assert!(events.is_empty(), "{events:?}");
            return;
        };
        let [event] = events[..] else { panic!("{events:?}: {:?}", self.first) };
        let mut resources = Vec::new();
        for denial in &self.counted {
            if !resources.contains(&denial.resource) {
                resources.push(denial.resource.clone());
            }
        }
        let aggregate = event.aggregate.as_deref().unwrap();
        assert_eq!(aggregate.count, self.counted.len() as u64);
        assert_eq!(aggregate.resource_count, resources.len() as u64);
        resources.truncate(Aggregate::MAX_RESOURCES);
        assert_eq!(aggregate.resources, resources);
        assert_eq!(event.code, one.code);
        if self.counted.iter().all(|denial| denial.policy_ids == one.policy_ids) {
            assert_eq!(event.policy_ids, one.policy_ids);
        }
    }
}

impl Event {
    fn by(self, policies: &'static [&'static str]) -> Self {
        Self { policies, ..self }
    }

    fn of(self, credential: Credential) -> Self {
        Self { credential, ..self }
    }

    fn with_reason(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }
}

/// One call: caller, method, result, and expected events.
struct Row {
    caller: &'static str,
    method: &'static str,
    message: Vec<u8>,
    end: Result<(), (Code, &'static str)>,
    events: Vec<Event>,
}

type End = Result<(), (Code, &'static str)>;

const OK: End = Ok(());
const DENIED: End = Err((Code::PermissionDenied, "POLICY_DENIED"));
const NO_TENANT: End = Err((Code::NotFound, "RESOURCE_NOT_FOUND"));
const NO_APPLICATION: End = Err((Code::NotFound, "APPLICATION_NOT_CONFIGURED"));
const INVALID: End = Err((Code::InvalidArgument, "INVALID_ARGUMENT"));

/// A table of calls.
struct Table(Vec<Row>);

impl Table {
    fn row(
        &mut self,
        caller: &'static str,
        method: &'static str,
        message: &impl prost::Message,
        end: End,
        events: impl IntoIterator<Item = Event>,
    ) {
        let (message, events) = (message.encode_to_vec(), events.into_iter().collect());
        self.0.push(Row { caller, method, message, end, events });
    }

    /// Adds a call that no policy permits, and one that a `forbid` denies.
    fn denials(
        &mut self,
        method: &'static str,
        message: &impl prost::Message,
        event: &Event,
        forbid: &'static [&'static str],
    ) {
        self.row("eve", method, message, DENIED, [event.clone()]);
        self.row("mallory", method, message, DENIED, [event.clone().by(forbid)]);
    }
}

const FORBIDDEN: &[&str] = &["outcasts"];

/// The data that exists before the rows run.
#[derive(Default)]
struct Fixture {
    /// The token of Cust1, which the rows create.
    system_user_token: String,
    /// A grant of a person of Cust2.
    grant: String,
    associate_id: i32,
    refresh_token: String,
}

impl Fixture {
    /// Creates the data. Leaves two events.
    async fn make(guarded: &AuthenticatedGateway) -> Self {
        let world = &guarded.world;
        world.make_tenant("Cust2");
        world.sandbox.generate_people("Cust2", 20, 7).unwrap();
        let signed_in = |id| Some((id, world.sandbox.begin_grant(CLIENT_ID, "Cust2", id).ok()?));
        let (id, refresh_token) = (1..100).find_map(signed_in).expect("no user can sign in");
        let parent = format!("applications/{APPLICATION}");
        let create =
            pb::CreateTenantRequest { parent, tenant_id: "Cust2".to_owned(), tenant: None };
        guarded.call("ada", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
        let import = pb::ImportGrantRequest {
            tenant: name("Cust2"),
            refresh_token: refresh_token.clone(),
            ..Default::default()
        };
        let method = "ImpersonationService/ImportGrant";
        let answer = guarded.call("ada", method, import.encode_to_vec()).await.unwrap();
        let grant = pb::ImportGrantResponse::decode(&*answer).unwrap().grant.unwrap().name;
        Self {
            system_user_token: world.make_tenant("Cust1"),
            grant,
            associate_id: id.try_into().unwrap(),
            refresh_token,
        }
    }
}

/// Returns all rows. They depend on each other: the tenant is created, used and deleted.
fn table(given: &Fixture) -> Vec<Row> {
    let mut table = Table(Vec::new());
    rows_of_tickets(&mut table, &given.system_user_token);
    rows_of_calls(&mut table);
    rows_of_tenants(&mut table);
    rows_of_reads(&mut table);
    rows_of_associates(&mut table);
    rows_of_unknown_grants(&mut table);
    rows_of_grants(&mut table, given);
    rows_of_consent(&mut table);
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let manage = |tenant: &str| allowed("manageTenants", tenant);
    let delete = |name: &str, etag: &str| pb::DeleteTenantRequest {
        name: name.to_owned(),
        etag: etag.to_owned(),
        ..Default::default()
    };
    let method = "TenantService/DeleteTenant";
    table.denials(method, &delete(&one, ""), &denied("manageTenants", &one), FORBIDDEN);
    table.row("ada", method, &delete("Cust1", ""), INVALID, []);
    let stale = Err((Code::Aborted, "VERSION_CONFLICT"));
    table.row("ada", method, &delete(&one, "\"0\""), stale, [manage(&one)]);
    table.row("ada", method, &delete(&one, ""), OK, [manage(&one)]);
    table.row("ada", method, &delete(&nine, ""), NO_TENANT, [manage(&nine)]);
    table.0
}

fn rows_of_tickets(table: &mut Table, system_user_token: &str) {
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let manage = |tenant: &str| allowed("manageTenants", tenant);
    let may_not_manage = denied("manageTenants", &one);

    let create = |parent: &str, tenant: &str| pb::CreateTenantRequest {
        parent: parent.to_owned(),
        tenant_id: tenant.to_owned(),
        tenant: None,
    };
    let (method, ours) = ("TenantService/CreateTenant", format!("applications/{APPLICATION}"));
    table.denials(method, &create(&ours, "Cust1"), &may_not_manage, FORBIDDEN);
    table.row("ada", method, &create(&ours, "Cust1"), OK, [manage(&one)]);
    let exists = Err((Code::AlreadyExists, "ALREADY_EXISTS"));
    table.row("ada", method, &create(&ours, "Cust1"), exists, [manage(&one)]);
    let elsewhere = "applications/other/tenants/Cust1";
    let other = create("applications/other", "Cust1");
    table.row("ada", method, &other, NO_APPLICATION, [manage(elsewhere)]);
    table.row("ada", method, &create(&ours, ""), INVALID, []);

    let ticket = || allowed("issueSystemTicket", &one);
    let method = "TokenService/IssueSystemTicket";
    let not_enrolled = Err((Code::FailedPrecondition, "SYSTEM_USER_NOT_ENROLLED"));
    table.row("ada", method, &issue("Cust1"), not_enrolled, [ticket()]);

    let set = |name: &str, token: &str| pb::SetSystemUserTokenRequest {
        name: name.to_owned(),
        system_user_token: token.to_owned(),
    };
    let method = "TenantService/SetSystemUserToken";
    table.denials(method, &set(&one, system_user_token), &may_not_manage, FORBIDDEN);
    table.row("ada", method, &set(&one, system_user_token), OK, [manage(&one)]);
    table.row("ada", method, &set(&nine, system_user_token), NO_TENANT, [manage(&nine)]);
    table.row("ada", method, &set(&one, ""), INVALID, []);

    let method = "TokenService/IssueSystemTicket";
    let wildcard = |tenant: &str| format!("applications/-/tenants/{tenant}");
    let asked = |tenant: String, reveal| pb::IssueSystemTicketRequest {
        tenant,
        include_application_token: reveal,
        reason: "nightly sync".to_owned(),
        ..Default::default()
    };
    let handed_out = || ticket().of(Credential::InResponse).with_reason("nightly sync");
    let revealed =
        || Event { policies: &["tokens"], action: "revealApplicationToken", ..handed_out() };
    table.row("ada", method, &asked(one.clone(), false), OK, [handed_out()]);
    table.row("ada", method, &asked(wildcard("Cust1"), false), OK, [handed_out()]);
    table.row("ada", method, &asked(one.clone(), true), OK, [handed_out(), revealed()]);
    table.denials(method, &issue("Cust1"), &denied("issueSystemTicket", &one), FORBIDDEN);
    let open = pb::IssueSystemTicketRequest { tenant: wildcard("Cust1"), ..Default::default() };
    table.denials(method, &open, &denied("issueSystemTicket", &wildcard("Cust1")), FORBIDDEN);
    let half = ticket().by(&["half"]).with_reason("nightly sync");
    let no_token = denied("revealApplicationToken", &one).with_reason("nightly sync");
    table.row("bob", method, &asked(one.clone(), true), DENIED, [half, no_token]);
    table.row("ada", method, &issue("Cust9"), NO_TENANT, [allowed("issueSystemTicket", &nine)]);
    let open = pb::IssueSystemTicketRequest { tenant: wildcard("Cust9"), ..Default::default() };
    let found_nothing = allowed("issueSystemTicket", &wildcard("Cust9")).by(&[]);
    table.row("ada", method, &open, NO_TENANT, [found_nothing]);
    table.row("ada", method, &issue(""), INVALID, []);
    let mut two_lines = issue("Cust1");
    two_lines.reason = "two\nlines".to_owned();
    table.row("ada", method, &two_lines, INVALID, []);

    let method = "TokenService/WatchSystemTicket";
    let watch = |tenant: &str, reveal| pb::WatchSystemTicketRequest {
        tenant: tenant.to_owned(),
        include_application_token: reveal,
        reason: "nightly sync".to_owned(),
    };
    table.row("ada", method, &watch(&one, false), OK, [handed_out()]);
    table.row("ada", method, &watch(&one, true), OK, [handed_out(), revealed()]);
    let refused = denied("issueSystemTicket", &one).with_reason("nightly sync");
    table.denials(method, &watch(&one, false), &refused, FORBIDDEN);
    let unknown = allowed("issueSystemTicket", &nine).with_reason("nightly sync");
    table.row("ada", method, &watch(&nine, false), NO_TENANT, [unknown]);
    table.row("ada", method, &watch("Cust1", false), INVALID, []);

    let method = "TokenService/ReportRejectedCredential";
    let report = |tenant: &str, credential: &str| pb::ReportRejectedCredentialRequest {
        tenant: tenant.to_owned(),
        credential_id: credential.to_owned(),
    };
    let named = Credential::Named(UNKNOWN_TICKET_ID);
    table.row("ada", method, &report(&one, UNKNOWN_TICKET_ID), OK, [ticket().of(named)]);
    let refused = denied("issueSystemTicket", &one).of(named);
    table.denials(method, &report(&one, UNKNOWN_TICKET_ID), &refused, FORBIDDEN);
    let unknown = allowed("issueSystemTicket", &nine).of(named);
    table.row("ada", method, &report(&nine, UNKNOWN_TICKET_ID), NO_TENANT, [unknown]);
    table.row("ada", method, &report(&one, "x"), INVALID, []);
}

fn rows_of_calls(table: &mut Table) {
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let call = |tenant: &str, method: &str| pb::CallRequest {
        tenant: tenant.to_owned(),
        method: method.to_owned(),
        path: "/api/v1/User/currentPrincipal".to_owned(),
        reason: "who am I".to_owned(),
        ..Default::default()
    };
    let action = "callWebApiAsSystemUser";
    let refused = |tenant: &str| denied(action, tenant).with_reason("who am I");
    let method = "WebApiService/Call";
    let made = allowed(action, &one).of(Credential::InPreviousResponse).with_reason("who am I");
    table.row("ada", method, &call(&one, "GET"), OK, [made]);
    let not_this_one = Err((Code::PermissionDenied, "PATH_NOT_ALLOWED"));
    table.row("ada", method, &call(&one, "DELETE"), not_this_one, [refused(&one)]);
    let unknown = allowed(action, &nine).with_reason("who am I");
    table.row("ada", method, &call(&nine, "GET"), NO_TENANT, [unknown]);
    table.row("ada", method, &call("Cust1", "GET"), INVALID, []);
    table.denials(method, &call(&one, "GET"), &refused(&one), FORBIDDEN);
}

fn rows_of_tenants(table: &mut Table) {
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let manage = |tenant: &str| allowed("manageTenants", tenant);
    let may_not_manage = denied("manageTenants", &one);

    let disable = |name: &str| pb::DisableTenantRequest {
        name: name.to_owned(),
        reason: "stolen".to_owned(),
    };
    let method = "TenantService/DisableTenant";
    let refused = may_not_manage.clone().with_reason("stolen");
    table.denials(method, &disable(&one), &refused, FORBIDDEN);
    table.row("ada", method, &disable(&one), OK, [manage(&one).with_reason("stolen")]);
    table.row("ada", method, &disable(&nine), NO_TENANT, [manage(&nine).with_reason("stolen")]);
    table.row("ada", method, &disable("Cust1"), INVALID, []);

    let disabled = Err((Code::FailedPrecondition, "TENANT_DISABLED"));
    let ticket = allowed("issueSystemTicket", &one);
    table.row("ada", "TokenService/IssueSystemTicket", &issue("Cust1"), disabled, [ticket]);

    let enable = |name: &str| pb::EnableTenantRequest { name: name.to_owned() };
    let method = "TenantService/EnableTenant";
    table.denials(method, &enable(&one), &may_not_manage, FORBIDDEN);
    table.row("ada", method, &enable(&one), OK, [manage(&one)]);
    table.row("ada", method, &enable(&nine), NO_TENANT, [manage(&nine)]);
    table.row("ada", method, &enable("Cust1"), INVALID, []);
}

/// Permitted reads leave no event; denied reads do.
fn rows_of_reads(table: &mut Table) {
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let wildcard = "applications/-/tenants/Cust1";
    let refused = |resource: &str| denied("readTenants", resource);
    let ours = format!("applications/{APPLICATION}");

    let get = |name: &str| pb::GetTenantRequest { name: name.to_owned() };
    let method = "TenantService/GetTenant";
    table.row("ada", method, &get(&one), OK, []);
    table.row("ada", method, &get(wildcard), OK, []);
    table.row("ada", method, &get(&nine), NO_TENANT, []);
    table.row("ada", method, &get("Cust1"), INVALID, []);
    table.denials(method, &get(&one), &refused(&one), FORBIDDEN);
    table.denials(method, &get(wildcard), &refused(wildcard), FORBIDDEN);

    let status = |name: &str| pb::GetTenantStatusRequest { name: name.to_owned() };
    let method = "TenantService/GetTenantStatus";
    table.row("ada", method, &status(&one), OK, []);
    table.row("ada", method, &status(&nine), NO_TENANT, []);
    table.denials(method, &status(&one), &refused(&one), FORBIDDEN);
    table.denials(method, &status(wildcard), &refused(wildcard), FORBIDDEN);

    let watch = |parent: &str| pb::WatchTenantStatusRequest { parent: parent.to_owned() };
    let method = "TenantService/WatchTenantStatus";
    table.row("ada", method, &watch(""), OK, []);
    table.row("ada", method, &watch(&ours), OK, []);
    table.row("ada", method, &watch(&one), OK, []);
    table.row("ada", method, &watch(&nine), NO_TENANT, []);
    table.denials(method, &watch(""), &refused("gateway"), FORBIDDEN);
    table.denials(method, &watch(&ours), &refused(&ours), FORBIDDEN);
    table.denials(method, &watch(&one), &refused(&one), FORBIDDEN);

    let list =
        |parent: &str| pb::ListTenantsRequest { parent: parent.to_owned(), ..Default::default() };
    let method = "TenantService/ListTenants";
    table.row("ada", method, &list(""), OK, []);
    table.row("ada", method, &list(&ours), OK, []);
    table.row("ada", method, &list("applications/other"), NO_APPLICATION, []);
    table.denials(method, &list(""), &refused("gateway"), FORBIDDEN);
    table.denials(method, &list(&ours), &refused(&ours), FORBIDDEN);

    let applications = |page_token: &str| pb::ListApplicationsRequest {
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let method = "ApplicationService/ListApplications";
    table.row("ada", method, &applications(""), OK, []);
    table.row("ada", method, &applications("x"), INVALID, []);
    table.denials(method, &applications(""), &refused("gateway"), FORBIDDEN);

    let test = |resource: &str| pb::TestPermissionsRequest {
        resource: resource.to_owned(),
        permissions: vec!["readTenants".to_owned()],
    };
    let method = "AccessService/TestPermissions";
    table.row("ada", method, &test(&one), OK, []);
    table.row("ada", method, &test("Cust1"), INVALID, []);
    table.row("eve", method, &test(&ours), OK, []);
    table.row("eve", method, &test("gateway"), OK, []);
    table.denials(method, &test(&one), &denied("testPermissions", &one), &[]);

    let explain = |tenant: &str| pb::ExplainAccessRequest { tenant: tenant.to_owned() };
    let method = "AccessService/ExplainAccess";
    table.row("ada", method, &explain(&one), OK, []);
    table.row("ada", method, &explain(wildcard), OK, []);
    table.row("ada", method, &explain(&nine), NO_TENANT, []);
    table.denials(method, &explain(&one), &denied("explainAccess", &one), &[]);
    table.denials(method, &explain(wildcard), &denied("explainAccess", wildcard), &[]);
}

/// Uses unknown ids and addresses, so that each call can fail.
fn rows_of_associates(table: &mut Table) {
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let wildcard = "applications/-/tenants/Cust1";
    let read = || allowed("readAssociates", &name("Cust1"));
    let mut rows = |method: &'static str, message: &dyn Fn(&str) -> Vec<u8>, missing: Vec<u8>| {
        let mut row = |caller, message: Vec<u8>, end, events: Vec<Event>| {
            table.0.push(Row { caller, method, message, end, events });
        };
        row("ada", message(&one), OK, vec![read()]);
        row("ada", message(wildcard), OK, vec![read()]);
        row("ada", message(&nine), NO_TENANT, vec![allowed("readAssociates", &nine)]);
        row("ada", message("Cust1"), INVALID, vec![]);
        row("ada", missing, NO_TENANT, vec![read()]);
        for tenant in [&*one, &*nine, wildcard] {
            let event = denied("readAssociates", tenant);
            row("eve", message(tenant), DENIED, vec![event.clone()]);
            row("mallory", message(tenant), DENIED, vec![event.by(FORBIDDEN)]);
        }
    };
    let get = |tenant: &str, id: u32| {
        let name = format!("{tenant}/associates/{id}");
        pb::GetAssociateRequest { name, ..Default::default() }.encode_to_vec()
    };
    rows("AssociateService/GetAssociate", &|tenant| get(tenant, 1), get(&one, 999_999));
    let batch = |tenant: &str, id: u32| {
        let (parent, names) = (tenant.to_owned(), vec![format!("{tenant}/associates/{id}")]);
        pb::BatchGetAssociatesRequest { parent, names, ..Default::default() }.encode_to_vec()
    };
    rows("AssociateService/BatchGetAssociates", &|tenant| batch(tenant, 1), batch(&one, 999_999));
    let owner = |tenant: &str, id: u32| {
        let associate = format!("{tenant}/associates/{id}");
        pb::ResolveOwnerRequest { associate, ..Default::default() }.encode_to_vec()
    };
    rows("AssociateService/ResolveOwner", &|tenant| owner(tenant, 1), owner(&one, 999_999));
    let look_up = |tenant: &str, user_name: &str| {
        let key = Some(pb::lookup_associate_request::Key::UserName(user_name.to_owned()));
        let parent = tenant.to_owned();
        pb::LookupAssociateRequest { parent, key, ..Default::default() }.encode_to_vec()
    };
    let known = |tenant: &str| look_up(tenant, "emp3@cust1.example");
    rows("AssociateService/LookupAssociate", &known, look_up(&one, "nobody@example.com"));
    let nowhere = &name("Cust8");
    let missing = || vec![allowed("readAssociates", &name("Cust8"))];
    let mut lists = |method: &'static str, message: &dyn Fn(&str) -> Vec<u8>| {
        let mut row = |caller, message: Vec<u8>, end, events: Vec<Event>| {
            table.0.push(Row { caller, method, message, end, events });
        };
        row("ada", message(&one), OK, vec![read()]);
        row("ada", message(nowhere), NO_TENANT, missing());
        row("ada", message("x"), INVALID, vec![]);
        let event = denied("readAssociates", &one);
        row("eve", message(&one), DENIED, vec![event.clone()]);
        row("mallory", message(&one), DENIED, vec![event.by(FORBIDDEN)]);
    };
    lists("AssociateService/ListAssociates", &|parent| {
        let parent = parent.to_owned();
        pb::ListAssociatesRequest { parent, ..Default::default() }.encode_to_vec()
    });
    lists("AssociateService/ListUserGroups", &|parent| {
        let parent = parent.to_owned();
        pb::ListUserGroupsRequest { parent, ..Default::default() }.encode_to_vec()
    });
    lists("AssociateService/ListRoles", &|parent| {
        let parent = parent.to_owned();
        pb::ListRolesRequest { parent, ..Default::default() }.encode_to_vec()
    });
    lists("AssociateService/GetCurrentPrincipal", &|tenant| {
        let tenant = tenant.to_owned();
        pb::GetCurrentPrincipalRequest { tenant, ..Default::default() }.encode_to_vec()
    });
}

/// Uses grants that do not exist.
fn rows_of_unknown_grants(table: &mut Table) {
    use pb::{issue_access_token_request, watch_access_token_request};
    let (one, nine) = (name("Cust1"), name("Cust9"));
    let wildcard = "applications/-/tenants/Cust1";
    let nobody = |tenant: &str| format!("{tenant}/grants/-");
    let not_given = Err((Code::FailedPrecondition, "CONSENT_REQUIRED"));
    let mut rows = |method: &'static str, message: &dyn Fn(&str) -> Vec<u8>| {
        let mut row = |caller, tenant: &str, end, events: Vec<Event>| {
            table.0.push(Row { caller, method, message: message(tenant), end, events });
        };
        let act = |tenant: &str| vec![allowed("issueAccessToken", &nobody(tenant))];
        row("ada", &one, not_given, act(&one));
        row("ada", wildcard, not_given, act(&one));
        row("ada", &nine, NO_TENANT, act(&nine));
        row("ada", "Cust1", INVALID, vec![]);
        for (tenant, resource) in [(&*one, nobody(&one)), (wildcard, wildcard.to_owned())] {
            let event = denied("issueAccessToken", &resource);
            row("eve", tenant, DENIED, vec![event.clone()]);
            row("mallory", tenant, DENIED, vec![event.by(FORBIDDEN)]);
        }
    };
    rows("ImpersonationService/IssueAccessToken", &|tenant| {
        let subject = Some(issue_access_token_request::Subject::AssociateId(999_999));
        let tenant = tenant.to_owned();
        pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() }.encode_to_vec()
    });
    rows("ImpersonationService/WatchAccessToken", &|tenant| {
        let subject = Some(watch_access_token_request::Subject::AssociateId(999_999));
        let tenant = tenant.to_owned();
        pb::WatchAccessTokenRequest { tenant, subject, ..Default::default() }.encode_to_vec()
    });

    let import = |tenant: &str, token: &str| pb::ImportGrantRequest {
        tenant: tenant.to_owned(),
        refresh_token: token.to_owned(),
        reason: "moving in".to_owned(),
    };
    let manage = |resource: &str| allowed("manageGrants", resource).with_reason("moving in");
    let method = "ImpersonationService/ImportGrant";
    let refused = denied("manageGrants", &one).with_reason("moving in");
    table.denials(method, &import(&one, "r"), &refused, FORBIDDEN);
    table.row("ada", method, &import(&one, "r"), not_given, [manage(&one)]);
    table.row("ada", method, &import(&nine, "r"), NO_TENANT, [manage(&nine)]);
    table.row("ada", method, &import(&one, ""), INVALID, []);

    let grant = format!("{one}/grants/g1");
    let method = "ImpersonationService/RevokeGrant";
    let revoke =
        |name: &str| pb::RevokeGrantRequest { name: name.to_owned(), ..Default::default() };
    table.denials(method, &revoke(&grant), &denied("manageGrants", &grant), FORBIDDEN);
    table.row("ada", method, &revoke(&grant), NO_TENANT, [allowed("manageGrants", &grant)]);
    table.row("ada", method, &revoke(&one), INVALID, []);

    // Permitted reads leave no event; denied reads do.
    let refused = denied("readGrants", &one);
    let method = "ImpersonationService/GetGrant";
    let get = |name: &str| pb::GetGrantRequest { name: name.to_owned() };
    table.denials(method, &get(&grant), &refused, FORBIDDEN);
    table.row("ada", method, &get(&grant), NO_TENANT, []);
    let method = "ImpersonationService/ListGrants";
    let list =
        |parent: &str| pb::ListGrantsRequest { parent: parent.to_owned(), ..Default::default() };
    table.denials(method, &list(&one), &refused, FORBIDDEN);
    table.row("ada", method, &list(&one), OK, []);
    let method = "ImpersonationService/WatchGrants";
    let watch = |parent: &str| pb::WatchGrantsRequest { parent: parent.to_owned() };
    table.denials(method, &watch(&one), &refused, FORBIDDEN);
    table.row("ada", method, &watch(&one), OK, []);
}

/// Uses a grant that exists.
fn rows_of_grants(table: &mut Table, given: &Fixture) {
    use pb::{issue_access_token_request, watch_access_token_request};
    let (tenant, grant) = (name("Cust2"), given.grant.as_str());
    let token = || allowed("issueAccessToken", grant).of(Credential::InResponse);
    let subject = Some(issue_access_token_request::Subject::AssociateId(given.associate_id));
    let issue =
        pb::IssueAccessTokenRequest { tenant: tenant.clone(), subject, ..Default::default() };
    table.row("ada", "ImpersonationService/IssueAccessToken", &issue, OK, [token()]);
    let subject = Some(watch_access_token_request::Subject::Grant(grant.to_owned()));
    let watch =
        pb::WatchAccessTokenRequest { tenant: tenant.clone(), subject, ..Default::default() };
    table.row("ada", "ImpersonationService/WatchAccessToken", &watch, OK, [token()]);
    let import = pb::ImportGrantRequest {
        tenant,
        refresh_token: given.refresh_token.clone(),
        ..Default::default()
    };
    let manage = || allowed("manageGrants", grant);
    table.row("ada", "ImpersonationService/ImportGrant", &import, OK, [manage()]);
    let get = pb::GetGrantRequest { name: grant.to_owned() };
    table.row("ada", "ImpersonationService/GetGrant", &get, OK, []);
    let revoke = pb::RevokeGrantRequest { name: grant.to_owned(), ..Default::default() };
    table.row("ada", "ImpersonationService/RevokeGrant", &revoke, OK, [manage()]);
    let list = pb::ListGrantsRequest { parent: "x".to_owned(), ..Default::default() };
    table.row("ada", "ImpersonationService/ListGrants", &list, INVALID, []);
    let watch = pb::WatchGrantsRequest { parent: "x".to_owned() };
    table.row("ada", "ImpersonationService/WatchGrants", &watch, INVALID, []);
}

fn rows_of_consent(table: &mut Table) {
    let (one, ours) = (name("Cust1"), format!("applications/{APPLICATION}"));
    let manage = |resource: &str| allowed("manageGrants", resource);
    let method = "ImpersonationService/BeginConsent";
    let begin = |tenant: &str, enroll_system_user| pb::BeginConsentRequest {
        application: ours.clone(),
        tenant: tenant.to_owned(),
        redirect_uri: FRONT_END.to_owned(),
        enroll_system_user,
        ..Default::default()
    };
    table.row("ada", method, &begin(&one, false), OK, [manage(&one)]);
    table.row("ada", method, &begin("", false), OK, [manage(&ours)]);
    let enrol = allowed("manageTenants", &ours);
    table.row("ada", method, &begin("", true), OK, [manage(&ours), enrol]);
    table.denials(method, &begin(&one, false), &denied("manageGrants", &one), FORBIDDEN);
    table.denials(method, &begin("", true), &denied("manageGrants", &ours), FORBIDDEN);
    table.row("ada", method, &begin("x", false), INVALID, []);

    // Only the caller that began the consent can see whether a state exists.
    let method = "ImpersonationService/CompleteConsent";
    let complete =
        |state: &str| pb::CompleteConsentRequest { state: state.to_owned(), code: "c".to_owned() };
    let unknown = Err((Code::FailedPrecondition, "CONSENT_INVALID"));
    for caller in ["ada", "eve", "mallory"] {
        table.row(caller, method, &complete("made-up"), unknown, [denied("manageGrants", "")]);
    }
    table.row("ada", method, &complete(""), INVALID, []);
}

/// Returns the methods of the API, without `AuditService`, which has its own tests.
fn methods() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let services = set.file.iter().flat_map(|file| &file.service);
    let of = |service: &prost_types::ServiceDescriptorProto| {
        let name = service.name().to_owned();
        let methods: Vec<_> =
            service.method.iter().map(|method| format!("{name}/{}", method.name())).collect();
        methods
    };
    services.flat_map(of).filter(|method| !method.starts_with("AuditService/")).collect()
}

/// Returns the id of the credential in a response.
fn answered_credential(method: &str, answer: &[u8]) -> Option<String> {
    let ticket = match method {
        "TokenService/IssueSystemTicket" => {
            pb::IssueSystemTicketResponse::decode(answer).unwrap().ticket
        }
        "TokenService/WatchSystemTicket" => {
            pb::WatchSystemTicketResponse::decode(answer).unwrap().ticket
        }
        "ImpersonationService/IssueAccessToken" => {
            let token = pb::IssueAccessTokenResponse::decode(answer).unwrap().token;
            return token.map(|token| token.credential_id);
        }
        "ImpersonationService/WatchAccessToken" => {
            let token = pb::WatchAccessTokenResponse::decode(answer).unwrap().token;
            return token.map(|token| token.credential_id);
        }
        _ => None,
    };
    ticket.map(|ticket| ticket.credential_id)
}

fn named_request(
    guarded: &AuthenticatedGateway,
    caller: &str,
    id: &str,
    message: Vec<u8>,
) -> Request<Vec<u8>> {
    let mut request = with_bearer_token(&guarded.token(caller), message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    request
}

/// Returns the request id of a row.
fn id_of(number: usize) -> String {
    format!("row-{number}")
}

fn end_of(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().unwrap().reason.clone())
}

/// Returns the caller of a row. Each row of eve has a caller of its own, so that each of its denials is the first one of
/// its kind. Denials of mallory are aggregated.
fn caller_of(row: &Row, number: usize) -> String {
    match row.caller {
        "eve" => format!("eve-{number}"),
        caller => caller.to_owned(),
    }
}

/// Returns the records of a row.
fn wanted(row: &Row, number: usize, credential: Option<&str>) -> Vec<AuditRecord> {
    let text = |text: &str| AuditText::from(Arc::<str>::from(text));
    let (code, reason) =
        row.end.err().map_or((Code::Ok, None), |(code, reason)| (code, Some(reason)));
    let record = |event: &Event| {
        let credential = match event.credential {
            Credential::None => "",
            Credential::Named(id) => id,
            Credential::InResponse | Credential::InPreviousResponse => credential.unwrap(),
        };
        let acts = [
            "issueSystemTicket",
            "revealApplicationToken",
            "readAssociates",
            "callWebApiAsSystemUser",
        ];
        let acting_as = match event.resource.find("grants/") {
            _ if acts.contains(&event.action) => "system".into(),
            Some(start) if event.action == "issueAccessToken" => text(&event.resource[start..]),
            _ => AuditText::default(),
        };
        let (method, path) = match row.method {
            "WebApiService/Call" => {
                let call = pb::CallRequest::decode(&row.message[..]).unwrap();
                (call.method.into(), call.path.to_lowercase().into())
            }
            _ => Default::default(),
        };
        AuditRecord {
            method,
            path,
            caller: caller_of(row, number).into(),
            caller_method: "jwt".into(),
            caller_issuer: ISSUER.into(),
            resource: text(&event.resource),
            acting_as,
            policy_ids: event.policies.iter().map(|id| Arc::from(*id)).collect(),
            code: code.into(),
            error_reason: reason
                .map(|text| *Reason::ALL.iter().find(|reason| reason.as_str() == text).unwrap()),
            reason: event.reason.into(),
            credential_id: text(credential),
            request_id: text(&id_of(number)),
            trace_id: TRACE.into(),
            client_address: "127.0.0.1".into(),
            ..AuditRecord::new(event.action, event.decision)
        }
    };
    row.events.iter().map(record).collect()
}

#[tokio::test]
async fn each_call_leaves_exactly_the_events_of_the_table() {
    let extra_application =
        format!("allow_reveal_application_token = true\nredirect_uris = [\"{FRONT_END}\"]");
    let options = Options { extra_application, ..Default::default() };
    let mut guarded = AuthenticatedGateway::with(POLICY, options).await;
    let given = Fixture::make(&guarded).await;
    let table = table(&given);
    let mut unseen = methods();
    let mut expected = Vec::new();
    let mut denials = Vec::new();
    let mut credential = None;
    for (number, row) in table.iter().enumerate() {
        let (id, caller) = (id_of(number), caller_of(row, number));
        let request = named_request(&guarded, &caller, &id, row.message.clone());
        let answer = call(&guarded.channel, row.method, request).await;
        let answered =
            answer.as_ref().ok().and_then(|answer| answered_credential(row.method, answer));
        credential = answered.or(credential);
        let got = answer.map(drop).map_err(|status| end_of(&status));
        let wanted_end = row.end.map_err(|(code, reason)| (code, reason.to_owned()));
        assert_eq!(got, wanted_end, "{id}: {} of {}", row.method, row.caller);
        let mut records = wanted(row, number, credential.as_deref());
        records.retain(|record| {
            record.decision == Decision::Allowed || Denials::add(&mut denials, record)
        });
        expected.push(records);
        unseen.remove(row.method);
    }
    for (number, method) in unseen.iter().enumerate() {
        let request = named_request(&guarded, "ada", &format!("unbuilt-{number}"), Vec::new());
        let status = call(&guarded.channel, method, request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{method} is not in the table");
    }
    assert_eq!(guarded.world.stop().await, ShutdownOutcome::Clean);
    let written = StoredTrail::read(&guarded.world.config_file()).await;
    written.assert_intact();
    for ((number, row), wanted) in table.iter().enumerate().zip(&expected) {
        let id = id_of(number);
        let mut found = written.of(&id);
        found.retain(|record| record.aggregate.is_none());
        let wanted: Vec<&AuditRecord> = wanted.iter().collect();
        assert_eq!(found, wanted, "{id}: {} of {}", row.method, row.caller);
    }
    for kind in &denials {
        kind.assert_aggregated(&written);
    }
    // There are no other events, except the two from `Given::make`.
    let aggregated = denials.iter().filter(|kind| !kind.counted.is_empty()).count();
    assert!(aggregated > 5, "{aggregated}");
    let own = expected.iter().map(Vec::len).sum::<usize>();
    assert_eq!(written.of_calls().count(), 2 + own + aggregated);
}

#[tokio::test]
async fn the_loaded_policy_and_each_change_leave_an_event() {
    let mut guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    let file = guarded.world.folder.path().join("policy.cedar");
    for text in ["forbid (principal, action, resource);", "forbid ("] {
        std::fs::write(&file, text).unwrap();
        for reloadable in guarded.world.gateway().reloadables() {
            reloadable.reload().await;
        }
    }
    assert_eq!(guarded.world.stop().await, ShutdownOutcome::Clean);
    let written = StoredTrail::read(&guarded.world.config_file()).await;
    let of_policy: Vec<_> = written
        .events
        .iter()
        .map(|event| &event.record)
        .filter(|record| record.action.starts_with("policy."))
        .collect();
    let seen: Vec<_> = of_policy.iter().map(|record| (&*record.action, record.code)).collect();
    assert_eq!(seen, [("policy.load", 0), ("policy.reload", 0), ("policy.reload", 3)]);
    let [first, second, _] = of_policy.as_slice() else { panic!("{of_policy:?}") };
    assert!(first.reason.starts_with("sha256:") && first.reason.contains("(1 policies"));
    assert_ne!(first.reason, second.reason);
    assert_eq!((&*first.caller, &*first.resource), ("gateway", "gateway"));
}

#[test]
fn each_method_in_the_table_is_allowed_and_denied_and_fails() {
    let mut ends = BTreeMap::<_, [bool; 3]>::new();
    let system_user_token = "Some App-0123456789".to_owned();
    for row in table(&Fixture { system_user_token, ..Fixture::default() }) {
        // Needs a sign-in at SuperOffice, so the tests of consent check it.
        if row.method == "ImpersonationService/CompleteConsent" {
            continue;
        }
        let [allowed, denied, failed] = ends.entry(row.method).or_default();
        match row.end {
            OK => *allowed = true,
            DENIED => *denied = true,
            Err(_) => *failed = true,
        }
    }
    for (method, ends) in ends {
        assert_eq!(ends, [true; 3], "{method}");
    }
}

#[tokio::test]
async fn each_message_of_a_stream_leaves_an_event_and_a_check_without_message_does_not() {
    let mut guarded = AuthenticatedGateway::new(POLICY).await;
    let token = guarded.world.make_tenant("Cust1");
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    guarded.call("ada", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    guarded.call("ada", "TenantService/SetSystemUserToken", set.encode_to_vec()).await.unwrap();

    let watch = pb::WatchSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    let mut request = with_bearer_token(&guarded.token("ada"), watch);
    request.metadata_mut().insert("x-request-id", "stream".parse().unwrap());
    let mut tokens = guarded.world.tokens().await;
    let mut stream = tokens.watch_system_ticket(request).await.unwrap().into_inner();
    let soon = Duration::from_secs(10);
    let mut ids = Vec::new();
    for message in 0..2 {
        let message_of_stream = timeout(soon, stream.message()).await.unwrap().unwrap().unwrap();
        ids.push(message_of_stream.ticket.unwrap().credential_id);
        for _ in 0..3 {
            let looked = guarded.world.metric("ticket_cache_hits_total").await;
            // Repeats, because the stream may start to wait only after the clock moves.
            while guarded.world.metric("ticket_cache_hits_total").await == looked {
                guarded.world.advance(Duration::from_secs(15));
            }
        }
        if message == 0 {
            guarded.world.sandbox.expire_tickets(None);
            let report = pb::ReportRejectedCredentialRequest {
                tenant: name("Cust1"),
                credential_id: ids[0].clone(),
            };
            let report = report.encode_to_vec();
            guarded.call("ada", "TokenService/ReportRejectedCredential", report).await.unwrap();
        }
    }
    let stop = format!("{POLICY}\n@id(\"stop\") forbid (principal, action, resource);");
    fs::write(guarded.world.folder.path().join("policy.cedar"), stop).unwrap();
    for reloadable in guarded.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    let mut ended = None;
    for _ in 0..100 {
        guarded.world.advance(Duration::from_secs(15));
        ended = timeout(soon / 100, stream.message()).await.ok();
        if ended.is_some() {
            break;
        }
    }
    let ended = ended.expect("the stream did not end").err().unwrap();
    assert_eq!(end_of(&ended), (Code::PermissionDenied, "POLICY_DENIED".to_owned()));

    guarded.world.stop().await;
    let written = StoredTrail::read(&guarded.world.config_file()).await;
    let got: Vec<_> = written
        .of("stream")
        .into_iter()
        .map(|record| {
            (record.decision, record.code, &*record.credential_id, record.policy_ids.join(" "))
        })
        .collect();
    let wanted = [
        (Decision::Allowed, 0, ids[0].as_str(), "tickets".to_owned()),
        (Decision::Allowed, 0, ids[1].as_str(), "tickets".to_owned()),
        (Decision::Denied, 7, "", "stop".to_owned()),
    ];
    assert_eq!(got, wanted);
}

/// Waits until the trail contains this many events of a request, and returns the last.
async fn record_of(config: &std::path::Path, id: &str, count: usize) -> AuditRecord {
    let mut found = None;
    eventually_so("the event is written", async || {
        let written = StoredTrail::read(config).await;
        let records = written.of(id);
        found = records.last().map(|record| (*record).clone());
        assert!(records.len() <= count, "{records:?}");
        records.len() == count
    })
    .await;
    found.unwrap()
}

fn with_id<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

#[tokio::test]
async fn a_cancelled_call_leaves_its_event() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let delay = Fault::delay(Duration::from_secs(3));
    world.sandbox.inject(Endpoint::Authenticate, delay, FaultScope::always()).unwrap();
    let mut tokens = world.tokens().await;

    let cancelled = tokens.issue_system_ticket(with_id("cancelled", issue("Cust1")));
    assert!(timeout(Duration::from_millis(300), cancelled).await.is_err());
    let record = record_of(&world.config_file(), "cancelled", 1).await;
    let end = (record.decision, record.code, record.error_reason, &*record.resource);
    assert_eq!(end, (Decision::Allowed, 1, None, &*name("Cust1")));
    assert_eq!(&*record.action, "issueSystemTicket");

    // A raw call, because tonic's client would time out at the same moment.
    let late = [("x-request-id", "late"), ("grpc-timeout", "300m")];
    let method = "tenantgateway.v1.TokenService/IssueSystemTicket";
    let (address, message) = (world.gateway().grpc_address, issue("Cust1").encode_to_vec());
    let (status, _) = wire::send(address, method, &late, &message).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let record = record_of(&world.config_file(), "late", 1).await;
    assert_eq!((record.decision, record.code), (Decision::Allowed, 4));
    assert_eq!(record.error_reason.unwrap().as_str(), "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_stream_that_is_cancelled_during_its_decision_leaves_its_event() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let watch = pb::WatchSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    let mut tokens = world.tokens().await;
    let stream = tokens.watch_system_ticket(with_id("stream", watch)).await;
    let mut stream = stream.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().ticket.unwrap().credential_id;
    let delay = Fault::delay(Duration::from_secs(3));
    world.sandbox.inject(Endpoint::Authenticate, delay, FaultScope::always()).unwrap();
    world.sandbox.expire_tickets(None);
    let tenant = name("Cust1");
    let report = pb::ReportRejectedCredentialRequest { tenant, credential_id: first };
    tokens.report_rejected_credential(report).await.unwrap();
    // The stream now waits for the next ticket.
    assert!(timeout(Duration::from_millis(300), stream.message()).await.is_err());
    drop(stream);
    let record = record_of(&world.config_file(), "stream", 2).await;
    assert_eq!((record.decision, record.code, &*record.credential_id), (Decision::Allowed, 1, ""));
}

fn files_of_the_store(world: &World) -> Vec<u8> {
    let files = ["gateway.db", "gateway.db-wal"].map(|file| world.folder.path().join(file));
    let segments = segments(&world.folder.path().join("audit"));
    files.iter().chain(&segments).filter_map(|file| fs::read(file).ok()).flatten().collect()
}

/// Returns the files of all chains.
fn segments(journal: &std::path::Path) -> Vec<std::path::PathBuf> {
    let chains = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let chains = chains.filter(|path| path.is_dir());
    chains.flat_map(|chain| fs::read_dir(chain).unwrap()).map(|file| file.unwrap().path()).collect()
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn attempts_without_a_valid_credential_are_counted_by_source_and_minute() {
    let mut guarded = AuthenticatedGateway::new(POLICY).await;
    let config = guarded.world.config_file();
    let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
    let other =
        guarded.world.endpoint().local_address(Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))));
    let other = other.connect().await.unwrap();
    let presented = "not-a-token-0123456789";
    let mut counts = BTreeMap::<&str, u64>::new();
    let attempt = async |channel, source, times, counts: &mut BTreeMap<_, _>| {
        for number in 0..times {
            let mut request = Request::new(message.clone());
            if number % 2 == 0 {
                request = with_bearer_token(presented, message.clone());
            }
            // A rate-limited attempt counts, too.
            call(channel, "TenantService/GetTenant", request).await.unwrap_err();
            *counts.entry(source).or_default() += 1;
        }
    };
    attempt(&guarded.channel, "127.0.0.1", 300, &mut counts).await;
    attempt(&other, "127.0.0.2", 100, &mut counts).await;
    assert_eq!(StoredTrail::read(&config).await.of_calls().count(), 0, "one by one");
    let count = |written: &StoredTrail| {
        let record = |record: &AuditRecord| {
            assert_eq!(
                (&*record.action, record.decision, record.code),
                ("authenticate", Decision::Denied, 16)
            );
            assert_eq!(record.error_reason.unwrap().as_str(), "CALLER_UNAUTHENTICATED");
            let nothing = [&record.caller, &record.resource, &record.request_id];
            assert!(nothing.iter().all(|text| text.is_empty()), "{record:?}");
            let aggregate = record.aggregate.as_ref().unwrap();
            assert_eq!((aggregate.resources.len(), aggregate.resource_count), (0, 0));
            (record.client_address.to_string(), aggregate.count)
        };
        written.of_calls().map(|event| record(&event.record)).collect::<Vec<_>>()
    };
    let listed = |counts: &BTreeMap<&str, u64>| {
        counts.iter().map(|(source, count)| ((*source).to_owned(), *count)).collect::<Vec<_>>()
    };
    guarded.world.advance(Duration::from_mins(1));
    let mut written = Vec::new();
    eventually_so("the minute is written", async || {
        written = count(&StoredTrail::read(&config).await);
        written.len() == 2
    })
    .await;
    let mut wanted = listed(&counts);
    assert_eq!(written, wanted);

    // Pending counts are written at shutdown.
    let mut counts = BTreeMap::new();
    attempt(&guarded.channel, "127.0.0.1", 1, &mut counts).await;
    guarded.world.stop().await;
    wanted.extend(listed(&counts));
    assert_eq!((counts.len(), count(&StoredTrail::read(&config).await)), (1, wanted));
    assert!(!contains(&files_of_the_store(&guarded.world), presented));
}

#[tokio::test]
async fn no_secret_is_in_the_trail() {
    let extra_application = "allow_reveal_application_token = true".to_owned();
    let options = Options { extra_application, ..Default::default() };
    let mut guarded = AuthenticatedGateway::with(POLICY, options).await;
    let given = Fixture::make(&guarded).await;
    let Fixture { system_user_token, refresh_token, .. } = &given;
    let mut secrets =
        vec![CLIENT_SECRET.to_owned(), system_user_token.clone(), refresh_token.clone()];
    for row in table(&given) {
        let token = guarded.token(row.caller);
        let answer =
            call(&guarded.channel, row.method, with_bearer_token(&token, row.message)).await;
        match (row.method, answer) {
            ("TokenService/IssueSystemTicket", Ok(answer)) => {
                let answer = pb::IssueSystemTicketResponse::decode(&*answer).unwrap();
                secrets.push(answer.ticket.unwrap().value);
            }
            ("ImpersonationService/IssueAccessToken", Ok(answer)) => {
                let answer = pb::IssueAccessTokenResponse::decode(&*answer).unwrap();
                secrets.push(answer.token.unwrap().value);
            }
            _ => {}
        }
        secrets.extend(token.split('.').map(str::to_owned));
    }
    for file in ["private_key.pem", "keyring.toml"] {
        let text = fs::read_to_string(guarded.world.folder.path().join(file)).unwrap();
        secrets.extend(text.split(['\n', '"']).filter(|line| line.len() > 40).map(str::to_owned));
    }
    for kind in ["7T:", "8A:"] {
        assert!(secrets.iter().any(|secret| secret.starts_with(kind)), "no {kind} was handed out");
    }
    let running = files_of_the_store(&guarded.world);
    assert!(contains(&running, "nightly sync"), "the trail is not in these files");
    guarded.world.stop().await;
    let stopped = files_of_the_store(&guarded.world);
    for secret in secrets.iter().collect::<BTreeSet<_>>() {
        assert!(secret.len() >= 8, "too short to be distinguished from other text");
        assert!(!contains(&running, secret) && !contains(&stopped, secret), "{secret}");
    }
}

#[tokio::test]
async fn the_next_chain_detects_a_chain_that_was_deleted_with_its_head() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    world.restart().await;
    world.ticket("Cust1").await.unwrap();
    world.stop().await;
    let config = world.config_file();
    let written = StoredTrail::read(&config).await;
    written.assert_intact();
    let chains = written.chains();
    let [former, _] = chains.as_slice() else { panic!("{chains:?}") };
    let last = written.events.iter().rfind(|event| event.chain == *former).unwrap();
    let first = written.events.iter().find(|event| event.chain != *former).unwrap();
    let links: Vec<_> =
        first.links.iter().map(|link| (&*link.chain, link.sequence, link.hash)).collect();
    assert_eq!(links, [(&**former, last.sequence, last.hash)]);

    fs::remove_dir_all(world.folder.path().join("audit").join(&**former)).unwrap();
    let written = StoredTrail::read(&config).await;
    let report = written.reports.iter().find(|report| report.chain == *former).unwrap();
    let fault = report.fault.expect("a fault");
    assert_eq!((fault.kind, fault.sequence), (AuditFaultKind::Missing, last.sequence));
}

#[tokio::test]
async fn a_newest_chain_that_was_removed_or_cut_is_found_by_the_head_in_the_store() {
    for cut in [false, true] {
        let mut world = World::new().await;
        world.enroll("Cust1").await;
        world.ticket("Cust1").await.unwrap();
        world.stop().await;
        let config = world.config_file();
        let written = StoredTrail::read(&config).await;
        written.assert_intact();
        let [chain] = &written.chains()[..] else { panic!("one chain") };
        let last = written.events.last().unwrap().sequence;
        let fault = if cut {
            let mut segment = SegmentFile::read(world.folder.path(), chain);
            segment.remove(segment.groups().len() - 1);
            segment.write();
            AuditFaultKind::Truncated
        } else {
            fs::remove_dir_all(world.folder.path().join("audit").join(&**chain)).unwrap();
            AuditFaultKind::Missing
        };
        let report = StoredTrail::read(&config).await.reports.swap_remove(0);
        let found = report.fault.expect("a fault");
        assert_eq!((found.kind, found.sequence <= last), (fault, true), "cut: {cut}");
    }
}

/// The number of kills under load, and the time limit.
const KILLS: usize = 20;
const KILL_TIME: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_at_random_moments_under_load_every_answered_call_has_its_event() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    let mut succeeded_all = Vec::new();
    let begin = Instant::now();
    let mut kills = 0;
    while kills < KILLS && begin.elapsed() < KILL_TIME {
        let served = site.serve().await;
        let load = Load::start(&served, "Cust1", 16, Some(kills)).await;
        eventually("it is under load", || load.count() > 0).await;
        let [first, second, ..] = SystemRandom.bytes();
        sleep(Duration::from_micros(u64::from(u16::from_be_bytes([first, second])) * 4)).await;
        served.kill().await;
        succeeded_all.extend(succeeded(&load.end().await));
        kills += 1;
    }
    let written = StoredTrail::read(&site.file("gateway.toml")).await;
    written.assert_intact();
    written.assert_each_once(&succeeded_all);
    assert!(kills >= 5 && succeeded_all.len() > 100, "too little: {kills} {}", succeeded_all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_answered_before_a_graceful_stop_is_in_the_trail() {
    for durability in ["before_response", "after_response"] {
        let extra_config = format!("[audit]\ndurability = \"{durability}\"\n");
        let site = Site::with(Options { extra_config, ..Default::default() }).await;
        site.enroll("Cust1").await;
        let served = site.serve().await;
        let load = Load::start(&served, "Cust1", 16, Some(0)).await;
        eventually("it is under load", || load.count() > 300).await;
        served.stop().await;
        let answered = succeeded(&load.end().await);
        let written = StoredTrail::read(&site.file("gateway.toml")).await;
        written.assert_intact();
        written.assert_each_once(&answered);
        assert!(answered.len() > 250, "{durability}: {}", answered.len());
    }
}

async fn health(served: &Served) -> ServingStatus {
    let mut client = HealthClient::new(served.channel().await);
    client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_journal_is_reported_and_no_event_is_lost_or_duplicated() {
    let extra_config = "[audit]\nmax_wait = \"500ms\"\n".to_owned();
    let site = Site::with(Options { extra_config, ..Default::default() }).await;
    site.enroll("Cust1").await;
    let served = Served::start(serve_ignoring_size_limits(&site)).await;
    let load = Load::start(&served, "Cust1", 16, Some(0)).await;
    eventually("it is under load", || load.count() > 300).await;

    limit_files(served.process.pid(), Some(1));
    let since = Instant::now();
    eventually_so("health tells", async || health(&served).await == ServingStatus::NotServing)
        .await;
    assert!(since.elapsed() < Duration::from_millis(2500), "{:?}", since.elapsed());
    let page = get(served.admin, "/readyz").await;
    assert!(page.contains("503") && page.contains("audit"), "{page}");
    eventually("the log reports it", || {
        served.process.stderr().contains("the audit trail is stalled")
    })
    .await;
    sleep(Duration::from_secs(3).saturating_sub(since.elapsed())).await;
    let until = Instant::now();
    limit_files(served.process.pid(), None);

    eventually_so("it serves again", async || health(&served).await == ServingStatus::Serving)
        .await;
    eventually("the log reports it", || {
        served.process.stderr().contains("the audit trail is written again")
    })
    .await;
    assert!(get(served.admin, "/readyz").await.contains("200"));
    let mut tokens = served.tokens().await;
    issue_with(&mut tokens, issue("Cust1")).await.unwrap();
    let before = load.count();
    eventually("it is under load again", || load.count() > before + 300).await;
    let answered = load.end().await;
    served.stop().await;

    for one in &answered {
        assert!(one.took < Duration::from_millis(2500), "{:?}: {:?}", one.took, one.end);
        let meanwhile = one.begun > since && one.begun + one.took < until;
        assert!(!(meanwhile && one.end.is_ok()), "answered while nothing could be written");
        if let Err(status) = &one.end {
            assert_eq!(end_of(status), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
        }
    }
    assert!(answered.iter().any(|one| one.end.is_err()), "nothing was refused");
    let written = StoredTrail::read(&site.file("gateway.toml")).await;
    written.assert_intact();
    written.assert_each_once(&succeeded(&answered));
}
