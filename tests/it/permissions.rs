//! Tests of permissions: the actions that each method needs, and `AccessService`.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, sqlite::SqliteConnectOptions};
use tenant_gateway::grpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::{
    APPLICATION, CLIENT_ID, Options, World, assert_invalid, assert_status,
    callers::{AuthenticatedGateway, CALLERS, ISSUER, TestIssuer, call, with_bearer_token},
    eventually, eventually_so, name,
};

/// The address at which a front end receives codes.
const FRONT_END: &str = "https://portal.example.com/callback";

/// The permission that a method needs.
#[derive(Clone, Copy)]
enum Needs {
    /// All of these actions.
    Actions(&'static [&'static str]),
    /// Any right on the tenant.
    AnyRight,
    /// None: every caller gets the same response.
    Nothing,
}

/// The result for a permitted caller. The tenant exists and has no token.
type Permitted = Result<(), (Code, &'static str)>;

const NOT_ENROLLED: Permitted = Err((Code::FailedPrecondition, "SYSTEM_USER_NOT_ENROLLED"));

fn table() -> Vec<(&'static str, Vec<u8>, Needs, Permitted)> {
    use Needs::{Actions, AnyRight, Nothing};
    let tenant = || name("Cust1");
    let reason = String::new;
    let parent = || format!("applications/{APPLICATION}");
    let issue = |include_application_token| {
        let issue = pb::IssueSystemTicketRequest {
            tenant: tenant(),
            include_application_token,
            ..Default::default()
        };
        issue.encode_to_vec()
    };
    let watch = pb::WatchSystemTicketRequest { tenant: tenant(), ..Default::default() };
    let reported =
        pb::ReportRejectedCredentialRequest { tenant: tenant(), credential_id: "t-00".to_owned() };
    let create =
        pb::CreateTenantRequest { parent: parent(), tenant_id: "Cust2".to_owned(), tenant: None };
    let set_token = pb::SetSystemUserTokenRequest {
        name: tenant(),
        system_user_token: "Some App-0123456789".to_owned(),
    };
    let tickets: &[_] = &["issueSystemTicket"];
    let read: &[_] = &["readTenants"];
    let manage: &[_] = &["manageTenants"];
    let test = pb::TestPermissionsRequest {
        resource: tenant(),
        permissions: vec!["readTenants".to_owned()],
    };
    let list = |parent| pb::ListTenantsRequest { parent, ..Default::default() }.encode_to_vec();
    let audit: &[_] = &["readAudit"];
    let events =
        |parent| pb::ListAuditEventsRequest { parent, ..Default::default() }.encode_to_vec();
    let wildcard = "applications/-/tenants/Cust1".to_owned();
    let mut table = vec![
        ("TokenService/IssueSystemTicket", issue(false), Actions(tickets), NOT_ENROLLED),
        (
            "TokenService/IssueSystemTicket",
            issue(true),
            Actions(&["issueSystemTicket", "revealApplicationToken"]),
            Err((Code::PermissionDenied, "POLICY_DENIED")), // the application does not allow it
        ),
        ("TokenService/WatchSystemTicket", watch.encode_to_vec(), Actions(tickets), NOT_ENROLLED),
        (
            "TokenService/ReportRejectedCredential",
            reported.encode_to_vec(),
            Actions(tickets),
            NOT_ENROLLED,
        ),
        (
            "TenantService/GetTenant",
            pb::GetTenantRequest { name: tenant() }.encode_to_vec(),
            Actions(read),
            Ok(()),
        ),
        (
            "TenantService/GetTenant",
            pb::GetTenantRequest { name: wildcard.clone() }.encode_to_vec(),
            Actions(read),
            Ok(()),
        ),
        ("TenantService/ListTenants", list(String::new()), Actions(read), Ok(())),
        ("TenantService/ListTenants", list(parent()), Actions(read), Ok(())),
        (
            "TenantService/GetTenantStatus",
            pb::GetTenantStatusRequest { name: tenant() }.encode_to_vec(),
            Actions(read),
            Ok(()),
        ),
        (
            "TenantService/WatchTenantStatus",
            pb::WatchTenantStatusRequest { parent: tenant() }.encode_to_vec(),
            Actions(read),
            Ok(()),
        ),
        ("AuditService/ListAuditEvents", events(String::new()), Actions(audit), Ok(())),
        ("AuditService/ListAuditEvents", events(parent()), Actions(audit), Ok(())),
        ("AuditService/VerifyAuditLog", Vec::new(), Actions(audit), Ok(())),
        ("ApplicationService/ListApplications", Vec::new(), Actions(read), Ok(())),
        ("AccessService/TestPermissions", test.encode_to_vec(), AnyRight, Ok(())),
        (
            "AccessService/ExplainAccess",
            pb::ExplainAccessRequest { tenant: tenant() }.encode_to_vec(),
            AnyRight,
            Ok(()),
        ),
        (
            "AccessService/ExplainAccess",
            pb::ExplainAccessRequest { tenant: wildcard }.encode_to_vec(),
            AnyRight,
            Ok(()),
        ),
        ("TenantService/CreateTenant", create.encode_to_vec(), Actions(manage), Ok(())),
        (
            "TenantService/DisableTenant",
            pb::DisableTenantRequest { name: tenant(), reason: reason() }.encode_to_vec(),
            Actions(manage),
            Ok(()),
        ),
        (
            "TenantService/EnableTenant",
            pb::EnableTenantRequest { name: tenant() }.encode_to_vec(),
            Actions(manage),
            Ok(()),
        ),
        ("TenantService/SetSystemUserToken", set_token.encode_to_vec(), Actions(manage), Ok(())),
        (
            "TenantService/DeleteTenant",
            pb::DeleteTenantRequest { name: tenant(), ..Default::default() }.encode_to_vec(),
            Actions(manage),
            Ok(()),
        ),
    ];
    table.extend(associates().map(|(method, message)| {
        let people: &[_] = &["readAssociates"];
        // The rows above have deleted the tenant.
        (method, message, Actions(people), Err((Code::NotFound, "RESOURCE_NOT_FOUND")))
    }));
    table.extend(grants());
    let begin = |enroll_system_user| {
        let begin = pb::BeginConsentRequest {
            application: parent(),
            redirect_uri: FRONT_END.to_owned(),
            enroll_system_user,
            ..Default::default()
        };
        begin.encode_to_vec()
    };
    let both: &[_] = &["manageGrants", "manageTenants"];
    let complete = pb::CompleteConsentRequest { state: "made-up".to_owned(), code: "c".to_owned() };
    let unknown = Err((Code::FailedPrecondition, "CONSENT_INVALID"));
    table.extend([
        ("ImpersonationService/BeginConsent", begin(false), Actions(&both[..1]), Ok(())),
        ("ImpersonationService/BeginConsent", begin(true), Actions(both), Ok(())),
        ("ImpersonationService/CompleteConsent", complete.encode_to_vec(), Nothing, unknown),
    ]);
    let call = pb::CallRequest {
        tenant: tenant(),
        method: "GET".to_owned(),
        path: "/api/v1/Contact/5".to_owned(),
        ..Default::default()
    };
    table.push((
        "WebApiService/Call",
        call.encode_to_vec(),
        Actions(&["callWebApiAsSystemUser"]),
        Err((Code::NotFound, "RESOURCE_NOT_FOUND")),
    ));
    table
}

/// Rows for a tenant that earlier rows have deleted.
fn grants() -> [(&'static str, Vec<u8>, Needs, Permitted); 7] {
    use pb::{issue_access_token_request, watch_access_token_request};
    let tenant = || name("Cust1");
    let grant = || format!("{}/grants/g1", tenant());
    let (read, manage) = (Needs::Actions(&["readGrants"]), Needs::Actions(&["manageGrants"]));
    let issue = Needs::Actions(&["issueAccessToken"]);
    let gone: Permitted = Err((Code::NotFound, "RESOURCE_NOT_FOUND"));
    let import = pb::ImportGrantRequest {
        tenant: tenant(),
        refresh_token: "r".to_owned(),
        ..Default::default()
    };
    let get = pb::GetGrantRequest { name: grant() };
    let list = pb::ListGrantsRequest { parent: tenant(), ..Default::default() };
    let revoke = pb::RevokeGrantRequest { name: grant(), ..Default::default() };
    let watch = pb::WatchGrantsRequest { parent: tenant() };
    let token = pb::IssueAccessTokenRequest {
        tenant: tenant(),
        subject: Some(issue_access_token_request::Subject::AssociateId(5)),
        ..Default::default()
    };
    let watch_token = pb::WatchAccessTokenRequest {
        tenant: tenant(),
        subject: Some(watch_access_token_request::Subject::AssociateId(5)),
        ..Default::default()
    };
    [
        ("ImpersonationService/ImportGrant", import.encode_to_vec(), manage, gone),
        ("ImpersonationService/GetGrant", get.encode_to_vec(), read, gone),
        ("ImpersonationService/ListGrants", list.encode_to_vec(), read, Ok(())),
        ("ImpersonationService/RevokeGrant", revoke.encode_to_vec(), manage, gone),
        ("ImpersonationService/WatchGrants", watch.encode_to_vec(), read, Ok(())),
        ("ImpersonationService/IssueAccessToken", token.encode_to_vec(), issue, gone),
        ("ImpersonationService/WatchAccessToken", watch_token.encode_to_vec(), issue, gone),
    ]
}

fn associates() -> [(&'static str, Vec<u8>); 8] {
    let tenant = || name("Cust1");
    let associate = || format!("{}/associates/5", tenant());
    let key = Some(pb::lookup_associate_request::Key::PersonId(5));
    let get = pb::GetAssociateRequest { name: associate(), ..Default::default() };
    let batch = pb::BatchGetAssociatesRequest {
        parent: tenant(),
        names: vec![associate()],
        ..Default::default()
    };
    let list = pb::ListAssociatesRequest { parent: tenant(), ..Default::default() };
    let look_up = pb::LookupAssociateRequest { parent: tenant(), key, ..Default::default() };
    let principal = pb::GetCurrentPrincipalRequest { tenant: tenant(), ..Default::default() };
    let groups = pb::ListUserGroupsRequest { parent: tenant(), ..Default::default() };
    let roles = pb::ListRolesRequest { parent: tenant(), ..Default::default() };
    let owner = pb::ResolveOwnerRequest { associate: associate(), ..Default::default() };
    [
        ("AssociateService/GetAssociate", get.encode_to_vec()),
        ("AssociateService/BatchGetAssociates", batch.encode_to_vec()),
        ("AssociateService/ListAssociates", list.encode_to_vec()),
        ("AssociateService/LookupAssociate", look_up.encode_to_vec()),
        ("AssociateService/GetCurrentPrincipal", principal.encode_to_vec()),
        ("AssociateService/ListUserGroups", groups.encode_to_vec()),
        ("AssociateService/ListRoles", roles.encode_to_vec()),
        ("AssociateService/ResolveOwner", owner.encode_to_vec()),
    ]
}

/// Returns a policy with, for each row, a caller that may do exactly that, and for each action, one that may do
/// everything else.
fn policy() -> String {
    let mut policies = vec!["permit (principal == Caller::\"all\", action, resource);".to_owned()];
    for (row, (_, _, needs, _)) in table().iter().enumerate() {
        let actions = match needs {
            Needs::Actions(actions) => *actions,
            Needs::AnyRight => &["readAssociates"],
            Needs::Nothing => continue,
        };
        let names: Vec<_> = actions.iter().map(|name| format!("Action::\"{name}\"")).collect();
        policies.push(format!(
            "permit (principal == Caller::\"with-{row}\", action in [{}], resource);",
            names.join(", ")
        ));
        policies.extend(names.iter().enumerate().map(|(without, name)| {
            format!(
                "permit (principal == Caller::\"without-{row}-{without}\", action, resource) \
                 unless {{ action == {name} }};"
            )
        }));
    }
    policies.join("\n")
}

async fn test(
    guarded: &AuthenticatedGateway,
    caller: &str,
    resource: &str,
    permissions: &[&str],
) -> Result<Vec<String>, Status> {
    let permissions = permissions.iter().map(|p| (*p).to_owned()).collect();
    let request = pb::TestPermissionsRequest { resource: resource.to_owned(), permissions };
    let answer =
        guarded.call(caller, "AccessService/TestPermissions", request.encode_to_vec()).await?;
    Ok(pb::TestPermissionsResponse::decode(&*answer).unwrap().permissions)
}

async fn explain(
    guarded: &AuthenticatedGateway,
    caller: &str,
    tenant: &str,
) -> Result<Vec<pb::UserContext>, Status> {
    let request = pb::ExplainAccessRequest { tenant: tenant.to_owned() };
    let answer =
        guarded.call(caller, "AccessService/ExplainAccess", request.encode_to_vec()).await?;
    Ok(pb::ExplainAccessResponse::decode(&*answer).unwrap().user_contexts)
}

#[test]
fn every_method_of_the_api_is_in_the_table() {
    let set = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let methods: BTreeSet<String> = set
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
        })
        .collect();
    let in_table: BTreeSet<String> =
        table().iter().map(|(method, ..)| (*method).to_owned()).collect();
    assert_eq!(methods, in_table);
}

#[test]
fn the_api_reference_lists_every_method_of_its_service() {
    let page = include_str!("../../docs/reference/api.md");
    for (method, ..) in table() {
        let heading = format!("\n#### {}\n", method.replace('/', "."));
        assert!(page.contains(&heading), "docs/reference/api.md has no {method}");
    }
}

#[tokio::test]
async fn each_method_needs_exactly_its_action() {
    let extra_application = format!("redirect_uris = [\"{FRONT_END}\"]");
    let options = Options { extra_application, ..Options::default() };
    let guarded = AuthenticatedGateway::with(&policy(), options).await;
    guarded.world.make_tenant("Cust1");
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    guarded.call("all", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    for (row, (method, message, needs, permitted)) in table().into_iter().enumerate() {
        let nobody =
            call(&guarded.channel, method, tonic::Request::new(message.clone())).await.unwrap_err();
        assert_status(&nobody, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");

        let without = match &needs {
            Needs::Actions(actions) => {
                (0..actions.len()).map(|index| format!("without-{row}-{index}")).collect()
            }
            Needs::AnyRight => vec!["somebody".to_owned()],
            Needs::Nothing => Vec::new(),
        };
        for caller in without {
            let denied = guarded.call(&caller, method, message.clone()).await;
            let denied = denied.expect_err(&format!("{method} for {caller}"));
            assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
        }

        let answer = guarded.call(&format!("with-{row}"), method, message).await;
        match permitted {
            Ok(()) => drop(answer.unwrap_or_else(|status| panic!("{method}: {status:?}"))),
            Err((code, reason)) => {
                drop(assert_status(&answer.expect_err(method), code, reason));
            }
        }
    }
}

#[tokio::test]
async fn a_caller_that_may_only_act_as_people_sees_which() {
    let (one, two) = (name("Cust1"), name("Cust2"));
    let policy = format!(
        "permit (principal == Caller::\"all\", action, resource);
         permit (principal == Caller::\"support\", action == Action::\"issueAccessToken\",
                 resource in Tenant::\"{one}\");"
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    for tenant_id in ["Cust1", "Cust2"] {
        guarded.world.make_tenant(tenant_id);
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: tenant_id.to_owned(),
            tenant: None,
        };
        guarded.call("all", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    }
    let told = async |caller: &str, tenant: &str| explain(&guarded, caller, tenant).await;
    // There is no grant yet, and the caller may see that.
    let contexts: Vec<pb::UserContext> = told("support", &one).await.unwrap();
    assert_eq!((contexts.len(), contexts[0].usable), (1, false));

    guarded.world.sandbox.generate_people("Cust1", 20, 7).unwrap();
    let sandbox = &guarded.world.sandbox;
    let signed_in = |id| sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok();
    let refresh_token = (1..100).find_map(signed_in).expect("no user can sign in");
    let import =
        pb::ImportGrantRequest { tenant: one.clone(), refresh_token, ..Default::default() };
    let import = import.encode_to_vec();
    guarded.call("all", "ImpersonationService/ImportGrant", import).await.unwrap();
    for tenant in [&*one, "applications/-/tenants/Cust1"] {
        let contexts = told("support", tenant).await.unwrap();
        assert_eq!((contexts.len(), contexts[0].usable, contexts[1].usable), (2, false, true));
        assert!(contexts[1].credential.starts_with("grants/"), "{:?}", contexts[1]);
    }
    for (caller, tenant) in [("support", two.as_str()), ("nobody", &one)] {
        let denied = told(caller, tenant).await.unwrap_err();
        assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
    }
}

#[tokio::test]
async fn a_denied_caller_cannot_tell_what_exists() {
    let guarded =
        AuthenticatedGateway::new("permit (principal == Caller::\"all\", action, resource);").await;
    guarded.world.make_tenant("Cust1");
    let create = pb::CreateTenantRequest {
        parent: format!("applications/{APPLICATION}"),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    guarded.call("all", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let ask = |tenant: String| {
        let message = pb::GetTenantRequest { name: tenant }.encode_to_vec();
        guarded.call("somebody", "TenantService/GetTenant", message)
    };
    let there = ask(name("Cust1")).await.unwrap_err();
    for tenant in [name("Cust9"), "applications/other/tenants/Cust1".to_owned()] {
        let missing = ask(tenant).await.unwrap_err();
        assert_eq!((there.code(), there.message()), (missing.code(), missing.message()));
        assert_eq!(there.details(), missing.details());
    }
}

#[tokio::test]
async fn a_caller_without_rights_cannot_tell_what_exists_from_its_own_permissions() {
    let guarded =
        AuthenticatedGateway::new("permit (principal == Caller::\"all\", action, resource);").await;
    guarded.enroll("all", "Cust1").await;
    let (_, grant) = guarded.person("all", "Cust1").await;
    let (missing, other) = (format!("{}/grants/g1", name("Cust1")), name("Cust9"));
    let resources = [name("Cust1"), other.clone(), grant, missing, format!("{other}/grants/g1")];
    let mut told = Vec::new();
    for resource in resources {
        told.push(test(&guarded, "somebody", &resource, &["readTenants"]).await.unwrap_err());
    }
    for tenant in [name("Cust1"), other] {
        told.push(explain(&guarded, "somebody", &tenant).await.unwrap_err());
    }
    for status in &told {
        assert_status(status, Code::PermissionDenied, "POLICY_DENIED");
        assert_eq!((status.message(), status.details()), (told[0].message(), told[0].details()));
    }
}

#[tokio::test]
async fn a_caller_without_rights_is_denied_before_any_read_of_the_store() {
    let guarded =
        AuthenticatedGateway::new("permit (principal == Caller::\"all\", action, resource);").await;
    guarded.enroll("all", "Cust1").await;
    let file = SqliteConnectOptions::new().filename(guarded.world.folder.path().join("gateway.db"));
    let mut store = file.connect().await.unwrap();
    store.execute("DROP TABLE grants").await.unwrap();
    store.close().await.unwrap();
    let (tenant, grant) = (name("Cust1"), format!("{}/grants/g1", name("Cust1")));
    for caller in ["all", "somebody"] {
        let told = [
            explain(&guarded, caller, &tenant).await.map(drop),
            test(&guarded, caller, &grant, &["issueAccessToken"]).await.map(drop),
        ];
        for answer in told {
            let denied = answer.unwrap_err().code() == Code::PermissionDenied;
            assert_eq!(denied, caller == "somebody", "{caller}");
        }
    }
}

#[tokio::test]
async fn a_permit_for_everything_reveals_no_application_token() {
    let permit_all = "permit (principal, action, resource);";
    let issue = |tenant: &str| {
        let issue = pb::IssueSystemTicketRequest {
            tenant: name(tenant),
            include_application_token: true,
            ..Default::default()
        };
        issue.encode_to_vec()
    };
    let guarded = AuthenticatedGateway::new(permit_all).await;
    let denied =
        guarded.call("all", "TokenService/IssueSystemTicket", issue("Cust1")).await.unwrap_err();
    assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn a_new_forbid_overrides_every_cached_permit_at_once() {
    let permit = "permit (principal == Caller::\"sync\", action, resource);\n";
    let guarded = AuthenticatedGateway::new(permit).await;
    let read = || {
        let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
        guarded.call("sync", "TenantService/GetTenant", message)
    };
    for _ in 0..3 {
        assert_status(&read().await.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let forbid =
        format!("{permit}forbid (principal, action == Action::\"readTenants\", resource);\n");
    fs::write(guarded.world.folder.path().join("policy.cedar"), forbid).unwrap();
    eventually_so("the new policy is in force", async || {
        guarded.world.clock.advance(Duration::from_secs(1));
        read().await.unwrap_err().code() == Code::PermissionDenied
    })
    .await;
}

#[tokio::test]
async fn an_invalid_policy_leaves_the_old_one_active() {
    let permit = "permit (principal == Caller::\"sync\", action, resource);\n";
    let guarded = AuthenticatedGateway::new(permit).await;
    let file = guarded.world.folder.path().join("policy.cedar");
    let read = || {
        let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
        guarded.call("sync", "TenantService/GetTenant", message)
    };
    for bad in [
        "permit (principal, action, resource",
        "permit (principal == User::\"sync\", action, resource);",
        "permit (principal, action == Action::\"read\", resource);",
        "",
    ] {
        let good = format!("{bad}\nforbid (principal, action, resource);");
        fs::write(&file, if bad.is_empty() { "\0" } else { good.as_str() }).unwrap();
        for reloadable in guarded.world.gateway().reloadables() {
            reloadable.reload().await;
        }
        assert_status(&read().await.unwrap_err(), Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    fs::write(&file, "forbid (principal, action, resource);").unwrap();
    for reloadable in guarded.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    assert_status(&read().await.unwrap_err(), Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn a_changed_group_file_takes_effect_at_once() {
    let entities = |caller: &str| {
        format!(
            "[{{\"uid\": {{\"type\": \"Caller\", \"id\": \"{caller}\"}}, \
             \"parents\": [{{\"type\": \"CallerGroup\", \"id\": \"jobs\"}}]}}]"
        )
    };
    let first = entities("sync").leak();
    let options = Options {
        extra_config: "entities_file = \"entities.json\"".to_owned(),
        files: vec![("entities.json", first)],
        ..Default::default()
    };
    let policy = "permit (principal in CallerGroup::\"jobs\", action, resource);";
    let guarded = AuthenticatedGateway::with(policy, options).await;
    let read = async |caller: &str| {
        let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
        guarded.call(caller, "TenantService/GetTenant", message).await.unwrap_err().code()
    };
    assert_eq!((read("sync").await, read("other").await), (Code::NotFound, Code::PermissionDenied));
    fs::write(guarded.world.folder.path().join("entities.json"), entities("other")).unwrap();
    eventually_so("the other is in the group", async || {
        guarded.world.clock.advance(Duration::from_secs(1));
        read("other").await == Code::NotFound
    })
    .await;
    assert_eq!(read("sync").await, Code::PermissionDenied);
}

#[tokio::test]
async fn policies_that_kubernetes_replaces_by_a_link_are_loaded() {
    let options = Options {
        callers: Some(CALLERS.to_owned()),
        policy: Some(String::new()),
        ..Default::default()
    };
    let mut world = World::with_files(options).await;
    let folder = world.folder.path().to_owned();
    // A mounted ConfigMap has this form: the file is a link into a folder that is a link, which is replaced.
    let version = |number: u8, caller: &str| {
        let target = format!("..{number}");
        fs::create_dir(folder.join(&target)).unwrap();
        let policy = format!("permit (principal == Caller::\"{caller}\", action, resource);");
        fs::write(folder.join(&target).join("policy.cedar"), policy).unwrap();
        symlink(target, folder.join("..new")).unwrap();
        fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    };
    version(1, "sync");
    fs::remove_file(folder.join("policy.cedar")).unwrap();
    symlink("..data/policy.cedar", folder.join("policy.cedar")).unwrap();
    let issuer = TestIssuer::new(ISSUER, "one");
    fs::write(folder.join("jwks.json"), issuer.jwks()).unwrap();
    world.start().await.unwrap();
    let channel = world.channel().await;
    let read = async |caller: &str| {
        let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
        let request = with_bearer_token(&issuer.token(caller, world.clock_seconds()), message);
        call(&channel, "TenantService/GetTenant", request).await.unwrap_err().code()
    };
    assert_eq!((read("sync").await, read("other").await), (Code::NotFound, Code::PermissionDenied));
    version(2, "other");
    eventually_so("the new version is in force", async || {
        world.clock.advance(Duration::from_secs(1));
        read("other").await == Code::NotFound
    })
    .await;
    assert_eq!(read("sync").await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_permitted_call_fails_while_policies_are_replaced() {
    let permit = "permit (principal == Caller::\"sync\", action, resource);\n";
    let others = "permit (principal == Caller::\"other\", action, resource);\n";
    let guarded = AuthenticatedGateway::new(permit).await;
    let (token, file) = (guarded.token("sync"), guarded.world.folder.path().join("policy.cedar"));
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (channel, token) = (guarded.channel.clone(), token.clone());
        let (done, calls) = (Arc::clone(&done), Arc::clone(&calls));
        callers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
                let request = with_bearer_token(&token, message);
                let answer = call(&channel, "TenantService/GetTenant", request).await;
                assert_eq!(answer.unwrap_err().code(), Code::NotFound);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..30 {
        let before = calls.load(Ordering::Relaxed);
        let policy = if round % 2 == 0 { format!("{others}{permit}") } else { permit.to_owned() };
        fs::write(&file, policy).unwrap();
        for reloadable in guarded.world.gateway().reloadables() {
            reloadable.reload().await;
        }
        let message = pb::GetTenantRequest { name: name("Cust1") }.encode_to_vec();
        let other = guarded.call("other", "TenantService/GetTenant", message).await;
        let wanted = if round % 2 == 0 { Code::NotFound } else { Code::PermissionDenied };
        assert_eq!(other.unwrap_err().code(), wanted, "{round}");
        eventually("calls run", || calls.load(Ordering::Relaxed) > before + 4).await;
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn test_permissions_returns_exactly_the_callers_permissions() {
    let policy = format!(
        "permit (principal == Caller::\"sync\", action in [Action::\"issueSystemTicket\", Action::\"readTenants\"], \
         resource in Application::\"applications/{APPLICATION}\");\n\
         permit (principal == Caller::\"sync\", action == Action::\"callWebApiAsSystemUser\", resource) \
         when {{ context.method == \"GET\" }};"
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    let test = async |caller: &str, resource: &str, permissions: &[&str]| {
        test(&guarded, caller, resource, permissions).await
    };
    let asked = [
        "manageTenants",
        "readTenants",
        "issueSystemTicket",
        "callWebApiAsSystemUser",
        "readAudit",
    ];
    assert_eq!(
        test("sync", &name("Cust1"), &asked).await.unwrap(),
        ["readTenants", "issueSystemTicket", "callWebApiAsSystemUser"]
    );
    let application = format!("applications/{APPLICATION}");
    assert_eq!(test("sync", &application, &asked).await.unwrap(), ["readTenants"]);
    assert!(test("sync", "", &asked).await.unwrap().is_empty());
    assert!(test("sync", &name("Cust1"), &["manageTenants"]).await.unwrap().is_empty());
    let denied = test("other", &name("Cust1"), &asked).await.unwrap_err();
    assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");

    let invalid = test("sync", "tenants/Cust1", &["read", "readTenants", "x"]).await.unwrap_err();
    assert_invalid(&invalid, &["resource", "permissions[0]", "permissions[2]"]);
    let invalid = test("sync", "", &[]).await.unwrap_err();
    assert_invalid(&invalid, &["permissions"]);
}

#[tokio::test]
async fn any_right_on_a_tenant_reveals_the_rights_on_its_grants_and_vice_versa() {
    let one = name("Cust1");
    let policy = format!(
        "permit (principal == Caller::\"all\", action, resource);
         permit (principal == Caller::\"reader\", action in [Action::\"readGrants\", Action::\"readTenants\"], \
         resource in Tenant::\"{one}\");
         permit (principal == Caller::\"support\", action == Action::\"issueAccessToken\", \
         resource in Tenant::\"{one}\");"
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    guarded.enroll("all", "Cust1").await;
    let (_, grant) = guarded.person("all", "Cust1").await;
    let asked = ["issueAccessToken", "readTenants"];
    let none: [&str; 0] = [];
    for resource in [grant, format!("{one}/grants/abc"), format!("{one}/grants/-")] {
        assert_eq!(test(&guarded, "reader", &resource, &asked).await.unwrap(), none, "{resource}");
        let held = test(&guarded, "support", &resource, &asked).await.unwrap();
        assert_eq!(held, ["issueAccessToken"], "{resource}");
    }
    assert_eq!(test(&guarded, "reader", &one, &asked).await.unwrap(), ["readTenants"]);
    assert_eq!(test(&guarded, "support", &one, &asked).await.unwrap(), none);
    for resource in [name("Cust2"), format!("{}/grants/abc", name("Cust2"))] {
        for caller in ["reader", "support"] {
            let denied = test(&guarded, caller, &resource, &asked).await.unwrap_err();
            assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
        }
    }
}

#[tokio::test]
async fn a_missing_consent_is_reported_to_permitted_callers_only() {
    let one = name("Cust1");
    let policy = format!(
        "permit (principal == Caller::\"all\", action, resource);
         permit (principal == Caller::\"support\", action == Action::\"issueAccessToken\", \
         resource in Tenant::\"{one}\") when {{ resource.associateId == 102 }};
         permit (principal, action == Action::\"issueAccessToken\", resource) when \
         {{ principal.method == \"mtls\" }};
         permit (principal == Caller::\"caller\", action == Action::\"callWebApiAsUser\", \
         resource in Tenant::\"{one}\") when {{ context.method == \"GET\" && resource.associateId == 102 }};"
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    guarded.enroll("all", "Cust1").await;
    for caller in ["support", "caller"] {
        let contexts = explain(&guarded, caller, &one).await.unwrap();
        assert_eq!((contexts.len(), contexts[0].usable), (1, false), "{caller}");
        assert!(test(&guarded, caller, &one, &["readTenants"]).await.unwrap().is_empty());
    }
    let denied = explain(&guarded, "somebody", &one).await.unwrap_err();
    assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn explain_access_lists_all_obstacles_at_once() {
    let policy = "permit (principal == Caller::\"sync\", action, resource);\n\
                  @id(\"readers\") permit (principal == Caller::\"reader\", action == Action::\"readTenants\", resource);\n\
                  permit (principal == Caller::\"grants\", action == Action::\"readGrants\", resource);";
    let guarded = AuthenticatedGateway::new(policy).await;
    let explain = async |caller: &str, tenant: &str| {
        let mut contexts = explain(&guarded, caller, tenant).await?;
        assert_eq!(contexts.len(), 1);
        Ok::<_, Status>(contexts.remove(0))
    };
    let reasons = |context: &pb::UserContext| -> Vec<_> {
        assert!(context.obstacles.iter().all(|o| !o.message.is_empty() && !o.mend.is_empty()));
        context.obstacles.iter().map(|obstacle| obstacle.reason().as_str_name()).collect()
    };
    let missing = explain("sync", &name("Cust1")).await.unwrap_err();
    assert_status(&missing, Code::NotFound, "RESOURCE_NOT_FOUND");

    let token = guarded.world.make_tenant("Cust1");
    let parent = format!("applications/{APPLICATION}");
    let create = pb::CreateTenantRequest { parent, tenant_id: "Cust1".to_owned(), tenant: None };
    guarded.call("sync", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    guarded.call("sync", "TenantService/DisableTenant", disable.encode_to_vec()).await.unwrap();
    guarded.world.sandbox.set_state("Cust1", superoffice_sandbox::TenantState::Suspended).unwrap();
    let context = explain("sync", "applications/-/tenants/Cust1").await.unwrap();
    assert_eq!(
        reasons(&context),
        [
            "ERROR_REASON_TENANT_DISABLED",
            "ERROR_REASON_SYSTEM_USER_NOT_ENROLLED",
            "ERROR_REASON_TENANT_NOT_RUNNING",
        ]
    );
    assert!(!context.usable && !context.recommended);
    assert_eq!(
        (context.credential.as_str(), context.policy_ids.as_slice()),
        ("system", &["policy0".to_owned()][..])
    );
    let guidance = context.guidance.unwrap();
    assert!(guidance.cross_user && guidance.bypasses_rights);
    assert!(!guidance.interactive && !guidance.accountable && !guidance.can_impersonate);
    assert!(guidance.license_needed.contains("Development Tools"));

    // A caller that may read tenants sees their state, and that it may not use them.
    let context = explain("reader", &name("Cust1")).await.unwrap();
    assert_eq!(reasons(&context).len(), 4);
    assert_eq!(reasons(&context)[0], "ERROR_REASON_POLICY_DENIED");
    assert!(context.policy_ids.is_empty());
    // A caller with other rights sees only that it has no permission.
    assert_eq!(
        reasons(&explain("grants", &name("Cust1")).await.unwrap()),
        ["ERROR_REASON_POLICY_DENIED"]
    );
    let denied = explain("nobody", &name("Cust1")).await.unwrap_err();
    assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");

    // All obstacles are removed.
    guarded.world.sandbox.set_state("Cust1", superoffice_sandbox::TenantState::Running).unwrap();
    let enable = pb::EnableTenantRequest { name: name("Cust1") };
    guarded.call("sync", "TenantService/EnableTenant", enable.encode_to_vec()).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    guarded.call("sync", "TenantService/SetSystemUserToken", set.encode_to_vec()).await.unwrap();
    guarded.world.clock.advance(Duration::from_mins(61));
    eventually_so("the system user can be used", async || {
        let context = explain("sync", &name("Cust1")).await.unwrap();
        context.usable && context.recommended && context.obstacles.is_empty()
    })
    .await;
}

#[tokio::test]
async fn explain_access_reports_refusals_of_superoffice() {
    let guarded = AuthenticatedGateway::new("permit (principal, action, resource);").await;
    let token = guarded.world.make_tenant("Cust1");
    let parent = format!("applications/{APPLICATION}");
    let create = pb::CreateTenantRequest { parent, tenant_id: "Cust1".to_owned(), tenant: None };
    guarded.call("a", "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
    let set = pb::SetSystemUserTokenRequest { name: name("Cust1"), system_user_token: token };
    guarded.call("a", "TenantService/SetSystemUserToken", set.encode_to_vec()).await.unwrap();
    guarded
        .world
        .sandbox
        .set_authorization(CLIENT_ID, "Cust1", superoffice_sandbox::Authorization::Revoked)
        .unwrap();
    let issue = pb::IssueSystemTicketRequest { tenant: name("Cust1"), ..Default::default() };
    let refused = guarded
        .call("a", "TokenService/IssueSystemTicket", issue.encode_to_vec())
        .await
        .unwrap_err();
    let refused = refused_reason(&refused);
    let request = pb::ExplainAccessRequest { tenant: name("Cust1") };
    let answer =
        guarded.call("a", "AccessService/ExplainAccess", request.encode_to_vec()).await.unwrap();
    let context = &pb::ExplainAccessResponse::decode(&*answer).unwrap().user_contexts[0];
    let reasons: Vec<_> = context.obstacles.iter().map(|o| o.reason().as_str_name()).collect();
    assert_eq!(reasons, [format!("ERROR_REASON_{refused}")]);
}

fn refused_reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_error_details().error_info().unwrap().reason.clone()
}
