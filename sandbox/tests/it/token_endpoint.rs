//! The token endpoint: codes, client authentication, refreshes without rotation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use superoffice_sandbox::{NewApplication, SignIn, SignInRules, TenantState};

use crate::fixture::{CLIENT, ONE, SECRET, key};
use crate::person::{EMPLOYEE, EMPLOYEE_ID, People, REDIRECT, text};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::test]
async fn a_code_is_exchanged_for_the_documented_answer() {
    let people = People::start().await;
    let code = people.sign_in(EMPLOYEE, &[]).await.code();
    let response = people.tokens().form(&People::exchange_form(&code)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["Cache-Control"], "no-store");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], json!(3600));
    let access = text(&body, "access_token");
    let blob = STANDARD.decode(access.strip_prefix("8A:Cust20001.").unwrap()).unwrap();
    assert_eq!((blob[0], blob.len()), (1, 1 + 16 + 4 + 464));
    let refresh = text(&body, "refresh_token");
    assert_eq!(refresh.len(), 64);
    assert!(refresh.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(text(&body, "id_token").split('.').count(), 3);
    assert_eq!(body.as_object().unwrap().len(), 5);
}

#[tokio::test]
async fn parameters_are_taken_from_the_query_if_the_body_is_empty() {
    let people = People::start().await;
    let code = people.sign_in(EMPLOYEE, &[]).await.code();
    let form = People::exchange_form(&code);
    let response = people.tokens().query(&form).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let other = people.tokens().query(&form).json(&json!({})).send().await.unwrap();
    assert_eq!(other.status(), 400);
}

