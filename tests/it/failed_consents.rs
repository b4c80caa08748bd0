//! Promises about consents that come to nothing: what the log says for the number on the page, and what the page says
//! to do.

use std::collections::BTreeSet;

use super::*;
use tenant_gateway::grpc::pb::tenant_service_client::TenantServiceClient;

use crate::support::Program;

/// A text from outside that must not get into the log.
const CANARY: &str = "canary-of-superoffice";

/// The program beside a simulated SuperOffice, so that its log can be read.
struct Logged {
    place: Place,
    program: Program,
    /// Secrets that were on the way.
    secrets: BTreeSet<String>,
    number: u32,
}

/// A browser on its way back from SuperOffice.
struct Back {
    uri: url::Url,
    cookie: Option<String>,
}

impl Logged {
    async fn new() -> Self {
        let policy = Some(all_but("Cust10002"));
        let mut place = Place::with("", policy).await;
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

    /// Signs in at SuperOffice by the link of a consent.
    async fn by_link(&mut self, user: &str, tenant: &str, decision: &str) -> Back {
        let begun = self.begin(for_tenant("Cust10001")).await;
        let gone = Page::click(&begun.consent_uri).await;
        let back = Page::sign_in(gone.location(), user, tenant, decision).await;
        self.back(&back, gone.cookie_back())
    }

    /// Signs in by `authorization_uri`.
    async fn by_address(&mut self) -> Back {
        let begun = self.begin(for_tenant("Cust10001")).await;
        let uri = &begun.authorization_uri;
        let back = Page::sign_in(uri, EMPLOYEE, "Cust10001", "approve").await;
        self.back(&back, None)
    }

    fn back(&mut self, uri: &str, cookie: Option<&str>) -> Back {
        let uri = url::Url::parse(uri).unwrap();
        let secret = |(name, value): (_, std::borrow::Cow<'_, str>)| {
            (name == "state" || name == "code").then(|| value.into_owned())
        };
        self.secrets.extend(uri.query_pairs().filter_map(secret));
        Back { uri, cookie: cookie.map(str::to_owned) }
    }

    /// The browser arrives: its page, and the line of the log that has the number on it.
    async fn arrive(&mut self, back: &Back) -> (Page, serde_json::Value) {
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

impl Back {
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
fn assert_told(line: &serde_json::Value, cause: &str, tenant: Option<&str>) {
    let told = line["cause"].as_str().unwrap();
    assert!(told.contains(cause), "{cause}: {line}");
    assert_eq!(line["tenant"].as_str(), tenant.map(name).as_deref(), "{line}");
    assert_eq!(line["application"].as_str(), tenant.map(|_| APPLICATION), "{line}");
}

#[tokio::test]
async fn every_failed_consent_is_logged_with_cause_tenant_application_and_the_number_on_its_page() {
    let mut logged = Logged::new().await;
    let one = Some("Cust10001");

    let spent = logged.by_link(EMPLOYEE, "Cust10001", "refuse").await;
    let (page, line) = logged.arrive(&spent).await;
    assert_eq!(page.status, 412);
    assert_told(&line, "did not consent", one);
    let (_, line) = logged.arrive(&spent).await;
    assert_told(&line, "was used already", None);
    let (_, line) = logged.arrive(&spent.with("state", &"0".repeat(64))).await;
    assert_told(&line, "no sign-in under way has this state", None);
    let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("state", CANARY);
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "does not have the form", None);
    let mut back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await;
    back.cookie = None;
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "its cookie is missing", one);
    for (error, cause) in
        [("server_error", "server_error"), (CANARY, "an error that we do not know")]
    {
        let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("error", error);
        let (_, line) = logged.arrive(&back).await;
        assert_told(&line, cause, one);
    }
    let forged = format!("{CANARY}-code");
    let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await.with("code", &forged);
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "invalid_grant", one);
    let refused = Fault::json(401, serde_json::json!({"error": "invalid_client"}));
    for (fault, cause) in [
        (Fault::status(503), "HTTP 503"),
        (Fault::Reset, "broke"),
        (Fault::Html, ""),
        (Fault::WrongSignature, "believed"),
        (refused, "client secret"),
    ] {
        logged.fail(fault);
        let back = logged.by_link(EMPLOYEE, "Cust10001", "approve").await;
        let (_, line) = logged.arrive(&back).await;
        assert_told(&line, cause, one);
        logged.place.world.sandbox.clear_faults();
    }
    let back = logged.by_link(EMPLOYEE, "Cust10002", "approve").await;
    let (_, line) = logged.arrive(&back).await;
    // Where the person signed in, not where they should have.
    assert_told(&line, "another tenant", Some("Cust10002"));

    // Another person than the one who was asked.
    let expected_user_principal_name = ADMIN.to_owned();
    let begun = pb::BeginConsentRequest { expected_user_principal_name, ..for_tenant("Cust10001") };
    let begun = logged.begin(begun).await;
    let back = Page::sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10001", "approve").await;
    let back = logged.back(&back, None);
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "another person", one);

