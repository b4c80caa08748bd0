//! The id token.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use superoffice_sandbox::{Endpoint, Fault, FaultScope, SignIn, SignInRules};

use crate::fixture::{APPLICATION, CLIENT, Fixture, IDENTITY, ONE, TWO, decode};
use crate::keys::jwks;
use crate::person::{ADMIN, EMPLOYEE, EMPLOYEE_ID, NONCE, People, REDIRECT, text};

/// Returns the claims, if the key set verifies signature, issuer, audience and lifetime.
async fn verify(fixture: &Fixture, jwt: &str) -> Result<Value, jsonwebtoken::errors::Error> {
    let keys = jwks(fixture).await;
    let part = |name: &str| keys[0][name].as_str().unwrap().to_owned();
    let key = DecodingKey::from_rsa_components(&part("n"), &part("e")).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&[fixture.sandbox.login_uri()]);
    validation.set_audience(&[CLIENT]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    Ok(jsonwebtoken::decode::<Value>(jwt, &key, &validation)?.claims)
}

async fn claims(people: &People, user: &str) -> Value {
    let jwt = text(&people.granted(user).await, "id_token");
    verify(&people.fixture, &jwt).await.unwrap()
}

fn identity<'a>(claims: &'a Value, name: &str) -> Option<&'a str> {
    claims.get(format!("{IDENTITY}{name}")).map(|value| value.as_str().expect("a text"))
}

#[tokio::test]
async fn the_id_token_has_the_documented_header_and_claims() {
    let people = People::start().await;
    let jwt = text(&people.granted(EMPLOYEE).await, "id_token");
    let key = &jwks(&people.fixture).await[0];
    let header = json!({ "alg": "RS256", "kid": key["kid"], "x5t": key["x5t"], "typ": "JWT" });
    assert_eq!(decode(&jwt).0, header);
    let claims = verify(&people.fixture, &jwt).await.unwrap();
    let issued_at = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["nbf"], json!(issued_at - 60));
    assert_eq!(claims["exp"], json!(issued_at + 300));
    assert_eq!((&claims["sub"], &claims["nonce"]), (&json!(EMPLOYEE), &json!(NONCE)));
    let base = format!("{}/{ONE}", people.fixture.sandbox.api_uri(superoffice_sandbox::ApiHost::A));
    for (name, value) in [
        ("associateid", "502"),
        ("identityprovider", "central-superid"),
        ("email", EMPLOYEE),
        ("upn", EMPLOYEE),
        ("so_primary_email_address", "mail.erik.o'brien@example.com"),
        ("initials", "EMP502"),
        ("is_administrator", "False"),
        ("ctx", ONE),
        ("company_name", "Company Cust20001"),
        ("serial", "1800000001"),
        ("netserver_url", &format!("{base}/Remote/Services88/")),
        ("webapi_url", &format!("{base}/api/")),
    ] {
        assert_eq!(identity(&claims, name), Some(value), "{name}");
    }
    assert_eq!(claims.as_object().unwrap().len(), 7 + 12);
}

#[tokio::test]
async fn only_administrators_get_the_system_user_token_if_the_application_has_it() {
    let people = People::start().await;
    let admin = claims(&people, ADMIN).await;
    assert_eq!(identity(&admin, "is_administrator"), Some("True"));
    assert_eq!(identity(&admin, "system_token"), Some(people.fixture.token.as_str()));
    assert!(people.fixture.token.starts_with(&format!("{APPLICATION}-")));
    assert_eq!(identity(&claims(&people, EMPLOYEE).await, "system_token"), None);
    people.fixture.sandbox.set_sign_in(CLIENT, &SignIn::web(&[REDIRECT])).unwrap();
    assert_eq!(identity(&claims(&people, ADMIN).await, "system_token"), None);
}

