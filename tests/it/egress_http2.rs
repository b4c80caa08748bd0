//! Tests of calls through the egress listener to an API host that negotiates HTTP/2.

use std::{fs, net::SocketAddr, time::Duration};

use axum::body::Body;
use http::{Response, Version};
use superoffice_sandbox::Endpoint;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Options,
    api_host::{ScriptedApiHost, set_tenant_api},
    binary::{Served, Site},
    eventually,
    http::{Answer, request, send},
    http2_host::{Break, Http2Host, WithTrailers},
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const DOCUMENT: &str = "/crm-sync/Cust1/api/v1/Document/7/Content";
const MIB: u64 = 1 << 20;

/// Error codes of HTTP/2.
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// A gateway as a process, because it reads its trusted authorities at start.
async fn with(host: Http2Host) -> (Site, Served, Http2Host, SocketAddr) {
    let extra_config = "[egress]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let site = Site::with(Options { extra_config, ..Options::default() }).await;
    set_tenant_api(&site.sandbox, "Cust1", &host.uri("Cust1"));
    site.enroll("Cust1").await;
    let authorities = site.file("superoffice.pem");
    fs::write(&authorities, host.authority.pem()).unwrap();
    let mut command = site.command(&["serve"]);
    command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
    let served = Served::start(command).await;
    let to = served.egress.unwrap();
    (site, served, host, to)
}

async fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(to, "GET", path, headers, b"").await
}

#[tokio::test]
async fn calls_use_http2_if_negotiated_and_arrive_unchanged() {
    let (_site, _served, host, to) = with(Http2Host::start().await).await;
    let theirs = [("Authorization", "Bearer theirs"), ("X-Own", "1"), ("Connection", "x-gone")];
    let gone = [("X-Gone", "1"), ("TE", "trailers"), ("SO-AppToken", "theirs")];
    let answer = get(to, CONTACT, &[theirs, gone].concat()).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    let [arrived] = &host.received()[..] else { panic!("{:?}", host.received()) };
    let head = &arrived.head;
    assert_eq!((head.version, head.method.as_str()), (Version::HTTP_2, "GET"));
    assert_eq!(head.uri.to_string(), format!("{}/v1/Contact/5", host.uri("Cust1")));
    assert!(arrived.bodiless);
    let text = format!("{:?}", head.headers);
    assert!(!text.contains("theirs"), "{text}");
    assert!(head.headers["authorization"].to_str().unwrap().starts_with("SOTicket "));
    assert_eq!(head.headers["x-own"], "1");
    for name in ["x-gone", "te", "connection", "content-length", "transfer-encoding"] {
        assert!(!head.headers.contains_key(name), "{text}");
    }
}

