//! Tests that the example policies in `examples/policies/` do what their comments say.

use super::{PolicySet, PolicyText, WebApiCall};
use crate::access::{ActionName, Caller, CallerMethod};

const CRM: &str = "applications/crm-sync/tenants/Cust12345";
const DESK: &str = "applications/support-desk/tenants/Cust12345";
const KUBERNETES: &str = "https://kubernetes.default.svc.cluster.local";

struct Example {
    set: PolicySet,
    caller: Caller,
}

impl Example {
    #[track_caller]
    fn new(policy: &str, entities: Option<&str>, caller: Caller) -> Self {
        let text = PolicyText {
            policy_name: "example.cedar".to_owned(),
            policy: policy.to_owned(),
            entities_name: Some("example.entities.json".to_owned()),
            entities: entities.map(str::to_owned),
        };
        let applications = ["crm-sync", "support-desk"].map(|id| id.parse().unwrap());
        let (set, warnings) = PolicySet::parse(&text, &applications).unwrap();
        assert_eq!(warnings, []);
        Self { set, caller }
    }

    fn as_caller(&mut self, caller: Caller) {
        self.caller = caller;
    }

    #[track_caller]
    fn asked(&self, allowed: bool, action: &str, resource: &str, by: &[&str]) {
        let action = ActionName::from_name(action).unwrap();
        let decision = self.set.decide(&self.caller, action, &resource.parse().unwrap(), None);
        let ids: Vec<&str> = decision.policy_ids.iter().map(|id| &**id).collect();
        assert_eq!((decision.allowed, ids.as_slice()), (allowed, by), "{action:?} {resource}");
    }

    #[track_caller]
    fn permits(&self, action: &str, resource: &str, by: &str) {
        self.asked(true, action, resource, &[by]);
    }

    /// Asserts that no policy permits the action.
    #[track_caller]
    fn does_not_permit(&self, action: &str, resource: &str) {
        self.asked(false, action, resource, &[]);
    }

    #[track_caller]
    fn calls(&self, allowed: bool, action: &str, resource: &str, method: &str, path: &str) {
        let action = ActionName::from_name(action).unwrap();
        let call = Some(WebApiCall { method, path });
        let decision = self.set.decide(&self.caller, action, &resource.parse().unwrap(), call);
        assert_eq!(decision.allowed, allowed, "{method} {path}: {decision:?}");
    }
}

fn jwt(id: &str) -> Caller {
    Caller::unverified(id, CallerMethod::Jwt, Some(KUBERNETES))
}

fn mtls(id: &str) -> Caller {
    Caller::unverified(id, CallerMethod::Mtls, None)
}

#[test]
fn one_service_gets_tickets_of_one_tenant() {
    let policy = include_str!("../../../examples/policies/one-service-one-tenant.cedar");
    let id = "system:serviceaccount:billing:invoices";
    let mut example = Example::new(policy, None, jwt(id));
    example.permits("issueSystemTicket", CRM, "invoices-tickets");
    example.permits("readTenants", CRM, "invoices-tickets");
    example.does_not_permit("readTenants", "applications/crm-sync");
    example.does_not_permit("readTenants", "gateway");
    example.does_not_permit("revealApplicationToken", CRM);
    example.does_not_permit("manageTenants", CRM);
    example.does_not_permit("issueSystemTicket", "applications/crm-sync/tenants/Cust1234");
    example.does_not_permit("issueSystemTicket", "applications/crm-sync/tenants/Cust123456");
    example.does_not_permit("issueSystemTicket", "applications/crm-sync/tenants/Cust012345");
    example.does_not_permit("issueSystemTicket", DESK);
    for other in ["system:serviceaccount:billing:invoices2", "system:serviceaccount:billing"] {
        example.as_caller(jwt(other));
        example.does_not_permit("issueSystemTicket", CRM);
    }
    for other in [
        Caller::unverified(id, CallerMethod::Jwt, Some("https://issuer.example")),
        mtls(id),
        Caller::anonymous(),
    ] {
        example.as_caller(other);
        example.does_not_permit("issueSystemTicket", CRM);
    }
}

#[test]
fn background_jobs_act_as_the_system_user_of_their_application() {
    let policy = include_str!("../../../examples/policies/background-jobs.cedar");
    let mut example = Example::new(policy, None, mtls("spiffe://example.org/jobs/nightly-sync"));
    example.permits("issueSystemTicket", CRM, "jobs-work");
    example.permits("readTenants", "applications/crm-sync", "jobs-work");
    example.does_not_permit("readTenants", "gateway");
    example.does_not_permit("issueSystemTicket", DESK);
    example.does_not_permit("manageTenants", CRM);
    example.asked(false, "revealApplicationToken", CRM, &["jobs-no-secret"]);
    let act = "callWebApiAsSystemUser";
    example.calls(true, act, CRM, "GET", "/api/v1/contact");
    example.calls(true, act, CRM, "GET", "/api/v1/contact/12");
    example.calls(false, act, CRM, "GET", "/api/v1/contacts");
    example.calls(false, act, CRM, "GET", "/api/v1/person/12");
    example.calls(false, act, CRM, "DELETE", "/api/v1/contact/12");
    example.calls(false, act, DESK, "GET", "/api/v1/contact");
    example.calls(false, "callWebApiAsUser", &format!("{CRM}/grants/g1"), "GET", "/api/v1/contact");
    example.as_caller(mtls("spiffe://example.org/jobs/nightly"));
    example.does_not_permit("issueSystemTicket", CRM);
}

