//! `cargo bench --bench associates`: the cost of reading the users of a tenant.
//!
//! First, a listing of 50,000 associates, read from SuperOffice and returned in pages of 1000. Its reference is a bare
//! reqwest client that fetches the same pages from the same simulated SuperOffice without parsing them. Second, a
//! cached `GetAssociate`. Its reference is a bare tonic server with the same response message. Rounds of gateway and
//! reference alternate in one run. Only the ratios are meaningful.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench is a script: it prints, and panics on errors"
)]

#[expect(dead_code, reason = "shared with other benches, which use all of it")]
#[path = "support/installation.rs"]
mod installation;
#[path = "support/server.rs"]
mod server;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use tenant_gateway::grpc::pb::{
    self,
    associate_service_client::AssociateServiceClient,
    associate_service_server::{AssociateService, AssociateServiceServer},
    token_service_client::TokenServiceClient,
};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::{Request, Response, Status, transport::Channel};

use self::{
    installation::{Installation, tenant_name},
    server::Server,
};

const ROUNDS: usize = 5;
const ASSOCIATES: usize = 50_000;
const PAGE: usize = 1000;
const PAGE_SIZE: i32 = 1000;
const IN_FLIGHT: [usize; 2] = [32, 128];
const CONNECTIONS: usize = 4;
const LENGTH: Duration = Duration::from_secs(2);

/// The columns that the gateway requests, in its order.
const COLUMNS: &str = "associateDbId,assocName,assocType,userName,fullName,personId,personEmail,contactId,usergroup,\
                       usergroupId,otherGroups,role,isActive,canLogin,credentialType";

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--reference");
    if let Some(answer) = arguments.nth(1) {
        return reference(&answer);
    }
    let runtime = Runtime::new().unwrap();
    let world = runtime.block_on(prepare());
    runtime.block_on(listing(&world));
    cached(&runtime, &world);
}

/// Prepares a gateway that has one large tenant.
async fn prepare() -> Installation {
    let world = Installation::new("").await;
    world.configure(
        "[callers]\ninsecure_anonymous = true\n[audit]\ndurability = \"after_response\"\n",
        "calls_per_second = 10000\nburst = 10000\n",
    );
    world.sandbox.generate_people(&world.tenant().id, ASSOCIATES, 1).unwrap();
    world.enroll().await;
    world
}

fn parent(world: &Installation) -> String {
    tenant_name(&world.tenant().id).to_string()
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Compares a fresh listing of all associates with fetching the same pages.
async fn listing(world: &Installation) {
    let gateway = Server::gateway(&world.config(), "grpc");
    let channel = channel(gateway.address).await;
    let tenant = parent(world);
    let ticket = pb::IssueSystemTicketRequest { tenant, ..Default::default() };
    let ticket = TokenServiceClient::new(channel.clone()).issue_system_ticket(ticket).await;
    let ticket = ticket.unwrap().into_inner().ticket.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let client = AssociateServiceClient::new(channel).max_decoding_message_size(1 << 24);
    // A warm-up that is not timed: it opens connections and allocates permanent memory.
    let pages = fetch(world, &http, &ticket).await;
    let idle = gateway.kib("VmRSS:");
    let (mut ours, mut bare, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let (count, first) = list(world, client.clone()).await;
        ours.push(begin.elapsed().as_secs_f64());
        reading.push(first);
        assert_eq!(count, ASSOCIATES);
        let begin = Instant::now();
        assert_eq!(fetch(world, &http, &ticket).await, pages);
        bare.push(begin.elapsed().as_secs_f64());
    }
    let (most, now) = (gateway.kib("VmHWM:"), gateway.kib("VmRSS:"));
    let mib = |kib: u64| (kib - idle) as f64 / 1024.0;
    let (ours, bare) = (median(ours), median(bare));
    println!("listing {ASSOCIATES} associates in {pages} pages, median of {ROUNDS} rounds");
    println!("  gateway {ours:.2} s, bare reqwest {bare:.2} s, ratio {:.2}", ours / bare);
    println!("  gateway, until the first page: {:.2} s", median(reading));
    println!(
        "  memory: {:.1} MiB more at the peak, {:.1} MiB more at the end",
        mib(most),
        mib(now)
    );
}

/// Lists all associates without cached data. Returns their number and the seconds until the first page.
async fn list(world: &Installation, mut client: AssociateServiceClient<Channel>) -> (usize, f64) {
    let begin = Instant::now();
    let (mut count, mut until_first, mut page_token) = (0, 0.0, String::new());
    loop {
        let first = page_token.is_empty();
        let parent = parent(world);
        let mut request = Request::new(pb::ListAssociatesRequest {
            parent,
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        });
        request.set_timeout(Duration::from_mins(2));
        if first {
            request.metadata_mut().insert("gateway-max-staleness", "0s".parse().unwrap());
        }
        let page =
            client.list_associates(request).await.unwrap_or_else(|status| panic!("{status}"));
        let page = page.into_inner();
        if first {
            until_first = begin.elapsed().as_secs_f64();
        }
        count += page.associates.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (count, until_first);
        }
    }
}

