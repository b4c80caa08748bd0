//! Tests of the OAuth client over real HTTP without the gateway: people sign in with a browser, codes and refresh
//! tokens are exchanged, and faults of SuperOffice lose no refresh token.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use superoffice_sandbox::{
    Endpoint, Fault, FaultScope, PreviousToken, SignIn, SignInRules, TenantState, people::Associate,
};
use tenant_gateway::{
    domain::{ContextIdentifier, RefreshToken},
    ports::{
        ApiCredential, AssociateQueries as _, AuthorizationRequest, CodeExchange, CodeResponse,
        ExchangeError, OAuth as _, RefreshResponse, TenantStatusSource as _, UpstreamError,
        VerifiedAccess, WebApiHost as _,
    },
    superoffice::{PeopleRequests, SuperOffice},
};
use url::{Url, form_urlencoded};

use crate::{
    support::{CLIENT_ID, CLIENT_SECRET, Options, World, faults::forged_id_tokens, http},
    web_api::speaks_for,
};

const REDIRECT: &str = "https://gateway.example/oauth/callback?of=a&b";
const STATE: &str = "st\"ate+/= &<ø>";
const NONCE: &str = "n-0S6_WzA2Mj+";
/// The time limit of a call.
const TIMEOUT: Duration = Duration::from_secs(10);

// Verifier and challenge of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A tenant with people who can sign in to the application.
struct People {
    world: World,
    superoffice: SuperOffice,
    administrator: Associate,
    employee: Associate,
}

fn tenant() -> ContextIdentifier {
    "Cust1".parse().unwrap()
}

async fn people(rules: SignInRules) -> People {
    let world = World::with_files(Options::default()).await;
    world.make_tenant("Cust1");
    let sandbox = &world.sandbox;
    sandbox.generate_people("Cust1", 60, 1).unwrap();
    let sign_in = SignIn { system_token: true, ..SignIn::web(&[REDIRECT]) };
    sandbox.set_sign_in(CLIENT_ID, &sign_in).unwrap();
    sandbox.set_sign_in_rules(rules);
    let people = sandbox.people("Cust1").unwrap();
    let one = |administrator: bool| {
        let mut users = people.users();
        users.find(|one| people.is_administrator(one) == administrator).unwrap().clone()
    };
    let superoffice = speaks_for(&world, CLIENT_SECRET, None);
    People { superoffice, administrator: one(true), employee: one(false), world }
}

impl People {
    /// Runs a sign-in in a browser, and returns the parameters of the last redirect.
    async fn browse(
        &self,
        tenant: Option<ContextIdentifier>,
        user: &Associate,
    ) -> Vec<(String, String)> {
        let state = STATE.into();
        let uri = self.superoffice.authorization_uri(&AuthorizationRequest {
            tenant,
            redirect_uri: REDIRECT,
            state: &state,
            nonce: NONCE,
            code_challenge: CHALLENGE,
            login_hint: Some(&user.user_name),
        });
        let uri = Url::parse(uri.expose_secret()).unwrap();
        let host = uri.socket_addrs(|| None).unwrap()[0];
        let path = format!("{}?{}", uri.path(), uri.query().unwrap());
        let mut page = http::send(host, "GET", &path, &[], b"").await;
        let selected = format!("value=\"{}\" selected", user.user_name.replace('\'', "&#39;"));
        assert!(page.body.contains(&selected), "the login hint is ignored: {}", page.body);
        for (field, value) in [("user", user.user_name.as_str()), ("decision", "approve")] {
            assert_eq!(page.status, 200, "{page:?}");
            let between = |before: &str| {
                let (_, rest) = page.body.split_once(before).unwrap();
                rest.split('"').next().unwrap().to_owned()
            };
            let request = between("name=\"request\" value=\"");
            let mut form = form_urlencoded::Serializer::new(String::new());
            let form = form.append_pair("request", &request).append_pair(field, value).finish();
            let kind = ("Content-Type", "application/x-www-form-urlencoded");
            let action = between("action=\"");
            page = http::send(host, "POST", &action, &[kind], form.as_bytes()).await;
        }
        let location = Url::parse(page.header("location").unwrap()).unwrap();
        assert!(location.as_str().starts_with(REDIRECT));
        location.query_pairs().into_owned().collect()
    }

    /// Signs in and returns the code.
    async fn code(&self, user: &Associate) -> SecretString {
        let told = self.browse(Some(tenant()), user).await;
        let one = |name: &str| told.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(one("state"), STATE);
        one("code").into()
    }

