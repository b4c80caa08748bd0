//! Faults of the token in the response of an exchange.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use superoffice_sandbox::{Endpoint, Fault, FaultScope};

use crate::fixture::{Fixture, IDENTITY, ONE, TWO, decode};
use crate::keys::{jwks, verify};

/// Returns the token of an exchange with a fault, and the published key.
async fn faulty(fixture: &Fixture, fault: Fault) -> (String, Value) {
    fixture.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::times(1)).unwrap();
    (fixture.jwt().await, jwks(fixture).await.remove(0))
}

fn claim(claims: &Value, name: &str) -> Value {
    claims.get(format!("{IDENTITY}{name}")).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_refusal_with_any_text() {
    let fixture = Fixture::start().await;
    let fault = Fault::Refuse { message: "Try later".into() };
    fixture.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::times(1)).unwrap();
    assert_eq!(fixture.refusal(&fixture.body()).await, "Try later");
    fixture.jwt().await;
}

#[tokio::test]
async fn tokens_with_a_valid_signature_but_wrong_claims() {
    let fixture = Fixture::start().await;
    let (jwt, key) = faulty(&fixture, Fault::WrongContext { context: TWO.into() }).await;
    assert_eq!(claim(&verify(&jwt, &key).unwrap(), "ctx"), json!(TWO));

    let (jwt, key) = faulty(&fixture, Fault::WrongAudience).await;
    let claims = verify(&jwt, &key).unwrap();
    let own = format!("spn:{}", claim(&claims, "serial").as_str().unwrap());
    assert_ne!(claims["aud"], json!(own));

    let (jwt, key) = faulty(&fixture, Fault::MissingTicket).await;
    assert_eq!(claim(&verify(&jwt, &key).unwrap(), "ticket"), Value::Null);

    let (jwt, key) = faulty(&fixture, Fault::MalformedTicket).await;
    let ticket = claim(&verify(&jwt, &key).unwrap(), "ticket");
    assert_eq!(ticket, json!("7T:this is no ticket"));

    let fault = Fault::WrongTicketContext { context: TWO.into() };
    let (jwt, key) = faulty(&fixture, fault).await;
    let claims = verify(&jwt, &key).unwrap();
    assert_eq!(claim(&claims, "ctx"), json!(ONE));
    let ticket = claim(&claims, "ticket");
    assert_eq!(fixture.principal(ticket.as_str().unwrap()).await.status(), 401);
}

#[tokio::test]
async fn tokens_whose_signature_does_not_match() {
    let fixture = Fixture::start().await;
    let (jwt, key) = faulty(&fixture, Fault::WrongSignature).await;
    assert_eq!(decode(&jwt).0["kid"], key["kid"]);
    assert_eq!(verify(&jwt, &key).unwrap_err().to_string(), "InvalidSignature");

    let (jwt, key) = faulty(&fixture, Fault::ForeignKey).await;
    assert_ne!(decode(&jwt).0["kid"], key["kid"]);
    assert_eq!(verify(&jwt, &key).unwrap_err().to_string(), "InvalidSignature");
}

#[tokio::test]
async fn tokens_with_other_algorithms() {
    let fixture = Fixture::start().await;
    let (jwt, _) = faulty(&fixture, Fault::AlgNone).await;
    assert_eq!(decode(&jwt).0["alg"], "none");
    assert!(jwt.ends_with('.'));

    let (jwt, key) = faulty(&fixture, Fault::Hs256PublicKey).await;
    let (header, _) = decode(&jwt);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("HS256"), &key["kid"]));
    let (_, signature) = jwt.rsplit_once('.').unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), 32);
}

#[tokio::test]
async fn tokens_with_another_issuer_or_an_expired_lifetime() {
    let fixture = Fixture::start().await;
    let (jwt, key) = faulty(&fixture, Fault::WrongIssuer).await;
    assert_eq!(verify(&jwt, &key).unwrap_err().to_string(), "InvalidIssuer");
    let (jwt, key) = faulty(&fixture, Fault::ExpiredToken).await;
    assert_eq!(verify(&jwt, &key).unwrap_err().to_string(), "ExpiredSignature");
}
