//! Tests with HTTP clients of four languages through the egress listener, and with clients generated from `proto/` over
//! gRPC. Each language has one program in `tests/client/`; the table here lists the cases that it must run.
//!
//! Needs Node.js, Python, Go and Java, so `cargo test` leaves it out (`test = false`). `tools/check-client` builds the
//! programs and runs this, and `.ci/run` runs that.
#![cfg(test)]

#[expect(dead_code, unused_imports, reason = "shared with all tests of this folder")]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_stream::StreamExt as _;

use self::support::{
    Options,
    api_host::{address, set_tenant_api},
    binary::Process,
    callers::AuthenticatedGateway,
    name,
};

const POLICY: &str = r#"
permit (principal == Caller::"admin", action, resource);
permit (principal == Caller::"jobs", action in [Action::"readTenants", Action::"issueSystemTicket"], resource);
permit (principal == Caller::"jobs", action == Action::"callWebApiAsSystemUser", resource)
unless { context.path like "/api/v1/denied*" };
"#;

/// The cases of every HTTP client.
const HTTP: [&str; 10] = [
    "early-expired",
    "early-denied",
    "chunked",
    "gzip",
    "expect",
    "expect-expired",
    "range",
    "multipart",
    "keep-alive",
    "keep-alive-chunked",
];

/// The cases of every generated client.
const GENERATED: [&str; 4] = ["unary", "gzip", "watch", "error-details"];

/// The cases that must use one connection. Their connections are counted.
const KEPT_ALIVE: [&str; 2] = ["keep-alive", "keep-alive-chunked"];

/// The number of refused uploads in a case, because it is a race whether a client sees the response.
const REPEATS: u32 = 10;

/// The time limit of one program. It takes seconds, and limits each call to 30 s.
const TIMEOUT: Duration = Duration::from_mins(4);

/// Starts an API host that reports what it received, compresses, and supports ranges.
async fn start_api_host(serving: &mut JoinSet<()>) -> SocketAddr {
    let api = Router::new()
        .route("/echo", any(echo))
        .route("/echo/", any(echo))
        .route("/gzip", get(gzip))
        .route("/range", get(range));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().nest("/Cust1/api/v1", api);
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn echo(method: Method, headers: HeaderMap, body: Body) -> Result<Json<Value>, StatusCode> {
    let mut bytes = 0;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        bytes += piece.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    let value = |name: HeaderName| {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let scheme = value(header::AUTHORIZATION).split(' ').next().unwrap().to_owned();
    let content_type = value(header::CONTENT_TYPE);
    let method = method.as_str();
    Ok(Json(json!({
        "method": method, "bytes": bytes, "contentType": content_type, "scheme": scheme,
    })))
}

async fn gzip(headers: HeaderMap) -> Response {
    let plain = vec![b'a'; 100_000];
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if !accepted.is_some_and(|accepted| accepted.contains("gzip")) {
        return plain.into_response();
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain).unwrap();
    ([(header::CONTENT_ENCODING, "gzip")], encoder.finish().unwrap()).into_response()
}

async fn range(headers: HeaderMap) -> Response {
    let whole = b"abcdefghijklmnopqrstuvwxyz";
    if headers.get(header::RANGE).is_none_or(|range| range != "bytes=10-19") {
        return whole.into_response();
    }
    let part = whole[10..20].to_vec();
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, "bytes 10-19/26")], part).into_response()
}

/// A relay before the egress listener that counts the connections of one case.
struct Counter {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
}

impl Counter {
    async fn start(to: SocketAddr, serving: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&connections);
        serving.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((mut caller, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut gateway = TcpStream::connect(to).await.unwrap();
                passing.spawn(async move {
                    // The client reports how the connection ended.
                    let _ = copy_bidirectional(&mut caller, &mut gateway).await;
                });
            }
        });
        Self { address, connections }
    }
}

/// Runs a program and compares its results with the expected cases: HTTP clients, generated client, more cases, and
/// cases left out.
async fn run(language: &str, http_clients: &[&str], generated: &str, more: &[&str], less: &[&str]) {
    let programs = std::env::var("CLIENT_PROGRAMS").expect("run this with tools/check-client");
    let mut serving = JoinSet::new();
    let options = Options {
        extra_config: "[egress]\nlisten = \"127.0.0.1:0\"\n".to_owned(),
        extra_application: "calls_per_second = 10000".to_owned(),
        ..Options::default()
    };
    let guarded = AuthenticatedGateway::with(POLICY, options).await;
    let api_host = start_api_host(&mut serving).await;
    guarded.enroll("admin", "Cust1").await;
    set_tenant_api(&guarded.world.sandbox, "Cust1", &format!("http://{api_host}/Cust1/api"));
    let gateway = guarded.world.gateway();
    let base = |address: SocketAddr| format!("http://{address}/crm-sync/Cust1/api/v1");
    let mut counters = BTreeMap::new();
    for client in http_clients {
        for case in KEPT_ALIVE {
            let counter = Counter::start(address(gateway), &mut serving).await;
            counters.insert(format!("{client} {case}"), counter);
        }
    }
    let keepalive: BTreeMap<_, _> =
        counters.iter().map(|(case, counter)| (case, base(counter.address))).collect();
    let now = guarded.world.clock_seconds();
    let mut claims = guarded.issuer.claims("jobs", now - 7200);
    claims["exp"] = (now - 3600).into();
    let given = json!({
        "base": base(address(gateway)),
        "denied": format!("{}/denied", base(address(gateway))),
        "token": guarded.token("jobs"),
        "expired": guarded.issuer.sign(&claims),
        "grpc": gateway.grpc_address.to_string(),
        "tenant": name("Cust1"),
        "repeats": REPEATS,
        "keepalive": keepalive,
    });
    let mut program = Command::new(Path::new(&programs).join(language));
    program.arg(given.to_string());
    let finished = Process::start(program).finished_within(TIMEOUT).await;
    println!("{}{}", finished.stdout, finished.stderr);
    let wanted: BTreeSet<_> = http_clients
        .iter()
        .flat_map(|client| HTTP.map(|case| format!("{client} {case}")))
        .chain(GENERATED.map(|case| format!("{generated} {case}")))
        .chain(more.iter().map(|&case| case.to_owned()))
        .filter(|case| !less.contains(&&**case))
        .collect();
    let case = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let passed: BTreeSet<_> =
        finished.stdout.lines().filter(|line| line.ends_with(": ok")).map(case).collect();
    let mut failed: Vec<_> = wanted.difference(&passed).cloned().collect();
    for (case, counter) in &counters {
        let connections = counter.connections.load(Ordering::Relaxed);
        if connections != 1 {
            failed.push(format!("{case}: {connections} connections for ten calls"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(passed, wanted, "the program has cases that are not in the table");
    assert_eq!(finished.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_node_work_through_the_gateway() {
    // `undici` refuses to send `Expect`.
    let less = ["undici expect", "undici expect-expired"];
    run("node", &["axios", "got", "undici"], "grpc-js", &[], &less).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_python_work_through_the_gateway() {
    let more = ["superoffice-python-sdk call", "grpcio deflate"];
    run("python", &["requests", "httpx", "aiohttp"], "grpcio", &more, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_go_work_through_the_gateway() {
    run("go", &["net/http", "go-retryablehttp"], "grpc-go", &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_java_work_through_the_gateway() {
    // Older JDK clients wait forever if the response to `Expect` is not 100 (JDK-8286171).
    run("java", &["jdk", "apache"], "grpc-java", &[], &["jdk expect-expired"]).await;
}
