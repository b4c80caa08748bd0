use std::{future::pending, net::IpAddr, sync::Mutex};

use axum::{extract::Extension, routing::get};
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{
    audit::UnauthenticatedAttempts,
    broker::{AssociateHints, Counters},
    listen::FrontProxies,
    ports::{ManualClock, RequestMeter, WebhookVerifier},
};

/// Accepts every signature.
struct AcceptAll;

impl WebhookVerifier for AcceptAll {
    fn is_signature_valid(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// Records nothing: the listener serves no gRPC.
struct Ignored;

impl RequestMeter for Ignored {
    fn record(&self, _: &'static str, _: Duration) {}
}

/// Records route and status of each request.
#[derive(Default)]
struct RecordingMeter(Mutex<Vec<(&'static str, u16)>>);

impl Meter for RecordingMeter {
    fn request_meter(&self, _: &'static str) -> Box<dyn RequestMeter> {
        Box::new(Ignored)
    }

    fn record_http_request(&self, route: &'static str, status: u16, _: Duration) {
        self.0.lock().unwrap().push((route, status));
    }
}

struct Fixed;

impl Random for Fixed {
    fn bytes(&self) -> [u8; 16] {
        [7; 16]
    }
}

struct Listener {
    address: SocketAddr,
    counted: Arc<RecordingMeter>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns it")]
async fn listener() -> Listener {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let counted = Arc::new(RecordingMeter::default());
    let webhooks = Webhooks {
        verifiers: [("app".parse().unwrap(), Arc::new(AcceptAll) as _)].into(),
        hints: Arc::new(AssociateHints::new(Box::new(drop), Arc::new(Counters::default()))),
        attempts: Arc::new(UnauthenticatedAttempts::new(clock.clone())),
    };
    let endpoints = PublicEndpoints { webhooks, state_changes: None, consents: None };
    let ports = PublicPorts {
        clock,
        random: Arc::new(Fixed),
        meter: counted.clone(),
        intake: Arc::default(),
    };
    let mut server = PublicServer::new(socket, None, FrontProxies::default(), endpoints, ports);
    let layer = RequestLayer {
        ids: RequestIdGenerator::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)), &Fixed),
        meter: counted.clone(),
        requests: server.requests.clone(),
    };
    let route = Route { layer: Arc::new(layer), pattern: "/test", is_signed: false };
    let router = Router::new()
        .route("/never", get(async || pending::<()>().await))
        .route("/panic", get(async || -> () { panic!("on purpose") }))
        .route(
            "/who",
            get(async |Extension(ClientAddress(ip)): Extension<ClientAddress>| {
                IpAddr::to_string(&ip)
            }),
        )
        .layer(from_fn_with_state(route, wrap_request));
    server.router = server.router.merge(router);
    let address = server.address().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone()));
    Listener { address, counted, stop, serving }
}

impl Listener {
    async fn connect(&self, bytes: &[u8]) -> TcpStream {
        self.connect_from([127, 0, 0, 1], bytes).await
    }