#[tokio::test]
async fn clients_authenticate_by_form_or_by_header_and_not_by_both() {
    let people = People::start().await;
    let token = people.refresh_token(EMPLOYEE).await;
    let bare = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    let basic = |secret: &str| people.tokens().basic_auth(CLIENT, Some(secret)).form(&bare);
    assert_eq!(basic(SECRET).send().await.unwrap().status(), 200);
    let wrong = basic("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert!(wrong.headers()["WWW-Authenticate"].to_str().unwrap().starts_with("Basic"));
    assert_eq!(wrong.json::<serde_json::Value>().await.unwrap()["error"], "invalid_client");

    for (id, secret) in [(CLIENT, "wrong"), (CLIENT, ""), ("other", SECRET), ("", "")] {
        let mut form = bare.to_vec();
        form.extend([("client_id", id), ("client_secret", secret)]);
        let (status, body) = people.answer(&form).await;
        assert_eq!((status, body["error"].as_str()), (401, Some("invalid_client")), "{id}");
    }
    let both = People::refresh_form(&token);
    let both = people.tokens().basic_auth(CLIENT, Some(SECRET)).form(&both).send().await.unwrap();
    assert_eq!(both.status(), 400);
}

#[tokio::test]
async fn a_code_lives_ten_minutes() {
    let people = People::start().await;
    for (seconds, status) in [(598, 200), (600, 400)] {
        people.later(0);
        let code = people.sign_in(EMPLOYEE, &[]).await.code();
        people.later(seconds);
        assert_eq!(people.answer(&People::exchange_form(&code)).await.0, status, "{seconds}");
    }
}

#[tokio::test]
async fn a_code_works_once_and_its_reuse_may_revoke_the_grant() {
    let people = People::start().await;
    for revokes in [false, true] {
        let rules = SignInRules { reuse_revokes_grant: revokes, ..SignInRules::default() };
        people.fixture.sandbox.set_sign_in_rules(rules);
        let code = people.sign_in(EMPLOYEE, &[]).await.code();
        let (_, granted) = people.answer(&People::exchange_form(&code)).await;
        let (status, body) = people.answer(&People::exchange_form(&code)).await;
        assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
        let expected = if revokes { 400 } else { 200 };
        assert_eq!(people.refresh(&text(&granted, "refresh_token")).await.0, expected);
    }
    assert_eq!(people.fixture.sandbox.sign_ins().codes_repeated, 2);
}

#[tokio::test]
async fn a_code_is_bound_to_its_client_and_its_redirect() {
    let people = People::start().await;
    let other = NewApplication {
        name: "Other".into(),
        client_id: "other".into(),
        client_secret: "other-secret".into(),
        public_key: key().public_pem(),
    };
    people.fixture.sandbox.add_application(other).unwrap();
    for changes in [
        vec![("client_id", "other"), ("client_secret", "other-secret")],
        vec![("redirect_uri", "https://app.example/other")],
        vec![("code_verifier", VERIFIER)],
        vec![("code", "nonsense")],
    ] {
        let code = people.sign_in(EMPLOYEE, &[]).await.code();
        let mut form = People::exchange_form(&code);
        form.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        form.extend(&changes);
        let (status, body) = people.answer(&form).await;
        let answer = (status, body["error"].as_str());
        assert_eq!(answer, (400, Some("invalid_grant")), "{changes:?}");
    }
    assert!(people.fixture.sandbox.grants().is_empty());
}

#[tokio::test]
async fn a_code_is_bound_to_its_challenge_with_plain_as_default_method() {
    let people = People::start().await;
    for (method, challenge, verifier, status) in [
        ("S256", CHALLENGE, VERIFIER, 200),
        ("S256", CHALLENGE, CHALLENGE, 400),
        ("S256", CHALLENGE, "", 400),
        ("plain", VERIFIER, VERIFIER, 200),
        ("", VERIFIER, VERIFIER, 200),
        ("", CHALLENGE, VERIFIER, 400),
    ] {
        let changes = [("code_challenge", challenge), ("code_challenge_method", method)];
        let code = people.sign_in(EMPLOYEE, &changes).await.code();
        let mut form = People::exchange_form(&code);
        form.push(("code_verifier", verifier));
        assert_eq!(people.answer(&form).await.0, status, "{method} {challenge} {verifier}");
    }
}

#[tokio::test]
async fn a_native_application_needs_its_secret_only_for_refreshes() {
    let people = People::start().await;
    let native = SignIn { native: true, ..SignIn::web(&[REDIRECT]) };
    people.fixture.sandbox.set_sign_in(CLIENT, &native).unwrap();
    let changes = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    let code = people.sign_in(EMPLOYEE, &changes).await.code();
    let mut form = People::exchange_form(&code);
    form.retain(|(name, _)| *name != "client_secret");
    form.push(("code_verifier", VERIFIER));
    let (status, granted) = people.answer(&form).await;
    assert_eq!(status, 200, "{granted}");
    let token = text(&granted, "refresh_token");
    let mut form = People::refresh_form(&token);
    form.retain(|(name, _)| *name != "client_secret");
    assert_eq!(people.answer(&form).await.0, 401);
    assert_eq!(people.refresh(&token).await.0, 200);
}

#[tokio::test]
async fn a_refresh_token_is_reusable_and_the_response_has_no_new_one() {
    let people = People::start().await;
    let token = people.refresh_token(EMPLOYEE).await;
    let mut seen = Vec::new();
    for day in 0..3 {
        people.later(day * 86_400);
        let (status, body) = people.refresh(&token).await;
        assert_eq!((status, body.as_object().unwrap().len()), (200, 4));
        assert_eq!(body["refresh_token"], json!(null));
        seen.push(text(&body, "access_token"));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
    assert_eq!(people.fixture.sandbox.sign_ins().refreshes, 3);
    let grant = &people.fixture.sandbox.grants()[0];
    assert_eq!((grant.tenant.as_str(), grant.associate_id), (ONE, EMPLOYEE_ID));
    assert_eq!((grant.refreshes(), grant.refresh_tokens.len()), (3, 1));
}

#[tokio::test]
async fn a_refresh_token_is_rejected_from_another_client_or_with_white_space() {
    let people = People::start().await;
    let other = NewApplication {
        name: "Other".into(),
        client_id: "other".into(),
        client_secret: "other-secret".into(),
        public_key: key().public_pem(),
    };
    people.fixture.sandbox.add_application(other).unwrap();
    let token = people.refresh_token(EMPLOYEE).await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "other"),
        ("client_secret", "other-secret"),
        ("refresh_token", token.as_str()),
    ];
    assert_eq!(people.answer(&form).await.1["error"], "invalid_grant");
    assert_eq!(people.refresh(&format!("{token}\n")).await.1["error"], "invalid_grant");
    assert_eq!(people.refresh(&token).await.0, 200);
}

