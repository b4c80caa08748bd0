//! `cargo bench --bench egress`: the egress proxy, with policy, a caller's token and the audit trail, compared with
//! Envoy and its credential injector, which only adds a header. Both proxy to the same server in a separate process,
//! which always returns the same bytes. Client and request are the same, and rounds alternate in one run. Prints
//! tables; only the ratios are meaningful.
//!
//! Envoy must be on PATH: `PATH="$(tools/get-tools envoy):$PATH" cargo bench --bench egress`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

#[path = "support/installation.rs"]
mod installation;
#[expect(dead_code, reason = "shared with other benches, which use all of it")]
#[path = "support/server.rs"]
mod server;

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

use self::{
    installation::{CALLER, Installation, JWT_CALLERS},
    server::Server,
};

/// The number of rounds of each server at each number of concurrent calls.
const ROUNDS: usize = 5;
/// The duration of a round in seconds; `-- --round 0.5` makes it shorter for a quick run.
const ROUND: f64 = 2.0;
/// The numbers of concurrent calls, each on its own HTTP/1.1 connection.
const IN_FLIGHT: [usize; 3] = [1, 32, 128];

/// The size of a response: that of one contact.
const BODY_BYTES: usize = 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().skip_while(|a| *a != flag).nth(1).cloned();
    if arguments.iter().any(|argument| argument == "--reference") {
        return upstream();
    }
    let seconds = after("--round").map_or(ROUND, |seconds| seconds.parse().unwrap());
    let length = Duration::from_secs_f64(seconds);
    let runtime = Runtime::new().unwrap();
    let upstream = Server::reference("");
    let world = runtime.block_on(prepare(upstream.address));
    let envoy = Envoy::start(&world, upstream.address);
    if envoy.is_none() {
        println!("no reference: envoy is not on PATH (see the top of benches/egress.rs)");
    }
    for durability in ["after_response", "before_response"] {
        configure(&world, durability);
        let gateway = Server::gateway(&world.config(), "egress");
        let ours = gateway.address;
        println!("{durability}, policy, token; {BODY_BYTES} bytes an answer");
        println!(
            "  in flight   gateway/s   envoy/s  ratio    p50 µs (envoy)     p99 µs (envoy)  ratio   CPU µs (envoy)  ratio   bare/s"
        );
        for in_flight in IN_FLIGHT {
            let ours = Target { address: ours, path: path(&world), pid: gateway.pid() };
            let bare =
                Target { address: upstream.address, path: path(&world), pid: upstream.pid() };
            let theirs = envoy.as_ref().map(|envoy| Target {
                pid: envoy.pid(),
                address: envoy.address,
                ..bare.clone()
            });
            let (mut us, mut them, mut direct) = (Vec::new(), Vec::new(), Vec::new());
            // A warm-up round: it opens connections and fills the caches.
            runtime.block_on(round(&ours, &world.token, length / 4, in_flight));
            for _ in 0..ROUNDS {
                us.push(runtime.block_on(round(&ours, &world.token, length, in_flight)));
                if let Some(theirs) = &theirs {
                    them.push(runtime.block_on(round(theirs, &world.token, length, in_flight)));
                }
            }
            direct.push(runtime.block_on(round(&bare, &world.token, length, in_flight)));
            print(
                in_flight,
                &Round::median(&us),
                them.first().map(|_| Round::median(&them)).as_ref(),
                &direct[0],
            );
        }
    }
}

fn print(in_flight: usize, us: &Round, them: Option<&Round>, bare: &Round) {
    let none = Round { per_second: f64::NAN, p50: f64::NAN, p99: f64::NAN, cpu_micros: f64::NAN };
    let them = them.unwrap_or(&none);
    println!(
        "  {in_flight:>9}  {:>10.0}  {:>8.0}  {:>5.2}  {:>8.0} ({:>6.0})  {:>8.0} ({:>6.0})  {:>5.2}  {:>6.1} ({:>6.1})  {:>5.2}  {:>7.0}",
        us.per_second,
        them.per_second,
        us.per_second / them.per_second,
        us.p50,
        them.p50,
        us.p99,
        them.p99,
        us.p99 / them.p99,
        us.cpu_micros,
        them.cpu_micros,
        us.cpu_micros / them.cpu_micros,
        bare.per_second,
    );
}

/// Prepares a gateway whose tenant has its Web API on a server of this bench.
async fn prepare(upstream: SocketAddr) -> Installation {
    let world = Installation::new(&policies(20)).await;
    let endpoint = format!("http://{upstream}/{}", world.tenant().id);
    let api = Some(format!("{endpoint}/api"));
    let fault = Fault::Addresses { api, endpoint: Some(endpoint) };
    world.sandbox.inject(Endpoint::TenantStatus, fault, FaultScope::always()).unwrap();
    configure(&world, "after_response");
    world.enroll().await;
    world
}

/// Writes the configuration, with a rate limit that is never reached.
fn configure(world: &Installation, durability: &str) {
    let sections = format!(
        "[egress]\nlisten = \"127.0.0.1:0\"\n[audit]\ndurability = \"{durability}\"\n\
         {JWT_CALLERS}[policy]\nfile = \"./policy.cedar\"\n"
    );
    world.configure(&sections, "calls_per_second = 1000000\nburst = 1000000\n");
}

