//! Bodies without a length through the egress listener: they are sent at once, and a small one is sent once more after a
//! dead ticket (401) or a tenant that has moved (421).

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
    api_host::{ApiHostByHand, Told, address, with_host},
    eventually,
    http::Answer,
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const KIB: usize = 1024;

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\n";
const MISDIRECTED: &str = "HTTP/1.1 421 Misdirected Request\r\n";

/// A body that names no length.
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

/// The head of a request in chunks, after which the connection ends.
fn head(headers: &str) -> String {
    format!(
        "POST {CONTACT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    )
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The whole of a body in chunks, with trailers or without.
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

/// The ticket is dead: the call and the probe are refused.
fn refuse_ticket(host: &ApiHostByHand) {
    host.tell(Told::Body(UNAUTHORIZED, vec![]));
    host.tell(Told::Body(UNAUTHORIZED, vec![]));
}

/// The bodies of the calls that have arrived, without probes.
fn posted(host: &ApiHostByHand) -> Vec<Vec<u8>> {
    let arrived = host.arrived().into_iter();
    arrived.filter(|one| one.line().starts_with("POST ")).map(|one| one.body).collect()
}

async fn world() -> (World, ApiHostByHand, SocketAddr) {
    let (world, host) = with_host("").await;
    let to = address(world.gateway());
    (world, host, to)
}

#[tokio::test]
async fn a_small_body_in_chunks_meets_a_dead_ticket_and_the_caller_does_not_see_it() {
    let (world, host, to) = world().await;
    refuse_ticket(&host);
    assert_eq!(post(to, b"{\"name\":\"Acme\"}", "").await.status, 200);
    assert_eq!(posted(&host), [b"{\"name\":\"Acme\"}", b"{\"name\":\"Acme\"}"]);
    let arrived = host.arrived();
    assert_eq!(arrived[0].header("transfer-encoding"), ["chunked"]);
    assert_eq!(arrived[2].header("content-length"), ["15"]);
    assert_ne!(arrived[0].header("authorization"), arrived[2].header("authorization"));
    assert_eq!(world.exchanges(), 2);
}

#[tokio::test]
async fn bodies_in_chunks_are_sent_once_more_up_to_64_kib_and_not_beyond() {
    let (_world, host, to) = world().await;
    for (bytes, trailers, sent) in [
        (0, "", 2),
        (15, "X-Trailer: 1\r\n", 2),
        (64 * KIB, "", 2),
        (64 * KIB + 1, "", 1),
        (300 * KIB, "", 1),
    ] {
        let (before, body) = (posted(&host).len(), vec![b'x'; bytes]);
        host.tell(Told::Body(MISDIRECTED, vec![]));
        let answer = post(to, &body, trailers).await;
        assert_eq!(answer.status, if sent == 2 { 200 } else { 421 }, "{bytes}");
        let posted = posted(&host).split_off(before);
        assert_eq!(posted.len(), sent, "{bytes}");
        assert!(posted.iter().all(|arrived| *arrived == body), "{bytes}");
    }
    assert!(host.arrived().iter().all(|one| one.header("x-trailer").is_empty()));
}

#[tokio::test]
async fn a_small_body_over_http2_without_a_length_is_sent_once_more() {
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
        // A dead ticket is replaced once a minute.
        world.advance(Duration::from_mins(2));
    }
    assert_eq!(posted(&host), [b"{\"a\":1}"; 4]);
}

#[tokio::test]
async fn a_body_that_still_arrives_when_401_comes_is_read_to_its_end_and_sent_once_more() {
    let (_world, host, to) = world().await;
    host.tell(Told::Early(UNAUTHORIZED));
    host.tell(Told::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.arrived().len() == 2).await;
    stream.write_all(&chunk(b"second")).await.unwrap();
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 200);
    let arrived = host.arrived();
    // The first request, which was refused, may have been sent to its end before the probe was answered.
    assert_eq!((arrived.len(), &arrived[2].body[..]), (3, &b"first second"[..]));
}

#[tokio::test]
async fn an_early_401_of_a_body_that_turns_out_long_is_passed_on() {
    let (_world, host, to) = world().await;
    host.tell(Told::Early(UNAUTHORIZED));
    host.tell(Told::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.arrived().len() == 2).await;
    // The connection may end before all of it is taken.
    let _ = stream.write_all(&chunk(&vec![b'x'; 65 * KIB])).await;
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 401");
    assert_eq!(posted(&host).len(), 1);
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_healed_too() {
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
async fn a_caller_that_leaves_in_the_middle_of_its_body_is_never_acted_for() {
    let (_world, host, to) = world().await;
    host.tell(Told::Early(UNAUTHORIZED));
    host.tell(Told::Body(UNAUTHORIZED, vec![]));
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(head("").as_bytes()).await.unwrap();
    stream.write_all(&chunk(b"first ")).await.unwrap();
    eventually("the ticket is probed", || host.arrived().len() == 2).await;
    drop(stream);
    // Another call passes meanwhile and afterwards.
    assert_eq!(post(to, b"other", "").await.status, 200);
    let posted = posted(&host);
    assert_eq!((posted.len(), &posted[1][..]), (2, &b"other"[..]));
}

#[tokio::test]
async fn after_any_other_answer_a_body_in_chunks_is_sent_once() {
    let (_world, host, to) = world().await;
    for (told, status) in [
        (Told::Body("HTTP/1.1 403 Forbidden\r\n", vec![]), 403),
        (Told::Body("HTTP/1.1 500 Internal Server Error\r\n", vec![]), 500),
        (Told::Body("HTTP/1.1 503 Service Unavailable\r\n", vec![]), 503),
        (Told::Raw(b"nonsense\r\n\r\n".to_vec()), 504),
        (Told::LeaveAfter(1), 504),
    ] {
        let before = posted(&host).len();
        host.tell(told.clone());
        assert_eq!(post(to, b"{\"a\":1}", "").await.status, status, "{told:?}");
        assert_eq!(posted(&host).len() - before, 1, "{told:?}");
    }
}
