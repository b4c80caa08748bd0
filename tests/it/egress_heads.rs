//! Tests of request heads that an HTTP library would reject or change: the gateway forwards or answers them.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Authority, Client, Options, World,
    api_host::{ScriptedApiHost, address, gateway_with_host},
    binary::{Served, Site},
    callers::AuthenticatedGateway,
    http::{Answer, request, send},
    raw_http2::{Http2Answer, ask, get},
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact";
const LISTENS: &str = "[egress]\nlisten = \"127.0.0.1:0\"\n";

/// Sends the bytes of one request, and reads to the end of the connection.
async fn raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    Answer::read(&mut stream).await
}

async fn http2(to: SocketAddr, requests: &[Vec<(&str, &[u8])>]) -> Vec<Http2Answer> {
    ask(TcpStream::connect(to).await.unwrap(), requests).await
}

/// Returns the targets of the calls that arrived, without the tenant.
fn arrived(host: &ScriptedApiHost) -> Vec<String> {
    let lines = host.received();
    let target = |line: &str| line.split(' ').nth(1).unwrap().replacen("/Cust1/api", "", 1);
    lines.iter().map(|arrived| target(arrived.line())).collect()
}

/// Queries with characters that clients send unencoded, and the queries that arrive.
const RAW: [(&[u8], &str); 4] = [
    (b"a=<", "a=%3C"),
    (b"a=>&b=\"", "a=%3E&b=%22"),
    (b"a=`{b}|^", "a=`{b}|^"),
    (b"name=Stra\xdfe", "name=Stra%DFe"),
];

#[tokio::test]
async fn characters_that_clients_send_raw_arrive_encoded_over_http1() {
    let (world, host) = gateway_with_host("").await;
    for (query, wanted) in &RAW {
        let head = [b"GET ", CONTACT.as_bytes(), b"?", query, b" HTTP/1.1\r\nHost: x\r\n"].concat();
        let answer =
            raw(address(world.gateway()), &[&head, &b"Connection: close\r\n\r\n"[..]].concat())
                .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(arrived(&host).pop().unwrap(), format!("/v1/Contact?{wanted}"));
    }
}

#[tokio::test]
async fn characters_that_clients_send_raw_arrive_encoded_over_http2() {
    let (world, host) = gateway_with_host("").await;
    let paths: Vec<_> =
        RAW.iter().map(|(query, _)| [CONTACT.as_bytes(), b"?", query].concat()).collect();
    let requests: Vec<_> = paths.iter().map(|path| get(path, &[])).collect();
    let answers = http2(address(world.gateway()), &requests).await;
    assert!(answers.iter().all(Http2Answer::is_ok), "{answers:?}");
    let mut arrived = arrived(&host);
    arrived.sort();
    let mut wanted: Vec<_> = RAW.iter().map(|(_, query)| format!("/v1/Contact?{query}")).collect();
    wanted.sort();
    assert_eq!(arrived, wanted);
}

#[tokio::test]
async fn later_requests_on_the_connection_are_forwarded_too() {
    let (world, host) = gateway_with_host("").await;
    let body = "GET /not-a-head?<> HTTP/1.1\r\n\r\n";
    let all = format!(
        "POST {CONTACT}?1=< HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}\
         GET {CONTACT}?2=\" HTTP/1.1\r\nHost: x\r\n\r\n\
         GET {CONTACT}?3#cut HTTP/1.1\r\nHost: x\r\n\r\n\
         GET {CONTACT}?4=> HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    for part in all.as_bytes().chunks(23) {
        stream.write_all(part).await.unwrap();
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "400", "200"], "{answers}");
    assert_eq!(arrived(&host), ["/v1/Contact?1=%3C", "/v1/Contact?2=%22", "/v1/Contact?4=%3E"]);
    assert_eq!(host.received()[0].body, body.as_bytes());
}

#[tokio::test]
async fn a_fragment_is_refused_and_not_removed() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for tail in ["?a=b#c", "?#", "#", "/5#/../6", "?a=<#"] {
        let target = format!("{CONTACT}{tail}");
        let answer = send(to, "GET", &target, &[("X-Request-Id", "r-1")], b"").await;
        let problem = answer.assert_problem(400, "INVALID_ARGUMENT");
        assert!(problem["detail"].as_str().unwrap().contains('#'), "{problem}");
        assert_eq!(problem["request_id"], "r-1");
        let answer = &http2(to, &[get(target.as_bytes(), &[("x-request-id", b"r-2")])]).await[0];
        let problem = answer.assert_problem(400, "INVALID_ARGUMENT");
        assert!(problem["detail"].as_str().unwrap().contains('#'), "{problem}");
        assert_eq!(problem["request_id"], "r-2");
    }
    assert!(host.received().is_empty());
}