    async fn exchange(
        &self,
        code: &SecretString,
        nonce: &str,
    ) -> Result<CodeResponse, ExchangeError> {
        let verifier = VERIFIER.into();
        let exchange = CodeExchange {
            code,
            redirect_uri: REDIRECT,
            verifier: &verifier,
            nonce,
            max_wait: TIMEOUT,
        };
        self.superoffice.exchange_code(&exchange).await
    }

    async fn sign_in(&self, user: &Associate) -> (SecretString, VerifiedAccess) {
        let signed_in = self.exchange(&self.code(user).await, NONCE).await.unwrap();
        (signed_in.refresh_token.secret().clone(), signed_in.access.unwrap())
    }

    async fn refresh(&self, token: &SecretString) -> Result<RefreshResponse, ExchangeError> {
        self.superoffice.refresh(token).await
    }

    /// Returns the associate that the Web API sees for an access token.
    async fn acts_as(&self, access: &VerifiedAccess) -> u32 {
        let uri = self.superoffice.read(tenant()).await.unwrap().web_api_uri.unwrap();
        let access_token = access.access_token.clone();
        let credential = ApiCredential::Person { access_token };
        let call = PeopleRequests.current_principal(tenant());
        let response = self.superoffice.send(&uri, &credential, call.request()).await.unwrap();
        assert_eq!(response.status, 200);
        let body: Vec<_> = response.body.try_collect().await.unwrap();
        call.read(&body.concat()).unwrap().id.get().unsigned_abs()
    }

    fn inject(&self, endpoint: Endpoint, fault: Fault) {
        self.world.sandbox.inject(endpoint, fault, FaultScope::always()).unwrap();
    }
}