/// Fetches the pages that the gateway reads, with the known last id of each page. Returns their number.
async fn fetch(world: &Installation, http: &reqwest::Client, ticket: &pb::SystemTicket) -> usize {
    let people = world.sandbox.people(&world.tenant().id).unwrap();
    let ids: Vec<u32> = people.associates.keys().copied().collect();
    let lasts = ids.chunks(PAGE).map(|page| page[page.len() - 1]);
    let mut pages = 0;
    for after in std::iter::once(0).chain(lasts).take(ids.len().div_ceil(PAGE)) {
        let uri = format!(
            "{}/v1/User?$mode=Full&$select={COLUMNS}&$orderBy=associateDbId&$top={PAGE}&$filter=associateDbId%20%3E%20{after}",
            ticket.web_api_uri
        );
        let request = http
            .get(uri)
            .header("authorization", format!("SOTicket {}", ticket.value))
            .header("so-apptoken", &world.demo.client_secret)
            .header("accept", "application/json")
            .header("accept-language", "*");
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        assert!(answer.bytes().await.unwrap().len() > PAGE);
        pages += 1;
    }
    pages
}

/// Compares a cached associate with a bare tonic server.
fn cached(runtime: &Runtime, world: &Installation) {
    let gateway = Server::gateway(&world.config(), "grpc");
    let name = format!("{}/associates/{}", parent(world), 3);
    let answer = runtime.block_on(async {
        let mut client = AssociateServiceClient::new(channel(gateway.address).await);
        let mut request = Request::new(get(&name));
        request.set_timeout(Duration::from_mins(2));
        client.get_associate(request).await.unwrap().into_inner()
    });
    let reference = Server::reference(&BASE64_STANDARD.encode(answer.encode_to_vec()));
    println!("cached GetAssociate (anonymous, permit all, after_response)");
    println!("  in flight   gateway/s  reference/s  ratio   CPU µs (ref)  CPU ratio");
    for in_flight in IN_FLIGHT {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (mut our_cpu, mut their_cpu) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (rate, cpu) = round(runtime, &gateway, &name, in_flight);
            ours.push(rate);
            our_cpu.push(cpu);
            let (rate, cpu) = round(runtime, &reference, &name, in_flight);
            theirs.push(rate);
            their_cpu.push(cpu);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let (our_cpu, their_cpu) = (median(our_cpu), median(their_cpu));
        println!(
            "  {in_flight:>9}  {ours:>10.0}  {theirs:>11.0}  {:>5.2}  {our_cpu:>6.1} ({their_cpu:>4.1})  {:>9.2}",
            ours / theirs,
            our_cpu / their_cpu
        );
    }
}

fn get(name: &str) -> pb::GetAssociateRequest {
    pb::GetAssociateRequest { name: name.to_owned(), ..Default::default() }
}

/// Returns calls per second, and the server's CPU time per call in microseconds.
fn round(runtime: &Runtime, server: &Server, name: &str, in_flight: usize) -> (f64, f64) {
    let before = server.cpu_micros();
    let (calls, seconds) = runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(channel(server.address).await);
        }
        let begin = Instant::now();
        let mut callers = JoinSet::new();
        for caller in 0..in_flight {
            let mut client = AssociateServiceClient::new(channels[caller % CONNECTIONS].clone());
            let name = name.to_owned();
            callers.spawn(async move {
                let mut calls = 0_u32;
                while begin.elapsed() < LENGTH {
                    if let Err(status) = client.get_associate(get(&name)).await {
                        panic!("{status}");
                    }
                    calls += 1;
                }
                calls
            });
        }
        let calls: u32 = callers.join_all().await.into_iter().sum();
        (f64::from(calls), begin.elapsed().as_secs_f64())
    });
    (calls / seconds, (server.cpu_micros() - before) / calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A service that always returns the same response.
struct Bare(pb::GetAssociateResponse);

macro_rules! unimplemented_rpcs {
    ($($method:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl AssociateService for Bare {
            async fn get_associate(
                &self,
                _: Request<pb::GetAssociateRequest>,
            ) -> Result<Response<pb::GetAssociateResponse>, Status> {
                Ok(Response::new(self.0.clone()))
            }

            $(async fn $method(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("reference"))
            })+
        }
    };
}

unimplemented_rpcs! {
    batch_get_associates(BatchGetAssociatesRequest) -> BatchGetAssociatesResponse;
    list_associates(ListAssociatesRequest) -> ListAssociatesResponse;
    lookup_associate(LookupAssociateRequest) -> LookupAssociateResponse;
    get_current_principal(GetCurrentPrincipalRequest) -> GetCurrentPrincipalResponse;
    list_user_groups(ListUserGroupsRequest) -> ListUserGroupsResponse;
    list_roles(ListRolesRequest) -> ListRolesResponse;
    resolve_owner(ResolveOwnerRequest) -> ResolveOwnerResponse;
}

/// Runs tonic with its defaults until the process is killed. Prints its address in the same form as the gateway.
fn reference(answer: &str) {
    let bytes = BASE64_STANDARD.decode(answer).unwrap();
    let answer = pb::GetAssociateResponse::decode(&bytes[..]).unwrap();
    Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        eprintln!("{}", serde_json::json!({ "grpc": listener.local_addr().unwrap() }));
        let incoming =
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder()
            .add_service(AssociateServiceServer::new(Bare(answer)));
        server.serve_with_incoming(incoming).await.unwrap();
    });
}
