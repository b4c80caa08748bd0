//! `cargo bench --bench issue_ticket`: a cached `IssueSystemTicket` against a bare tonic unary server that answers
//! the same message, by the same client, in interleaved rounds of one run. Prints a table of ratios; numbers are
//! only worth something beside each other.
//!
//! `-- --memory` measures the resident memory of the program with 100,000 cached tickets instead.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench is a script: it prints, and ends where something is wrong"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use superoffice_sandbox::{Options, Sandbox, demo};
use tenant_gateway::{
    app::Storage,
    config::Config,
    crypto::Keyring,
    domain::{CredentialId, SystemTicket, TenantName},
    grpc::pb::{
        self,
        token_service_client::TokenServiceClient,
        token_service_server::{TokenService, TokenServiceServer},
    },
    ports::{StoreWatch as _, TenantStore as _, TicketStore as _},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::{Request, Response, Status, transport::Channel};

/// Rounds of each server at each number in flight.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const IN_FLIGHT: [usize; 3] = [1, 32, 128];
const CONNECTIONS: usize = 4;
const TICKETS: u32 = 100_000;

fn main() {
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    if std::env::args().any(|argument| argument == "--memory") {
        runtime.block_on(memory(&world));
    } else {
        throughput(&runtime, &world);
    }
}

/// A sandbox with demo tenants, and files for a gateway that uses it.
struct World {
    _sandbox: Sandbox,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let demo = demo::populate(sandbox.control()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("secret"), &demo.client_secret).unwrap();
        fs::write(path.join("key.xml"), &demo.private_key_xml).unwrap();
        Keyring::generate(&path.join("keyring.toml"), Timestamp::now()).unwrap();
        let text = format!(
            "[grpc]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [callers]\ninsecure_anonymous = true\n[lifecycle]\ndrain_delay = \"0s\"\n\
             [[applications]]\nid = \"demo\"\nenvironment = \"sod\"\nclient_id = \"{}\"\n\
             client_secret_file = \"./secret\"\nprivate_key_file = \"./key.xml\"\n\
             login_uri = \"{}\"\nallowed_api_hosts = [\"127.0.0.1\"]\n",
            demo.client_id,
            sandbox.login_uri()
        );
        fs::write(path.join("gateway.toml"), text).unwrap();
        let world = Self { _sandbox: sandbox, folder };
        let storage = world.storage().await;
        let tenant = &demo.tenants[0];
        let token = tenant.system_user_token.clone().into();
        let name = name(&tenant.id);
        storage.store.create(&name, &BTreeMap::default(), Timestamp::now()).await.unwrap();
        storage.store.set_system_user_token(&name, &token, Timestamp::now()).await.unwrap();
        storage.store.close().await;
        world
    }

    fn config(&self) -> std::path::PathBuf {
        self.folder.path().join("gateway.toml")
    }

    async fn storage(&self) -> Storage {
        Storage::open(&Config::load(&self.config()).unwrap().config).await.unwrap()
    }
}

fn name(tenant: &str) -> TenantName {
    format!("applications/demo/tenants/{tenant}").parse().unwrap()
}

fn request(tenant: &str) -> pb::IssueSystemTicketRequest {
    pb::IssueSystemTicketRequest { tenant: name(tenant).to_string(), ..Default::default() }
}

/// The program itself, as it is run in production.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenant-gateway"))
            .args(["serve", "--config"])
            .arg(config)
            .env("RUST_LOG", std::env::var("BENCH_LOG").as_deref().unwrap_or("info"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
                line.get("grpc")?.as_str()?.parse().ok()
            })
            .unwrap();
        // Its log lines are read as a log collector would.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reference: tonic with its defaults, and nothing else.
struct Bare(pb::SystemTicket);

#[tonic::async_trait]
impl TokenService for Bare {
    async fn issue_system_ticket(
        &self,
        _: Request<pb::IssueSystemTicketRequest>,
    ) -> Result<Response<pb::IssueSystemTicketResponse>, Status> {
        Ok(Response::new(pb::IssueSystemTicketResponse { ticket: Some(self.0.clone()) }))
    }

    type WatchSystemTicketStream =
        tokio_stream::Empty<Result<pb::WatchSystemTicketResponse, Status>>;

    async fn watch_system_ticket(
        &self,
        _: Request<pb::WatchSystemTicketRequest>,
    ) -> Result<Response<Self::WatchSystemTicketStream>, Status> {
        Err(Status::unimplemented("reference"))
    }

    async fn report_rejected_credential(
        &self,
        _: Request<pb::ReportRejectedCredentialRequest>,
    ) -> Result<Response<pb::ReportRejectedCredentialResponse>, Status> {
        Err(Status::unimplemented("reference"))
    }
}

#[derive(Clone, Default)]
struct Round {
    per_second: f64,
    p50: f64,
    p99: f64,
}

