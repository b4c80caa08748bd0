//! Tests of consent from the link to the grant: a browser, the gateway's pages, and SuperOffice's
//! sign-in.

#[path = "failed_consents.rs"]
mod failed;

use std::{fs, net::TcpListener, time::Duration};

use superoffice_sandbox::{
    ChangeType, Endpoint, Fault, FaultScope, Forgery, SignIn, SignInRules, StateChange,
};
use tenant_gateway::{
    domain::Decision,
    grpc::pb::{self, impersonation_service_client::ImpersonationServiceClient},
};
use tonic::{Code, transport::Channel};

use crate::support::{
    APPLICATION, CLIENT_ID, Options, World, assert_status, eventually, eventually_so, http::send,
    name, trail::StoredTrail,
};

const ADMIN: &str = "anna@example.com";
const EMPLOYEE: &str = "tony@example.com";
const FRONT_END: &str = "https://portal.example.com/callback";
const ROLE_OF_ADMINISTRATORS: u32 = 1;
const ROLE_OF_EMPLOYEES: u32 = 6;

/// A gateway with consent pages, two tenants, and their users.
struct ConsentGateway {
    world: World,
    public_uri: String,
}

/// A page, or a redirect.
pub(crate) struct Page {
    pub(crate) status: u16,
    location: Option<String>,
    cookie: Option<String>,
    pub(crate) text: String,
}

impl ConsentGateway {
    async fn new() -> Self {
        Self::with("", None).await
    }

    async fn with(login: &str, policy: Option<String>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let public_uri = format!("http://127.0.0.1:{port}");
        let callback = format!("{public_uri}/oauth/callback");
        let options = Options {
            extra_config: format!(
                "{login}\n[http]\nlisten = \"127.0.0.1:{port}\"\npublic_uri = \"{public_uri}\""
            ),
            policy,
            extra_application: format!(
                "redirect_uri = \"{callback}\"\nredirect_uris = [\"{FRONT_END}\"]\n\
                 return_uri_prefixes = [\"https://portal.example.com/\"]"
            ),
            ..Options::default()
        };
        let world = World::with(options).await;
        world.make_tenant("Cust10001");
        world.make_tenant("Cust10002");
        let sign_in = SignIn { system_token: true, ..SignIn::web(&[callback.as_str(), FRONT_END]) };
        world.sandbox.set_sign_in(CLIENT_ID, &sign_in).unwrap();
        for (tenant, id, user, role_id) in [
            ("Cust10001", 501, ADMIN, ROLE_OF_ADMINISTRATORS),
            ("Cust10001", 502, EMPLOYEE, ROLE_OF_EMPLOYEES),
            ("Cust10002", 502, EMPLOYEE, ROLE_OF_EMPLOYEES),
        ] {
            world.add_user(tenant, id, user, role_id);
        }
        Self { world, public_uri }
    }

    async fn client(&self) -> ImpersonationServiceClient<Channel> {
        ImpersonationServiceClient::new(self.world.channel().await)
    }

    async fn begin(&self, request: pb::BeginConsentRequest) -> pb::BeginConsentResponse {
        self.client().await.begin_consent(request).await.unwrap().into_inner()
    }

    async fn get(&self, uri: &str, cookie: Option<&str>) -> Page {
        Page::get(uri, cookie).await
    }

    async fn click(&self, link: &str) -> Page {
        Page::click(link).await
    }

    async fn sign_in(&self, uri: &str, user: &str, tenant: &str, decision: &str) -> String {
        Page::sign_in(uri, user, tenant, decision).await
    }

    /// Returns the number of refresh tokens that are valid at SuperOffice.
    fn living(&self) -> usize {
        self.world.sandbox.grants().iter().filter(|grant| !grant.revoked).count()
    }
}

impl Page {
    async fn of(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let uri = url::Url::parse(uri).unwrap();
        let to = uri.socket_addrs(|| None).unwrap()[0];
        let path = uri[url::Position::BeforePath..].to_owned();
        let answer = send(to, method, &path, headers, body.as_bytes()).await;
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let (location, cookie) = (header("location"), header("set-cookie"));
        Self { status: answer.status, location, cookie, text: answer.body }
    }

    pub(crate) async fn get(uri: &str, cookie: Option<&str>) -> Self {
        let cookie = cookie.map(|cookie| ("Cookie", cookie));
        Self::of("GET", uri, cookie.as_slice(), "").await
    }

    /// Presses the button on the page of a link.
    pub(crate) async fn click(link: &str) -> Self {
        Self::of("POST", link, &[("Sec-Fetch-Site", "same-origin")], "").await
    }