    // The tenant is stopped while the person signs in; the state outlives the stop.
    let back = logged.by_link(EMPLOYEE, "Cust10001", "refuse").await;
    let uri = format!("http://{}", logged.program.grpc_address);
    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let mut tenants = TenantServiceClient::new(channel);
    let disable = pb::DisableTenantRequest { name: name("Cust10001"), ..Default::default() };
    tenants.disable_tenant(disable).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "is disabled", one);
    tenants.enable_tenant(pb::EnableTenantRequest { name: name("Cust10001") }).await.unwrap();

    // The store fails between the look at the state and its use.
    let store = logged.place.world.folder.path().join("gateway.db");
    let mut meddler = crate::support::audit::meddler(&store).await;
    let break_it = "CREATE TRIGGER broken BEFORE DELETE ON consent_attempts BEGIN SELECT RAISE(FAIL, 'broken'); END";
    sqlx::Executor::execute(&mut meddler, break_it).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "a statement was refused", one);
    sqlx::Executor::execute(&mut meddler, "DROP TRIGGER broken").await.unwrap();
    sqlx::Connection::close(meddler).await.unwrap();
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "did not consent", one);

    // The consent names no tenant, and the person chooses one that policy forbids.
    let anywhere = pb::BeginConsentRequest { tenant: String::new(), ..for_tenant("Cust10001") };
    let begun = logged.begin(anywhere).await;
    let back = Page::sign_in(&begun.authorization_uri, EMPLOYEE, "Cust10002", "approve").await;
    let back = logged.back(&back, None);
    let (_, line) = logged.arrive(&back).await;
    assert_told(&line, "policy does not permit", Some("Cust10002"));

    for secret in &logged.secrets {
        assert!(logged.program.all(secret).is_empty(), "a state or a code is in the log");
    }
    assert!(logged.program.all(CANARY).is_empty(), "a text from outside is in the log");
}

#[tokio::test]
async fn what_never_was_a_sign_in_is_logged_under_the_number_on_its_page_too() {
    let mut logged = Logged::new().await;
    let callback = format!("{}/oauth/callback", logged.place.public_uri);
    let nonsense = logged.back(&callback, None);
    let (page, line) = logged.arrive(&nonsense).await;
    assert_eq!(page.status, 400);
    assert_told(&line, "one state", None);
    let begun = logged.begin(for_tenant("Cust10001")).await;
    let headers = [("Sec-Fetch-Site", "cross-site"), ("X-Request-Id", "foreign-1")];
    let page = Page::of("POST", &begun.consent_uri, &headers, "").await;
    assert!(page.status == 403 && page.text.contains("foreign-1"), "{}", page.text);
    assert_told(&logged.line("foreign-1").await, "not on the consent page", None);
    // A caller that brings what it cannot bring.
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
    assert_told(&logged.line("call-1").await, "invalid_grant", Some("Cust10001"));
    assert!(logged.program.all(CANARY).is_empty());
}

#[tokio::test]
async fn after_a_failed_token_call_the_page_says_what_helps_and_that_helps() {
    let mut logged = Logged::new().await;
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
