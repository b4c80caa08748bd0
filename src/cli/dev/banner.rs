//! The text that `dev` prints at the start: addresses, demo data, and calls to paste.

use std::{
    fmt,
    net::SocketAddr,
    path::{self, Path},
};

use superoffice_sandbox::{
    Sandbox,
    demo::{Demo, DemoUser},
};

use super::setup::{APPLICATION, CALLER, ConsentLink};
use crate::app::Running;

/// The method of the first examples.
const ISSUE: &str = "TokenService/IssueSystemTicket";

/// Returns the text.
pub(super) fn banner(
    running: &Running,
    sandbox: &Sandbox,
    demo: &Demo,
    consent: &ConsentLink<'_>,
    token_file: &Path,
) -> String {
    let ids: Vec<&str> = demo.tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    let id = |index: usize| ids.get(index).copied().unwrap_or_default();
    let calls = ExampleCalls {
        grpc: running.grpc_address,
        egress: running.egress_address.map(|address| address.to_string()).unwrap_or_default(),
        token: token_file.display(),
        tenant: id(0),
    };
    let overview = overview(running, sandbox, demo, consent, token_file);
    let examples = examples(&calls, id(1), id(2), consent.user)
        .map(|(comment, command)| format!("\n  # {comment}\n{command}"));
    format!("{overview}\nIn another terminal:{}", examples.concat())
}

fn overview(
    running: &Running,
    sandbox: &Sandbox,
    demo: &Demo,
    consent: &ConsentLink<'_>,
    token_file: &Path,
) -> String {
    let tenants = demo.tenants.iter().take(3);
    let tenants: Vec<_> = tenants.map(|t| format!("{} {:?}", t.id, t.state)).collect();
    format!(
        "Tenant Gateway with a simulated SuperOffice. Ctrl-C ends both, and nothing is kept.
  gRPC     {grpc} (plaintext, reflection)
  egress   http://{egress} (calls of the Web API, with the credential put in)
  admin    http://{admin}/readyz and http://{admin}/metrics
  sandbox  {login} (login), {control} (control)
  tenants  {tenants}
  caller   {CALLER}, by the token in {token}
  policy   {policy}
  consent  {link} (open it in a browser, sign in as {user}, approve)",
        grpc = running.grpc_address,
        egress = running.egress_address.map(|address| address.to_string()).unwrap_or_default(),
        admin = running.admin_address,
        login = sandbox.login_uri(),
        control = sandbox.control_uri(),
        tenants = tenants.join(", "),
        token = token_file.display(),
        policy = token_file.with_file_name("policy.cedar").display(),
        link = consent.link,
        user = consent.user.user_name,
    )
}

/// Returns the example calls, each with its comment.
fn examples(
    calls: &ExampleCalls<'_>,
    suspended: &str,
    forbidden: &str,
    user: &DemoUser,
) -> [(String, String); 14] {
    let (tenant, user_name) = (calls.tenant, &user.user_name);
    let person =
        format!("an access token of {user_name}, who must have approved by the consent link above");
    let credential = format!("associates/{}", user.associate_id);
    let application = format!("\"application\":\"applications/{APPLICATION}\"");
    [
        ("a ticket", calls.named("tenant", tenant, ISSUE)),
        ("no ticket, and why: the tenant is suspended", calls.named("tenant", suspended, ISSUE)),
        ("no ticket: the policy forbids it", calls.named("tenant", forbidden, ISSUE)),
        (
            "a call of the Web API as the system user, without any credential of SuperOffice",
            calls.curl("User/currentPrincipal"),
        ),
        (
            "rejected: a policy must name a path that returns credentials",
            calls.curl("User/currentToken"),
        ),
        ("without a token: rejected", calls.without_token()),
        (
            "which user should I use, and why can I not?",
            calls.named("tenant", suspended, "AccessService/ExplainAccess"),
        ),
        (
            "who the users are, what each can do, and why not",
            calls.named("parent", tenant, "AssociateService/ListAssociates"),
        ),
        (
            person.as_str(),
            calls.of_tenant(
                "user_principal_name",
                user_name,
                "ImpersonationService/IssueAccessToken",
            ),
        ),
        (
            "who SuperOffice says that is",
            calls.of_tenant("credential", &credential, "AssociateService/GetCurrentPrincipal"),
        ),
        (
            "a consent link for anybody else",
            calls.grpcurl(&application, "ImpersonationService/BeginConsent"),
        ),
        (
            "who did what, newest first",
            calls.grpcurl("\"filter\":\"decision=DENIED\"", "AuditService/ListAuditEvents"),
        ),
        ("what there is to call, and whether it serves", calls.discovery()),
        (
            "stop handing out tickets of a tenant",
            calls.named("name", tenant, "TenantService/DisableTenant"),
        ),
    ]
    .map(|(comment, command)| (comment.to_owned(), command))
}

/// The values in the example calls.
struct ExampleCalls<'a> {
    grpc: SocketAddr,
    egress: String,
    token: path::Display<'a>,
    /// The tenant of most calls.
    tenant: &'a str,
}

impl ExampleCalls<'_> {
    fn grpcurl(&self, data: impl fmt::Display, method: &str) -> String {
        let Self { grpc, token, .. } = self;
        format!(
            "  grpcurl -plaintext -H \"authorization: Bearer $(cat {token})\" -d \
             '{{{data}}}' {grpc} tenantgateway.v1.{method}"
        )
    }

    /// Returns a call in which `field` is the name of a tenant.
    fn named(&self, field: &str, tenant: &str, method: &str) -> String {
        let name = format!("applications/{APPLICATION}/tenants/{tenant}");
        self.grpcurl(format_args!("\"{field}\":\"{name}\""), method)
    }

    /// Returns a call with the tenant and one more field.
    fn of_tenant(&self, field: &str, value: &str, method: &str) -> String {
        let tenant = format!("applications/{APPLICATION}/tenants/{}", self.tenant);
        self.grpcurl(format_args!("\"tenant\":\"{tenant}\",\"{field}\":\"{value}\""), method)
    }

    fn without_token(&self) -> String {
        let Self { grpc, tenant, .. } = self;
        format!(
            "  grpcurl -plaintext -d '{{\"tenant\":\"applications/{APPLICATION}/tenants/{tenant}\"}}' \
             {grpc} tenantgateway.v1.{ISSUE}"
        )
    }

    fn discovery(&self) -> String {
        let grpc = self.grpc;
        format!(
            "  grpcurl -plaintext {grpc} list
  grpcurl -plaintext {grpc} describe tenantgateway.v1.TokenService
  grpcurl -plaintext {grpc} grpc.health.v1.Health/Check"
        )
    }

    fn curl(&self, path: &str) -> String {
        let Self { egress, token, tenant, .. } = self;
        format!(
            "  curl -sS -H \"authorization: Bearer $(cat {token})\" -H 'gateway-act-as: system' \
             -H 'accept: application/json' http://{egress}/{APPLICATION}/{tenant}/api/v1/{path}"
        )
    }
}
