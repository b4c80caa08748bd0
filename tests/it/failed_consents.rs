//! Tests of failed consents: the log entry for the number on the page, and the advice on the page.

use std::collections::BTreeSet;

use super::*;
use tenant_gateway::grpc::pb::tenant_service_client::TenantServiceClient;

use crate::support::Program;

/// A text of SuperOffice that must not occur in the log.
const CANARY: &str = "canary-of-superoffice";

/// The program with a simulated SuperOffice, so that its log can be read.
struct LoggedGateway {
    place: ConsentGateway,
    program: Program,
    /// Secrets of the sign-ins.
    secrets: BTreeSet<String>,
    number: u32,
}

/// A redirect of the browser from SuperOffice to the gateway.
struct ReturnRedirect {
    uri: url::Url,
    cookie: Option<String>,
}

impl LoggedGateway {
    async fn new() -> Self {
        let policy = Some(all_but("Cust10002"));
        let mut place = ConsentGateway::with("", policy).await;
        place.world.create("Cust10001").await;
        place.world.stop().await;
        let program = Program::serve(&place.world.config_file(), "").await;
        let rules = SignInRules { ignore_tenant_hint: true, ..SignInRules::default() };
        place.world.sandbox.set_sign_in_rules(rules);
        Self { place, program, secrets: BTreeSet::new(), number: 0 }
    }

    async fn client(&self) -> ImpersonationServiceClient<Channel> {
        let uri = format!("http://{}", self.program.grpc_address);
        let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
        ImpersonationServiceClient::new(channel)
    }

    async fn begin(&mut self, request: pb::BeginConsentRequest) -> pb::BeginConsentResponse {
        let begun = self.client().await.begin_consent(request).await.unwrap().into_inner();
        self.secrets.insert(begun.state.clone());
        begun
    }

    /// Signs in at SuperOffice with the link of a consent.
    async fn by_link(&mut self, user: &str, tenant: &str, decision: &str) -> ReturnRedirect {
        let begun = self.begin(for_tenant("Cust10001")).await;
        let gone = Page::click(&begun.consent_uri).await;
        let back = Page::sign_in(gone.location(), user, tenant, decision).await;
        self.back(&back, gone.cookie_back())
    }

    /// Signs in with `authorization_uri`.
    async fn by_address(&mut self) -> ReturnRedirect {
        let begun = self.begin(for_tenant("Cust10001")).await;
        let uri = &begun.authorization_uri;
        let back = Page::sign_in(uri, EMPLOYEE, "Cust10001", "approve").await;
        self.back(&back, None)
    }

    fn back(&mut self, uri: &str, cookie: Option<&str>) -> ReturnRedirect {
        let uri = url::Url::parse(uri).unwrap();
        let secret = |(name, value): (_, std::borrow::Cow<'_, str>)| {
            (name == "state" || name == "code").then(|| value.into_owned())
        };
        self.secrets.extend(uri.query_pairs().filter_map(secret));
        ReturnRedirect { uri, cookie: cookie.map(str::to_owned) }
    }

    /// Follows the redirect. Returns the page, and the log line with its number.
    async fn arrive(&mut self, back: &ReturnRedirect) -> (Page, serde_json::Value) {
        self.number += 1;
        let number = format!("case-{}", self.number);
        let mut headers = vec![("X-Request-Id", number.as_str())];
        headers.extend(back.cookie.as_deref().map(|cookie| ("Cookie", cookie)));
        let page = Page::of("GET", back.uri.as_str(), &headers, "").await;
        assert!(page.status >= 400, "{}", page.text);
        assert!(page.text.contains(&number), "{}", page.text);
        let line = self.line(&number).await;
        (page, line)
    }

    async fn line(&self, number: &str) -> serde_json::Value {
        let mut found = None;
        eventually("the failure is logged", || {
            found = self.program.all(number).into_iter().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).ok()?;
                (line["message"] == "a consent was not given").then_some(line)
            });
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    fn fail(&self, fault: Fault) {
        self.place.world.sandbox.inject(Endpoint::Tokens, fault, FaultScope::times(1)).unwrap();
    }
}