/// Returns the current refresh token, and the rest of the response.
async fn parts(
    old: &SecretString,
    refreshed: RefreshResponse,
) -> (SecretString, Result<VerifiedAccess, UpstreamError>) {
    let mut kept = old.clone();
    let keep = |token: Option<RefreshToken>| {
        if let Some(token) = token {
            kept = token.secret().clone();
        }
        async { Ok::<_, ()>(()) }
    };
    let rest = refreshed.after_storing(keep).await.unwrap();
    (kept, rest)
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_the_token_acts_as_them() {
    let people = people(SignInRules::default()).await;
    let code = people.code(&people.employee).await;
    let signed_in = people.exchange(&code, NONCE).await.unwrap();
    let access = signed_in.access.unwrap();
    let identity = &access.identity;
    assert_eq!(identity.tenant, tenant());
    assert_eq!(identity.associate_id.get().unsigned_abs(), people.employee.id);
    assert_eq!(identity.user_principal_name, people.employee.user_name);
    assert!(!identity.is_administrator && identity.system_user_token.is_none());
    assert_eq!(identity.company_name, "Company of Cust1");
    assert_eq!(access.expires_in, Duration::from_hours(1));
    assert_eq!(people.acts_as(&access).await, people.employee.id);
    // A code works once.
    let again = people.exchange(&code, NONCE).await;
    assert_eq!(again.err(), Some(ExchangeError::InvalidGrant));

    let (token, rest) = {
        let old = signed_in.refresh_token.secret();
        parts(old, people.refresh(old).await.unwrap()).await
    };
    assert_eq!(token.expose_secret(), signed_in.refresh_token.secret().expose_secret());
    assert_eq!(people.acts_as(&rest.unwrap()).await, people.employee.id);
}

#[tokio::test]
async fn without_a_tenant_the_person_signs_in_to_their_own() {
    let people = people(SignInRules::default()).await;
    let told = people.browse(None, &people.employee).await;
    let code = told.iter().find(|(name, _)| name == "code").unwrap().1.as_str().into();
    let access = people.exchange(&code, NONCE).await.unwrap().access.unwrap();
    assert_eq!(access.identity.tenant, tenant());
}

#[tokio::test]
async fn an_administrators_sign_in_returns_the_system_user_token() {
    let people = people(SignInRules::default()).await;
    let token = people.world.sandbox.authorize(CLIENT_ID, "Cust1").unwrap();
    let (_, access) = people.sign_in(&people.administrator).await;
    assert!(access.identity.is_administrator);
    let told = access.identity.system_user_token.unwrap();
    assert_eq!(told.secret().expose_secret(), token);
}

#[tokio::test]
async fn every_observed_form_is_accepted_and_tokens_rotate_without_loss() {
    let rules = SignInRules {
        rotation: true,
        reuse_revokes_grant: true,
        expires_in_is_text: true,
        lower_case_token_type: true,
        unpadded_access_tokens: true,
        iat_is_text: true,
        access_token_seconds: 1200,
        omitted_claims: vec!["webapi_url".to_owned(), "netserver_url".to_owned()],
        ..SignInRules::default()
    };
    let people = people(rules).await;
    let (mut token, _) = people.sign_in(&people.employee).await;
    for _ in 0..5 {
        let before = token.expose_secret().to_owned();
        let (after, rest) = parts(&token, people.refresh(&token).await.unwrap()).await;
        assert_ne!(after.expose_secret(), before);
        assert_eq!(rest.unwrap().expires_in, Duration::from_mins(20));
        token = after;
    }
    assert_eq!(people.world.sandbox.grants()[0].reuses, 0);
}

#[tokio::test]
async fn a_forged_id_token_is_rejected_and_no_refresh_token_is_lost() {
    let rules = SignInRules { rotation: true, reuse_revokes_grant: true, ..Default::default() };
    let people = people(rules).await;
    let (mut token, _) = people.sign_in(&people.employee).await;
    let missing = |claims: &[&str]| Fault::MissingClaims {
        claims: claims.iter().map(|claim| (*claim).to_owned()).collect(),
    };
    let mut faults = forged_id_tokens("Cust2");
    faults.extend([
        missing(&["ctx"]),
        missing(&["associateid"]),
        missing(&["exp"]),
        missing(&["iss"]),
        missing(&["aud"]),
        missing(&["sub"]),
        Fault::MissingFields { fields: vec!["id_token".to_owned()] },
        Fault::MissingFields { fields: vec!["access_token".to_owned()] },
    ]);
    for fault in faults {
        let name = format!("{fault:?}");
        people.inject(Endpoint::Tokens, fault);
        let (kept, rest) = parts(&token, people.refresh(&token).await.unwrap()).await;
        assert!(matches!(rest, Err(UpstreamError::InvalidResponse(_))), "{name}");
        people.world.sandbox.clear_faults();
        let (kept, rest) = parts(&kept, people.refresh(&kept).await.unwrap()).await;
        assert!(rest.is_ok(), "{name}");
        token = kept;
    }
    // The use case checks the person, not the client.
    let other = people.administrator.id;
    people.inject(Endpoint::Tokens, Fault::WrongPerson { associate_id: other });
    let (_, rest) = parts(&token, people.refresh(&token).await.unwrap()).await;
    assert_eq!(rest.unwrap().identity.associate_id.get().unsigned_abs(), other);
}

#[tokio::test]
async fn a_code_of_another_sign_in_is_rejected() {
    let people = people(SignInRules::default()).await;
    let signed_in = people.exchange(&people.code(&people.employee).await, "another").await.unwrap();
    let error = signed_in.access.unwrap_err().to_string();
    assert!(error.contains("not the nonce of this sign-in"), "{error}");
    // The refresh token in the response is valid, so it is revoked.
    people.superoffice.revoke(signed_in.refresh_token.secret()).await.unwrap();
    assert!(people.world.sandbox.grants()[0].revoked);

    people.inject(Endpoint::Tokens, Fault::WrongNonce);
    let signed_in = people.exchange(&people.code(&people.employee).await, NONCE).await.unwrap();
    assert!(signed_in.access.is_err());

    people.world.sandbox.clear_faults();
    let code = people.code(&people.employee).await;
    let verifier = "x".repeat(43).into();
    let exchange = CodeExchange {
        code: &code,
        redirect_uri: REDIRECT,
        verifier: &verifier,
        nonce: NONCE,
        max_wait: TIMEOUT,
    };
    let refused = people.superoffice.exchange_code(&exchange).await;
    assert_eq!(refused.err(), Some(ExchangeError::InvalidGrant));
}

#[tokio::test]
async fn transport_failures_are_reported_and_end_no_grant() {
    let people = people(SignInRules::default()).await;
    let (token, _) = people.sign_in(&people.employee).await;
    let after_effect = Fault::after_effect;
    for (fault, wanted) in [
        (Fault::status(500), "Transient"),
        (Fault::status(503), "Transient"),
        (Fault::status(429), "Transient"),
        (Fault::status(400), "Transient"),
        (Fault::status(404), "Transient"),
        (Fault::json(400, json!({ "error": "server_error" })), "Transient"),
        (Fault::json(400, json!({ "error": "invalid_grant" })), "InvalidGrant"),
        (Fault::json(401, json!({ "error": "invalid_client" })), "InvalidClient"),
        (Fault::json(200, json!({ "error": "invalid_grant" })), "InvalidResponse"),
        (Fault::Html, "InvalidResponse"),
        (Fault::Huge { mebibytes: 2 }, "InvalidResponse"),
        (Fault::status(204), "InvalidResponse"),
        (Fault::Reset, "Transient"),
        (Fault::Close, "Transient"),
        (after_effect(Fault::Close), "Transient"),
        (after_effect(Fault::Truncate), "Transient"),
        (Fault::Redirect { location: "http://127.0.0.1:9/elsewhere".to_owned() }, "Transient"),
    ] {
        let name = format!("{fault:?}");
        let calls = people.world.sandbox.calls(Endpoint::Tokens);
        people.inject(Endpoint::Tokens, fault);
        let error = format!("{:?}", people.refresh(&token).await.err());
        assert!(error.starts_with(&format!("Some({wanted}")), "{name}: {error}");
        assert_eq!(people.world.sandbox.calls(Endpoint::Tokens), calls + 1, "{name}: once");
        people.world.sandbox.clear_faults();
        assert!(people.refresh(&token).await.is_ok(), "{name}");
    }
    people.world.sandbox.set_state("Cust1", TenantState::Suspended).unwrap();
    let suspended = people.refresh(&token).await.err().unwrap();
    assert!(matches!(suspended, ExchangeError::Transient(_)), "{suspended}");
}

#[tokio::test]
async fn a_lost_response_of_a_rotation_reports_that_the_token_may_be_spent() {
    let previous_token = PreviousToken::AcceptedTimes { times: 1 };
    let rules = SignInRules { rotation: true, previous_token, ..Default::default() };
    let people = people(rules).await;
    let (token, _) = people.sign_in(&people.employee).await;
    people.inject(Endpoint::Tokens, Fault::after_effect(Fault::Close));
    let lost = people.refresh(&token).await.err().unwrap();
    assert!(lost.may_have_been_spent(), "{lost}");
    people.world.sandbox.clear_faults();
    // The provider accepts the previous token once.
    assert!(people.refresh(&token).await.is_ok());
    assert_eq!(people.refresh(&token).await.err(), Some(ExchangeError::InvalidGrant));
}

#[tokio::test]
async fn unavailable_keys_spend_no_token() {
    let people = people(SignInRules { rotation: true, ..Default::default() }).await;
    people.inject(Endpoint::Jwks, Fault::status(503));
    let token = people.world.sandbox.begin_grant(CLIENT_ID, "Cust1", people.employee.id).unwrap();
    let token = token.into();
    let error = people.refresh(&token).await.err().unwrap();
    assert!(matches!(error, ExchangeError::NotSent(_)), "{error}");
    assert_eq!(people.world.sandbox.calls(Endpoint::Tokens), 0);
    people.world.sandbox.clear_faults();
    assert!(people.refresh(&token).await.is_ok());
    // SuperOffice signs with another key from now on.
    people.world.sandbox.roll_signing_key(false).unwrap();
    let (token, access) = people.sign_in(&people.employee).await;
    assert!(access.access_token.expose_secret().starts_with("8A:Cust1."));
    assert!(people.refresh(&token).await.is_ok());
}

#[tokio::test]
async fn during_a_secret_change_the_working_one_is_found_and_no_grant_ends() {
    let people = people(SignInRules::default()).await;
    let (token, _) = people.sign_in(&people.employee).await;
    let rotating = speaks_for(&people.world, "not any more", Some(CLIENT_SECRET));
    // The second time, the working secret is tried first.
    for shown in [2, 1] {
        let calls = people.world.sandbox.calls(Endpoint::Tokens);
        assert!(rotating.refresh(&token).await.is_ok());
        assert_eq!(people.world.sandbox.calls(Endpoint::Tokens), calls + shown);
    }
    let wrong = speaks_for(&people.world, "wrong", Some("wrong too"));
    assert_eq!(wrong.refresh(&token).await.err(), Some(ExchangeError::InvalidClient));
    assert!(people.refresh(&token).await.is_ok());
}

#[tokio::test]
async fn a_revoked_token_is_rejected_and_can_be_revoked_again() {
    let people = people(SignInRules::default()).await;
    let (token, _) = people.sign_in(&people.employee).await;
    for _ in 0..2 {
        people.superoffice.revoke(&token).await.unwrap();
        assert_eq!(people.refresh(&token).await.err(), Some(ExchangeError::InvalidGrant));
    }
    people.superoffice.revoke(&"never a token".into()).await.unwrap();
}
