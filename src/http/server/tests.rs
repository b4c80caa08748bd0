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
    broker::{AssociateHints, Attempts, Counters},
    listen::FrontProxies,
    ports::{ManualClock, WebhookVerifier},
};

/// Takes every signature for good.
struct Anybody;

impl WebhookVerifier for Anybody {
    fn has_signed(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// Route and status of each request.
#[derive(Default)]
struct Counted(Mutex<Vec<(&'static str, u16)>>);

impl Meter for Counted {
    fn request(&self, _: &'static str, _: &'static str, _: Duration) {}

    fn http_request(&self, route: &'static str, status: u16, _: Duration) {
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
    counted: Arc<Counted>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns it")]
async fn listener() -> Listener {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let counted = Arc::new(Counted::default());
    let webhooks = Webhooks {
        verifiers: [("app".parse().unwrap(), Arc::new(Anybody) as _)].into(),
        hints: Arc::new(AssociateHints::new(Box::new(drop), Arc::new(Counters::default()))),
        attempts: Arc::new(Attempts::new(clock.clone())),
    };
    let doors = HttpDoors { webhooks, state_changes: None, consents: None };
    let ports = HttpPorts {
        clock,
        random: Arc::new(Fixed),
        meter: counted.clone(),
        intake: Arc::default(),
    };
    let mut server = HttpServer::new(socket, None, FrontProxies::default(), doors, ports);
    let layer = Around {
        ids: RequestIds::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)), &Fixed),
        meter: counted.clone(),
        requests: server.requests.clone(),
    };
    let route = Route { around: Arc::new(layer), pattern: "/test" };
    let router = Router::new()
        .route("/never", get(async || pending::<()>().await))
        .route("/panic", get(async || -> () { panic!("on purpose") }))
        .route("/who", get(async |Extension(Client(ip)): Extension<Client>| IpAddr::to_string(&ip)))
        .layer(from_fn_with_state(route, around));
    server.router = server.router.merge(router);
    let address = server.address().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(stop.clone()));
    Listener { address, counted, stop, serving }
}

impl Listener {
    async fn connect(&self, words: &[u8]) -> TcpStream {
        self.connect_from([127, 0, 0, 1], words).await
    }

    async fn connect_from(&self, address: [u8; 4], words: &[u8]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        stream.write_all(words).await.unwrap();
        stream
    }

    /// All that comes until the connection ends.
    async fn answer(&self, words: &[u8]) -> String {
        rest(self.connect(words).await).await
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const HOOK: &str = "POST /webhooks/superoffice/associates/app HTTP/1.1\r\nHost: g\r\nX-Superoffice-Signature: x\r\n";

#[tokio::test]
async fn a_handler_knows_where_a_request_comes_from_and_one_that_panics_hurts_nobody() {
    let listener = listener().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n");
    assert!(listener.answer(get("/who").as_bytes()).await.ends_with("\r\n\r\n127.0.0.1"));
    let answer = listener.answer(get("/panic").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("\"INTERNAL\""), "{answer}");
    assert!(!answer.contains("on purpose"), "{answer}");
    assert!(listener.answer(get("/who").as_bytes()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let listener = listener().await;
    for words in ["", "G", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"] {
        let begin = Instant::now();
        listener.answer(words.as_bytes()).await;
        let took = begin.elapsed();
        assert!(took >= ALLOWANCE.head_time && took < 3 * ALLOWANCE.head_time, "{words}: {took:?}");
    }
    // Nor is the next one of a connection that was answered.
    let begin = Instant::now();
    let answer = listener.answer(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(begin.elapsed() < 3 * ALLOWANCE.head_time, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
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
async fn a_client_that_goes_away_is_counted_as_gone() {
    let listener = listener().await;
    drop(listener.connect(b"GET /never HTTP/1.1\r\nHost: g\r\n\r\n").await);
    while listener.counted.0.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(listener.counted.0.lock().unwrap().as_slice(), [("/test", 499)]);
}

#[tokio::test]
async fn when_all_slots_are_taken_a_newcomer_gets_that_of_an_address_with_many() {
    let listener = listener().await;
    let mut taken = Vec::new();
    for slot in 0..ALLOWANCE.strangers {
        let from = [127, 0, 0, if slot % 4 == 0 { 1 } else { 2 }];
        let never = b"GET /never HTTP/1.1\r\nHost: g\r\n\r\n";
        taken.push(listener.connect_from(from, never).await);
    }
    let who = b"GET /who HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n";
    let answer = rest(listener.connect_from([127, 0, 0, 3], who).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The oldest of the other address.
    assert_eq!(taken[1].read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_ended_at_its_age_when_it_is_answered() {
    let listener = listener().await;
    let mut stream = listener.connect(b"").await;
    let begin = Instant::now();
    let mut byte = [0];
    loop {
        let asked = stream.write_all(b"GET /who HTTP/1.1\r\nHost: g\r\n\r\n").await.is_ok();
        if !asked || stream.read(&mut byte).await.unwrap_or_default() == 0 {
            break;
        }
        sleep(ALLOWANCE.head_time / 2).await;
        assert!(begin.elapsed() < 2 * ALLOWANCE.age);
    }
    assert!(begin.elapsed() >= ALLOWANCE.age, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn at_the_stop_what_runs_is_answered_and_what_waits_is_not_waited_for() {
    let listener = listener().await;
    let idle = listener.connect(b"GET /who HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let half_a_head = listener.connect(b"GET / HTT").await;
    let running = listener.connect(format!("{HOOK}Content-Length: 4\r\n\r\nha").as_bytes()).await;
    sleep(Duration::from_secs(1)).await;
    listener.stop.cancel();
    let answered = async {
        let mut running = running;
        // Longer than a peer of HTTP/2 may be silent then.
        sleep(Duration::from_millis(3500)).await;
        running.write_all(b"lf").await.unwrap();
        rest(running).await
    };
    let begin = Instant::now();
    let (served, answer) = tokio::join!(listener.serving, answered);
    served.unwrap();
    // The body came whole, and is that of no webhook.
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
async fn at_the_stop_a_request_of_http2_is_answered_after_goaway() {
    let listener = listener().await;
    let path = b"/webhooks/superoffice/associates/app";
    // RFC 7541: POST and http out of the static table, the rest as literals.
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
            // 400 is in the static table, too.
            assert_eq!(payload[0], 0x8c);
        }
        if kind == DATA {
            answer.extend(payload);
        }
        seen.push(kind);
    }
    let goaway = seen.iter().position(|kind| *kind == GOAWAY).unwrap();
    assert!(seen[goaway..].contains(&HEADERS), "{seen:?}");
    // The body came whole, and is that of no webhook.
    assert!(String::from_utf8(answer).unwrap().contains("EventId"));
    listener.serving.await.unwrap();
}
