//! Discovery, the key set, and the signed exchange token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use superoffice_sandbox::Options;

use crate::fixture::{Fixture, IDENTITY, ONE};

pub(crate) async fn jwks(fixture: &Fixture) -> Vec<Value> {
    let uri = format!("{}/login/.well-known/jwks", fixture.sandbox.login_uri());
    let set: Value = fixture.get(&uri).await.json().await.unwrap();
    set["keys"].as_array().unwrap().clone()
}

/// Verifies the signature, issuer and lifetime of a JWT with a JWK.
pub(crate) fn verify(jwt: &str, key: &Value) -> Result<Value, jsonwebtoken::errors::Error> {
    let text = |name: &str| key[name].as_str().unwrap();
    let key = DecodingKey::from_rsa_components(text("n"), text("e")).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&["SuperOffice AS"]);
    validation.validate_aud = false;
    validation.validate_nbf = true;
    validation.leeway = 0;
    Ok(jsonwebtoken::decode::<Value>(jwt, &key, &validation)?.claims)
}

#[tokio::test]
async fn discovery_names_the_login_host_and_an_issuer_without_login() {
    let fixture = Fixture::start().await;
    let login = fixture.sandbox.login_uri();
    let uri = format!("{login}/login/.well-known/openid-configuration");
    let document: Value = fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(document["issuer"], json!(login));
    assert_eq!(document["jwks_uri"], json!(format!("{login}/login/.well-known/jwks")));
    assert_eq!(document["token_endpoint"], json!(format!("{login}/login/common/oauth/tokens")));
    assert_eq!(document.as_object().unwrap().len(), 13);
}

#[tokio::test]
async fn the_issuer_can_be_chosen() {
    let issuer = "https://sod.superoffice.com";
    let options = Options { issuer: Some(issuer.into()), ..Options::default() };
    let fixture = Fixture::with(options).await;
    let login = fixture.sandbox.login_uri();
    let uri = format!("{login}/login/.well-known/openid-configuration");
    let document: Value = fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(document["issuer"], json!(issuer));
}

#[tokio::test]
async fn a_key_is_named_by_a_sha1_as_hex_and_as_base64url() {
    let fixture = Fixture::start().await;
    let keys = jwks(&fixture).await;
    assert_eq!(keys.len(), 1);
    let kid = keys[0]["kid"].as_str().unwrap();
    let x5t = URL_SAFE_NO_PAD.decode(keys[0]["x5t"].as_str().unwrap()).unwrap();
    let hex = x5t.iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
    assert_eq!((kid, kid.len()), (hex.as_str(), 40));
    assert_eq!(keys[0]["e"], "AQAB");
    assert_eq!(URL_SAFE_NO_PAD.decode(keys[0]["n"].as_str().unwrap()).unwrap().len(), 256);
}

#[tokio::test]
async fn the_token_has_the_documented_header_and_claims() {
    let fixture = Fixture::start().await;
    let jwt = fixture.jwt().await;
    let key = &jwks(&fixture).await[0];
    let claims = verify(&jwt, key).unwrap();
    let (header, _) = crate::fixture::decode(&jwt);
    assert_eq!(
        header,
        json!({ "alg": "RS256", "kid": key["kid"], "x5t": key["x5t"], "typ": "JWT" })
    );
    let issued_at = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["nbf"], json!(issued_at - 60));
    assert_eq!(claims["exp"], json!(issued_at + 300));
    let identity = |name: &str| claims[format!("{IDENTITY}{name}")].as_str().unwrap().to_owned();
    assert_eq!(claims["aud"], json!(format!("spn:{}", identity("serial"))));
    assert_eq!(identity("ctx"), ONE);
    assert_eq!(identity("is_administrator"), "False");
    assert_eq!(identity("company_name"), format!("Company {ONE}"));
    assert!(identity("webapi_url").ends_with(&format!("/{ONE}/api/")));
    assert!(identity("netserver_url").ends_with('/'));
    for name in ["ticket", "associateid", "upn", "email", "identityprovider"] {
        assert!(!identity(name).is_empty(), "{name}");
    }
    assert_eq!(claims.as_object().unwrap().len(), 5 + 11);
}

#[tokio::test]
async fn the_token_has_the_time_of_the_sandbox() {
    let fixture = Fixture::start().await;
    fixture.sandbox.shift_clock(-400);
    let expired = verify(&fixture.jwt().await, &jwks(&fixture).await[0]).unwrap_err();
    assert_eq!(expired.to_string(), "ExpiredSignature");
}

#[tokio::test]
async fn a_rollover_can_keep_the_old_key_or_drop_it() {
    let fixture = Fixture::start().await;
    let before = fixture.jwt().await;
    let first = jwks(&fixture).await.remove(0);

    fixture.sandbox.roll_signing_key(true).unwrap();
    let after = fixture.jwt().await;
    let keys = jwks(&fixture).await;
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[1], first);
    verify(&after, &keys[0]).unwrap();
    verify(&before, &keys[1]).unwrap();
    verify(&after, &keys[1]).unwrap_err();

    fixture.sandbox.roll_signing_key(false).unwrap();
    let last = jwks(&fixture).await;
    assert_eq!(last.len(), 1);
    assert!(!keys.contains(&last[0]));
    verify(&fixture.jwt().await, &last[0]).unwrap();
}