#[tokio::test]
async fn a_refreshed_id_token_has_current_data_and_no_nonce() {
    let people = People::start().await;
    let token = people.refresh_token(EMPLOYEE).await;
    let change = |one: &mut superoffice_sandbox::people::Associate| one.role_id = 1;
    people.fixture.sandbox.change_associate(ONE, EMPLOYEE_ID, change).unwrap();
    let (_, body) = people.refresh(&token).await;
    let claims = verify(&people.fixture, &text(&body, "id_token")).await.unwrap();
    assert_eq!(identity(&claims, "is_administrator"), Some("True"));
    assert_eq!(claims.get("nonce"), None);
}

#[tokio::test]
async fn an_id_token_has_no_nonce_if_the_request_has_none() {
    let people = People::start().await;
    let code = people.sign_in(EMPLOYEE, &[("nonce", "")]).await.code();
    let (_, body) = people.answer(&People::exchange_form(&code)).await;
    let claims = verify(&people.fixture, &text(&body, "id_token")).await.unwrap();
    assert_eq!(claims.get("nonce"), None);
}

#[tokio::test]
async fn claims_can_be_omitted_and_iat_can_be_a_text() {
    let rules = SignInRules {
        omitted_claims: vec!["webapi_url".into(), "netserver_url".into()],
        iat_is_text: true,
        ..SignInRules::default()
    };
    let people = People::with(rules).await;
    let (_, claims) = decode(&text(&people.granted(EMPLOYEE).await, "id_token"));
    assert_eq!(identity(&claims, "webapi_url"), None);
    assert_eq!(identity(&claims, "netserver_url"), None);
    assert_eq!(identity(&claims, "ctx"), Some(ONE));
    let issued_at: i64 = claims["iat"].as_str().unwrap().parse().unwrap();
    assert_eq!(claims["exp"], json!(issued_at + 300));
}

#[tokio::test]
async fn every_forged_id_token_fails_verification() {
    let people = People::start().await;
    for (fault, error) in [
        (Fault::WrongSignature, "InvalidSignature"),
        (Fault::ForeignKey, "InvalidSignature"),
        (Fault::AlgNone, "unknown variant `none`"),
        (Fault::Hs256PublicKey, "InvalidAlgorithm"),
        (Fault::WrongIssuer, "InvalidIssuer"),
        (Fault::WrongAudience, "InvalidAudience"),
        (Fault::ExpiredToken, "ExpiredSignature"),
    ] {
        let sandbox = &people.fixture.sandbox;
        sandbox.inject(Endpoint::Tokens, fault.clone(), FaultScope::times(1)).unwrap();
        let jwt = text(&people.granted(EMPLOYEE).await, "id_token");
        let found = verify(&people.fixture, &jwt).await.unwrap_err().to_string();
        assert!(found.contains(error), "{fault:?}: {found}");
    }
}

#[tokio::test]
async fn an_id_token_can_be_about_another_tenant_person_or_request() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let once = FaultScope::times(1);
    let context = Fault::WrongContext { context: TWO.into() };
    sandbox.inject(Endpoint::Tokens, context, once.clone()).unwrap();
    assert_eq!(identity(&claims(&people, EMPLOYEE).await, "ctx"), Some(TWO));
    let person = Fault::WrongPerson { associate_id: 501 };
    sandbox.inject(Endpoint::Tokens, person, once.clone()).unwrap();
    let other = claims(&people, EMPLOYEE).await;
    assert_eq!(identity(&other, "associateid"), Some("501"));
    assert_eq!((other["sub"].as_str(), identity(&other, "upn")), (Some(ADMIN), Some(ADMIN)));
    sandbox.inject(Endpoint::Tokens, Fault::WrongNonce, once.clone()).unwrap();
    assert_eq!(claims(&people, EMPLOYEE).await["nonce"], format!("{NONCE}0"));
    let missing = Fault::MissingClaims { claims: vec!["nonce".into(), "ctx".into()] };
    sandbox.inject(Endpoint::Tokens, missing, once).unwrap();
    let poor = claims(&people, EMPLOYEE).await;
    assert_eq!((poor.get("nonce"), identity(&poor, "ctx")), (None, None));
}