fn throughput(runtime: &Runtime, world: &World) {
    let gateway = Gateway::start(&world.config());
    let ticket = runtime.block_on(async {
        let mut client = connect(gateway.address).await;
        let issued = client.issue_system_ticket(request("Cust10001")).await;
        issued.map_or_else(|s| panic!("{s}"), |issued| issued.into_inner().ticket.unwrap())
    });
    // A process of its own too, so that both are reached in the same way.
    let reference_runtime = Runtime::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    reference_runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let server =
            tonic::transport::Server::builder().add_service(TokenServiceServer::new(Bare(ticket)));
        server.serve_with_incoming(incoming).await.unwrap();
    });
    println!(
        "in flight      gateway/s  reference/s  ratio    p50 µs (ref)     p99 µs (ref)     p99 ratio"
    );
    for in_flight in IN_FLIGHT {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(runtime.block_on(round(gateway.address, in_flight)));
            theirs.push(runtime.block_on(round(reference, in_flight)));
        }
        let (us, them) = (median(&ours), median(&theirs));
        println!(
            "{in_flight:>9}  {:>13.0}  {:>11.0}  {:>5.2}  {:>8.0} ({:>5.0})  {:>8.0} ({:>5.0})  {:>8.2}",
            us.per_second,
            them.per_second,
            us.per_second / them.per_second,
            us.p50,
            them.p50,
            us.p99,
            them.p99,
            us.p99 / them.p99
        );
    }
}

async fn connect(address: SocketAddr) -> TokenServiceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    TokenServiceClient::new(channel.connect().await.unwrap())
}

async fn round(address: SocketAddr, in_flight: usize) -> Round {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(in_flight) {
        clients.push(connect(address).await);
    }
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let mut client = clients[caller % clients.len()].clone();
        callers.spawn(async move {
            let mut micros = Vec::new();
            while begin.elapsed() < ROUND {
                let call = Instant::now();
                if let Err(status) = client.issue_system_ticket(request("Cust10001")).await {
                    panic!("{status}");
                }
                micros.push(call.elapsed().as_secs_f64() * 1e6);
            }
            micros
        });
    }
    let mut micros = Vec::new();
    while let Some(caller) = callers.join_next().await {
        micros.extend(caller.unwrap());
    }
    let took = begin.elapsed().as_secs_f64();
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    Round { per_second: micros.len() as f64 / took, p50: at(0.5), p99: at(0.99) }
}

fn median(rounds: &[Round]) -> Round {
    let middle = |field: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Round {
        per_second: middle(|round| round.per_second),
        p50: middle(|round| round.p50),
        p99: middle(|round| round.p99),
    }
}

/// Memory and the time to get ready with many tenants, whose tickets are in the store as after a restart.
async fn memory(world: &World) {
    fill(world).await;
    let begin = Instant::now();
    let gateway = Gateway::start(&world.config());
    let ready = begin.elapsed();
    let idle = gateway.resident_kib();
    let client = connect(gateway.address).await;
    let next = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let (mut client, next) = (client.clone(), Arc::clone(&next));
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= TICKETS {
                    return;
                }
                if let Err(status) = client.issue_system_ticket(request(&tenant(number))).await {
                    panic!("{status}");
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let full = gateway.resident_kib();
    println!("ready with {TICKETS} tenants stored: {ready:?}");
    println!("idle: {:.1} MiB", idle as f64 / 1024.0);
    println!(
        "{TICKETS} tickets cached: {:.1} MiB, {:.0} bytes each",
        full as f64 / 1024.0,
        (full - idle) as f64 * 1024.0 / f64::from(TICKETS)
    );
}

fn tenant(number: u32) -> String {
    format!("Cust{}", 1_000_000 + number)
}

async fn fill(world: &World) {
    let storage = world.storage().await;
    let now = Timestamp::now();
    let status = tenant_status(now);
    for number in 0..TICKETS {
        let name = name(&tenant(number));
        let store = &storage.store;
        store.create(&name, &BTreeMap::default(), now).await.unwrap();
        let token = "Demo App-0123456789".to_owned().into();
        let set = store.set_system_user_token(&name, &token, now).await.unwrap().unwrap();
        let status = status(&name);
        store.put_status(&name, &status).await.unwrap();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let ticket = SystemTicket {
            value: format!("7T:{}", "A".repeat(147)).into(),
            credential_id: CredentialId::of_ticket(id),
            issue_time: now,
            expire_time: now + Duration::from_hours(6),
            token_version: set.token_version,
        };
        assert!(store.put(&name, &ticket).await.unwrap());
    }
    storage.store.close().await;
}

fn tenant_status(now: Timestamp) -> impl Fn(&TenantName) -> tenant_gateway::domain::TenantStatus {
    use tenant_gateway::domain::{AllowedApiHosts, TenantState, TenantStatus, WebApiUri};
    let allowed = AllowedApiHosts::new(vec!["127.0.0.1".to_owned()]).unwrap();
    move |name| TenantStatus {
        state: TenantState::Running,
        valid_until: now + Duration::from_hours(1),
        web_api_uri: WebApiUri::check_api(
            &format!("http://127.0.0.1:1/{}/api", name.tenant),
            name.tenant,
            &allowed,
        )
        .ok(),
        version: String::new(),
        read_time: now,
    }
}
