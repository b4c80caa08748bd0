//! Faults of all endpoints, and content faults of statuses and principals.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use superoffice_sandbox::{ApiHost, ControlError, Endpoint, Fault, FaultBody, FaultScope};

use crate::fixture::{Fixture, ONE, TWO};

const STATUS: Endpoint = Endpoint::TenantStatus;

fn inject(fixture: &Fixture, fault: Fault) {
    fixture.sandbox.inject(STATUS, fault, FaultScope::times(1)).unwrap();
}

/// Requests a status on a new connection and reads to its end.
async fn read_raw(fixture: &Fixture) -> std::io::Result<Vec<u8>> {
    let address = fixture.sandbox.login_uri().replace("http://", "");
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /api/state/{ONE} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_status_with_a_body_and_retry_after() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::status(503));
    inject(&fixture, Fault::json(500, json!({ "Error": true })));
    let body = FaultBody::Empty;
    inject(&fixture, Fault::Status { status: 429, body, retry_after: Some(7) });

    let html = fixture.status(ONE).await;
    assert_eq!(html.status(), 503);
    assert!(html.text().await.unwrap().starts_with("<html>"));
    let json = fixture.status(ONE).await;
    assert_eq!(json.status(), 500);
    assert_eq!(json.json::<Value>().await.unwrap(), json!({ "Error": true }));
    let busy = fixture.status(ONE).await;
    assert_eq!(
        (busy.status().as_u16(), &busy.headers()["Retry-After"]),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(fixture.status(ONE).await.status(), 200);
}

#[tokio::test]
async fn a_delay_before_the_answer() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::delay(Duration::from_millis(300)));
    let start = Instant::now();
    assert_eq!(fixture.status(ONE).await.status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_connection_that_is_reset() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Reset);
    let error = read_raw(&fixture).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_that_is_closed_without_an_answer() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Close);
    assert!(read_raw(&fixture).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_body_that_is_shorter_than_announced() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Truncate);
    let raw = String::from_utf8(read_raw(&fixture).await.unwrap()).unwrap();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
    });
    assert_eq!(length.unwrap() / 2, body.len());
    assert!(body.starts_with('{'));

    inject(&fixture, Fault::Truncate);
    let response = fixture.status(ONE).await;
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap_err();
}

#[tokio::test]
async fn html_where_json_is_expected() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Html);
    let response = fixture.status(ONE).await;
    assert_eq!(response.status(), 200);
    assert!(response.text().await.unwrap().starts_with("<!DOCTYPE html>"));
}

#[tokio::test]
async fn a_body_of_a_chosen_size() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Huge { mebibytes: 3 });
    let response = fixture.status(ONE).await;
    assert_eq!(response.content_length(), None);
    assert_eq!(response.bytes().await.unwrap().len(), 3 << 20);
}

#[tokio::test]
async fn a_redirect() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::Redirect { location: "http://localhost:1/".into() });
    let response = fixture.status(ONE).await;
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["Location"], "http://localhost:1/");
}

#[tokio::test]
async fn a_fault_can_affect_one_tenant_and_be_cleared() {
    let fixture = Fixture::start().await;
    fixture.sandbox.inject(STATUS, Fault::status(500), FaultScope::tenant(ONE)).unwrap();
    for _ in 0..3 {
        assert_eq!(fixture.status(ONE).await.status(), 500);
        assert_eq!(fixture.status(TWO).await.status(), 200);
    }
    fixture.sandbox.clear_faults();
    assert_eq!(fixture.status(ONE).await.status(), 200);
}

#[tokio::test]
async fn every_endpoint_can_fail() {
    let fixture = Fixture::start().await;
    for endpoint in Endpoint::ALL {
        fixture.sandbox.inject(endpoint, Fault::status(502), FaultScope::always()).unwrap();
    }
    let (login, api) = (fixture.sandbox.login_uri(), fixture.sandbox.api_uri(ApiHost::A));
    for uri in [
        format!("{login}/login/.well-known/openid-configuration"),
        format!("{login}/login/.well-known/jwks"),
        format!("{login}/api/state/{ONE}"),
        format!("{api}/{ONE}/api"),
        format!("{api}/{ONE}/api/v1/User/currentPrincipal"),
    ] {
        assert_eq!(fixture.get(&uri).await.status(), 502, "{uri}");
    }
    assert_eq!(fixture.post(&fixture.body()).await.status(), 502);
}

#[tokio::test]
async fn a_status_with_wrong_content() {
    let fixture = Fixture::start().await;
    inject(&fixture, Fault::OtherTenant { context: TWO.into() });
    inject(&fixture, Fault::Addresses { api: Some("ftp://x".into()), endpoint: None });
    let fields = vec!["Api".to_owned(), "State".to_owned()];
    inject(&fixture, Fault::MissingFields { fields });
    let other: Value = fixture.status(ONE).await.json().await.unwrap();
    assert_eq!(other["ContextIdentifier"], TWO);
    let elsewhere: Value = fixture.status(ONE).await.json().await.unwrap();
    assert_eq!(elsewhere["Api"], "ftp://x");
    assert!(elsewhere["Endpoint"].as_str().unwrap().starts_with("http://127"));
    let partial: Value = fixture.status(ONE).await.json().await.unwrap();
    let names: Vec<&String> = partial.as_object().unwrap().keys().collect();
    assert_eq!(names, ["ContextIdentifier", "Endpoint", "IsRunning", "ValidUntil", "Version"]);
}

#[tokio::test]
async fn a_principal_of_another_database() {
    let fixture = Fixture::start().await;
    let ticket = fixture.ticket().await;
    let fault = Fault::WrongDatabase { context: TWO.into() };
    fixture.sandbox.inject(Endpoint::CurrentPrincipal, fault, FaultScope::times(1)).unwrap();
    for database in [TWO, ONE] {
        let principal: Value = fixture.principal(&ticket).await.json().await.unwrap();
        assert_eq!(principal["DatabaseContextIdentifier"], database);
    }
}

#[tokio::test]
async fn a_fault_that_is_not_possible_at_an_endpoint_is_rejected() {
    let fixture = Fixture::start().await;
    for fault in [
        Fault::AlgNone,
        Fault::WrongDatabase { context: TWO.into() },
        Fault::status(100),
        Fault::Redirect { location: "line\nbreak".into() },
    ] {
        let result = fixture.sandbox.inject(STATUS, fault, FaultScope::always());
        assert_eq!(result, Err(ControlError::InvalidFault(STATUS)));
    }
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_call_took_effect() {
    let fixture = Fixture::start().await;
    let endpoint = Endpoint::Authenticate;
    for (fault, issued) in [(Fault::Close, 0), (Fault::after_effect(Fault::Close), 1)] {
        fixture.sandbox.inject(endpoint, fault, FaultScope::times(1)).unwrap();
        let request = fixture.http.post(fixture.authenticate_uri()).json(&fixture.body());
        request.send().await.unwrap_err();
        assert_eq!(fixture.sandbox.exchanges().issued, issued);
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_never_answered() {
    let fixture = Fixture::start().await;
    fixture.sandbox.inject(STATUS, Fault::Hang, FaultScope::times(1)).unwrap();
    let uri = format!("{}/api/state/{ONE}", fixture.sandbox.login_uri());
    let request = fixture.http.get(uri).timeout(Duration::from_millis(200));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(fixture.status(ONE).await.status(), 200);
}