#[tokio::test]
async fn rejects_invalid_token_requests() {
    let people = People::start().await;
    let client = [("client_id", CLIENT), ("client_secret", SECRET)];
    for (more, error) in [
        (vec![], "invalid_request"),
        (vec![("grant_type", "password")], "unsupported_grant_type"),
        (vec![("grant_type", "client_credentials")], "unsupported_grant_type"),
        (vec![("grant_type", "refresh_token")], "invalid_request"),
        (vec![("grant_type", "authorization_code"), ("code", "x")], "invalid_request"),
        (vec![("grant_type", "a"), ("grant_type", "b")], "invalid_request"),
    ] {
        let form = [&client[..], &more].concat();
        let (status, body) = people.answer(&form).await;
        assert_eq!((status, body["error"].as_str()), (400, Some(error)), "{more:?}");
    }
    let uri = format!("{}/login/common/oauth/tokens", people.login());
    assert_eq!(people.fixture.http.get(uri).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn the_response_can_have_the_observed_variants() {
    let rules = SignInRules {
        expires_in_is_text: true,
        lower_case_token_type: true,
        unpadded_access_tokens: true,
        access_token_seconds: 1200,
        ..SignInRules::default()
    };
    let people = People::with(rules).await;
    let granted = people.granted(EMPLOYEE).await;
    assert_eq!(granted["expires_in"], json!("1200"));
    assert_eq!(granted["token_type"], "bearer");
    assert!(!text(&granted, "access_token").ends_with('='));
}

#[tokio::test]
async fn a_tenant_in_maintenance_keeps_the_grant_and_a_deleted_one_ends_it() {
    let people = People::start().await;
    let token = people.refresh_token(EMPLOYEE).await;
    for (state, status) in [
        (TenantState::Suspended, 503),
        (TenantState::OfflineMaintenance, 503),
        (TenantState::OnlineMaintenance, 200),
        (TenantState::Deleted, 400),
        (TenantState::Running, 200),
    ] {
        people.fixture.sandbox.set_state(ONE, state).unwrap();
        assert_eq!(people.refresh(&token).await.0, status, "{state:?}");
    }
}

#[tokio::test]
async fn revocation_needs_no_authentication_and_accepts_unknown_tokens() {
    let people = People::start().await;
    let granted = people.granted(EMPLOYEE).await;
    let (access, refresh) = (text(&granted, "access_token"), text(&granted, "refresh_token"));
    let revoke = |token: &str| {
        // As in a sample: capital R, and all parameters in the query.
        let uri = format!("{}/login/common/oauth/Revoke", people.login());
        let query = [("token", token.to_owned()), ("token_type_hint", "JWT".into())];
        people.fixture.http.post(uri).query(&query).send()
    };
    assert_eq!(revoke("unknown").await.unwrap().status(), 200);
    assert_eq!(revoke(&refresh).await.unwrap().status(), 200);
    assert_eq!(people.refresh(&refresh).await.1["error"], "invalid_grant");
    assert_eq!(people.who(&access).await, 200);
    assert_eq!(revoke(&access).await.unwrap().status(), 200);
    assert_eq!(people.who(&access).await, 401);
    assert_eq!(revoke("").await.unwrap().status(), 400);
    assert_eq!(people.fixture.sandbox.sign_ins().revocations, 2);
    let refresh = people.refresh_token(EMPLOYEE).await;
    let uri = format!("{}/login/common/oauth/revoke", people.login());
    let form = [("token", refresh.as_str())];
    assert_eq!(people.fixture.http.post(uri).form(&form).send().await.unwrap().status(), 200);
    assert_eq!(people.refresh(&refresh).await.0, 400);
}
