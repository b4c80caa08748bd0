//! Tests of responses sent before the request body was read: they arrive, and the connection stays usable.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use tenant_gateway::app::ShutdownOutcome;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    Authority, Options, World,
    api_host::{address, gateway_with_host},
    callers::AuthenticatedGateway,
    frames::{DATA, END_STREAM, HEADERS, RST_STREAM, RawHttp2Client, frame, head},
};

const CONTACT: &str = "/crm-sync/Cust1/api/v1/Contact/5";
const BAD_PATH: &str = "/crm-sync/Cust1/api/v1/../Contact/5";
const HOOK: &str = "/webhooks/superoffice/associates/crm-sync";
const BOTH: &str = "[http]\nlisten = \"127.0.0.1:0\"\n[egress]\nlisten = \"127.0.0.1:0\"\n";

const UPLOAD_BYTES: usize = 5 << 20;
const SOON: Duration = Duration::from_secs(15);

const POLICY: &str = r#"
permit (principal == Caller::"reader", action in Action::"callWebApi", resource)
when { context.method == "GET" };
"#;

/// The framing of a response.
struct Early {
    status: u16,
    closes: bool,
    problem: Value,
}

/// Reads one response with a length. More may follow.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Early {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(bytes).unwrap().to_lowercase();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let closes = header("connection").as_deref() == Some("close");
        let problem = serde_json::from_slice(&body).unwrap_or_default();
        Ok::<_, std::io::Error>(Early { status, closes, problem })
    };
    timeout(SOON, reading).await.expect("no response in time").expect("the response is lost")
}

/// Writes a whole upload before it reads.
async fn upload(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (method, path): (&str, &str),
    headers: &str,
    chunked: bool,
) -> Early {
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {UPLOAD_BYTES}")
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n{headers}{framing}\r\n\r\n");
    let block = vec![b'x'; 64 * 1024];
    let writing = async {
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..UPLOAD_BYTES / block.len() {
            if chunked {
                stream.write_all(b"10000\r\n").await?;
            }
            stream.write_all(&block).await?;
            if chunked {
                stream.write_all(b"\r\n").await?;
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await?;
        }
        stream.flush().await
    };
    let written = timeout(SOON, writing).await.expect("the upload is not read");
    written.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let answer = read_answer(stream).await;
    assert!(answer.closes, "{method} {path}");
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "more bytes follow the response");
    answer
}

async fn upload_to(to: SocketAddr, call: (&str, &str), headers: &str, chunked: bool) -> Early {
    upload(&mut TcpStream::connect(to).await.unwrap(), call, headers, chunked).await
}

fn options(egress: &str) -> Options {
    Options {
        extra_config: format!("{BOTH}{egress}"),
        extra_application: "webhook_secret_file = \"webhook_secret\"".to_owned(),
        files: vec![("webhook_secret", "webhook-secret-of-the-tests-93c1")],
        ..Options::default()
    }
}

#[tokio::test]
async fn a_client_gets_the_reason_of_an_early_refusal() {
    let guarded = AuthenticatedGateway::with(POLICY, options("max_body_bytes = 1000000")).await;
    let (token, gateway) = (guarded.token("reader"), guarded.world.gateway());
    let mut old = guarded.issuer.claims("reader", guarded.world.clock_seconds());
    old["exp"] = (guarded.world.clock_seconds() - 3600).into();
    let old = guarded.issuer.sign(&old);
    let (egress, http) = (gateway.egress_address.unwrap(), gateway.http_address.unwrap());
    for (to, call, token, status, reason) in [
        (egress, ("PUT", CONTACT), "", 401, "CALLER_UNAUTHENTICATED"),
        (egress, ("PUT", CONTACT), &*old, 401, "CALLER_UNAUTHENTICATED"),
        (egress, ("PUT", CONTACT), &*token, 403, "PATH_NOT_ALLOWED"),
        (egress, ("PUT", BAD_PATH), &*token, 400, "INVALID_ARGUMENT"),
        (egress, ("POST", "/nowhere"), &*token, 404, "RESOURCE_NOT_FOUND"),
        (http, ("POST", "/nowhere"), "", 404, "RESOURCE_NOT_FOUND"),
        (http, ("PUT", HOOK), "", 405, "UNIMPLEMENTED"),
        (http, ("POST", HOOK), "", 413, "RESPONSE_TOO_LARGE"),
    ] {
        for chunked in [false, true] {
            let header = format!("Authorization: Bearer {token}\r\n");
            let header = if token.is_empty() { "" } else { &header };
            let answer = upload_to(to, call, header, chunked).await;
            assert_eq!((answer.status, &answer.problem["reason"]), (status, &reason.into()));
        }
    }
}