    async fn connect_from(&self, address: [u8; 4], bytes: &[u8]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Returns all bytes until the connection ends.
    async fn answer(&self, bytes: &[u8]) -> String {
        rest(self.connect(bytes).await).await
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const HOOK: &str = "POST /webhooks/superoffice/associates/app HTTP/1.1\r\nHost: g\r\nX-Superoffice-Signature: x\r\n";

#[tokio::test]
async fn a_handler_gets_the_client_address_and_a_panic_is_a_500() {
    let listener = listener().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
    assert!(listener.answer(get("/who").as_bytes()).await.ends_with("\r\n\r\n127.0.0.1"));
    let answer = listener.answer(get("/panic").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("\"INTERNAL\""), "{answer}");
    assert!(!answer.contains("on purpose"), "{answer}");
    assert!(listener.answer(get("/who").as_bytes()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_head_times_out() {
    let listener = listener().await;
    for words in ["", "G", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"] {
        let begin = Instant::now();
        listener.answer(words.as_bytes()).await;
        let took = begin.elapsed();
        assert!(took >= LIMITS.head_timeout && took < 3 * LIMITS.head_timeout, "{words}: {took:?}");
    }
    // The time limit also applies to the next head of a connection.
    let begin = Instant::now();
    let answer = listener.answer(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(begin.elapsed() < 3 * LIMITS.head_timeout, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_body_times_out() {
    let listener = listener().await;
    let words = format!("{HOOK}Content-Length: 10\r\n\r\nhalf");
    let begin = Instant::now();
    let answer = listener.answer(words.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("\"DEADLINE_EXCEEDED\""), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(listener.counted.0.lock().unwrap().as_slice(), [(ASSOCIATES, 504)]);
}

#[tokio::test]
async fn a_client_that_disconnects_is_counted_as_499() {
    let listener = listener().await;
    drop(listener.connect(b"GET /never HTTP/1.1\r\nHost: g\r\n\r\n").await);
    while listener.counted.0.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(listener.counted.0.lock().unwrap().as_slice(), [("/test", 499)]);
}

#[tokio::test]
async fn a_new_connection_replaces_one_of_the_address_with_most_slots() {
    let listener = listener().await;
    let mut taken = Vec::new();
    for slot in 0..LIMITS.unauthorized_connections {
        let from = [127, 0, 0, if slot % 4 == 0 { 1 } else { 2 }];
        let never = b"GET /never HTTP/1.1\r\nHost: g\r\n\r\n";
        taken.push(listener.connect_from(from, never).await);
    }
    let who = b"GET /who HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n";
    let answer = rest(listener.connect_from([127, 0, 0, 3], who).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The oldest connection of the other address was closed.
    assert_eq!(taken[1].read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_closed_at_its_maximum_age_after_its_answer() {
    let listener = listener().await;
    let mut stream = listener.connect(b"").await;
    let begin = Instant::now();
    let mut byte = [0];
    loop {
        let asked = stream.write_all(b"GET /who HTTP/1.1\r\nHost: g\r\n\r\n").await.is_ok();
        if !asked || stream.read(&mut byte).await.unwrap_or_default() == 0 {
            break;
        }
        sleep(LIMITS.head_timeout / 2).await;
        assert!(begin.elapsed() < 2 * LIMITS.max_age);
    }
    assert!(begin.elapsed() >= LIMITS.max_age, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_running_requests_and_closes_idle_connections() {
    let listener = listener().await;
    let idle = listener.connect(b"GET /who HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let half_a_head = listener.connect(b"GET / HTT").await;
    let running = listener.connect(format!("{HOOK}Content-Length: 4\r\n\r\nha").as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    listener.stop.cancel();
    let answered = async {
        let mut running = running;
        // Longer than an HTTP/2 peer may be silent during shutdown.
        sleep(Duration::from_millis(3500)).await;
        running.write_all(b"lf").await.unwrap();
        rest(running).await
    };
    let begin = Instant::now();
    let (served, answer) = tokio::join!(listener.serving, answered);
    served.unwrap();
    // The whole body arrived, but is not that of a webhook.
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("EventId"), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(rest(idle).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(rest(half_a_head).await, "");
    assert!(TcpStream::connect(listener.address).await.is_err());
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

#[tokio::test(start_paused = true)]
async fn shutdown_answers_a_running_http2_request_after_goaway() {
    let listener = listener().await;
    let path = b"/webhooks/superoffice/associates/app";
    // RFC 7541: POST and http from the static table, the rest as literals.
    let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path);
    head.extend(b"\x01\x01g\x00\x17x-superoffice-signature\x01x");
    let mut stream = listener.connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    for frame in
        [frame(SETTINGS, 0, 0, b""), frame(HEADERS, 0x4, 1, &head), frame(DATA, 0, 1, b"ha")]
    {
        stream.write_all(&frame).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    listener.stop.cancel();
    let (mut seen, mut answer) = (Vec::new(), Vec::new());
    let mut begin = [0; 9];
    while stream.read_exact(&mut begin).await.is_ok() {
        let [_, high, low, kind, flags, ..] = begin;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut payload).await.unwrap();
        if flags & 1 == 0 && [SETTINGS, PING].contains(&kind) {
            let pong = if kind == PING { &payload[..] } else { b"" };
            stream.write_all(&frame(kind, 1, 0, pong)).await.unwrap();
        }
        if kind == GOAWAY && !seen.contains(&GOAWAY) {
            sleep(Duration::from_millis(3500)).await;
            stream.write_all(&frame(DATA, 1, 1, b"lf")).await.unwrap();
        }
        if kind == HEADERS {
            // The status 400 is in the static table, too.
            assert_eq!(payload[0], 0x8c);
        }
        if kind == DATA {
            answer.extend(payload);
        }
        seen.push(kind);
    }
    let goaway = seen.iter().position(|kind| *kind == GOAWAY).unwrap();
    assert!(seen[goaway..].contains(&HEADERS), "{seen:?}");
    // The whole body arrived, but is not that of a webhook.
    assert!(String::from_utf8(answer).unwrap().contains("EventId"));
    listener.serving.await.unwrap();
}
