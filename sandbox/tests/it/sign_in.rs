//! The authorize page.

use superoffice_sandbox::{
    ApprovalPage, Endpoint, Fault, FaultScope, SignIn, SignInRules, SignIns, TenantState,
};

use crate::fixture::{CLIENT, ONE, TWO};
use crate::person::{ADMIN, EMPLOYEE, Page, People, REDIRECT, STATE};

const WRONG_REDIRECT: &str = "Authorization error: InvalidRedirectUrl (2)";
const AUTHORIZE: &str = "/login/common/oauth/authorize";

fn is_error(page: &Page, status: u16, text: &str) {
    assert_eq!((page.status, page.text_of("error")), (status, text));
    assert!(page.has("request-id"));
    assert_eq!(page.location, None);
}

#[tokio::test]
async fn a_person_picks_user_and_tenant_approves_and_is_sent_back_with_a_code() {
    let people = People::start().await;
    let page = people.ask(&[]).await;
    assert_eq!(page.status, 200);
    let page = people.send(&page, &[("user", EMPLOYEE)]).await;
    assert!(page.has("choose-tenant"));
    assert_eq!(page.options().0, [ONE, TWO]);
    let page = people.send(&page, &[("tenant", TWO)]).await;
    assert_eq!(page.text_of("in-tenant"), TWO);
    assert_eq!(page.text_of("signed-in"), "erik.o&#39;brien@example.com");
    let page = people.send(&page, &[("decision", "approve")]).await;
    let code = page.code();
    assert_eq!(code.len(), 64);
    assert!(code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(page.told("state").as_deref(), Some(STATE));
    assert!(page.location.unwrap().starts_with(&format!("{REDIRECT}?state=")));
}

#[tokio::test]
async fn the_tenant_page_is_skipped_for_a_user_with_one_tenant() {
    let people = People::start().await;
    let page = people.ask(&[]).await;
    let page = people.send(&page, &[("user", &ADMIN.to_uppercase())]).await;
    assert_eq!(page.text_of("in-tenant"), ONE);
}

#[tokio::test]
async fn the_tenant_page_is_skipped_if_the_request_or_path_names_a_tenant() {
    let people = People::start().await;
    let page = people.ask(&[("acr_values", "x tenant:Cust20002")]).await;
    assert!(!page.options().0.contains(&ADMIN.to_owned()));
    let page = people.send(&page, &[("user", EMPLOYEE)]).await;
    assert_eq!(page.text_of("in-tenant"), TWO);

    let path = format!("/login/{TWO}/oauth/authorize");
    let page = people.open(&path, &People::parameters()).await;
    assert_eq!(page.action(), path);
    let page = people.send(&page, &[("user", EMPLOYEE)]).await;
    assert_eq!(page.text_of("in-tenant"), TWO);
    people.send(&page, &[("decision", "approve")]).await.code();
    assert_eq!(people.fixture.sandbox.calls_for(Endpoint::Authorize, TWO), 5);
}

#[tokio::test]
async fn the_expected_user_comes_first_and_is_selected() {
    let people = People::start().await;
    let (users, selected) = people.ask(&[]).await.options();
    assert!(users.len() > 2);
    assert_eq!(selected, None);
    let (users, selected) =
        people.ask(&[("login_hint", "ERIK.O'BRIEN@example.com")]).await.options();
    assert_eq!((users[0].as_str(), selected.as_deref()), (EMPLOYEE, Some(EMPLOYEE)));
    let (_, selected) = people.ask(&[("login_hint", "nobody@example.com")]).await.options();
    assert_eq!(selected, None);
}

#[tokio::test]
async fn only_employees_who_can_sign_in_are_users() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let (users, _) = people.ask(&[("acr_values", "tenant:Cust20001")]).await.options();
    let expected: Vec<String> =
        sandbox.people(ONE).unwrap().users().map(|one| one.user_name.clone()).collect();
    assert_eq!(users.len(), expected.len());
    assert!(expected.iter().all(|user| users.contains(user)));
    sandbox.change_associate(ONE, 501, |admin| admin.deleted = true).unwrap();
    is_error(&people.sign_in(ADMIN, &[]).await, 403, "Account does not have access");
    for user in ["ext5@customer.example", "nobody@example.com", "<b>"] {
        is_error(&people.sign_in(user, &[]).await, 403, "Account does not have access");
    }
}

#[tokio::test]
async fn a_refusal_on_any_page_is_reported_to_the_application() {
    let people = People::start().await;
    let first = people.ask(&[]).await;
    let second = people.send(&first, &[("user", EMPLOYEE)]).await;
    let third = people.send(&second, &[("tenant", ONE)]).await;
    for page in [first, second, third] {
        let back = people.send(&page, &[("decision", "refuse")]).await;
        assert_eq!(back.told("error").as_deref(), Some("access_denied"));
        assert_eq!((back.told("state").as_deref(), back.told("code")), (Some(STATE), None));
    }
    assert_eq!(people.fixture.sandbox.sign_ins().refusals, 3);
}