#[tokio::test]
async fn a_client_gets_the_reason_if_its_upload_is_too_large() {
    let (world, host) = gateway_with_host("max_body_bytes = 1000000").await;
    for chunked in [false, true] {
        let answer = upload_to(address(world.gateway()), ("PUT", CONTACT), "", chunked).await;
        assert_eq!((answer.status, &answer.problem["reason"]), (413, &"RESPONSE_TOO_LARGE".into()));
    }
    assert!(host.received().iter().all(|arrived| !arrived.whole));
}

#[tokio::test]
async fn a_client_gets_the_reason_of_an_early_refusal_over_tls() {
    let (files, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.issue().write(files.path());
    let folder = files.path().display();
    let tls = format!(
        "[egress.tls]\ncertificate_file = \"{folder}/tls.crt\"\nprivate_key_file = \"{folder}/tls.key\""
    );
    let world = World::with(options(&tls)).await;
    let client = crate::support::Client { alpn: Some("http/1.1"), ..authority.client() };
    for chunked in [false, true] {
        let mut stream = client.handshake(address(world.gateway())).await.unwrap();
        let answer = upload(&mut stream, ("PUT", BAD_PATH), "", chunked).await;
        assert_eq!(answer.status, 400);
    }
}

#[tokio::test]
async fn a_client_that_offers_an_upgrade_gets_the_reason_of_a_refusal() {
    let world = World::with(options("")).await;
    let gateway = world.gateway();
    // The HTTP client of the JDK sends this by default.
    let headers =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    for to in [gateway.http_address.unwrap(), gateway.egress_address.unwrap()] {
        for chunked in [false, true] {
            let answer = upload_to(to, ("PUT", "/nowhere"), headers, chunked).await;
            assert_eq!(answer.status, 404);
        }
    }
}

#[tokio::test]
async fn a_client_gets_the_reason_of_a_refused_head() {
    let world = World::with(options("")).await;
    let gateway = world.gateway();
    let large = format!("X-Large: {}\r\n", "x".repeat(40_000));
    for to in [gateway.http_address.unwrap(), gateway.egress_address.unwrap()] {
        for (headers, status, reason) in [
            ("No colon\r\n", 400, "INVALID_ARGUMENT"),
            (&*large, 431, "INVALID_ARGUMENT"),
            ("Transfer-Encoding: gzip\r\n", 501, "UNIMPLEMENTED"),
        ] {
            for chunked in [false, true] {
                let answer = upload_to(to, ("PUT", "/nowhere"), headers, chunked).await;
                let reason_seen = &answer.problem["reason"];
                assert_eq!((answer.status, reason_seen), (status, &reason.into()));
            }
        }
    }
}

#[tokio::test]
async fn a_connection_survives_a_refused_call_with_a_small_body() {
    let (world, host) = gateway_with_host("").await;
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    for framing in [
        "Content-Length: 15\r\n\r\n{\"Name\": \"Acme\"",
        "Transfer-Encoding: chunked\r\n\r\nf\r\n{\"Name\": \"Acme\"\r\n0\r\n\r\n",
    ] {
        for (path, status) in [(BAD_PATH, 400), ("/nowhere", 404), (CONTACT, 200)] {
            let request = format!("POST {path} HTTP/1.1\r\nHost: gateway\r\n{framing}");
            // Sends the body after the head, as clients do.
            let (head, body) = request.split_at(request.find("{\"").unwrap() - 3);
            stream.write_all(head.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(body.as_bytes()).await.unwrap();
            let answer = read_answer(&mut stream).await;
            assert_eq!((answer.status, answer.closes), (status, false), "{request}");
        }
    }
    assert_eq!(host.received().len(), 2);
}

#[tokio::test]
async fn an_upload_with_expect_is_refused_without_100_continue() {
    let (world, _host) = gateway_with_host("").await;
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    let begin = Instant::now();
    let head = format!(
        "PUT {BAD_PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!((answer.status, answer.closes), (400, true));
    assert!(begin.elapsed() < SOON / 2);
}

#[tokio::test]
async fn uploads_in_chunks_share_a_connection() {
    let (world, host) = gateway_with_host("").await;
    let mut stream = TcpStream::connect(address(world.gateway())).await.unwrap();
    for nth in 1..=5 {
        // Alternates with uploads that have a length.
        let request = if nth % 2 == 0 {
            format!("PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}")
        } else {
            let size = format!("{:x}", 100_000);
            let body = format!("{size}\r\n{}\r\n0\r\n\r\n", "x".repeat(100_000));
            format!("PUT {CONTACT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!((answer.status, answer.closes), (200, false), "{nth}");
        assert_eq!(host.received().len(), nth);
    }
}

#[tokio::test]
async fn a_request_with_two_lengths_ends_its_connection_on_every_listener() {
    let world = World::with(options("")).await;
    let gateway = world.gateway();
    let lengths = ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"];
    for to in [gateway.http_address.unwrap(), gateway.egress_address.unwrap()] {
        for first in [true, false] {
            for headers in [lengths.concat(), [lengths[1], lengths[0]].concat()] {
                let mut stream = TcpStream::connect(to).await.unwrap();
                if first {
                    let fine =
                        format!("POST /a HTTP/1.1\r\nHost: x\r\n{}\r\n0\r\n\r\n", lengths[1]);
                    stream.write_all(fine.as_bytes()).await.unwrap();
                    assert!(!read_answer(&mut stream).await.closes);
                }
                let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
                let request = format!(
                    "POST /a HTTP/1.1\r\nHost: x\r\n{headers}\r\n1\r\na\r\n0\r\n\r\n{hidden}"
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                assert!(read_answer(&mut stream).await.closes, "{headers}");
                assert_eq!(
                    stream.read(&mut [0]).await.unwrap(),
                    0,
                    "the hidden request got a response"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_early_answer_over_http2_asks_the_client_to_stop_without_an_error() {
    let world = World::with(options("")).await;
    let gateway = world.gateway();
    for to in [gateway.http_address.unwrap(), gateway.egress_address.unwrap()] {
        let mut frames = RawHttp2Client::connect(to).await;
        for stream in [1, 3] {
            let fields = [
                (":method", "PUT"),
                (":scheme", "http"),
                (":path", "/nowhere"),
                (":authority", "gateway"),
            ];
            frames.send(&head(stream, 0, &fields)).await;
            frames.send(&frame(DATA, 0, stream, &[b'x'; 16 * 1024])).await;
            assert_eq!(frames.next_on_stream(stream).await.kind, HEADERS);
            let data = frames.next_on_stream(stream).await;
            assert_eq!(data.kind, DATA);
            assert!(data.payload.starts_with(b"{"));
            let mut last = data;
            while last.flags & END_STREAM == 0 {
                last = frames.next_on_stream(stream).await;
                assert_eq!(last.kind, DATA);
            }
            let reset = frames.next_on_stream(stream).await;
            assert_eq!((reset.kind, reset.code()), (RST_STREAM, 0));
            // Bytes in transit are discarded without effect on other requests.
            frames.send(&frame(DATA, 0, stream, &[b'x'; 16 * 1024])).await;
        }
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_incomplete_uploads() {
    let mut world = World::with(options("")).await;
    let gateway = world.gateway();
    let mut open = Vec::new();
    for to in [gateway.http_address.unwrap(), gateway.egress_address.unwrap()] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request =
            format!("PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\nxx");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 404);
        open.push(stream);
    }
    let begin = Instant::now();
    assert_eq!(world.stop().await, ShutdownOutcome::Clean);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