#[test]
fn a_support_tool_impersonates_people_and_never_acts_as_the_system_user() {
    let policy = include_str!("../../../examples/policies/support-impersonation.cedar");
    // The forbids hold even if another policy permits everything.
    let careless = format!(
        "{policy}\n@id(\"careless\") permit (principal, action, resource) when {{ true }};"
    );
    for (policy, extra) in [(policy.to_owned(), None), (careless, Some("careless"))] {
        let mut example = Example::new(&policy, None, jwt("system:serviceaccount:support:desk"));
        let grant = format!("{DESK}/grants/g1");
        let by = |id| [Some(id), extra].into_iter().flatten().collect::<Vec<_>>();
        example.asked(true, "issueAccessToken", &grant, &by("support-impersonates"));
        example.asked(true, "readGrants", "applications/support-desk", &by("support-consents"));
        example.asked(true, "manageGrants", DESK, &by("support-consents"));
        example.calls(true, "callWebApiAsUser", &grant, "PATCH", "/api/v1/person/1");
        example.asked(false, "issueSystemTicket", DESK, &["support-is-no-system-user"]);
        example.asked(false, "revealApplicationToken", DESK, &["support-is-no-system-user"]);
        example.calls(false, "callWebApiAsSystemUser", DESK, "GET", "/api/v1/person/1");
        // The action does not apply to a tenant, whatever a policy says.
        example.does_not_permit("issueAccessToken", DESK);
        if extra.is_none() {
            example.does_not_permit("issueAccessToken", &format!("{CRM}/grants/g1"));
            example.does_not_permit("manageTenants", DESK);
            example.as_caller(jwt("system:serviceaccount:support:desk-2"));
            example.does_not_permit("issueAccessToken", &grant);
        }
    }
}

