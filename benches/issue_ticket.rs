//! `cargo bench --bench issue_ticket`: a cached `IssueSystemTicket`, compared with a bare tonic unary server that
//! returns the same message. The same client measures throughput, latency and CPU time in alternating rounds of one
//! run, with each layer around a call. Prints tables; only the ratios are meaningful.
//!
//! `-- --memory` measures the resident memory of the program with 100,000 cached tickets instead, `-- --policy` the
//! cost of policy decisions, `-- --soak MINUTES` whether memory or latency grow under load with all layers.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_imports,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

#[path = "support/installation.rs"]
mod installation;
#[path = "support/server.rs"]
mod server;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tenant_gateway::{
    domain::{CredentialId, SystemTicket, TenantName},
    grpc::pb::{
        self,
        token_service_client::TokenServiceClient,
        token_service_server::{TokenService, TokenServiceServer},
    },
    ports::{TenantStore as _, TicketStore as _},
};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::{Request, Response, Status, transport::Channel};

use self::{
    installation::{CALLER, ISSUER, Installation, JWT_CALLERS, tenant_name},
    server::Server,
};

/// The number of rounds of each server at each number of concurrent calls.
const ROUNDS: usize = 3;
/// The duration of a round in seconds; `-- --round 0.5` makes it shorter for a quick run.
const ROUND: f64 = 2.0;
const IN_FLIGHT: [usize; 3] = [1, 32, 128];
const CONNECTIONS: usize = 4;
const TICKETS: u32 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| arguments.iter().skip_while(|a| *a != flag).nth(1).cloned();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let seconds = after("--round").map_or(ROUND, |seconds| seconds.parse().unwrap());
    let round = Duration::from_secs_f64(seconds);
    if given("--reference") {
        return reference::serve();
    }
    if given("--policy") {
        return decisions::measure();
    }
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(prepare());
    if given("--memory") {
        runtime.block_on(memory(&world));
    } else if given("--soak") {
        let minutes = after("--soak").map_or(20, |minutes| minutes.parse().unwrap());
        soak(&runtime, &world, minutes, round);
    } else {
        throughput(&runtime, &world, round, after("--layer").as_deref());
    }
}

/// The layers around a call. Each variant adds one to the previous.
#[derive(Clone, Copy, PartialEq)]
enum Layers {
    /// Anonymous callers, and everything is permitted. Audit events are stored after the response.
    Anonymous,
    /// A policy decides.
    Policy,
    /// The caller presents a token.
    Token,
    /// The audit event is stored before the response.
    BeforeResponse,
}

impl Layers {
    const ALL: [Self; 4] = [Self::Anonymous, Self::Policy, Self::Token, Self::BeforeResponse];

    fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous, permit all",
            Self::Policy => "+ policy",
            Self::Token => "+ token",
            Self::BeforeResponse => "+ before_response",
        }
    }

    fn config(self) -> String {
        let callers = match self {
            Self::Anonymous | Self::Policy => "[callers]\ninsecure_anonymous = true\n",
            Self::Token | Self::BeforeResponse => JWT_CALLERS,
        };
        let policy =
            if self == Self::Anonymous { "" } else { "[policy]\nfile = \"./policy.cedar\"\n" };
        let durability =
            if self == Self::BeforeResponse { "before_response" } else { "after_response" };
        format!("{callers}{policy}[audit]\ndurability = \"{durability}\"\n")
    }
}

/// Prepares a gateway that has one tenant.
async fn prepare() -> Installation {
    let world = Installation::new(&policies(20)).await;
    configure(&world, Layers::Anonymous);
    world.enroll().await;
    world
}

/// Writes the configuration for these layers.
fn configure(world: &Installation, layers: Layers) {
    world.configure(&layers.config(), "");
}

/// Returns a realistic policy set: one policy for each service, and one for the caller of this bench.
fn policies(count: usize) -> String {
    let mut policies = vec![
        format!(
            "@id(\"bench\") permit (principal == Caller::\"{CALLER}\", action == Action::\"issueSystemTicket\", \
             resource in Application::\"applications/demo\");"
        ),
        "permit (principal == Caller::\"anonymous\", action, resource);".to_owned(),
    ];
    policies.extend((2..count).map(|service| {
        format!(
            "permit (principal == Caller::\"system:serviceaccount:crm:service-{service}\", action in \
             [Action::\"issueSystemTicket\", Action::\"readTenants\"], resource == \
             Tenant::\"applications/demo/tenants/Cust{}\");",
            20_000 + service
        )
    }));
    policies.join("\n")
}

