//! Tests of bodies without a length through the egress listener: they are streamed at once, and a small one is sent
//! again after an invalid ticket (401) or a moved tenant (421).

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    World,
    api_host::{HostResponse, ScriptedApiHost, address, gateway_with_host},
    eventually,
    http::Answer,
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const KIB: usize = 1024;

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n";
const MISDIRECTED: &str = "HTTP/1.1 421 Misdirected Request\r\n";

/// A body without a declared length.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Returns the head of a chunked request, after which the connection closes.
fn head(headers: &str) -> String {
    format!(
        "POST {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    )
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Returns a whole chunked body, with or without trailers.
fn chunked(body: &[u8], trailers: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = body.chunks(10_000).flat_map(chunk).collect();
    bytes.extend(format!("0\r\n{trailers}\r\n").as_bytes());
    bytes
}

async fn post(to: SocketAddr, body: &[u8], trailers: &str) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunked(body, trailers)).await.unwrap();
    Answer::read(&mut stream).await
}

/// Refuses the call and the probe, so that the ticket is invalid.
fn refuse_ticket(host: &ScriptedApiHost) {
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
}

/// Returns the bodies of the calls that arrived, without probes.
fn posted(host: &ScriptedApiHost) -> Vec<Vec<u8>> {
    let arrived = host.received().into_iter();
    arrived.filter(|one| one.line().starts_with("POST ")).map(|one| one.body).collect()
}

async fn world() -> (World, ScriptedApiHost, SocketAddr) {
    let (world, host) = gateway_with_host("").await;
    let to = address(world.gateway());
    (world, host, to)
}

#[tokio::test]
async fn a_small_chunked_body_is_sent_again_after_an_invalid_ticket() {
    let (world, host, to) = world().await;
    refuse_ticket(&host);
    assert_eq!(post(to, b"{\"name\":\"Acme\"}", "").await.status, 200);
    assert_eq!(posted(&host), [b"{\"name\":\"Acme\"}", b"{\"name\":\"Acme\"}"]);
    let arrived = host.received();
    assert_eq!(arrived[0].header("transfer-encoding"), ["chunked"]);
    assert_eq!(arrived[2].header("content-length"), ["15"]);
    assert_ne!(arrived[0].header("authorization"), arrived[2].header("authorization"));
    assert_eq!(world.exchanges(), 2);
}

#[tokio::test]
async fn chunked_bodies_are_sent_again_up_to_64_kib() {
    let (_world, host, to) = world().await;
    for (bytes, trailers, sent) in [
        (0, "", 2),
        (15, "X-Trailer: 1\r\n", 2),
        (64 * KIB, "", 2),
        (64 * KIB + 1, "", 1),
        (300 * KIB, "", 1),
    ] {
        let (before, body) = (posted(&host).len(), vec![b'x'; bytes]);
        host.respond_next(HostResponse::Body(MISDIRECTED, vec![]));
        let answer = post(to, &body, trailers).await;
        assert_eq!(answer.status, if sent == 2 { 200 } else { 421 }, "{bytes}");
        let posted = posted(&host).split_off(before);
        assert_eq!(posted.len(), sent, "{bytes}");
        assert!(posted.iter().all(|arrived| *arrived == body), "{bytes}");
    }
    assert!(host.received().iter().all(|one| one.header("x-trailer").is_empty()));
}

#[tokio::test]
async fn a_small_http2_body_without_length_is_sent_again() {
    let (mut world, host, to) = world().await;
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    let data = |part: &'static str| Frame::data(Bytes::from_static(part.as_bytes()));
    let trailers = || {
        Frame::trailers(
            [("x-trailer".parse().unwrap(), "1".parse().unwrap())].into_iter().collect(),
        )
    };
    let parts = [data("{\"a\":"), data("1}")];
    let with_trailers = [data("{\"a\":1}"), trailers()];
    for frames in [parts, with_trailers] {
        let body = Frames(frames.into());
        refuse_ticket(&host);
        let request = client.post(format!("http://{to}{CONTACT}")).body(reqwest::Body::wrap(body));
        let answer = client.execute(request.build().unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        // A ticket is replaced at most once a minute.
        world.advance(Duration::from_mins(2));
    }
    assert_eq!(posted(&host), [b"{\"a\":1}"; 4]);
}

#[tokio::test]
async fn a_body_that_still_arrives_at_401_is_read_completely_and_sent_again() {
    let (_world, host, to) = world().await;
    host.respond_next(HostResponse::Early(UNAUTHORIZED));
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.received().len() == 2).await;
    stream.write_all(&chunk(b"second")).await.unwrap();
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 200);
    let arrived = host.received();
    // The refused first request may have been sent completely before the probe ended.
    assert_eq!((arrived.len(), &arrived[2].body[..]), (3, &b"first second"[..]));
}

#[tokio::test]
async fn an_early_401_is_passed_on_if_the_body_is_too_long() {
    let (_world, host, to) = world().await;
    host.respond_next(HostResponse::Early(UNAUTHORIZED));
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.received().len() == 2).await;
    // The connection may close before everything is sent.
    let _ = stream.write_all(&chunk(&vec![b'x'; 65 * KIB])).await;
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 401");
    assert_eq!(posted(&host).len(), 1);
}

#[tokio::test]
async fn a_call_with_expect_is_sent_again_too() {
    let (_world, host, to) = world().await;
    refuse_ticket(&host);
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("Expect: 100-continue\r\n").as_bytes()).await.unwrap();
    let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&chunked(b"{}", "")).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 200);
    assert_eq!(posted(&host), [b"{}"; 2]);
}

#[tokio::test]
async fn a_call_whose_client_disconnects_during_its_body_is_not_sent_again() {
    let (_world, host, to) = world().await;
    host.respond_next(HostResponse::Early(UNAUTHORIZED));
    host.respond_next(HostResponse::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.received().len() == 2).await;
    drop(stream);
    // Other calls still work.
    assert_eq!(post(to, b"other", "").await.status, 200);
    let posted = posted(&host);
    assert_eq!((posted.len(), &posted[1][..]), (2, &b"other"[..]));
}

#[tokio::test]
async fn after_any_other_status_a_chunked_body_is_sent_once() {
    let (_world, host, to) = world().await;
    for (told, status) in [
        (HostResponse::Body("HTTP/1.1 403 Forbidden\r\n", vec![]), 403),
        (HostResponse::Body("HTTP/1.1 500 Internal Server Error\r\n", vec![]), 500),
        (HostResponse::Body("HTTP/1.1 503 Service Unavailable\r\n", vec![]), 503),
        (HostResponse::Raw(b"nonsense\r\n\r\n".to_vec()), 504),
        (HostResponse::CloseAfter(1), 504),
    ] {
        let before = posted(&host).len();
        host.respond_next(told.clone());
        assert_eq!(post(to, b"{\"a\":1}", "").await.status, status, "{told:?}");
        assert_eq!(posted(&host).len() - before, 1, "{told:?}");
    }
}