impl ReturnRedirect {
    fn with(mut self, name: &str, value: &str) -> Self {
        let pairs: Vec<(String, String)> = self.uri.query_pairs().into_owned().collect();
        let kept =
            pairs.iter().filter(|(key, _)| key != name && (name != "error" || key != "code"));
        let kept: Vec<_> = kept.cloned().chain([(name.to_owned(), value.to_owned())]).collect();
        self.uri.query_pairs_mut().clear().extend_pairs(kept);
        self
    }
}

#[track_caller]
fn assert_logged(line: &serde_json::Value, cause: &str, tenant: Option<&str>) {
    let told = line["cause"].as_str().unwrap();
    assert!(told.contains(cause), "{cause}: {line}");
    assert_eq!(line["tenant"].as_str(), tenant.map(name).as_deref(), "{line}");
    assert_eq!(line["application"].as_str(), tenant.map(|_| APPLICATION), "{line}");
}

#[tokio::test]
async fn every_failed_consent_is_logged_with_cause_tenant_application_and_the_number_on_its_page() {
    let mut logged = LoggedGateway::new().await;
    let one = Some("Cust10001");

    let spent = logged.by_link(EMPLOYEE, "Cust10001", "refuse").await;
    let (page, line) = logged.arrive(&spent).await;
    assert_eq!(page.status, 412);
    assert_logged(&line, "did not consent", one);
    let (_, line) = logged.arrive(&spent).await;
    assert_logged(&line, "was already used", None);
    let (_, line) = logged.arrive(&spent.with("state", &"0".repeat(64))).await;
    assert_logged(&line, "no pending sign-in has this state", None);
    let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("state", CANARY);
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "does not have the form", None);
    let mut back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await;
    back.cookie = None;
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "its cookie is missing", one);
    for (error, cause) in [("server_error", "server_error"), (CANARY, "an unknown error")] {
        let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("error", error);
        let (_, line) = logged.arrive(&back).await;
        assert_logged(&line, cause, one);
    }
    let forged = format!("{CANARY}-code");
    let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("code", &forged);
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "invalid_grant", one);
    let refused = Fault::json(401, serde_json::json!({"error": "invalid_client"}));
    for (fault, cause) in [
        (Fault::status(503), "HTTP 503"),
        (Fault::Reset, "broke"),
        (Fault::Html, ""),
        (Fault::WrongSignature, "wrong signature"),
        (refused, "client secret"),
    ] {
        logged.fail(fault);
        let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await;
        let (_, line) = logged.arrive(&back).await;
        assert_logged(&line, cause, one);
        logged.place.world.sandbox.clear_faults();
    }
    let back = logged.by_link(EMPLOYEE, "Cust10002", "approve").await;
    let (_, line) = logged.arrive(&back).await;
    // The tenant of the sign-in, not the requested one.
    assert_logged(&line, "another tenant", Some("Cust10002"));

    // A person other than the expected one.
    let expected_user_principal_name = ADMIN.to_owned();
    let begun = pb::BeginConsentRequest { expected_user_principal_name, ..for_tenant("Cust10001") };
    let begun = logged.begin(begun).await;
    let back = Page::sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10001", "approve").await;
    let back = logged.back(&back, None);
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "another person", one);

    // The tenant is disabled during the sign-in; the state stays valid.
    let back = logged.by_link(EMPLOYEE, "Cust10001", "refuse").await;
    let uri = format!("http://{}", logged.program.grpc_address);
    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let mut tenants = TenantServiceClient::new(channel);
    let disable = pb::DisableTenantRequest { name: name("Cust10001"), ..Default::default() };
    tenants.disable_tenant(disable).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "is disabled", one);
    tenants.enable_tenant(pb::EnableTenantRequest { name: name("Cust10001") }).await.unwrap();

    // The store fails between the check of the state and its use.
    let store = logged.place.world.folder.path().join("gateway.db");
    let mut connection = crate::support::audit::open_without_key(&store).await;
    let break_it = "CREATE TRIGGER broken BEFORE DELETE ON consent_attempts BEGIN SELECT RAISE(FAIL, 'broken'); END";
    sqlx::Executor::execute(&mut connection, break_it).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "a statement failed", one);
    sqlx::Executor::execute(&mut connection, "DROP TRIGGER broken").await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "did not consent", one);

    // The consent names no tenant, and the person chooses one that policy forbids.
    let anywhere = pb::BeginConsentRequest { tenant: String::new(), ..for_tenant("Cust10001") };
    let begun = logged.begin(anywhere).await;
    let back = Page::sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10002", "approve").await;
    let back = logged.back(&back, None);
    let (_, line) = logged.arrive(&back).await;
    assert_logged(&line, "policy does not permit", Some("Cust10002"));

    for secret in &logged.secrets {
        assert!(logged.program.all(secret).is_empty(), "a state or a code is in the log");
    }
    assert!(logged.program.all(CANARY).is_empty(), "a text from outside is in the log");
}