/// Returns a request with the token, if one is given.
fn request(tenant: &str, token: Option<&str>) -> Request<pb::IssueSystemTicketRequest> {
    let tenant = format!("applications/demo/tenants/{tenant}");
    let mut request = Request::new(pb::IssueSystemTicketRequest { tenant, ..Default::default() });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[derive(Clone, Default)]
struct Round {
    per_second: f64,
    p50: f64,
    p99: f64,
}

/// The result of one round: the callers' measurements and the server's CPU time.
struct Measured {
    round: Round,
    cpu_micros: f64,
}

fn measure(
    runtime: &Runtime,
    server: &Server,
    length: Duration,
    in_flight: usize,
    token: Option<&str>,
) -> Measured {
    let before = server.cpu_micros();
    let (round, calls) = runtime.block_on(round(server.address, length, in_flight, token));
    Measured { round, cpu_micros: (server.cpu_micros() - before) / calls as f64 }
}

fn throughput(runtime: &Runtime, world: &Installation, length: Duration, only: Option<&str>) {
    for layers in Layers::ALL {
        if only.is_some_and(|only| !layers.name().contains(only)) {
            continue;
        }
        configure(world, layers);
        let token = matches!(layers, Layers::Token | Layers::BeforeResponse);
        let token = token.then_some(world.token.as_str());
        let gateway = Server::gateway(&world.config(), "grpc");
        let ticket = runtime.block_on(async {
            let mut client = connect(gateway.address).await;
            let issued = client.issue_system_ticket(request("Cust10001", token)).await;
            issued.map_or_else(|s| panic!("{s}"), |issued| issued.into_inner().ticket.unwrap())
        });
        let reference = Server::reference(&ticket.value);
        println!("{}", layers.name());
        println!(
            "  in flight      gateway/s  reference/s  ratio    p50 µs (ref)     p99 µs (ref)  p99 ratio    CPU µs (ref)  CPU ratio"
        );
        for in_flight in IN_FLIGHT {
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            for _ in 0..ROUNDS {
                ours.push(measure(runtime, &gateway, length, in_flight, token));
                theirs.push(measure(runtime, &reference, length, in_flight, token));
            }
            let (us, them) = (median(&ours), median(&theirs));
            println!(
                "  {in_flight:>9}  {:>13.0}  {:>11.0}  {:>5.2}  {:>8.0} ({:>5.0})  {:>8.0} ({:>5.0})  {:>9.2}  {:>7.1} ({:>5.1})  {:>9.2}",
                us.round.per_second,
                them.round.per_second,
                us.round.per_second / them.round.per_second,
                us.round.p50,
                them.round.p50,
                us.round.p99,
                them.round.p99,
                us.round.p99 / them.round.p99,
                us.cpu_micros,
                them.cpu_micros,
                us.cpu_micros / them.cpu_micros,
            );
        }
    }
}

/// Runs load with all layers for several minutes. Prints one line per minute; they should not differ.
fn soak(runtime: &Runtime, world: &Installation, minutes: u32, length: Duration) {
    configure(world, Layers::BeforeResponse);
    let gateway = Server::gateway(&world.config(), "grpc");
    println!("  minute   calls/s   p50 µs   p99 µs   RSS MiB   store MiB");
    let begin = Instant::now();
    for minute in 1..=minutes {
        let mut rounds = Vec::new();
        while begin.elapsed() < Duration::from_mins(1) * minute {
            rounds.push(measure(runtime, &gateway, length, 32, Some(&world.token)));
        }
        let seen = median(&rounds).round;
        let size = |file: &str| fs::metadata(world.folder.path().join(file)).map_or(0, |m| m.len());
        println!(
            "  {minute:>6}  {:>8.0}  {:>7.0}  {:>7.0}  {:>8.1}  {:>10.1}",
            seen.per_second,
            seen.p50,
            seen.p99,
            gateway.kib("VmRSS:") as f64 / 1024.0,
            (size("gateway.db") + size("gateway.db-wal")) as f64 / 1024.0 / 1024.0
        );
    }
}

async fn connect(address: SocketAddr) -> TokenServiceClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    TokenServiceClient::new(channel.connect().await.unwrap())
}