#[tokio::test]
async fn an_unknown_application_or_redirect_shows_an_error_page_without_redirect() {
    let people = People::start().await;
    for (name, value) in [
        ("client_id", "ffffffffffffffffffffffffffffffff"),
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "https://app.example/callback"),
        ("redirect_uri", "https://app.example/Callback/"),
        ("redirect_uri", "https://app.example/Callback?x=1"),
        ("redirect_uri", "https://evil.example/Callback"),
    ] {
        is_error(&people.ask(&[(name, value)]).await, 400, WRONG_REDIRECT);
    }
    let mut twice = People::parameters();
    twice.push(("redirect_uri", REDIRECT));
    is_error(&people.open(AUTHORIZE, &twice).await, 400, "Technical error");
}

#[tokio::test]
async fn a_registered_redirect_may_be_a_regular_expression() {
    let people = People::start().await;
    let native = SignIn { native: true, ..SignIn::web(&[r"^http://127.0.0.1\:\d{4,10}$"]) };
    people.fixture.sandbox.set_sign_in(CLIENT, &native).unwrap();
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let uri = ("redirect_uri", "http://127.0.0.1:50505");
    let page = people.sign_in(EMPLOYEE, &[uri, ("code_challenge", challenge)]).await;
    assert!(page.location.as_deref().unwrap().starts_with("http://127.0.0.1:50505?state="));
    is_error(&people.ask(&[("redirect_uri", "http://127.0.0.1:1")]).await, 400, WRONG_REDIRECT);
    let page = people.ask(&[uri]).await;
    assert_eq!(page.told("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn other_request_errors_are_reported_to_the_application() {
    let people = People::start().await;
    let good = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    for (change, error) in [
        (("response_type", ""), "unsupported_response_type"),
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", "email"), "invalid_scope"),
        (("response_mode", "web_message"), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "S256"), "invalid_request"),
    ] {
        let page = people.ask(&[change]).await;
        assert_eq!(page.told("error").as_deref(), Some(error), "{change:?}");
        assert_eq!(page.told("state").as_deref(), Some(STATE));
    }
    let other = [("code_challenge", good), ("code_challenge_method", "S512")];
    assert_eq!(people.ask(&other).await.told("error").as_deref(), Some("invalid_request"));
    let scopes = people.ask(&[("scope", "openid profile webapi")]).await;
    assert_eq!(scopes.status, 200);
}

#[tokio::test]
async fn the_response_comes_in_the_fragment_or_as_a_form_on_request() {
    let people = People::start().await;
    let page = people.sign_in(EMPLOYEE, &[("response_mode", "fragment")]).await;
    assert!(page.location.unwrap().starts_with(&format!("{REDIRECT}#state=")));
    let page = people.sign_in(EMPLOYEE, &[("response_mode", "form_post")]).await;
    assert_eq!((page.status, page.action().as_str()), (200, REDIRECT));
    assert_eq!((page.hidden("state").as_str(), page.hidden("code").len()), (STATE, 64));
    assert!(page.has("back"));
    let page = people.sign_in(EMPLOYEE, &[("response_mode", "query"), ("state", "")]).await;
    assert_eq!(page.told("state"), None);
    page.code();
}

#[tokio::test]
async fn the_state_in_a_page_cannot_be_changed() {
    let people = People::start().await;
    let uri = format!("{}{AUTHORIZE}", people.login());
    let genuine = people.ask(&[]).await.hidden("request");
    let last = if genuine.ends_with('A') { "E" } else { "A" };
    let changed = format!("{}{last}", &genuine[..genuine.len() - 1]);
    for request in ["", "x.y", &changed, &genuine[1..]] {
        let form = [("request", request), ("user", EMPLOYEE)];
        let response = people.fixture.http.post(&uri).form(&form).send().await.unwrap();
        assert_eq!(response.status(), 400, "{request}");
    }
    // A decision that is sent before the approval page is ignored.
    let first = people.ask(&[("acr_values", "tenant:Cust20001")]).await;
    let page = people.send(&first, &[("user", EMPLOYEE), ("decision", "approve")]).await;
    assert!(page.has("approval"));
}

#[tokio::test]
async fn pages_are_html_and_forbid_caching_and_framing() {
    let people = People::start().await;
    let uri = format!("{}{AUTHORIZE}", people.login());
    let uri = reqwest::Url::parse_with_params(&uri, People::parameters()).unwrap();
    let response = people.fixture.http.get(uri).send().await.unwrap();
    assert_eq!(response.headers()["Content-Type"], "text/html; charset=utf-8");
    assert_eq!(response.headers()["Cache-Control"], "no-store");
    assert_eq!(response.headers()["X-Frame-Options"], "DENY");
    let text = response.text().await.unwrap();
    assert!(text.contains("Blåbær &amp; Øl v1.2.Sync"));
    assert!(text.contains("O&#39;Brien &lt;Ø&gt;"));
    assert!(!text.contains("<script"));
}

#[tokio::test]
async fn approval_pages_can_be_for_administrators_only_when_needed() {
    let rules = SignInRules { approval_page: ApprovalPage::WhenNeeded, ..SignInRules::default() };
    let people = People::with(rules).await;
    let page = people.ask(&[("acr_values", "tenant:Cust20001")]).await;
    people.send(&page, &[("user", EMPLOYEE)]).await.code();
}

#[tokio::test]
async fn an_unknown_or_unusable_tenant_shows_an_error_page() {
    let people = People::start().await;
    let denied = "Authorization error: Denied (4)";
    is_error(&people.ask(&[("acr_values", "tenant:Cust9")]).await, 403, denied);
    let page = people.open("/login/Cust9/oauth/authorize", &People::parameters()).await;
    is_error(&page, 403, denied);
    people.fixture.sandbox.set_state(ONE, TenantState::Suspended).unwrap();
    is_error(&people.sign_in(EMPLOYEE, &[]).await, 503, "Technical error");
}

#[tokio::test]
async fn the_requested_tenant_can_be_ignored() {
    let people =
        People::with(SignInRules { ignore_tenant_hint: true, ..SignInRules::default() }).await;
    let asked = people.ask(&[("acr_values", "tenant:Cust20001")]).await;
    let path = format!("/login/{ONE}/oauth/authorize");
    for page in [asked, people.open(&path, &People::parameters()).await] {
        let page = people.send(&page, &[("user", EMPLOYEE)]).await;
        let page = people.send(&page, &[("tenant", TWO)]).await;
        let code = people.send(&page, &[("decision", "approve")]).await.code();
        let (_, granted) = people.answer(&People::exchange_form(&code)).await;
        assert!(granted["access_token"].as_str().unwrap().starts_with("8A:Cust20002."));
    }
}

#[tokio::test]
async fn any_page_can_redirect_with_an_injected_error() {
    let people = People::start().await;
    let first = people.ask(&[]).await;
    let fault = Fault::AuthorizeError { error: "server_error".into() };
    let sandbox = &people.fixture.sandbox;
    sandbox.inject(Endpoint::Authorize, fault.clone(), FaultScope::times(2)).unwrap();
    for page in [people.ask(&[]).await, people.send(&first, &[("user", EMPLOYEE)]).await] {
        assert_eq!(page.told("error").as_deref(), Some("server_error"));
        assert_eq!(page.told("state").as_deref(), Some(STATE));
    }
    sandbox.inject(Endpoint::Tokens, fault, FaultScope::always()).unwrap_err();
}

#[tokio::test]
async fn sign_ins_are_counted() {
    let people = People::start().await;
    people.granted(EMPLOYEE).await;
    let counts = people.fixture.sandbox.sign_ins();
    let expected = SignIns { pages: 2, codes_issued: 1, codes_exchanged: 1, ..SignIns::default() };
    assert_eq!(counts, expected);
    assert_eq!(people.fixture.sandbox.calls(Endpoint::Authorize), 3);
    assert_eq!(people.fixture.sandbox.calls(Endpoint::Tokens), 1);
    people.fixture.sandbox.reset_counts();
    assert_eq!(people.fixture.sandbox.sign_ins(), SignIns::default());
}

#[tokio::test]
async fn a_logout_goes_to_a_registered_address_or_shows_a_page() {
    let people = People::start().await;
    let after = "https://app.example/bye";
    let sign_in = SignIn { post_logout_uris: vec![after.into()], ..SignIn::default() };
    people.fixture.sandbox.set_sign_in(CLIENT, &sign_in).unwrap();
    for name in ["redirect_uri", "post_logout_redirect_uri"] {
        let page = people.open("/login/logout", &[("scope", "openid"), (name, after)]).await;
        assert_eq!((page.status, page.location.as_deref()), (302, Some(after)));
    }
    let page = people.open("/login/logout", &[("redirect_uri", REDIRECT)]).await;
    is_error(&page, 400, WRONG_REDIRECT);
    assert!(people.open("/login/logout", &[]).await.text.contains("signed out"));
}

#[tokio::test]
async fn every_address_in_the_discovery_document_is_served() {
    let people = People::start().await;
    let login = people.login();
    let uri = format!("{login}/login/.well-known/openid-configuration");
    let document: serde_json::Value = people.fixture.get(&uri).await.json().await.unwrap();
    for (name, path, status) in [
        ("authorization_endpoint", "/login/common/oauth/authorize", 400),
        ("token_endpoint", "/login/common/oauth/tokens", 405),
        ("revocation_endpoint", "/login/common/oauth/revoke", 405),
        ("end_session_endpoint", "/login/logout", 200),
        ("jwks_uri", "/login/.well-known/jwks", 200),
    ] {
        let uri = document[name].as_str().unwrap();
        assert_eq!(uri, format!("{login}{path}"));
        assert_eq!(people.fixture.get(uri).await.status(), status, "{name}");
    }
}
