//! Tests that the control port does the same for sign-ins as the handle.

use reqwest::Method;
use serde_json::{Value, json};
use superoffice_sandbox::Authorization;

use crate::control_port::{post, put, tell};
use crate::fixture::{CLIENT, ONE};
use crate::person::{ADMIN, EMPLOYEE, EMPLOYEE_ID, People, REDIRECT};
use crate::webhooks::Target;

async fn get(people: &People, path: &str) -> Value {
    let uri = format!("{}{path}", people.fixture.sandbox.control_uri());
    people.fixture.get(&uri).await.json().await.unwrap()
}

#[tokio::test]
async fn redirects_rules_and_authorizations() {
    let people = People::start().await;
    let fixture = &people.fixture;
    let path = format!("/applications/{CLIENT}/sign-in");
    put(fixture, &path, json!({ "redirect_uris": ["https://other.example/"] })).await;
    assert_eq!(people.ask(&[]).await.status, 400);
    put(fixture, &path, json!({ "redirect_uris": [REDIRECT], "system_token": true })).await;
    assert_eq!(people.ask(&[]).await.status, 200);
    for wrong in [json!({ "redirect_uris": ["^("] }), json!({ "redirects": [] })] {
        assert!(matches!(tell(fixture, Method::PUT, &path, wrong).await.0, 400 | 422));
    }

    let rules = json!({
        "rotation": true, "previous_token": { "kind": "accepted_for", "seconds": 9 },
        "approval_page": "when_needed", "omitted_claims": ["webapi_url"],
    });
    put(fixture, "/sign-in-rules", rules.clone()).await;
    let told = get(&people, "/sign-in-rules").await;
    for (name, value) in rules.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name}");
    }
    assert_eq!(told["access_token_seconds"], 3600);

    let record = json!({ "client_id": CLIENT, "tenant": ONE });
    assert_eq!(tell(fixture, Method::DELETE, "/authorizations", record).await.0, 204);
    assert_eq!(fixture.sandbox.authorization(CLIENT, ONE), None);
    people.sign_in(ADMIN, &[]).await.code();
    let record = get(&people, &format!("/authorizations/{CLIENT}/{ONE}")).await;
    assert_eq!(record["authorization"], json!(Authorization::Active));
    assert_eq!(record["approval"]["user_name"], ADMIN);
}

#[tokio::test]
async fn grants_access_tokens_and_backups() {
    let people = People::start().await;
    let fixture = &people.fixture;
    let person = json!({ "client_id": CLIENT, "tenant": ONE, "associate_id": EMPLOYEE_ID });
    let made = post(fixture, "/grants", person.clone()).await;
    let token = made["refresh_token"].as_str().unwrap();
    let (status, body) = people.refresh(token).await;
    assert_eq!(status, 200);
    let access = body["access_token"].as_str().unwrap();
    let grants = get(&people, "/grants").await;
    assert_eq!(grants["grants"][0]["refresh_tokens"][0]["state"], "current");
    assert!(!grants.to_string().contains(token));

    assert_eq!(people.who(access).await, 200);
    post(fixture, "/access-tokens/expire", json!({ "tenant": ONE })).await;
    assert_eq!(people.who(access).await, 401);
    let path = format!("/tenants/{ONE}/restore-backup");
    post(fixture, &path, json!({ "keep_grants": true })).await;
    assert_eq!(people.refresh(token).await.0, 200);
    assert_eq!(post(fixture, "/grants/revoke", person).await, json!({ "revoked": 1 }));
    assert_eq!(people.refresh(token).await.0, 400);
    let wrong = json!({ "client_id": CLIENT, "tenant": ONE, "associate_id": 2 });
    assert_eq!(tell(fixture, Method::POST, "/grants", wrong).await.0, 400);
    let counts = get(&people, "/counts").await;
    assert_eq!(
        (&counts["sign_ins"]["refreshes"], &counts["sign_ins"]["refused"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(counts["endpoints"]["tokens"]["by_tenant"][ONE], 3);
}

#[tokio::test]
async fn faults_notifications_and_the_rate_of_calls() {
    let people = People::start().await;
    let fixture = &people.fixture;
    let token = people.refresh_token(EMPLOYEE).await;
    let fault = json!({
        "endpoint": "tokens", "times": 1,
        "fault": { "kind": "after_effect", "fault": { "kind": "status", "status": 500 } },
    });
    post(fixture, "/faults", fault).await;
    assert_eq!(people.refresh(&token).await.0, 500);

    let target = Target::open().await;
    let change = json!({
        "tenant": ONE, "change": "backup_restored", "target": target.uri(),
        "audience": CLIENT, "forgery": "foreign_key",
    });
    let (sent, (_, body)) =
        tokio::join!(post(fixture, "/state-changes", change), target.answer(401));
    assert_eq!(sent, json!({ "status": 401 }));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["ChangeType"], 1);

    let limit = json!({ "calls_per_second": 0, "retry_after": { "date": 5 } });
    put(fixture, "/rate-limit", limit).await;
    assert_eq!(people.who("x").await, 429);
    assert_eq!(tell(fixture, Method::DELETE, "/rate-limit", json!({})).await.0, 204);
    assert_eq!(people.who("x").await, 401);
    let rate = get(&people, &format!("/tenants/{ONE}/call-rate")).await;
    assert_eq!(rate["limited"], 1);
}
