//! Tests of the HTTP listener: responses, limits, TLS, and shutdown.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tenant_gateway::app::ShutdownOutcome;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    Authority, Client, Identity, Options, World,
    binary::{Process, Served, Site},
    eventually_so,
    http::{Answer, request, send},
};

const PLAIN: &str = "[http]\nlisten = \"127.0.0.1:0\"";
const HOOK: &str = "/webhooks/superoffice/associates/crm-sync";

async fn world() -> World {
    with(PLAIN.to_owned()).await
}

/// Starts a gateway with a webhook secret.
async fn with(extra_config: String) -> World {
    World::with(options(extra_config)).await
}

fn options(extra_config: String) -> Options {
    Options {
        extra_config,
        extra_application: "webhook_secret_file = \"webhook_secret\"".to_owned(),
        files: vec![("webhook_secret", "webhook-secret-of-the-tests-93c1")],
        ..Default::default()
    }
}

fn address(world: &World) -> SocketAddr {
    world.gateway().http_address.unwrap()
}

// Connections

#[tokio::test]
async fn idle_connections_make_room_for_other_addresses_at_once() {
    let world = world().await;
    let to = address(&world);
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(TcpStream::connect(to).await.unwrap());
    }
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(to).await.unwrap();
    other.write_all(&request("GET", "/", &[], b"")).await.unwrap();
    assert_eq!(Answer::read(&mut other).await.status, 404);
    // Panics if there is no response.
    let mut own = TcpStream::connect(to).await.unwrap();
    own.write_all(&request("GET", "/", &[], b"")).await.unwrap();
    assert_eq!(Answer::read(&mut own).await.status, 404);
}

// Responses