    /// Signs in at SuperOffice and decides. Returns the redirect to the gateway.
    pub(crate) async fn sign_in(uri: &str, user: &str, tenant: &str, decision: &str) -> String {
        let mut page = Self::get(uri, None).await;
        for _ in 0..4 {
            if let Some(location) = page.location {
                return location;
            }
            let field = if page.has("sign-in") {
                ("user", user)
            } else if page.has("choose-tenant") {
                ("tenant", tenant)
            } else {
                assert!(page.has("approval"), "{}", page.text);
                ("decision", decision)
            };
            let to = url::Url::parse(uri).unwrap().join(&page.between("action=\"")).unwrap();
            let request = page.between("name=\"request\" value=\"");
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("request", &request)
                .append_pair(field.0, field.1)
                .finish();
            let form_type = ("Content-Type", "application/x-www-form-urlencoded");
            page = Self::of("POST", to.as_str(), &[form_type], &form).await;
        }
        panic!("never signed in: {}", page.text);
    }

    /// Returns the cookie as a browser sends it.
    pub(crate) fn cookie_back(&self) -> Option<&str> {
        self.cookie.as_ref()?.split(';').next()
    }

    pub(crate) fn location(&self) -> &str {
        self.location.as_deref().unwrap_or_else(|| panic!("{}", self.text))
    }

    fn has(&self, id: &str) -> bool {
        self.text.contains(&format!("id=\"{id}\""))
    }

    /// Returns the text between `start` and the next quotation mark.
    fn between(&self, start: &str) -> String {
        let (_, rest) = self.text.split_once(start).unwrap_or_else(|| panic!("{}", self.text));
        rest.split('"').next().unwrap().replace("&amp;", "&")
    }
}

/// Opens a link, signs in and approves.
pub(crate) async fn give_consent(link: &str, user: &str, tenant: &str) -> Page {
    let gone = Page::click(link).await;
    let back = Page::sign_in(gone.location(), user, tenant, "approve").await;
    Page::get(&back, gone.cookie_back()).await
}

/// Returns the code that a front end receives.
fn code_of(back: &str) -> String {
    let back = url::Url::parse(back).unwrap();
    back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
}