async fn round(
    address: SocketAddr,
    length: Duration,
    in_flight: usize,
    token: Option<&str>,
) -> (Round, usize) {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(in_flight) {
        clients.push(connect(address).await);
    }
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..in_flight {
        let mut client = clients[caller % clients.len()].clone();
        let token = token.map(str::to_owned);
        callers.spawn(async move {
            let mut micros = Vec::new();
            while begin.elapsed() < length {
                let call = Instant::now();
                if let Err(status) =
                    client.issue_system_ticket(request("Cust10001", token.as_deref())).await
                {
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
    (Round { per_second: micros.len() as f64 / took, p50: at(0.5), p99: at(0.99) }, micros.len())
}

fn median(rounds: &[Measured]) -> Measured {
    let middle = |field: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured {
        round: Round {
            per_second: middle(|measured| measured.round.per_second),
            p50: middle(|measured| measured.round.p50),
            p99: middle(|measured| measured.round.p99),
        },
        cpu_micros: middle(|measured| measured.cpu_micros),
    }
}

/// Measures memory and start-up time with many tenants whose tickets are in the store, like after a restart.
async fn memory(world: &Installation) {
    fill(world).await;
    let begin = Instant::now();
    let gateway = Server::gateway(&world.config(), "grpc");
    let ready = begin.elapsed();
    let idle = gateway.kib("VmRSS:");
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
                if let Err(status) =
                    client.issue_system_ticket(request(&tenant(number), None)).await
                {
                    panic!("{status}");
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let full = gateway.kib("VmRSS:");
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

async fn fill(world: &Installation) {
    let storage = world.storage().await;
    let now = Timestamp::now();
    let status = tenant_status(now);
    for number in 0..TICKETS {
        let name = tenant_name(&tenant(number));
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
    storage.close().await;
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

/// The reference: tonic with its defaults, in a separate process.
mod reference {
    use super::*;

    /// A service that always returns the same response.
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

    /// Serves until the process is killed. Prints its address in the same form as the gateway.
    pub(super) fn serve() {
        let value = std::env::args().skip_while(|a| a != "--reference").nth(1).unwrap();
        let ticket = pb::SystemTicket {
            value,
            credential_id: format!("t-{:032x}", 1),
            issue_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 123_456_000 }),
            expire_time: Some(prost_types::Timestamp {
                seconds: 1_800_021_600,
                nanos: 123_456_000,
            }),
            web_api_uri: "http://127.0.0.1:45139/Cust10001/api".to_owned(),
            tenant: "applications/demo/tenants/Cust10001".to_owned(),
            ..Default::default()
        };
        Runtime::new().unwrap().block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            eprintln!("{}", serde_json::json!({ "grpc": listener.local_addr().unwrap() }));
            let incoming =
                tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tonic::transport::Server::builder()
                .add_service(TokenServiceServer::new(Bare(ticket)));
            server.serve_with_incoming(incoming).await.unwrap();
        });
    }
}

/// The cost of policy decisions: the first time, and from the cache.
mod decisions {
    use std::hint::black_box;

    use tenant_gateway::access::{
        ActionName, Caller, CallerMethod, Policies, PolicySet, PolicyText, Resource,
    };

    use super::*;

    const QUESTIONS: u32 = 2_000;

    pub(super) fn measure() {
        println!("policies  decision                          first µs   again µs");
        for count in [5, 50, 500] {
            let read = |text: String| {
                let text = PolicyText { policy: text, ..Default::default() };
                PolicySet::parse(&text, &["demo".parse().unwrap()]).unwrap().0
            };
            let caller = Caller::unverified(CALLER, CallerMethod::Jwt, Some(ISSUER));
            let ask = |policies: &Policies, tenant: &Resource| {
                policies.decide(&caller, ActionName::IssueSystemTicket, tenant).allowed
            };
            row(count, "on a ticket", read(policies(count)), ask);
            let call = |policies: &Policies, tenant: &Resource| {
                let (action, path) = (ActionName::CallWebApiAsSystemUser, "/api/v1/contact/5");
                policies.decide_with_context(&caller, action, tenant, "GET", path).allowed
            };
            let permit = format!(
                "permit (principal == Caller::\"{CALLER}\", action in Action::\"callWebApi\", resource)"
            );
            let forbid = "forbid (principal, action in Action::\"callWebApi\", resource) \
                 when { context.path like \"/api/v1/user*\" };";
            let with = |own: &str| read(policies(count) + own);
            row(count, "on a call, without conditions", with(&format!("{permit};")), call);
            let conditional = format!("{permit} when {{ context.path like \"/api/v1/*\" }};");
            row(count, "on a call, by its path", with(&conditional), call);
            row(count, "on a call, with a forbid as well", with(&(conditional + forbid)), call);
            let on_any_grant = |policies: &Policies, tenant: &Resource| {
                let tenant = tenant.tenant().unwrap();
                !policies.may_on_some_grant(&caller, ActionName::CallWebApiAsUser, tenant)
            };
            row(count, "on any grant of the tenant", read(policies(count)), on_any_grant);
        }
    }

    /// Measures decisions about many tenants: first uncached, then cached.
    fn row(count: usize, name: &str, set: PolicySet, ask: impl Fn(&Policies, &Resource) -> bool) {
        let policies = Policies::new(set);
        let tenants: Vec<Resource> =
            (0..QUESTIONS).map(|number| tenant_name(&tenant(number)).into()).collect();
        let ask_all = || {
            let begin = Instant::now();
            for tenant in &tenants {
                assert!(black_box(ask(&policies, tenant)));
            }
            begin.elapsed().as_secs_f64() * 1e6 / f64::from(QUESTIONS)
        };
        let first = ask_all();
        let again = (0..20).map(|_| ask_all()).fold(f64::MAX, f64::min);
        println!("{count:>8}  {name:<32}  {first:>8.1}  {again:>9.2}");
    }
}
