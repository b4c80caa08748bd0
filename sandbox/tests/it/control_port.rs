//! Tests that the control port in JSON does the same as the handle in Rust.

use reqwest::Method;
use serde_json::{Value, json};
use superoffice_sandbox::{Endpoint, Refusal};

use crate::fixture::{CLIENT, Fixture, ONE, SECRET, key};
use crate::keys::jwks;

pub(crate) async fn tell(
    fixture: &Fixture,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let uri = format!("{}{path}", fixture.sandbox.control_uri());
    let response = fixture.http.request(method, uri).json(&body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

pub(crate) async fn put(fixture: &Fixture, path: &str, body: Value) {
    assert_eq!(tell(fixture, Method::PUT, path, body).await.0, 204, "{path}");
}

pub(crate) async fn post(fixture: &Fixture, path: &str, body: Value) -> Value {
    let (status, answer) = tell(fixture, Method::POST, path, body).await;
    assert!(status == 200 || status == 204, "{path}: {status}");
    answer
}

#[tokio::test]
async fn applications_tenants_and_authorizations() {
    let fixture = Fixture::start().await;
    let application = json!({
        "name": "Other", "client_id": "other", "client_secret": "s1",
        "public_key": key().public_pem(),
    });
    post(&fixture, "/applications", application.clone()).await;
    assert_eq!(tell(&fixture, Method::POST, "/applications", application).await.0, 409);
    put(&fixture, "/applications/other/secrets", json!({ "secrets": ["s1", "s2"] })).await;
    let keys = json!({ "public_keys": [key().public_pem()] });
    put(&fixture, "/applications/other/public-keys", keys).await;
    let (status, error) =
        tell(&fixture, Method::PUT, "/applications/other/secrets", json!({ "secrets": [SECRET] }))
            .await;
    assert_eq!(status, 400);
    assert!(!error["error"].as_str().unwrap().contains(SECRET));

    post(&fixture, "/tenants", json!({ "id": "Cust7", "company_name": "Seven" })).await;
    let wrong = json!({ "id": "7", "company_name": "Seven" });
    assert_eq!(tell(&fixture, Method::POST, "/tenants", wrong).await.0, 400);
    let made = json!({ "client_id": "other", "tenant": "Cust7" });
    let token = post(&fixture, "/authorizations", made).await;
    assert!(token["system_user_token"].as_str().unwrap().starts_with("Other-"));
    let record = json!({ "client_id": CLIENT, "tenant": ONE, "authorization": "Revoked" });
    put(&fixture, "/authorizations", record).await;
    assert_eq!(fixture.refusal(&fixture.body()).await, Refusal::Revoked.message());
}

#[tokio::test]
async fn states_moves_rules_and_the_clock() {
    let fixture = Fixture::start().await;
    put(&fixture, "/tenants/Cust20001/state", json!({ "state": "MigrationPending" })).await;
    put(&fixture, "/tenants/Cust20001/host", json!({ "host": "B" })).await;
    put(&fixture, "/status-validity", json!({ "seconds": 1 })).await;
    put(&fixture, "/unknown-tenants", json!({ "not_found": true })).await;
    put(&fixture, "/clock", json!({ "shift_seconds": -86400 })).await;
    let status: Value = fixture.status(ONE).await.json().await.unwrap();
    assert_eq!(status["State"], "MigrationPending");
    assert_eq!(fixture.status("Cust9").await.status(), 404);
    let uri = fixture.sandbox.control_uri();
    let overview: Value = fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(overview["tenants"][ONE]["host"], "B");
    assert!(!overview.to_string().contains(SECRET));
    let unknown = tell(&fixture, Method::PUT, "/tenants/Cust9/host", json!({ "host": "B" })).await;
    assert_eq!(unknown.0, 404);
}

#[tokio::test]
async fn keys_tickets_faults_refusals_and_counts() {
    let fixture = Fixture::start().await;
    post(&fixture, "/signing-key/roll", json!({ "keep_old": true })).await;
    assert_eq!(jwks(&fixture).await.len(), 2);
    let ticket = fixture.ticket().await;
    post(&fixture, "/tickets/expire", json!({})).await;
    assert_eq!(fixture.principal(&ticket).await.status(), 401);
    put(&fixture, "/refusals", json!({ "refusal": "invalid_timestamp", "message": "No." })).await;
    assert_eq!(fixture.refusal(&fixture.body_at("x")).await, "No.");

    let fault = json!({
        "endpoint": "tenant_status", "times": 1, "tenant": ONE,
        "fault": { "kind": "status", "status": 503, "body": { "html": "<p>down</p>" } },
    });
    post(&fixture, "/faults", fault).await;
    let down = fixture.status(ONE).await;
    assert_eq!((down.status().as_u16(), down.text().await.unwrap().as_str()), (503, "<p>down</p>"));
    let reset = json!({ "endpoint": "jwks", "fault": { "kind": "reset" } });
    post(&fixture, "/faults", reset).await;
    assert_eq!(tell(&fixture, Method::DELETE, "/faults", json!({})).await.0, 204);
    jwks(&fixture).await;

    let uri = format!("{}/counts", fixture.sandbox.control_uri());
    let counts: Value = fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(counts["endpoints"]["tenant_status"]["by_tenant"][ONE], 1);
    assert_eq!(counts["exchanges"], json!({ "issued": 1, "refused": 1 }));
    assert_eq!(tell(&fixture, Method::DELETE, "/counts", json!({})).await.0, 204);
    assert_eq!(fixture.sandbox.calls(Endpoint::TenantStatus), 0);
}
