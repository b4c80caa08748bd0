//! The API hosts.

use serde_json::Value;
use superoffice_sandbox::{ApiHost, TenantState};

use crate::fixture::{Fixture, ONE, SECRET, TWO};

#[tokio::test]
async fn the_root_is_json_if_accepted_and_otherwise_html() {
    let fixture = Fixture::start().await;
    let uri = format!("{}/{ONE}/api", fixture.sandbox.api_uri(ApiHost::A));
    let root: Value = fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(root["v1"].as_str().unwrap(), format!("{uri}/v1/"));
    assert_eq!(root.as_object().unwrap().len(), 10);
    let page = fixture.http.get(&uri).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert_eq!(page.headers()["Content-Type"], "text/html; charset=utf-8");
}

#[tokio::test]
async fn the_current_principal_is_the_system_user_of_the_tenant() {
    let fixture = Fixture::start().await;
    let response = fixture.principal(&fixture.ticket().await).await;
    let principal: Value = response.json().await.unwrap();
    assert_eq!(principal["DatabaseContextIdentifier"], ONE);
    assert_eq!(principal["UserType"], "SystemAssociate");
    assert_eq!(principal["EMailAddress"], "");
    assert_eq!(principal.as_object().unwrap().len(), 27);
}

#[tokio::test]
async fn the_case_of_the_scheme_is_ignored_and_other_schemes_are_rejected() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    for (scheme, status) in [("SOTICKET", 200), ("soticket", 200), ("Bearer", 401), ("Basic", 401)]
    {
        let request = fixture
            .http
            .get(fixture.principal_uri(ApiHost::A, ONE))
            .header("Accept", "application/json")
            .header("Authorization", format!("{scheme} {ticket}"))
            .header("SO-AppToken", SECRET);
        assert_eq!(request.send().await.unwrap().status(), status, "{scheme}");
    }
}

#[tokio::test]
async fn a_ticket_is_rejected_without_the_secret_or_at_another_tenant() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    for (host, tenant, secret, status) in [
        (ApiHost::A, ONE, SECRET, 200),
        (ApiHost::A, ONE, "wrong", 401),
        (ApiHost::A, ONE, "", 401),
        (ApiHost::B, TWO, SECRET, 401),
    ] {
        let request = fixture
            .http
            .get(fixture.principal_uri(host, tenant))
            .header("Accept", "application/json")
            .header("Authorization", format!("SOTicket {ticket}"))
            .header("SO-AppToken", secret);
        assert_eq!(request.send().await.unwrap().status(), status, "{tenant} {secret}");
    }
    assert_eq!(fixture.get(&fixture.principal_uri(ApiHost::A, ONE)).await.status(), 401);
    assert_eq!(fixture.principal("7T:unknown").await.status(), 401);
}

#[tokio::test]
async fn the_former_host_of_a_tenant_answers_421() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    fixture.sandbox.move_tenant(ONE, ApiHost::B).unwrap();
    let response = fixture.principal(&ticket).await;
    assert_eq!(response.status(), 421);
    assert_eq!(response.text().await.unwrap(), "Wrong subdomain used to access tenant");
    fixture.sandbox.move_tenant(ONE, ApiHost::A).unwrap();
    assert_eq!(fixture.principal(&ticket).await.status(), 200);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_used_answers_503_in_html() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    for state in TenantState::ALL {
        fixture.sandbox.set_state(ONE, state).unwrap();
        let response = fixture.principal(&ticket).await;
        let expected = if state.is_running() { 200 } else { 503 };
        assert_eq!(response.status(), expected, "{state:?}");
        let html = response.headers()["Content-Type"].to_str().unwrap().starts_with("text/html");
        assert_eq!(html, !state.is_running());
    }
}

#[tokio::test]
async fn other_paths_return_the_documented_error() {
    let fixture = Fixture::start().await;
    let base = fixture.sandbox.api_uri(ApiHost::A);
    let response = fixture.get(&format!("{base}/{ONE}/api/v1/Contact/99999")).await;
    assert_eq!(response.status(), 404);
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["Error"], true);
    assert_eq!(error["ErrorType"], "SoNotFoundException");
    assert_eq!(fixture.get(&format!("{base}/Cust99999/api")).await.status(), 404);
}