fn path(world: &Installation) -> String {
    format!("/demo/{}/api/v1/Contact/12?$select=name", world.tenant().id)
}

/// Returns a realistic policy set: one policy for each service, and one for the caller of this bench.
fn policies(count: usize) -> String {
    let mut policies = vec![format!(
        "@id(\"bench\") permit (principal == Caller::\"{CALLER}\", action == Action::\"callWebApiAsSystemUser\", \
         resource in Application::\"applications/demo\") when {{ context.path like \"/api/v1/contact/*\" }};"
    )];
    policies.extend((1..count).map(|service| {
        format!(
            "permit (principal == Caller::\"system:serviceaccount:crm:service-{service}\", action in \
             Action::\"callWebApi\", resource in Tenant::\"applications/demo/tenants/Cust{}\") \
             when {{ context.method == \"GET\" }};",
            20_000 + service
        )
    }));
    policies.join("\n")
}

/// Envoy with its credential injector, as its documentation shows it.
struct Envoy {
    child: std::process::Child,
    address: SocketAddr,
}

impl Envoy {
    fn start(world: &Installation, upstream: SocketAddr) -> Option<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let workers = std::thread::available_parallelism().unwrap().to_string();
        let socket = |address: SocketAddr| {
            format!(
                "{{ socket_address: {{ address: {}, port_value: {} }} }}",
                address.ip(),
                address.port()
            )
        };
        let text = CREDENTIAL_INJECTOR
            .replace("@LISTEN@", &socket(address))
            .replace("@UPSTREAM@", &socket(upstream));
        let file = world.folder.path().join("envoy.yaml");
        fs::write(&file, text).unwrap();
        let child = Command::new("envoy")
            .args(["--disable-hot-restart", "--log-level", "error", "--concurrency", &workers])
            .arg("--config-path")
            .arg(&file)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let envoy = Self { child, address };
        let begin = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(30), "Envoy does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(envoy)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CREDENTIAL_INJECTOR: &str = r#"
static_resources:
  secrets:
    - name: credential
      generic_secret: { secret: { inline_string: "SOTicket 7T:0123456789012345678901234567890123456789" } }
  listeners:
    - address: @LISTEN@
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                http_filters:
                  - name: envoy.filters.http.credential_injector
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector
                      overwrite: true
                      credential:
                        name: envoy.http.injected_credentials.generic
                        typed_config:
                          "@type": type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic
                          credential: { name: credential }
                          header: Authorization
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{ match: { prefix: / }, route: { cluster: upstream } }]
  clusters:
    - name: upstream
      type: STATIC
      load_assignment:
        cluster_name: upstream
        endpoints: [{ lb_endpoints: [{ endpoint: { address: @UPSTREAM@ } }] }]
"#;

/// A server whose requests are timed.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    path: String,
    pid: u32,
}

#[derive(Clone)]
struct Round {
    per_second: f64,
    p50: f64,
    p99: f64,
    cpu_micros: f64,
}

impl Round {
    /// Returns the median of each number separately.
    fn median(rounds: &[Self]) -> Self {
        let of = |number: fn(&Self) -> f64| {
            let mut all: Vec<_> = rounds.iter().map(number).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            per_second: of(|round| round.per_second),
            p50: of(|round| round.p50),
            p99: of(|round| round.p99),
            cpu_micros: of(|round| round.cpu_micros),
        }
    }
}

async fn round(target: &Target, token: &str, length: Duration, in_flight: usize) -> Round {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway\r\nAccept: application/json\r\nUser-Agent: bench\r\n\
         Authorization: Bearer {token}\r\n\r\n",
        target.path
    );
    let before = server::cpu_micros(target.pid);
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        let (address, request) = (target.address, request.clone());
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut micros, mut buffer) = (Vec::new(), Vec::with_capacity(4096));
            while begin.elapsed() < length {
                let call = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                answer(&mut stream, &mut buffer).await;
                micros.push(call.elapsed().as_secs_f64() * 1e6);
            }
            micros
        });
    }
    let mut micros = Vec::new();
    while let Some(caller) = callers.join_next().await {
        micros.extend(caller.unwrap());
    }
    let (calls, seconds) = (micros.len() as f64, begin.elapsed().as_secs_f64());
    let cpu_micros = (server::cpu_micros(target.pid) - before) / calls;
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
    Round { per_second: calls / seconds, p50: at(0.5), p99: at(0.99), cpu_micros }
}

/// Reads one response, which must be that of the upstream.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.unwrap() > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]);
        assert!(text.starts_with("HTTP/1.1 200"), "{}", String::from_utf8_lossy(buffer));
        assert!(
            text.to_ascii_lowercase().contains(&format!("content-length: {BODY_BYTES}")),
            "{text}"
        );
        if buffer.len() >= head + 4 + BODY_BYTES {
            return;
        }
    }
}

/// Returns the same bytes for every request, as fast as possible. Requests have no bodies.
fn upstream() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        eprintln!("{}", serde_json::json!({ "grpc": listener.local_addr().unwrap() }));
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"5\"\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        );
        let answer: &'static [u8] = [head.into_bytes(), vec![b' '; BODY_BYTES]].concat().leak();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = Vec::with_capacity(4096);
                while stream.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                    if buffer.ends_with(b"\r\n\r\n") {
                        buffer.clear();
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}