#[tokio::test]
async fn without_its_section_there_is_no_listener() {
    assert_eq!(World::new().await.gateway().http_address, None);
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_and_responses_forbid_caching() {
    let world = world().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/livez"),
        ("GET", "/metrics"),
        ("POST", "/webhooks"),
        ("POST", "/webhooks/superoffice/associates/"),
        ("GET", "/a%2f..%ff?token=x"),
        ("OPTIONS", "*"),
        ("BREW", "/pot"),
    ] {
        let answer = send(address(&world), method, path, &[("x-request-id", "r-1")], b"").await;
        let problem = answer.assert_problem(404, "RESOURCE_NOT_FOUND");
        assert_eq!(problem["request_id"], "r-1");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
}

#[tokio::test]
async fn a_wrong_method_gets_the_allowed_one() {
    let world = world().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = send(address(&world), method, HOOK, &[], b"").await;
        answer.assert_problem(405, "UNIMPLEMENTED");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    assert_eq!(send(address(&world), "HEAD", HOOK, &[], b"").await.status, 405);
}

#[tokio::test]
async fn http2_is_supported() {
    let world = world().await;
    let client = reqwest::ClientBuilder::new().http2_prior_knowledge().build().unwrap();
    for path in ["/", HOOK] {
        let uri = format!("http://{}{path}", address(&world)).parse().unwrap();
        let answer =
            client.execute(reqwest::Request::new(reqwest::Method::POST, uri)).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert_eq!(answer.status().as_u16(), if path == "/" { 404 } else { 401 });
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let world = world().await;
    send(address(&world), "POST", HOOK, &[], b"").await;
    send(address(&world), "POST", "/webhooks/superoffice/associates/made-up", &[], b"").await;
    send(address(&world), "GET", "/made/up", &[], b"").await;
    let route = "/webhooks/superoffice/associates/{application}";
    for (route, status) in [(route, 401), (route, 404), ("unknown", 404)] {
        let name =
            format!("http_requests_total{{http_route=\"{route}\",http_status=\"{status}\"}}");
        assert_eq!(world.metric(&name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn the_log_has_a_line_for_each_request_without_client_supplied_text() {
    let site = Site::with(options(PLAIN.to_owned())).await;
    let Served { mut process, http, .. } = site.serve().await;
    let to = http.unwrap();
    let path = format!("{HOOK}?code=secret-query");
    let headers = [
        ("x-request-id", "r-7"),
        ("cookie", "secret-cookie"),
        ("x-superoffice-signature", "secret-signature"),
    ];
    send(to, "POST", &path, &headers, b"secret-body").await;
    let line = process.until("logs", |process| logged(&process.stderr(), "request ended")).await;
    for (field, wanted) in [
        ("level", "INFO"),
        ("http.method", "POST"),
        ("http.route", "/webhooks/superoffice/associates/{application}"),
        ("reason", "CALLER_UNAUTHENTICATED"),
        ("client_address", "127.0.0.1"),
        ("request_id", "r-7"),
    ] {
        assert_eq!(line[field], wanted, "{line}");
    }
    assert_eq!(line["http.status"], 401);
    assert!(line["duration_us"].is_u64());
    send(to, "BREW", "/secret/path", &[], b"").await;
    let unknown = |process: &Process| logged(&process.stderr(), "unknown");
    let line = process.until("logs", |process| unknown(process)).await;
    assert_eq!((&line["http.method"], &line["http.route"]), (&"other".into(), &"unknown".into()));
    assert!(!process.stderr().contains("secret-") && !process.stderr().contains("/secret/path"));
}

/// Returns the first log line that contains this text.
fn logged(log: &str, text: &str) -> Option<Value> {
    let text = format!("\"{text}\"");
    log.lines().find(|line| line.contains(&text)).and_then(|line| serde_json::from_str(line).ok())
}

// Limits

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let world = world().await;
    let large = "x".repeat(40 * 1024);
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    // The connection may close before everything is sent.
    let _ = stream.write_all(&request("GET", "/", &[("x", &large)], b"")).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(send(address(&world), "GET", "/", &[], b"").await.status, 404);
}

#[tokio::test]
async fn invalid_bytes_do_not_affect_other_clients() {
    let world = world().await;
    for seed in 1..30_u16 {
        let bytes: Vec<u8> = (0..400_u16).map(|n| (n * seed).to_le_bytes()[0]).collect();
        let mut stream = TcpStream::connect(address(&world)).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    assert_eq!(send(address(&world), "GET", "/", &[], b"").await.status, 404);
}

// TLS

struct Tls {
    world: World,
    authority: Authority,
    files: tempfile::TempDir,
    first: Identity,
}

impl Tls {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let first = authority.issue();
        first.write(files.path());
        let world = with(section(files.path())).await;
        Self { world, authority, files, first }
    }

    /// Sends a request on a new connection. Returns the server's certificate if it gets a response.
    async fn answered(&self, client: &Client) -> Option<Vec<u8>> {
        let mut stream = client.handshake(address(&self.world)).await.ok()?;
        let certificate = stream.get_ref().1.peer_certificates()?[0].to_vec();
        stream.write_all(&request("GET", "/", &[], b"")).await.ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer.starts_with(b"HTTP/1.1 404 ").then_some(certificate)
    }
}

fn section(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "{PLAIN}\n[http.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\""
    )
}

#[tokio::test]
async fn tls_works_for_both_protocols_and_changed_files_are_loaded() {
    let tls = Tls::new().await;
    let http1 = |alpn| Client { alpn, ..tls.authority.client() };
    for alpn in [Some("http/1.1"), None] {
        assert_eq!(tls.answered(&http1(alpn)).await.unwrap(), tls.first.certificate);
    }
    assert_eq!(tls.answered(&http1(Some("spdy/3"))).await, None);
    let foreign = Client { alpn: None, ..Authority::new().client() };
    assert_eq!(tls.answered(&foreign).await, None);
    let mut plain = TcpStream::connect(address(&tls.world)).await.unwrap();
    plain.write_all(&request("GET", "/", &[], b"")).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let pem = reqwest::Certificate::from_pem(tls.authority.pem().as_bytes()).unwrap();
    let client = reqwest::ClientBuilder::new().tls_certs_only([pem]);
    let client = client.resolve("localhost", address(&tls.world)).build().unwrap();
    let uri = format!("https://localhost:{}/", address(&tls.world).port()).parse().unwrap();
    let answer = client.execute(reqwest::Request::new(reqwest::Method::GET, uri)).await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 404));

    let next = tls.authority.issue();
    next.write(tls.files.path());
    eventually_so("new connections see the new certificate", async || {
        tls.world.clock.advance(Duration::from_secs(1));
        tls.answered(&http1(None)).await.unwrap() == next.certificate
    })
    .await;
    // An explicit reload takes effect at once.
    let last = tls.authority.issue();
    last.write(tls.files.path());
    for reloadable in tls.world.gateway().reloadables() {
        reloadable.reload().await;
    }
    assert_eq!(tls.answered(&http1(None)).await.unwrap(), last.certificate);
}

#[tokio::test]
async fn certificate_files_that_do_not_match_are_a_configuration_error() {
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue().write(files.path());
    fs::write(files.path().join("tls.key"), authority.issue().key_pem()).unwrap();
    let mut world = World::with_files(options(section(files.path()))).await;
    let error = world.start().await.unwrap_err().to_string();
    assert!(error.contains("http.tls.private_key_file: "), "{error}");
    assert!(error.contains("is not the key of the first certificate in"), "{error}");
}

// Shutdown

#[tokio::test]
async fn running_requests_are_answered_during_a_stop_and_new_ones_refused() {
    let mut world = world().await;
    let to = address(&world);
    let mut stream = TcpStream::connect(to).await.unwrap();
    let whole = request("POST", HOOK, &[], b"a body");
    let (first, rest) = whole.split_at(whole.len() - 3);
    stream.write_all(first).await.unwrap();
    // Waits until the request is in progress.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = async {
        let begin = Instant::now();
        assert_eq!(world.stop().await, ShutdownOutcome::Clean);
        begin.elapsed()
    };
    let late = async {
        eventually_so("nobody is let in", async || TcpStream::connect(to).await.is_err()).await;
        stream.write_all(rest).await.unwrap();
        Answer::read(&mut stream).await
    };
    let (took, answer) = tokio::join!(stopping, late);
    answer.assert_problem(401, "CALLER_UNAUTHENTICATED");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test]
async fn idle_connections_do_not_block_others_or_delay_the_shutdown() {
    let mut world = world().await;
    let to = address(&world);
    let mut silent = Vec::new();
    for words in ["", "G", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(words.as_bytes()).await.unwrap();
            silent.push(stream);
        }
    }
    // An idle connection that got a response.
    let mut kept = TcpStream::connect(to).await.unwrap();
    kept.write_all(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n").await.unwrap();
    assert_eq!(kept.read_u8().await.unwrap(), b'H');
    assert_eq!(send(to, "GET", "/", &[], b"").await.status, 404);
    let begin = Instant::now();
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}