#[tokio::test]
async fn a_client_cannot_send_the_internal_mark_of_a_refused_request() {
    let (world, _) = gateway_with_host("").await;
    let to = address(world.gateway());
    for target in ["/\"fragment", "/%22fragment"] {
        send(to, "GET", target, &[], b"").await.assert_problem(404, "RESOURCE_NOT_FOUND");
        let answer = &http2(to, &[get(target.as_bytes(), &[])]).await[0];
        answer.assert_problem(404, "RESOURCE_NOT_FOUND");
    }
}

#[tokio::test]
async fn invalid_heads_get_a_response_with_a_request_id() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    for head in [
        &b"GET / HTTP/1.1\r\nno colon\r\n\r\n"[..],
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/4.2\r\n\r\n",
        b"GET a<b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        raw(to, head).await.assert_problem(400, "INVALID_ARGUMENT");
    }
    let compressed = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n";
    raw(to, compressed).await.assert_problem(501, "UNIMPLEMENTED");
    let path = CONTACT.as_bytes();
    let blank = [path, b"?a b"].concat();
    let requests = [
        get(&blank, &[]),
        get(b"", &[]),
        get(path, &[("X-Upper", b"1")]),
        get(path, &[("connection", b"close")]),
        get(path, &[("content-length", b"many")]),
        get(path, &[(":unknown", b"1")]),
        get(path, &[])[1..].to_vec(),
        get(path, &[]),
    ];
    let answers = http2(to, &requests).await;
    let (last, refused) = answers.split_last().unwrap();
    for answer in refused {
        answer.assert_problem(400, "INVALID_ARGUMENT");
    }
    // The connection is still open.
    assert!(last.is_ok());
    assert_eq!(host.received().len(), 1);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_a_problem_and_an_http2_connection_survives() {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    let large = "x".repeat(40 * 1024);
    let lines = [("X-Own", "1"); 101];
    for headers in [&[("X-Own", large.as_str())][..], &lines] {
        let answer = send(to, "GET", CONTACT, headers, b"").await;
        let problem = answer.assert_problem(431, "INVALID_ARGUMENT");
        assert!(problem["detail"].as_str().unwrap().contains("32 KiB"), "{problem}");
    }
    let head = format!("HEAD {CONTACT} HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(101));
    let answer = raw(to, head.as_bytes()).await;
    assert_eq!((answer.status, answer.body.as_str()), (431, ""));
    let path = CONTACT.as_bytes();
    let many = vec![("x-own", &b"1"[..]); 1000];
    let megabyte = vec![b'x'; 900_000];
    let requests = [
        get(path, &[("x-own", large.as_bytes())]),
        get(path, &many),
        get(path, &[("x-own", &megabyte)]),
        get(path, &[]),
    ];
    let answers = http2(to, &requests).await;
    for answer in &answers[..3] {
        answer.assert_problem(431, "INVALID_ARGUMENT");
    }
    assert!(answers[3].is_ok());
    assert_eq!(host.received().len(), 1);
    // 100 lines, including those of `send`.
    assert_eq!(send(to, "GET", CONTACT, &lines[..97], b"").await.status, 200);
}

#[tokio::test]
async fn the_caller_is_authenticated_first_if_the_head_is_valid() {
    let policy = "permit (principal == Caller::\"jobs\", action, resource);";
    let options = Options { extra_config: LISTENS.to_owned(), ..Options::default() };
    let guarded = AuthenticatedGateway::with(policy, options).await;
    let to = address(guarded.world.gateway());
    let bearer = format!("Bearer {}", guarded.token("jobs"));
    let target = format!("{CONTACT}?a#b");
    let answer = send(to, "GET", &target, &[], b"").await;
    answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
    let answer = send(to, "GET", &target, &[("Authorization", &bearer)], b"").await;
    answer.assert_problem(400, "INVALID_ARGUMENT");
    let requests = [
        get(target.as_bytes(), &[]),
        get(target.as_bytes(), &[("authorization", bearer.as_bytes())]),
    ];
    let answers = http2(to, &requests).await;
    answers[0].assert_problem(401, "CALLER_UNAUTHENTICATED");
    answers[1].assert_problem(400, "INVALID_ARGUMENT");
    // An unreadable head may have contained the credential.
    let large = "x".repeat(40 * 1024);
    let answer = send(to, "GET", CONTACT, &[("X-Own", &large)], b"").await;
    answer.assert_problem(431, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn each_refused_head_is_logged_and_counted() {
    let site = Site::with(Options { extra_config: LISTENS.to_owned(), ..Options::default() }).await;
    let Served { mut process, egress, .. } = site.serve().await;
    let to = egress.unwrap();
    let target = format!("{CONTACT}?secret-query#secret-fragment");
    send(to, "PUT", &target, &[("X-Request-Id", "r-fragment")], b"").await;
    raw(to, b"GET /secret-path HTTP/4.2\r\n\r\n").await;
    let large = vec![b'x'; 40 * 1024];
    http2(to, &[get(CONTACT.as_bytes(), &[("x-own", &large)])]).await;
    for (status, method) in [(400, "PUT"), (400, "GET"), (431, "GET")] {
        let line = process
            .until("logs", |process| {
                let log = process.stderr();
                let mut lines =
                    log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.find(|line| {
                    line["message"] == "request ended"
                        && line["http.status"] == status
                        && line["http.method"] == method
                })
            })
            .await;
        assert_eq!(line["reason"], "INVALID_ARGUMENT", "{line}");
        assert!(!line["request_id"].as_str().unwrap().is_empty());
        if method == "PUT" {
            assert_eq!(line["request_id"], "r-fragment");
        }
    }
    assert!(!process.stderr().contains("secret-"));
}

#[tokio::test]
async fn the_same_holds_over_tls() {
    let (files, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue().write(files.path());
    let folder = files.path().display();
    let tls = format!(
        "[egress.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\"\n"
    );
    let options = Options { extra_config: format!("{LISTENS}{tls}"), ..Options::default() };
    let world = World::with(options).await;
    let host = ScriptedApiHost::start().await;
    host.move_tenant_here(&world.sandbox, "Cust1");
    world.enroll("Cust1").await;
    let to = address(world.gateway());
    let client = |alpn| Client { alpn: Some(alpn), ..authority.client() };
    for (tail, status) in [("?1=<", 200), ("?1#", 400)] {
        let target = format!("{CONTACT}{tail}");
        let mut stream = client("http/1.1").handshake(to).await.unwrap();
        stream.write_all(&request("GET", &target, &[], b"")).await.unwrap();
        assert_eq!(Answer::read(&mut stream).await.status, status);
        let stream = client("h2").handshake(to).await.unwrap();
        let answer = &ask(stream, &[get(target.as_bytes(), &[])]).await[0];
        assert_eq!(answer.is_ok(), status == 200, "{answer:?}");
    }
    assert_eq!(arrived(&host), ["/v1/Contact?1=%3C"; 2]);
}

#[tokio::test]
async fn the_http_listener_answers_invalid_heads_too() {
    let extra_config = "[http]\nlisten = \"127.0.0.1:0\"".to_owned();
    let world = World::with(Options { extra_config, ..Options::default() }).await;
    let to = world.gateway().http_address.unwrap();
    let large = "x".repeat(40 * 1024);
    for (status, target, headers) in [
        (400, "/consent/a#b", vec![]),
        (400, "http://[", vec![]),
        (404, "/a?<", vec![]),
        (431, "/", vec![("X-Own", large.as_str())]),
        (431, "/", vec![("X-Own", "1"); 101]),
    ] {
        let answer = send(to, "GET", target, &headers, b"").await;
        let reason = if status == 404 { "RESOURCE_NOT_FOUND" } else { "INVALID_ARGUMENT" };
        answer.assert_problem(status, reason);
        let fields: Vec<_> = headers.iter().map(|(_, value)| ("x-own", value.as_bytes())).collect();
        if fields.len() < 100 {
            http2(to, &[get(target.as_bytes(), &fields)]).await[0].assert_problem(status, reason);
        }
    }
    raw(to, b"\x16\x03\x01\x02\x00").await.assert_problem(400, "INVALID_ARGUMENT");
    let name = "http_requests_total{http_route=\"unknown\",http_status=\"431\"}";
    assert_eq!(world.metric(name).await, 3);
}
