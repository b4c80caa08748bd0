//! Tests of invalid input on the egress listener: a refusal or a closed connection, and never a
//! credential.

use std::{net::SocketAddr, time::Duration};

use tenant_gateway::grpc::pb;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    World,
    api_host::{HostResponse, ScriptedApiHost, address, gateway_with_host, set_tenant_api},
    eventually, eventually_so,
    http::{Answer, send},
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";

/// Longer than any immediate response takes.
const SOON: Duration = Duration::from_secs(10);

/// Sends these bytes, and reads to the end of the connection.
async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // The connection may end with a reset.
    let _ = timeout(SOON, read).await.expect("the connection does not end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

async fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(to, "GET", path, headers, b"").await
}

#[tokio::test]
async fn ambiguous_paths_are_refused() {
    let (world, host) = gateway_with_host("").await;
    for path in [
        "/../../Cust2/api/v1/Contact",
        "/v1/../../../Cust2/api/v1",
        "/v1/%2e%2e/%2E%2E/x",
        "/v1/.%2e/x",
        "/v1/Contact%2f5",
        "/v1/Contact%5C5",
        "/v1/..%5c..%5cx",
        "/v1/Contact;x=1",
        "/v1//Contact",
        "/v1/%252e%252e/x",
        "/v1/Contact%00",
        "/v1/Contact%0d%0aSO-AppToken:%20x",
        "/v1/(S(x))/Contact",
        "/v1/Contact%3b5",
        "/v1/Contact%25%32%65",
        "/v1/Duplicates/Acme\u{2026}",
        "/v1/Duplicates/c%E2%84%85o",
        "/v1/Contact%ff",
        "/v1/Contact%",
    ] {
        let path = format!("/crm-sync/Cust1/api{path}");
        let answer = get(address(world.gateway()), &path, &[]).await;
        answer.assert_problem(400, "INVALID_ARGUMENT");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn company_names_in_a_path_and_quotes_in_a_query_arrive_unchanged() {
    let (world, host) = gateway_with_host("").await;
    for target in [
        "/api/v1/Contact/Duplicates/Acme%20Inc.",
        "/api/v1/Contact/Duplicates/100%25%20Norsk",
        "/api/v1/Contact/Duplicates/Stra%C3%9Fe",
        "/api/v1/Contact/Duplicates/Stra%c3%9fe/",
        "/api/v1/Contact/Duplicates/O%E2%80%99Brien%20%E2%80%93%20S%C3%B8nner",
        "/api/v1/Contact/Duplicates/A%CC%8As",
        "/api/v1/Contact/Duplicates/%E4%B8%AD%E5%9B%BD",
        "/api/v1/Contact/Duplicates/a%2Bb%26c+d&e'f",
        "/api/v1/Contact?$filter=name%20eq%20'O''Brien'&x=%27[a]{b}|",
    ] {
        let path = format!("/crm-sync/Cust1{target}");
        assert_eq!(get(address(world.gateway()), &path, &[]).await.status, 200, "{target}");
        let arrived = host.received().pop().unwrap();
        assert_eq!(arrived.line(), format!("GET /Cust1{target} HTTP/1.1"));
    }
}

#[tokio::test]
async fn an_extra_slash_before_the_api_is_reported() {
    let (world, host) = gateway_with_host("").await;
    for (path, status, reason) in [
        ("/crm-sync/Cust1//api/v1/Contact", 400, "INVALID_ARGUMENT"),
        ("/crm-sync/Cust1/api//v1/Contact", 400, "INVALID_ARGUMENT"),
        ("//crm-sync/Cust1/api/v1/Contact", 404, "RESOURCE_NOT_FOUND"),
    ] {
        let answer = get(address(world.gateway()), path, &[]).await;
        let problem = answer.assert_problem(status, reason);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("slash") || detail.contains("//"), "{path}: {detail}");
        assert!(detail.contains("address"), "{path}: {detail}");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_post_that_asks_for_another_method_is_refused() {
    let (world, host) = gateway_with_host("").await;
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let headers = [(name, "DELETE")];
        let answer = send(address(world.gateway()), "POST", CONTACT, &headers, b"").await;
        let problem = answer.assert_problem(400, "INVALID_ARGUMENT");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&name.to_lowercase()), "{detail}");
    }
    for query in ["_method=DELETE", "a=b&X-HTTP-Method-Override=DELETE"] {
        let path = format!("{CONTACT}?{query}");
        let answer = send(address(world.gateway()), "POST", &path, &[], b"").await;
        answer.assert_problem(400, "INVALID_ARGUMENT");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_path_without_application_or_tenant_is_not_found() {
    let (world, host) = gateway_with_host("").await;
    for path in [
        "/",
        "/crm-sync",
        "/crm-sync/",
        "/Cust1/api/v1/Contact",
        "//Cust1/api/v1",
        "/crm-sync/cust1/api/v1",
        "/crm-sync/%43ust1/api/v1",
        "/crm-sync/../Cust1/api",
        "/-/Cust1/api/v1/Contact",
        "/applications/crm-sync/tenants/Cust1/api",
        "*",
    ] {
        let answer = send(address(world.gateway()), "OPTIONS", path, &[], b"").await;
        answer.assert_problem(404, "RESOURCE_NOT_FOUND");
    }
    for path in
        ["/crm-sync/Cust1", "/crm-sync/Cust1/", "/crm-sync/Cust1/v1", "/crm-sync/Cust1/apix"]
    {
        get(address(world.gateway()), path, &[]).await.assert_problem(400, "INVALID_ARGUMENT");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn it_is_not_an_open_proxy_and_ignores_upgrades() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for line in [
        "GET http://evil.example/crm-sync/Cust1/api/v1/Contact HTTP/1.1",
        "GET https://gateway/crm-sync/Cust1/api/v1/Contact HTTP/1.1",
        "CONNECT evil.example:443 HTTP/1.1",
        "TRACE /crm-sync/Cust1/api/v1/Contact HTTP/1.1",
    ] {
        let request = format!("{line}\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        let answer = raw(to, request.as_bytes()).await;
        assert!(["400", "501"].contains(&status(&answer)), "{line}: {answer}");
        assert!(answer.contains("\"reason\""), "{answer}");
    }
    let upgrade = [("Upgrade", "websocket"), ("Connection", "upgrade")];
    get(to, CONTACT, &upgrade).await.assert_problem(501, "UNIMPLEMENTED");
    assert!(host.received().is_empty());
    // HTTP/2 clients offer h2c, and continue with HTTP/1.1 if the server ignores it.
    let h2c = [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")];
    assert_eq!(get(to, CONTACT, &h2c).await.status, 200);
    assert!(host.received()[0].header("upgrade").is_empty());
}

#[tokio::test]
async fn exactly_one_host_header_is_required_and_its_value_is_ignored() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let request = format!("GET {CONTACT} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_eq!(status(&raw(to, request.as_bytes()).await), "400", "{hosts}");
    }
    assert!(host.received().is_empty());
    for named in ["evil.example", "online.superoffice.com", "169.254.169.254", ""] {
        let request =
            format!("GET {CONTACT} HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(to, request.as_bytes()).await), "200", "{named}");
        assert_eq!(host.received().pop().unwrap().header("host"), [host.address.to_string()]);
    }
}

#[tokio::test]
async fn requests_with_ambiguous_length_are_refused() {
    let (world, host) = gateway_with_host("").await;
    for framing in [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 3, 4\r\n\r\nabcd",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 99999999999999999999\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "X-Own: a\r\n folded\r\n\r\n",
        "X-Own: a\x00b\r\n\r\n",
        "X Own: a\r\n\r\n",
        ": a\r\n\r\n",
    ] {
        let request =
            format!("POST {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}");
        let answer = raw(address(world.gateway()), request.as_bytes()).await;
        // 501 for a transfer coding other than chunked (RFC 9112 section 6.1).
        assert!(["400", "501"].contains(&status(&answer)), "{framing:?}: {answer}");
    }
    let old = format!(
        "POST {CONTACT} HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert_eq!(status(&raw(address(world.gateway()), old.as_bytes()).await), "400");
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_request_hidden_behind_two_lengths_is_never_read() {
    let (world, host) = gateway_with_host("").await;
    let lengths = ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"];
    for headers in [lengths.concat(), [lengths[1], lengths[0]].concat()] {
        let hidden = "DELETE /crm-sync/Cust1/api/v1/Contact/6 HTTP/1.1\r\nHost: x\r\n\r\n";
        let request = format!(
            "POST {CONTACT} HTTP/1.1\r\nHost: x\r\n{headers}\r\n1\r\na\r\n0\r\n\r\n{hidden}"
        );
        let answer = raw(address(world.gateway()), request.as_bytes()).await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let arrived = host.received().pop().unwrap();
        assert_eq!((arrived.line().starts_with("POST "), &*arrived.body), (true, &b"a"[..]));
    }
    assert_eq!(host.received().len(), 2);
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_call_and_the_upstream_request_stays_incomplete() {
    let (world, host) = gateway_with_host("").await;
    for chunk in ["zz\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n"] {
        let request = format!(
            "POST {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        let answer = raw(address(world.gateway()), request.as_bytes()).await;
        assert_eq!(status(&answer), "400", "{chunk:?}: {answer}");
    }
    assert!(host.received().iter().all(|arrived| !arrived.whole));
}

#[tokio::test]
async fn the_context_header_cannot_inject_another_header() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for eyes in [
        "System",
        "system, associates/5",
        "associates/0",
        "associates/5 ; x",
        "associates/99999999999",
        "grants/",
        "grants/a b",
        "grants/a/b",
        "grants/a\tSO-AppToken: x",
        "grants/\u{e5}",
        "${USER}",
        "\"system\"",
        "syst\u{e9}m",
        "\u{a0}",
    ] {
        let answer = get(to, CONTACT, &[("Gateway-Act-As", eyes)]).await;
        answer.assert_problem(400, "INVALID_ARGUMENT");
    }
    let twice = [("Gateway-Act-As", "system"), ("gateway-act-as", "associates/5")];
    get(to, CONTACT, &twice).await.assert_problem(400, "INVALID_ARGUMENT");
    let spelt = [("Gateway-Act-As", "system"), ("Gateway_Act_As", "associates/5")];
    get(to, CONTACT, &spelt).await.assert_problem(400, "INVALID_ARGUMENT");
    for name in ["Gateway-Act-As", "Gateway-Reason", "Gateway-Rewrite-Links"] {
        let mut request = format!("GET {CONTACT} HTTP/1.1\r\nHost: x\r\n{name}: ").into_bytes();
        request.extend_from_slice(b"\xff\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&raw(to, &request).await), "400", "{name}");
    }
    let long = "x".repeat(257);
    for words in [long.as_str(), "a\tb"] {
        let answer = get(to, CONTACT, &[("Gateway-Reason", words)]).await;
        answer.assert_problem(400, "INVALID_ARGUMENT");
    }
    let injected = "Gateway-Act-As: grants/a\r\nSO-AppToken: x\r\n";
    let request =
        format!("GET {CONTACT} HTTP/1.1\r\nHost: x\r\n{injected}Connection: close\r\n\r\n");
    assert_eq!(status(&raw(to, request.as_bytes()).await), "404");
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    let large = "x".repeat(40 * 1024);
    assert_eq!(get(to, CONTACT, &[("X-Own", &large)]).await.status, 431);
    let long = format!("{CONTACT}?{}", "x".repeat(20 * 1024));
    get(to, &long, &[]).await.assert_problem(400, "INVALID_ARGUMENT");
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let request = client.get(format!("http://{to}{CONTACT}")).header("x-own", &large);
    let answer = client.execute(request.build().unwrap()).await;
    assert!(answer.map_or(true, |answer| answer.status().as_u16() == 431));
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_or_cut_off() {
    let (world, host) = gateway_with_host("max_body_bytes = 100000").await;
    let to = address(world.gateway());
    let body = vec![b'x'; 100_001];
    let head = format!(
        "PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100001\r\n\r\n"
    );
    // The gateway does not wait for a body that it refuses.
    let answer = raw(to, head.as_bytes()).await;
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(answer.contains("RESPONSE_TOO_LARGE"));
    assert!(host.received().is_empty());
    let head = format!(
        "PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", body.len(), "x".repeat(body.len()));
    let answer = raw(to, format!("{head}{chunk}").as_bytes()).await;
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(host.received().iter().all(|arrived| !arrived.whole));
    assert_eq!(send(to, "PUT", CONTACT, &[], &body[..100_000]).await.status, 200);
}

/// Returns the code of the last event of a call.
async fn ended_with(world: &World, request_id: &str) -> Option<i32> {
    let filter = format!("request_id=\"{request_id}\"");
    let list = pb::ListAuditEventsRequest { filter, ..Default::default() };
    let answer = world.audits().await.list_audit_events(list).await.unwrap().into_inner();
    (answer.audit_events.len() == 2).then(|| answer.audit_events[0].code)
}

#[tokio::test]
async fn a_client_that_disconnects_during_its_body_ends_the_call() {
    let (world, host) = gateway_with_host("").await;
    for (framing, part) in [
        ("Content-Length: 1000000", "x".repeat(100_000)),
        ("Transfer-Encoding: chunked", format!("{:x}\r\n{}\r\n", 100_000, "x".repeat(100_000))),
    ] {
        let id = framing.split(':').next().unwrap();
        let head = format!(
            "PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n{framing}\r\n\r\n{part}"
        );
        let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let most = || host.received().last().is_some_and(|arrived| arrived.body_bytes == 100_000);
        eventually("what was sent arrives", most).await;
        drop(stream);
        eventually_so("the end is written down", async || {
            ended_with(&world, id).await.is_some_and(|code| code != 0)
        })
        .await;
    }
    assert!(host.received().iter().all(|arrived| !arrived.whole));
    assert_eq!(get(address(world.gateway()), CONTACT, &[]).await.status, 200);
}

#[tokio::test]
async fn a_client_that_disconnects_while_it_waits_ends_the_call() {
    let (world, host) = gateway_with_host("").await;
    host.respond_next(HostResponse::Hang);
    let head = format!("GET {CONTACT} HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\n\r\n");
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the call is there", || host.received().len() == 1).await;
    drop(stream);
    eventually_so("the end is written down", async || ended_with(&world, "gone").await == Some(1))
        .await;
}

#[tokio::test]
async fn waiting_uploads_do_not_block_other_calls_of_the_connection() {
    let (world, host) = gateway_with_host("").await;
    let uri = format!("http://{}{CONTACT}", address(world.gateway()));
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let put =
        |bytes: usize| client.execute(client.put(&uri).body(vec![b'x'; bytes]).build().unwrap());
    // Opens the connection before any call waits on it.
    assert_eq!(put(10).await.unwrap().status(), 200);
    let mut waiting = tokio::task::JoinSet::new();
    for nth in 0..6 {
        host.respond_next(HostResponse::Hang);
        waiting.spawn(put(8 << 20));
        eventually("the upload has begun", || host.received().len() == nth + 2).await;
    }
    for _ in 0..10 {
        assert_eq!(timeout(SOON, put(200_000)).await.unwrap().unwrap().status(), 200);
    }
    assert!(waiting.try_join_next().is_none());
}

#[tokio::test]
async fn a_lost_upstream_connection_is_reported_and_the_call_not_repeated() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    host.respond_next(HostResponse::CloseAfter(10_000));
    let answer = send(to, "PUT", CONTACT, &[], &vec![b'x'; 1_000_000]).await;
    answer.assert_problem(504, "UPSTREAM_UNAVAILABLE");
    assert_eq!(host.received().len(), 1);
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec();
    host.respond_next(HostResponse::Raw(half));
    let answer = get(to, CONTACT, &[("x-request-id", "half")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "only this"));
    assert_eq!(answer.header("content-length"), Some("100"));
    eventually_so("the end is written down", async || ended_with(&world, "half").await == Some(14))
        .await;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    host.respond_next(HostResponse::Raw(chunked));
    let answer = get(to, CONTACT, &[]).await;
    assert!(!answer.body.contains("\r\n0\r\n"), "the response looks complete: {answer:?}");
}

#[tokio::test]
async fn a_tenant_status_with_a_foreign_host_is_rejected() {
    let (world, _) = gateway_with_host("").await;
    let trap = ScriptedApiHost::start().await;
    let port = trap.address.port();
    for (index, api) in [
        "https://evil.example/{}/api".to_owned(),
        "https://superoffice.com.evil.example/{}/api".to_owned(),
        "http://169.254.169.254/{}/api".to_owned(),
        "http://[::ffff:169.254.169.254]/{}/api".to_owned(),
        "http://10.0.0.1/{}/api".to_owned(),
        format!("http://127.0.0.2:{port}/{{}}/api"),
        format!("http://localhost:{port}/{{}}/api"),
        format!("http://[::1]:{port}/{{}}/api"),
        format!("http://user@127.0.0.1:{port}/{{}}/api"),
        format!("http://127.0.0.1:{port}/Cust1/api"),
        format!("http://127.0.0.1:{port}/{{}}/api/v2"),
        "file:///etc/passwd".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = format!("Cust{}", 100 + index);
        set_tenant_api(&world.sandbox, &tenant, &api.replace("{}", &tenant));
        world.enroll(&tenant).await;
        let path = format!("/crm-sync/{tenant}/api/v1/Contact");
        let answer = get(address(world.gateway()), &path, &[]).await;
        answer.assert_problem(503, "UPSTREAM_INVALID_RESPONSE");
    }
    assert!(trap.received().is_empty());
}