#[tokio::test]
async fn empty_bodies_trailers_and_parts_pass_from_http2() {
    let (_site, _served, host, to) = with(Http2Host::start().await).await;
    for method in ["POST", "DELETE"] {
        host.respond_next(Response::builder().status(204).body(Body::empty()).unwrap());
        let answer = send(to, method, CONTACT, &[], b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        let arrived = host.received().pop().unwrap();
        assert!(arrived.bodiless && arrived.whole);
        assert_eq!(arrived.head.headers["content-length"], "0");
    }
    host.respond_next(
        Response::builder().header("content-length", "17").body(Body::empty()).unwrap(),
    );
    let head = send(to, "HEAD", CONTACT, &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("17")));
    let part = Response::builder().status(206).header("content-range", "bytes 2-5/9");
    host.respond_next(part.body("cdef".into()).unwrap());
    let answer = get(to, DOCUMENT, &[("Range", "bytes=2-5"), ("If-Range", "\"7\"")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (206, "cdef"));
    assert_eq!(answer.header("content-range"), Some("bytes 2-5/9"));
    let arrived = host.received().pop().unwrap().head.headers;
    assert_eq!(
        (&arrived["range"], &arrived["if-range"]),
        (&"bytes=2-5".parse().unwrap(), &"\"7\"".parse().unwrap())
    );
    host.respond_next(Response::new(WithTrailers::body("whole", "x-trailer")));
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let request = client.get(format!("http://{to}{CONTACT}")).build().unwrap();
    let answer = client.execute(request).await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    assert_eq!(answer.text().await.unwrap(), "whole");
    assert!(host.received().iter().all(|arrived| arrived.head.version == Version::HTTP_2));
}

#[tokio::test]
async fn an_upload_over_http2_has_back_pressure_and_arrives_complete() {
    let (_site, _served, host, to) = with(Http2Host::start().await).await;
    host.hold(true);
    let bytes = 256 * MIB;
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "PUT {DOCUMENT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (block, mut left) = (vec![b'x'; 64 * 1024], bytes);
    // Fills the windows and buffers on the way.
    while let Ok(written) = timeout(Duration::from_secs(1), stream.write(&block)).await {
        left -= written.unwrap() as u64;
        assert!(bytes - left < 32 * MIB, "there is no back pressure");
    }
    eventually("the call is there", || host.received().len() == 1).await;
    host.hold(false);
    while left > 0 {
        let now = usize::try_from(left).unwrap().min(block.len());
        left -= stream.write(&block[..now]).await.unwrap() as u64;
    }
    assert_eq!(Answer::read(&mut stream).await.status, 200);
    let [arrived] = &host.received()[..] else { panic!("{:?}", host.received()) };
    assert_eq!((arrived.head.version, arrived.body_bytes), (Version::HTTP_2, bytes));
    assert!(arrived.whole);
}

#[tokio::test]
async fn unprocessed_requests_are_repeated_and_unsafe_requests_that_may_have_run_are_not() {
    let (_site, _served, host, to) = with(Http2Host::start_breaking().await).await;
    let large = vec![b'x'; 100_000];
    let (refused, failed) = (Break::Reset(REFUSED_STREAM), Break::Reset(INTERNAL_ERROR));
    for (method, body, end, status) in [
        ("GET", &[][..], Break::NotProcessed, 200),
        ("GET", &[], Break::MaybeProcessed, 200),
        ("GET", &[], refused, 200),
        ("GET", &[], failed, 200),
        ("POST", b"{}", Break::NotProcessed, 200),
        ("POST", b"{}", refused, 200),
        ("POST", b"{}", Break::MaybeProcessed, 504),
        ("POST", b"{}", failed, 504),
        ("POST", b"{}", Break::Reset(CANCEL), 504),
        // These bodies are too large for a copy. In the first two cases the host did not process the request.
        ("PUT", &large, Break::NotProcessed, 503),
        ("PUT", &large, refused, 503),
        ("PUT", &large, failed, 504),
    ] {
        host.break_next(end);
        let answer = send(to, method, CONTACT, &[], body).await;
        let what = format!("{method} {end:?}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        if status != 200 {
            let problem = answer.assert_problem(status, "UPSTREAM_UNAVAILABLE");
            assert_eq!(problem["outcome"] == "unknown", status == 504, "{what}");
            assert_eq!(answer.header("retry-after").is_some(), status == 503, "{what}");
        }
        assert_eq!(host.take_request_count(), if status == 200 { 2 } else { 1 }, "{what}");
    }
}

#[tokio::test]
async fn a_small_body_without_a_length_is_sent_once_more_over_http2_after_401_and_421() {
    let (_site, _served, host, to) = with(Http2Host::start().await).await;
    let refused = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
    // After 401 the ticket is probed, which fails, too.
    for (answers, arrived) in [(&[401, 401][..], 3), (&[421], 2)] {
        let before = host.received().len();
        for status in answers {
            host.respond_next(refused(*status));
        }
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!("POST {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let body = "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"), "{answers:?}");
        let all = host.received();
        assert_eq!(all.len() - before, arrived, "{answers:?}");
        let last = all.last().unwrap();
        assert_eq!((last.body_bytes, last.whole), (7, true), "{answers:?}");
    }
}

#[tokio::test]
async fn a_truncated_response_over_http2_is_not_returned_as_complete() {
    let (_site, _served, host, to) = with(Http2Host::start_breaking().await).await;
    for end in [Break::Reset(INTERNAL_ERROR), Break::Reset(CANCEL), Break::MaybeProcessed] {
        host.hold(true);
        host.break_next(end);
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(&request("GET", CONTACT, &[], b"")).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"half of it\r\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        host.hold(false);
        let mut rest = Vec::new();
        // The connection may end with a reset.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!((rest, host.take_request_count()), (vec![], 1), "{end:?}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_dropped_before_its_calls_time_out() {
    let (_site, _served, host, to) = with(Http2Host::start_breaking().await).await;
    host.break_next(Break::Silence);
    // Tries the silent connection first, then a new one.
    assert_eq!(get(to, CONTACT, &[]).await.status, 200);
    assert_eq!(host.take_request_count(), 2);
    assert_eq!(get(to, CONTACT, &[]).await.status, 200);
    assert_eq!(host.take_request_count(), 1);
}

#[tokio::test]
async fn a_host_that_closes_every_connection_is_replaced_by_that_of_tenant_status() {
    for end in [Break::NotProcessed, Break::MaybeProcessed] {
        let (site, _served, host, to) = with(Http2Host::start_breaking().await).await;
        site.sandbox.set_status_validity(Duration::from_hours(1));
        assert_eq!(get(to, CONTACT, &[]).await.status, 200);
        site.sandbox.clear_faults();
        let new = ScriptedApiHost::start().await;
        new.move_tenant_here(&site.sandbox, "Cust1");
        site.sandbox.reset_counts();
        (0..20).for_each(|_| host.break_next(end));
        assert_eq!(get(to, CONTACT, &[]).await.status, 200, "{end:?}");
        let reads = site.sandbox.calls(Endpoint::TenantStatus);
        assert_eq!((new.received().len(), reads), (1, 1), "{end:?}");
    }
}
