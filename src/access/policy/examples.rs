//! The example policies in `docs/policies/` do what their comments say.

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
        let ruling = self.set.decide(&self.caller, action, &resource.parse().unwrap(), None);
        let ids: Vec<&str> = ruling.policy_ids.iter().map(|id| &**id).collect();
        assert_eq!((ruling.allowed, ids.as_slice()), (allowed, by), "{action:?} {resource}");
    }

    #[track_caller]
    fn permits(&self, action: &str, resource: &str, by: &str) {
        self.asked(true, action, resource, &[by]);
    }

    /// No policy says so.
    #[track_caller]
    fn does_not_permit(&self, action: &str, resource: &str) {
        self.asked(false, action, resource, &[]);
    }

    #[track_caller]
    fn calls(&self, allowed: bool, action: &str, resource: &str, method: &str, path: &str) {
        let action = ActionName::from_name(action).unwrap();
        let call = Some(WebApiCall { method, path });
        let ruling = self.set.decide(&self.caller, action, &resource.parse().unwrap(), call);
        assert_eq!(ruling.allowed, allowed, "{method} {path}: {ruling:?}");
    }
}

fn jwt(id: &str) -> Caller {
    Caller::supposed(id, CallerMethod::Jwt, Some(KUBERNETES))
}

fn mtls(id: &str) -> Caller {
    Caller::supposed(id, CallerMethod::Mtls, None)
}

#[test]
fn one_service_gets_tickets_of_one_tenant() {
    let policy = include_str!("../../../docs/policies/one-service-one-tenant.cedar");
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
        Caller::supposed(id, CallerMethod::Jwt, Some("https://issuer.example")),
        mtls(id),
        Caller::anonymous(),
    ] {
        example.as_caller(other);
        example.does_not_permit("issueSystemTicket", CRM);
    }
}

#[test]
fn background_jobs_are_the_system_user_of_their_application() {
    let policy = include_str!("../../../docs/policies/background-jobs.cedar");
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
fn a_support_tool_impersonates_and_is_never_the_system_user() {
    let policy = include_str!("../../../docs/policies/support-impersonation.cedar");
    // Even if somebody adds a policy that permits it everything.
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
        // Not done to a tenant, whatever is written.
        example.does_not_permit("issueAccessToken", DESK);
        if extra.is_none() {
            example.does_not_permit("issueAccessToken", &format!("{CRM}/grants/g1"));
            example.does_not_permit("manageTenants", DESK);
            example.as_caller(jwt("system:serviceaccount:support:desk-2"));
            example.does_not_permit("issueAccessToken", &grant);
        }
    }
}

#[test]
fn a_support_tool_does_not_impersonate_administrators() {
    use crate::access::{GrantResource, Resource};
    let policy = include_str!("../../../docs/policies/support-impersonation.cedar");
    let example = Example::new(policy, None, jwt("system:serviceaccount:support:desk"));
    for (name, allowed) in [("admin@example.com", false), ("kari@example.com", true)] {
        let resource = Resource::Grant(GrantResource {
            tenant: DESK.parse().unwrap(),
            grant: "-".into(),
            associate_id: 0,
            user_principal_name: name.into(),
        });
        let action = ActionName::IssueAccessToken;
        let ruling = example.set.decide(&example.caller, action, &resource, None);
        assert_eq!(ruling.allowed, allowed, "{name}");
    }
}

#[test]
fn auditors_read_everywhere_and_get_no_credential() {
    let policy = include_str!("../../../docs/policies/auditors.cedar");
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
    let policy = include_str!("../../../docs/policies/nordic-customers.cedar");
    let entities = include_str!("../../../docs/policies/nordic-customers.entities.json");
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
        // The same customer by way of another application is another tenant.
        example.does_not_permit("issueSystemTicket", "applications/support-desk/tenants/Cust10001");
        example.does_not_permit("readTenants", "applications/crm-sync");
    }
    example.as_caller(jwt("system:serviceaccount:nordic:other"));
    example.does_not_permit("issueSystemTicket", first);
}