fn for_tenant(tenant: &str) -> pb::BeginConsentRequest {
    pb::BeginConsentRequest {
        application: format!("applications/{APPLICATION}"),
        tenant: name(tenant),
        reason: "moving in".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_link_creates_a_grant_and_an_administrator_enrolls_the_tenant() {
    let place = ConsentGateway::new().await;
    let request = pb::BeginConsentRequest { enroll_system_user: true, ..for_tenant("Cust10001") };
    let begun = place.begin(request).await;
    let link = &begun.consent_uri;
    let page = place.get(link, None).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Cust10001") && page.text.contains("moving in"), "{}", page.text);
    let forced = Page::of("POST", link, &[("Sec-Fetch-Site", "cross-site")], "").await;
    assert_eq!(forced.status, 403);
    let gone = place.click(link).await;
    let cookie = gone.cookie.clone().unwrap();
    for part in ["__Host-", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let back = place.sign_in(gone.location(), ADMIN, "Cust10001", "approve").await;
    assert!(back.starts_with(&format!("{}/oauth/callback?", place.public_uri)), "{back}");
    let granted = place.get(&back, gone.cookie_back()).await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert!(granted.text.contains(ADMIN) && granted.text.contains("whole company"));
    assert!(place.world.tenant("Cust10001").await.has_system_user_token);
    place.world.ticket("Cust10001").await.unwrap();
    assert_eq!(place.living(), 1);
    let issue = pb::IssueAccessTokenRequest {
        tenant: name("Cust10001"),
        subject: Some(pb::issue_access_token_request::Subject::AssociateId(501)),
        ..Default::default()
    };
    let issued = place.client().await.issue_access_token(issue).await.unwrap().into_inner();
    assert!(issued.token.unwrap().value.starts_with("8A:Cust10001."));
    let again = place.get(&back, gone.cookie_back()).await;
    assert_eq!(again.status, 412, "{}", again.text);
    assert_eq!(place.get(link, None).await.status, 410);
    let written = StoredTrail::read(&place.world.config_file()).await;
    let actions: Vec<_> = written
        .of_calls()
        .filter(|event| &*event.record.caller_method == "consent")
        .map(|event| event.record.action.to_string())
        .collect();
    // Each decision and each result has an event.
    assert_eq!(actions, ["manageGrants", "manageTenants", "manageGrants", "manageTenants"]);
    written.assert_intact();
}

#[tokio::test]
async fn a_failed_consent_leaves_no_grant() {
    let place = ConsentGateway::new().await;
    place.world.create("Cust10001").await;
    place.world.create("Cust10002").await;
    let request = pb::BeginConsentRequest {
        expected_user_principal_name: EMPLOYEE.to_owned(),
        ..for_tenant("Cust10001")
    };
    let begun = place.begin(request).await;
    let rules = SignInRules { ignore_tenant_hint: true, ..SignInRules::default() };
    place.world.sandbox.set_sign_in_rules(rules);
    for (user, tenant, decision, with_cookie, title) in [
        (EMPLOYEE, "Cust10001", "approve", false, "used already, or took too long"),
        (ADMIN, "Cust10001", "approve", true, "You signed in as somebody else"),
        (EMPLOYEE, "Cust10002", "approve", true, "You signed in to another customer"),
        (EMPLOYEE, "Cust10001", "refuse", true, "You gave no access"),
    ] {
        let gone = place.click(&begun.consent_uri).await;
        let back = place.sign_in(gone.location(), user, tenant, decision).await;
        let cookie = gone.cookie_back().filter(|_| with_cookie);
        let page = place.get(&back, cookie).await;
        assert_eq!(page.status, 412, "{}", page.text);
        assert!(page.text.contains(title), "{title}: {}", page.text);
    }
    eventually_so("what is not kept is revoked", async || place.living() == 0).await;
}

#[tokio::test]
async fn a_front_end_completes_consent_through_its_caller() {
    let place = ConsentGateway::new().await;
    place.world.create("Cust10001").await;
    let begin_here = || {
        let redirect_uri = FRONT_END.to_owned();
        place.begin(pb::BeginConsentRequest { redirect_uri, ..for_tenant("Cust10001") })
    };
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let begun = begin_here().await;
        let back = place.sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10001", "approve").await;
        let complete = pb::CompleteConsentRequest { code: code_of(&back), state: begun.state };
        let done = place.client().await.complete_consent(complete).await.unwrap().into_inner();
        let grant = done.grant.unwrap();
        assert_eq!((grant.associate_id, grant.user_principal_name.as_str()), (502, EMPLOYEE));
        names.insert(grant.name);
    }
    assert_eq!(names.len(), 1, "{names:?}");
    eventually_so("the former token is revoked", async || place.living() == 1).await;
    let forged = pb::CompleteConsentRequest { state: "0".repeat(64), code: "c".to_owned() };
    let refused = place.client().await.complete_consent(forged).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
}

/// Returns a policy that permits every tenant except this one.
fn all_but(tenant: &str) -> String {
    let tenant = name(tenant);
    format!(
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"protected\") forbid (principal, action == Action::\"manageGrants\", resource == Tenant::\"{tenant}\");"
    )
}

#[tokio::test]
async fn a_forbid_on_the_chosen_tenant_applies_at_completion() {
    let mut place = ConsentGateway::with("", Some(all_but("Cust10002"))).await;
    place.world.create("Cust10001").await;
    place.world.create("Cust10002").await;
    let anywhere = || pb::BeginConsentRequest { tenant: String::new(), ..for_tenant("Cust10001") };
    let link = place.begin(anywhere()).await.consent_uri;
    let page = give_consent(&link, EMPLOYEE, "Cust10002").await;
    assert_eq!(page.status, 403, "{}", page.text);
    assert!(page.text.contains("Access to this customer is not permitted"), "{}", page.text);
    eventually_so("what is not kept is revoked", async || place.living() == 0).await;
    // The same holds for a front end, which gets the error of the call.
    let redirect_uri = FRONT_END.to_owned();
    let begun = place.begin(pb::BeginConsentRequest { redirect_uri, ..anywhere() }).await;
    let back = place.sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10002", "approve").await;
    let complete = pb::CompleteConsentRequest { code: code_of(&back), state: begun.state };
    let refused = place.client().await.complete_consent(complete).await.unwrap_err();
    assert_status(&refused, Code::PermissionDenied, "POLICY_DENIED");
    eventually_so("what is not kept is revoked", async || place.living() == 0).await;
    // The policy is evaluated when the browser returns, even if the request named the tenant.
    let named = place.begin(for_tenant("Cust10001")).await.consent_uri;
    fs::write(place.world.folder.path().join("policy.cedar"), all_but("Cust10001")).unwrap();
    for reloadable in place.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    assert_eq!(give_consent(&named, EMPLOYEE, "Cust10001").await.status, 403);
    // The first link still works, and the policy no longer protects Cust10002.
    let page = give_consent(&link, EMPLOYEE, "Cust10002").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(place.living(), 1);
    // The last denial is an equal one within a minute, so it is recorded at the stop.
    place.world.stop().await;
    let written = StoredTrail::read(&place.world.config_file()).await;
    let denied: Vec<_> = written
        .of_calls()
        .map(|event| &event.record)
        .filter(|record| record.decision == Decision::Denied)
        .map(|record| {
            assert_eq!(record.policy_ids.iter().map(|id| &**id).collect::<Vec<_>>(), ["protected"]);
            assert_eq!(record.error_reason_name(), "POLICY_DENIED");
            (record.caller_method.to_string(), record.resource.to_string())
        })
        .collect();
    let wanted = [("consent", "Cust10002"), ("anonymous", "Cust10002"), ("consent", "Cust10001")];
    assert_eq!(denied, wanted.map(|(method, tenant)| (method.to_owned(), name(tenant))));
    written.assert_intact();
}

#[tokio::test]
async fn a_code_that_waits_too_long_is_not_spent_and_the_state_completes_later() {
    let login = "[login]\nmax_concurrent = 1\ntimeout = \"2s\"";
    let place = ConsentGateway::with(login, None).await;
    place.world.enroll("Cust10003").await;
    place.world.create("Cust10001").await;
    let redirect_uri = FRONT_END.to_owned();
    let begun =
        place.begin(pb::BeginConsentRequest { redirect_uri, ..for_tenant("Cust10001") }).await;
    let back = place.sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10001", "approve").await;
    let complete = async |within: Duration| {
        let message =
            pb::CompleteConsentRequest { code: code_of(&back), state: begun.state.clone() };
        let mut request = tonic::Request::new(message);
        request.set_timeout(within);
        place.client().await.complete_consent(request).await
    };
    let sandbox = &place.world.sandbox;
    sandbox.inject(Endpoint::Authenticate, Fault::Hang, FaultScope::always()).unwrap();
    let hanging = place.world.ticket("Cust10003");
    let early = async {
        eventually("the one door is taken", || sandbox.calls(Endpoint::Authenticate) == 1).await;
        complete(Duration::from_millis(100)).await.unwrap_err()
    };
    let (hanging, early) = tokio::join!(hanging, early);
    assert!(hanging.is_err());
    // The status depends on which side notices first.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&early.code()), "{early:?}");
    assert_eq!(sandbox.calls(Endpoint::Tokens), 0);
    let again = complete(Duration::from_secs(10)).await.unwrap().into_inner();
    assert_eq!(again.grant.unwrap().user_principal_name, EMPLOYEE);
    assert_eq!(sandbox.calls(Endpoint::Tokens), 1);
}

#[tokio::test]
async fn a_notification_refreshes_the_status_and_a_forged_one_does_not() {
    let place = ConsentGateway::new().await;
    place.world.create("Cust10001").await;
    let sandbox = &place.world.sandbox;
    let target = format!("{}/webhooks/superoffice/state-change", place.public_uri);
    let looks = || sandbox.calls_for(Endpoint::TenantStatus, "Cust10001");
    for forgery in
        [Forgery::ForeignKey, Forgery::WrongSignature, Forgery::AlgNone, Forgery::Expired]
    {
        let change = StateChange::new("Cust10001", ChangeType::Delete, &target);
        let change = StateChange { forgery: Some(forgery), ..change };
        assert_eq!(sandbox.send_state_change(&change).await.unwrap(), 401, "{forgery:?}");
    }
    assert_eq!(looks(), 0);
    let change = StateChange::new("Cust10001", ChangeType::Delete, &target);
    assert_eq!(sandbox.send_state_change(&change).await.unwrap(), 200);
    eventually_so("SuperOffice was asked", async || looks() == 1).await;
    let state = place.world.tenant("Cust10001").await.status();
    assert_eq!(state, pb::TenantState::Running);

    // A notification for another audience, and a replayed one, also after a restart.
    let claims = |id: &str| -> serde_json::Map<String, serde_json::Value> {
        [("jti".to_owned(), id.into())].into_iter().collect()
    };
    let send = async |sandbox: &superoffice_sandbox::Sandbox, audience: &str, id: &str| {
        let change = StateChange::new("Cust10001", ChangeType::Delete, &target);
        let audience = Some(audience.to_owned()).filter(|audience| !audience.is_empty());
        let change = StateChange { audience, claims: claims(id), ..change };
        sandbox.send_state_change(&change).await.unwrap()
    };
    assert_eq!(send(sandbox, "ffffffffffffffffffffffffffffffff", "1").await, 401);
    assert_eq!(send(sandbox, CLIENT_ID, "1").await, 200);
    assert_eq!(send(sandbox, CLIENT_ID, "1").await, 401);
    assert_eq!(send(sandbox, "", "2").await, 200);
    let mut place = place;
    place.world.restart().await;
    for id in ["1", "2"] {
        assert_eq!(send(&place.world.sandbox, CLIENT_ID, id).await, 401);
    }
    assert_eq!(send(&place.world.sandbox, CLIENT_ID, "3").await, 200);
}
