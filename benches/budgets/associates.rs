//! The cost of reading the users of a tenant.
//!
//! First, a listing of 50,000 associates, read from SuperOffice and returned in pages of 1000. Its reference is a bare
//! reqwest client that fetches the same pages from the same simulated SuperOffice without parsing them. Second, a
//! cached `GetAssociate`. Its reference is a bare tonic server with the same response message.

use std::time::{Duration, Instant};

use tenant_gateway::grpc::pb::{
    self, associate_service_client::AssociateServiceClient,
    token_service_client::TokenServiceClient,
};
use tokio::runtime::Runtime;
use tonic::{Request, transport::Channel};

use super::{
    installation::{Installation, tenant_name},
    load::{self, Caller},
    options::Options,
    reference,
    server::Server,
    statistics::{Round, Spread, interleave, median, ratio},
};

const ASSOCIATES: usize = 50_000;
const PAGE: usize = 1000;
const PAGE_SIZE: i32 = 1000;
const IN_FLIGHT: [usize; 2] = [32, 128];

/// The columns that the gateway requests, in its order.
const COLUMNS: &str = "associateDbId,assocName,assocType,userName,fullName,personId,personEmail,contactId,usergroup,\
                       usergroupId,otherGroups,role,isActive,canLogin,credentialType";

/// Prints both comparisons.
pub(crate) fn compare(runtime: &Runtime, options: &Options) {
    let world = runtime.block_on(prepare());
    runtime.block_on(listing(&world, options.runs));
    cached(runtime, options, &world);
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

/// Compares a fresh listing of all associates with fetching the same pages.
async fn listing(world: &Installation, runs: usize) {
    let gateway = Server::gateway(&world.config(), "grpc");
    let channel = load::channel(gateway.address).await;
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
    for _ in 0..runs {
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
    let [ours, bare, reading] = [ours, bare, reading].map(|seconds| Spread::of(seconds).median);
    println!("listing {ASSOCIATES} associates in {pages} pages, median of {runs} rounds");
    println!("  gateway {ours:.2} s, bare reqwest {bare:.2} s, ratio {:.2}", ours / bare);
    println!("  gateway, until the first page: {reading:.2} s");
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

/// A caller that reads one associate.
struct AssociateCaller {
    client: AssociateServiceClient<Channel>,
    name: String,
}

impl Caller for AssociateCaller {
    async fn call(&mut self) {
        if let Err(status) = self.client.get_associate(get(&self.name)).await {
            panic!("{status}");
        }
    }
}

/// Compares a cached associate with a bare tonic server.
fn cached(runtime: &Runtime, options: &Options, world: &Installation) {
    let gateway = Server::gateway(&world.config(), "grpc");
    let name = format!("{}/associates/{}", parent(world), 3);
    let answer = runtime.block_on(async {
        let mut client = AssociateServiceClient::new(load::channel(gateway.address).await);
        let mut request = Request::new(get(&name));
        request.set_timeout(Duration::from_mins(2));
        client.get_associate(request).await.unwrap().into_inner()
    });
    let bare = Server::reference(reference::ASSOCIATE, &reference::encode(&answer));
    println!("cached GetAssociate (anonymous, permit all, after_response)");
    println!("  in flight   gateway/s  reference/s  ratio   CPU µs (ref)  CPU ratio");
    for in_flight in IN_FLIGHT {
        let rounds = interleave(options.runs, 2, |contender| {
            let server = if contender == 0 { &gateway } else { &bare };
            round(runtime, server, options.round, &name, in_flight)
        });
        let [ours, bare] = &rounds[..] else { panic!("two contenders") };
        println!(
            "  {in_flight:>9}  {:>10.0}  {:>11.0}  {:>5.2}  {:>6.1} ({:>4.1})  {:>9.2}",
            median(ours, |round| round.per_second),
            median(bare, |round| round.per_second),
            ratio(ours, bare, |round| round.per_second).median,
            median(ours, |round| round.cpu_micros),
            median(bare, |round| round.cpu_micros),
            ratio(ours, bare, |round| round.cpu_micros).median,
        );
    }
}

fn get(name: &str) -> pb::GetAssociateRequest {
    pb::GetAssociateRequest { name: name.to_owned(), ..Default::default() }
}

fn round(
    runtime: &Runtime,
    server: &Server,
    length: Duration,
    name: &str,
    in_flight: usize,
) -> Round {
    let callers = async {
        let caller = |channel: Channel| {
            let client = AssociateServiceClient::new(channel);
            AssociateCaller { client, name: name.to_owned() }
        };
        load::channels(server.address, in_flight).await.into_iter().map(caller).collect::<Vec<_>>()
    };
    load::measure(runtime, server.pid(), length, callers)
}