/// Returns each operation whose response can hold a credential, with a path and a method that invoke it.
fn credential_operations() -> Vec<(&'static str, String, String)> {
    let list = include_str!("../../domain/credential_operations.txt");
    let lines = list.lines().filter_map(|line| line.strip_prefix("secret "));
    let operations = lines.map(|line| {
        let (template, plain) = line.split_once(' ').unwrap_or((line, ""));
        let template = template.trim_end_matches("/*");
        let segment = |segment: &'static str| if segment.starts_with('{') { "12" } else { segment };
        let path: Vec<_> = template.split('/').map(segment).collect();
        let method = if plain.contains("GET") { "POST" } else { "GET" };
        (template, format!("/api/v1{}", path.join("/")), method.to_owned())
    });
    operations.collect()
}

#[test]
fn an_operation_that_returns_credentials_is_permitted_only_by_a_policy_that_names_it() {
    let broad = include_str!("../../../examples/policies/support-impersonation.cedar");
    let (caller, act) = ("system:serviceaccount:support:desk", "callWebApiAsUser");
    let grant = format!("{DESK}/grants/g1");
    let operations = credential_operations();
    assert!(operations.len() > 100);
    let permit = format!(
        "permit (principal == Caller::\"{caller}\", action in Action::\"callWebApi\", resource) when"
    );
    let example = |more: &str| Example::new(&format!("{broad}\n{more}"), None, jwt(caller));
    let quoted = |texts: Vec<String>| format!("[{}]", texts.join(", "));
    let paths = quoted(operations.iter().map(|one| format!("\"{}\"", one.1)).collect());
    let templates = quoted(operations.iter().map(|one| format!("\"{}\"", one.0)).collect());
    let by_path = format!("{permit} {{ {paths}.contains(context.path) }};");
    let by_operation = format!("{permit} {{ {templates}.contains(context.credentialOperation) }};");
    let forbid = "forbid (principal, action in Action::\"callWebApi\", resource)
        when { context.credentialOperation != \"\" };";
    for (policy, allowed) in [
        (String::new(), false),
        (format!("{permit} {{ context.method == \"GET\" || context.method == \"POST\" }};"), false),
        (format!("{permit} {{ context.path like \"/api/v1/*\" }};"), false),
        (format!("{permit} {{ context.credentialOperation like \"/*\" }};"), false),
        (format!("{permit} {{ context.credentialOperation != \"\" }};"), false),
        (format!("{by_path} {forbid}"), false),
        (by_path, true),
        (by_operation, true),
    ] {
        let example = example(&policy);
        for (_, path, method) in &operations {
            example.calls(allowed, act, &grant, method, path);
        }
    }
    let named = example(&format!("{permit} {{ context.path == \"/api/v1/webhook/12\" }};"));
    named.calls(true, act, &grant, "GET", "/api/v1/webhook/12");
    named.calls(false, act, &grant, "GET", "/api/v1/webhook/13");
    named.calls(false, act, &grant, "GET", "/api/v1/webhook");
    let example = Example::new(broad, None, jwt(caller));
    for (method, path) in [
        ("GET", "/api/v1/contact/12"),
        ("PUT", "/api/v1/person/12"),
        ("POST", "/api/v1/appointment"),
        ("GET", "/api/v1/document/12/content"),
        ("GET", "/api/v1/user"),
        ("GET", "/api/v1/user/currentprincipal"),
        ("POST", "/api/v1/agents/contact/getcontactentity"),
        ("DELETE", "/api/v1/webhook/12"),
    ] {
        example.calls(true, act, &grant, method, path);
    }
}

#[test]
fn permits_a_branch_that_names_its_credential_operations() {
    let policy = "permit (principal, action == Action::\"callWebApiAsSystemUser\", resource) when {
        context.path like \"/api/v1/webhook*\" &&
        [\"\", \"/webhook\", \"/webhook/{id}\"].contains(context.credentialOperation)
    };";
    let example = Example::new(policy, None, jwt("webhooks"));
    for (allowed, method, path) in [
        (true, "GET", "/api/v1/webhook"),
        (true, "PUT", "/api/v1/webhook/12"),
        (true, "DELETE", "/api/v1/webhook/12"),
        (true, "POST", "/api/v1/webhook/test"),
        (false, "GET", "/api/v1/webhook/default"),
        (false, "GET", "/api/v1/contact/12"),
    ] {
        example.calls(allowed, "callWebApiAsSystemUser", CRM, method, path);
    }
}

#[test]
fn a_support_tool_does_not_impersonate_administrators() {
    use crate::access::{GrantResource, Resource};
    let policy = include_str!("../../../examples/policies/support-impersonation.cedar");
    let example = Example::new(policy, None, jwt("system:serviceaccount:support:desk"));
    for (name, allowed) in [("admin@example.com", false), ("kari@example.com", true)] {
        let resource = Resource::Grant(GrantResource {
            tenant: DESK.parse().unwrap(),
            grant: "-".into(),
            associate_id: 0,
            user_principal_name: name.into(),
        });
        let action = ActionName::IssueAccessToken;
        let decision = example.set.decide(&example.caller, action, &resource, None);
        assert_eq!(decision.allowed, allowed, "{name}");
    }
}

#[test]
fn auditors_read_everywhere_and_get_no_credential() {
    let policy = include_str!("../../../examples/policies/auditors.cedar");
    let mut example = Example::new(policy, None, mtls("spiffe://example.org/auditor"));
    example.permits("readAudit", "gateway", "auditors-read");
    example.permits("readAudit", "applications/crm-sync", "auditors-read");
    example.permits("readTenants", CRM, "auditors-read");
    example.permits("readGrants", CRM, "auditors-read");
    for action in ["issueSystemTicket", "manageTenants", "manageGrants", "readAssociates"] {
        example.asked(false, action, CRM, &["auditors-only-read"]);
    }
    example.as_caller(jwt("spiffe://example.org/auditor"));
    example.asked(false, "readAudit", "gateway", &["auditors-by-certificate"]);
    example.as_caller(mtls("spiffe://example.org/auditors"));
    example.does_not_permit("readAudit", "gateway");
}

#[test]
fn nordic_services_reach_nordic_customers() {
    let policy = include_str!("../../../examples/policies/nordic-customers.cedar");
    let entities = include_str!("../../../examples/policies/nordic-customers.entities.json");
    let portal = jwt("system:serviceaccount:nordic:portal");
    let mut example = Example::new(policy, Some(entities), portal);
    let (first, held) =
        ("applications/crm-sync/tenants/Cust10001", "applications/crm-sync/tenants/Cust10002");
    for caller in ["system:serviceaccount:nordic:portal", "system:serviceaccount:nordic:nightly"] {
        example.as_caller(jwt(caller));
        example.permits("issueSystemTicket", first, "nordic-tickets");
        example.asked(false, "issueSystemTicket", held, &["on-hold"]);
        example.permits("readTenants", held, "nordic-tickets");
        example.does_not_permit("issueSystemTicket", CRM);
        // The same customer in another application is another tenant.
        example.does_not_permit("issueSystemTicket", "applications/support-desk/tenants/Cust10001");
        example.does_not_permit("readTenants", "applications/crm-sync");
    }
    example.as_caller(jwt("system:serviceaccount:nordic:other"));
    example.does_not_permit("issueSystemTicket", first);
}
