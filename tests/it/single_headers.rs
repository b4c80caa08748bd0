//! Tests that every response has exactly one line of each single-valued header, on every listener. `Answer::read`
//! checks that in all tests; this file covers responses that are created in different ways.

use std::net::TcpListener;

use tenant_gateway::grpc::pb;

use crate::support::{
    Options, World,
    api_host::{HostResponse, address, gateway_with_host},
    http::{Answer, assert_single_values, send},
    name, wire,
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const HOOK: &str = "/webhooks/superoffice/associates/crm-sync";

/// A gateway with all listeners and features.
async fn world() -> World {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let public_uri = format!("http://127.0.0.1:{port}");
    World::with(Options {
        extra_config: format!(
            "[http]\nlisten = \"127.0.0.1:{port}\"\npublic_uri = \"{public_uri}\"\n\
             [egress]\nlisten = \"127.0.0.1:0\""
        ),
        extra_application: format!(
            "redirect_uri = \"{public_uri}/oauth/callback\"\nwebhook_secret_file = \"webhook_secret\""
        ),
        files: vec![("webhook_secret", "webhook-secret-of-the-tests-93c1")],
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn pages_problems_and_redirects_have_one_content_type() {
    let world = world().await;
    let begin = pb::BeginConsentRequest {
        application: "applications/crm-sync".to_owned(),
        ..Default::default()
    };
    let channel = world.channel().await;
    let mut consents = pb::impersonation_service_client::ImpersonationServiceClient::new(channel);
    let link = consents.begin_consent(begin).await.unwrap().into_inner().consent_uri;
    let link = link.split_once("/consent/").map(|(_, id)| format!("/consent/{id}")).unwrap();
    let to = world.gateway().http_address.unwrap();
    let (html, problem) = ("text/html; charset=utf-8", "application/problem+json");
    for (method, path, status, kind) in [
        ("GET", &*link, 200, Some(html)),
        ("HEAD", &link, 200, Some(html)),
        ("POST", &link, 303, None),
        ("GET", "/consent/unknown", 404, Some(html)),
        ("GET", "/oauth/callback", 400, Some(html)),
        ("GET", "/oauth/callback?state=a&code=b", 412, Some(html)),
        ("GET", "/nowhere", 404, Some(problem)),
        ("DELETE", &link, 405, Some(problem)),
        ("DELETE", "/oauth/callback", 405, Some(problem)),
        ("GET", HOOK, 405, Some(problem)),
        ("POST", HOOK, 401, Some(problem)),
    ] {
        // The request comes from a page of the gateway.
        let answer = send(to, method, path, &[("Sec-Fetch-Site", "same-origin")], b"").await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let kinds: Vec<_> = kind.into_iter().collect();
        assert_eq!(answer.values("content-type"), kinds, "{method} {path}");
        for name in ["cache-control", "content-security-policy", "x-content-type-options"] {
            assert_eq!(answer.values(name).len(), 1, "{method} {path}: {name}");
        }
    }
}

#[tokio::test]
async fn the_admin_listener_has_one_content_type() {
    let world = world().await;
    let to = world.gateway().admin_address;
    for (method, path, status) in [
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/nowhere", 404),
    ] {
        let answer = send(to, method, path, &[], b"").await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.values("content-type").len(), usize::from(status == 200), "{path}");
    }
}

#[tokio::test]
async fn grpc_answers_have_one_content_type() {
    let world = world().await;
    for method in ["TokenService/IssueSystemTicket", "TokenService/Unknown", "Unknown/Unknown"] {
        let method = format!("tenantgateway.v1.{method}");
        let (_, headers) = wire::send(world.gateway().grpc_address, &method, &[], b"").await;
        let lines: Vec<_> = headers.iter().map(|(name, _)| format!("{name}: \r\n")).collect();
        assert_single_values(&format!("\r\n{}", lines.concat()));
        assert_eq!(headers["content-type"], "application/grpc");
    }
}

/// A response of SuperOffice with every header twice.
fn doubled() -> HostResponse {
    let head = "HTTP/1.1 201 Created\r\n\
        Content-Type: application/json\r\ncontent-type: text/plain\r\n\
        ETag: \"1\"\r\nETag: \"2\"\r\n\
        Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\nLast-Modified: Tue, 03 Nov 2026 10:00:00 GMT\r\n\
        Date: Mon, 02 Nov 2026 10:00:00 GMT\r\nDate: Tue, 03 Nov 2026 10:00:00 GMT\r\n\
        Server: one\r\nServer: two\r\n\
        Retry-After: 1\r\nRetry-After: 2\r\n\
        Content-Disposition: attachment\r\nContent-Disposition: inline\r\n\
        X-Request-Id: theirs\r\nX-Request-Id: theirs too\r\n\
        Cache-Control: no-cache\r\nCache-Control: private\r\n\
        Vary: Accept\r\nVary: Accept-Language\r\n\
        X-Own: 1\r\nX-Own: 2\r\n";
    HostResponse::Body(head, b"{}".to_vec())
}

#[track_caller]
fn assert_repaired(answer: &Answer) {
    for (name, wanted) in [
        ("content-type", &["application/json"][..]),
        ("etag", &["\"1\""]),
        ("last-modified", &["Mon, 02 Nov 2026 10:00:00 GMT"]),
        ("date", &["Mon, 02 Nov 2026 10:00:00 GMT"]),
        ("server", &["one"]),
        ("retry-after", &["1"]),
        ("content-disposition", &["attachment"]),
        ("content-length", &["2"]),
        // Lists are forwarded unchanged.
        ("cache-control", &["no-cache", "private"]),
        ("vary", &["Accept", "Accept-Language"]),
        ("x-own", &["1", "2"]),
    ] {
        assert_eq!(answer.values(name), wanted, "{name}");
    }
    let ids = answer.values("x-request-id");
    assert!(ids.len() == 1 && !ids[0].contains("theirs"), "{ids:?}");
}

#[tokio::test]
async fn duplicate_headers_of_superoffice_are_returned_once_and_lists_unchanged() {
    let (world, host) = gateway_with_host("").await;
    host.respond_next(doubled());
    let answer = send(address(world.gateway()), "GET", CONTACT, &[], b"").await;
    assert_eq!((answer.status, &*answer.body), (201, "{}"));
    assert_repaired(&answer);
    host.respond_next(doubled());
    let call = pb::CallRequest {
        tenant: name("Cust1"),
        method: "GET".to_owned(),
        path: "/api/v1/Contact/5".to_owned(),
        credential: "system".to_owned(),
        ..Default::default()
    };
    let channel = world.channel().await;
    let mut calls = pb::web_api_service_client::WebApiServiceClient::new(channel);
    let answer = calls.call(call).await.unwrap().into_inner();
    let values = |name: &str| {
        let all = answer.headers.iter().filter(|header| header.name == name);
        all.map(|header| String::from_utf8(header.value.clone()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(values("content-type"), ["application/json"]);
    assert_eq!(values("etag"), ["\"1\""]);
    assert_eq!(values("vary"), ["Accept", "Accept-Language"]);
}

#[tokio::test]
async fn responses_of_the_egress_listener_itself_have_one_content_type() {
    let (world, _host) = gateway_with_host("").await;
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/crm-sync/Cust1/api/v1/../Contact", 400),
        ("BREW", CONTACT, 400),
        ("GET", "/crm-sync/Cust9/api/v1/Contact", 404),
    ] {
        let answer = send(address(world.gateway()), method, path, &[], b"").await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.values("content-type"), ["application/problem+json"]);
    }
}
