//! Notifications of tenant state changes.

use serde_json::{Value, json};
use superoffice_sandbox::{ApiHost, ChangeType, Forgery, StateChange};

use crate::fixture::{CLIENT, Fixture, ONE, TWO};
use crate::keys::jwks;
use crate::webhooks::Target;

/// Sends a notification, answers it with this status, and returns its body.
async fn notify(fixture: &Fixture, target: &Target, change: &StateChange, status: u16) -> Value {
    let sending = fixture.sandbox.send_state_change(change);
    let (answered, (head, body)) = tokio::join!(sending, target.answer(status));
    assert_eq!(answered.unwrap(), status);
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"));
    serde_json::from_slice(&body).unwrap()
}

/// Returns the claims, if the key set verifies the signature.
async fn verify(fixture: &Fixture, token: &Value) -> Result<Value, String> {
    let keys = jwks(fixture).await;
    let part = |name: &str| keys[0][name].as_str().unwrap().to_owned();
    let key = jsonwebtoken::DecodingKey::from_rsa_components(&part("n"), &part("e")).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_issuer(&[fixture.sandbox.login_uri()]);
    validation.validate_aud = false;
    let token = token.as_str().ok_or("no token")?;
    let decoded = jsonwebtoken::decode::<Value>(token, &key, &validation);
    decoded.map(|decoded| decoded.claims).map_err(|error| error.to_string())
}

#[tokio::test]
async fn each_change_has_its_documented_number_and_body() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    for (change, number) in [
        (ChangeType::Upgrade, 0),
        (ChangeType::BackupRestored, 1),
        (ChangeType::Suspend, 2),
        (ChangeType::Resume, 3),
        (ChangeType::Delete, 4),
    ] {
        let change = StateChange::new(ONE, change, &target.uri());
        let body = notify(&fixture, &target, &change, 200).await;
        assert_eq!(
            (&body["ChangeType"], &body["ContextIdentifier"]),
            (&json!(number), &json!(ONE))
        );
        assert!(body["VersionName"].is_string() && body["FileVersion"].is_string());
        assert_eq!(body.as_object().unwrap().len(), 5);
    }
    let change = StateChange::new(TWO, ChangeType::Move, &target.uri());
    let body = notify(&fixture, &target, &change, 202).await;
    let host = fixture.sandbox.api_uri(ApiHost::B).replace("http://", "");
    assert_eq!((&body["ChangeType"], &body["PublicEndpoint"]), (&json!(5), &json!(host)));
}

#[tokio::test]
async fn the_token_is_signed_by_the_login_service_with_the_audience_that_is_chosen() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    let mut change = StateChange::new(ONE, ChangeType::Delete, &target.uri());
    let body = notify(&fixture, &target, &change, 200).await;
    let claims = verify(&fixture, &body["Token"]).await.unwrap();
    assert_eq!(claims.get("aud"), None);
    assert_eq!(claims.as_object().unwrap().len(), 4);
    change.audience = Some(CLIENT.into());
    change.claims.insert("x".into(), json!(1));
    let body = notify(&fixture, &target, &change, 200).await;
    let claims = verify(&fixture, &body["Token"]).await.unwrap();
    assert_eq!((&claims["aud"], &claims["x"]), (&json!(CLIENT), &json!(1)));
}

#[tokio::test]
async fn a_forged_notification_does_not_verify() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    for (forgery, error) in [
        (Forgery::ForeignKey, "InvalidSignature"),
        (Forgery::WrongSignature, "InvalidSignature"),
        (Forgery::AlgNone, "none"),
        (Forgery::Hs256PublicKey, "InvalidAlgorithm"),
        (Forgery::Expired, "ExpiredSignature"),
        (Forgery::WrongIssuer, "InvalidIssuer"),
        (Forgery::NoToken, "no token"),
    ] {
        let mut change = StateChange::new(ONE, ChangeType::Delete, &target.uri());
        change.forgery = Some(forgery);
        let body = notify(&fixture, &target, &change, 401).await;
        let found = verify(&fixture, &body["Token"]).await.unwrap_err();
        assert!(found.contains(error), "{forgery:?}: {found}");
    }
}

#[tokio::test]
async fn a_notification_changes_nothing_and_is_sent_once() {
    let fixture = Fixture::start().await;
    let target = Target::open().await;
    let change = StateChange::new(ONE, ChangeType::Delete, &target.uri());
    notify(&fixture, &target, &change, 500).await;
    let status: Value = fixture.status(ONE).await.json().await.unwrap();
    assert_eq!(status["State"], "Running");
    drop(target);
    fixture.sandbox.send_state_change(&change).await.unwrap_err();
    let unknown = StateChange::new("Cust9", ChangeType::Delete, "http://127.0.0.1:1/");
    fixture.sandbox.send_state_change(&unknown).await.unwrap_err();
}