#[tokio::test]
async fn requests_without_a_sign_in_are_logged_with_the_number_on_the_page() {
    let mut logged = LoggedGateway::new().await;
    let callback = format!("{}/oauth/callback", logged.place.public_uri);
    let nonsense = logged.back(&callback, None);
    let (page, line) = logged.arrive(&nonsense).await;
    assert_eq!(page.status, 400);
    assert_logged(&line, "one state", None);
    let begun = logged.begin(for_tenant("Cust10001")).await;
    let headers = [("Sec-Fetch-Site", "cross-site"), ("X-Request-Id", "foreign-1")];
    let page = Page::of("POST", &begun.consent_uri, &headers, "").await;
    assert!(page.status == 403 && page.text.contains("foreign-1"), "{}", page.text);
    assert_logged(&logged.line("foreign-1").await, "not on the consent page", None);
    // A caller completes with a state that is not its own.
    let bring = |state: String| {
        let complete = pb::CompleteConsentRequest { state, code: format!("{CANARY}-code") };
        let mut request = tonic::Request::new(complete);
        request.metadata_mut().insert("x-request-id", "call-1".parse().unwrap());
        request
    };
    let redirect_uri = FRONT_END.to_owned();
    let front_end = pb::BeginConsentRequest { redirect_uri, ..for_tenant("Cust10001") };
    let begun = logged.begin(front_end).await;
    logged.client().await.complete_consent(bring(begun.state)).await.unwrap_err();
    assert_logged(&logged.line("call-1").await, "invalid_grant", Some("Cust10001"));
    assert!(logged.program.all(CANARY).is_empty());
}

#[tokio::test]
async fn the_advice_after_a_failed_token_call_works() {
    let mut logged = LoggedGateway::new().await;
    let grant = "Access was given";
    logged.fail(Fault::status(503));
    let begun = logged.begin(for_tenant("Cust10001")).await;
    let gone = Page::click(&begun.consent_uri).await;
    let back = Page::sign_in(gone.location(), EMPLOYEE, "Cust10001", "approve").await;
    let page = Page::get(&back, gone.cookie_back()).await;
    assert_eq!(page.status, 503, "{}", page.text);
    assert!(page.text.contains("Open the link that you were sent again"), "{}", page.text);
    assert!(!page.text.contains("eload"), "{}", page.text);
    let page = give_consent(&begun.consent_uri, EMPLOYEE, "Cust10001").await;
    assert!(page.status == 200 && page.text.contains(grant), "{}", page.text);

    logged.fail(Fault::status(503));
    let back = logged.by_address().await;
    let (page, _) = logged.arrive(&back).await;
    assert!(page.text.contains("Begin again where you came from"), "{}", page.text);
    assert!(!page.text.contains("pen the link"), "{}", page.text);
    let back = logged.by_address().await;
    let page = Page::get(back.uri.as_str(), None).await;
    assert!(page.status == 200 && page.text.contains(grant), "{}", page.text);
}
