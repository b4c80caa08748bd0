//! The egress proxy, with policy, a caller's token and the audit trail, compared with Envoy and its credential
//! injector, which only adds a header. Both proxy to the same server, which always returns the same bytes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tokio::runtime::Runtime;

use super::{
    disk::DurableWrites,
    envoy,
    events::event_bytes,
    http_caller::http_callers,
    installation::{CALLER, Installation, JWT_CALLERS},
    load,
    options::Options,
    reference,
    server::Server,
    statistics::{Round, interleave, median, ratio},
    table::{Budget, Row, Table, micros},
    tickets::{cpu_row, throughput_row, wait_row},
};

/// The numbers of concurrent calls, each on its own HTTP/1.1 connection.
const IN_FLIGHT: [usize; 3] = [1, 32, 128];

const POLICIES: usize = 20;

/// A running proxy.
struct Proxy {
    server: Server,
    /// The files of the gateway, which are deleted when this is dropped.
    world: Option<Installation>,
    request: Arc<str>,
}

impl Proxy {
    /// Starts a gateway whose tenant has its Web API on a server of this bench.
    fn gateway(runtime: &Runtime, upstream: SocketAddr, durability: &str) -> Self {
        let world = runtime.block_on(prepare(upstream, durability));
        let server = Server::gateway(&world.config(), "egress");
        let request = request(&world);
        Self { server, world: Some(world), request }
    }

    fn round(&self, runtime: &Runtime, length: Duration, in_flight: usize) -> Round {
        let callers = http_callers(self.server.address, &self.request, in_flight);
        load::measure(runtime, self.server.pid(), length, callers)
    }
}

/// Adds the budgets of the egress proxy.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let upstream = Server::reference(reference::UPSTREAM, "");
    let after = Proxy::gateway(runtime, upstream.address, "after_response");
    let before = Proxy::gateway(runtime, upstream.address, "before_response");
    let world = before.world.as_ref().unwrap();
    let mut writes = DurableWrites::new(world.folder.path(), event_bytes());
    let envoy = envoy::start(world.folder.path(), upstream.address);
    let envoy = envoy.map(|server| {
        let request = Arc::clone(&after.request);
        Proxy { server, world: None, request }
    });
    for in_flight in IN_FLIGHT {
        eprintln!("egress: {in_flight} in flight");
        let length = options.round;
        // Warm-up rounds, which open connections to the upstream and fill the caches.
        for proxy in [Some(&after), Some(&before), envoy.as_ref()].into_iter().flatten() {
            proxy.round(runtime, length / 4, in_flight);
        }
        let contenders = if envoy.is_some() { 4 } else { 3 };
        let rounds = interleave(options.runs, contenders, |contender| match contender {
            0 => after.round(runtime, length, in_flight),
            1 => before.round(runtime, length, in_flight),
            2 => writes.round(length / 4),
            _ => envoy.as_ref().unwrap().round(runtime, length, in_flight),
        });
        let ours = [&rounds[0][..], &rounds[1][..]];
        add_rows(table, in_flight, ours, rounds.get(3).map(Vec::as_slice));
        if in_flight == 1 {
            table.push(wait_row("egress", [&rounds[0], &rounds[1], &rounds[2]], 2.5));
        }
    }
}

/// Adds the comparisons with Envoy. `ours` are the rounds with `after_response` and with `before_response`.
fn add_rows(table: &mut Table, in_flight: usize, ours: [&[Round]; 2], envoy: Option<&[Round]>) {
    let [after, before] = ours;
    let what = |which: &str| format!("egress against Envoy, {which}, {in_flight} in flight");
    // A single call in flight has no budget.
    let with = |row: Row, budget: Budget| if in_flight == 1 { row } else { row.budget(budget) };
    let (throughput, slow) = (what("after_response"), what("after_response, p99"));
    let (durable, cpu) = (what("before_response"), what("after_response, processor time"));
    let budgets = [Budget::AtLeast(1.0), Budget::AtMost(1.2), Budget::AtLeast(0.85)];
    let Some(envoy) = envoy else {
        for (what, budget) in [throughput, slow, durable].into_iter().zip(budgets) {
            table.push(with(Row::missing(what, "envoy is not on PATH"), budget));
        }
        return;
    };
    let p99 = |rounds: &[Round]| micros(median(rounds, |round| round.p99));
    let p99_ratio = ratio(after, envoy, |round| round.p99);
    let rows = [
        throughput_row(throughput, after, envoy),
        Row::new(slow, p99(after), p99(envoy), p99_ratio),
        throughput_row(durable, before, envoy),
    ];
    for (row, budget) in rows.into_iter().zip(budgets) {
        table.push(with(row, budget));
    }
    table.push(cpu_row(cpu, after, envoy));
}

async fn prepare(upstream: SocketAddr, durability: &str) -> Installation {
    let world = Installation::new(&policies()).await;
    let endpoint = format!("http://{upstream}/{}", world.tenant().id);
    let api = Some(format!("{endpoint}/api"));
    let fault = Fault::Addresses { api, endpoint: Some(endpoint) };
    world.sandbox.inject(Endpoint::TenantStatus, fault, FaultScope::always()).unwrap();
    // The rate limit is never reached.
    let sections = format!(
        "[egress]\nlisten = \"127.0.0.1:0\"\n[audit]\ndurability = \"{durability}\"\n\
         {JWT_CALLERS}[policy]\nfile = \"./policy.cedar\"\n"
    );
    world.configure(&sections, "calls_per_second = 1000000\nburst = 1000000\n");
    world.enroll().await;
    world
}

fn request(world: &Installation) -> Arc<str> {
    let (tenant, token) = (&world.tenant().id, &world.token);
    let request = format!(
        "GET /demo/{tenant}/api/v1/Contact/12?$select=name HTTP/1.1\r\nHost: gateway\r\n\
         Accept: application/json\r\nUser-Agent: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    request.into()
}

/// Returns a realistic policy set: one policy for each service, and one for the caller of this bench.
fn policies() -> String {
    let mut policies = vec![format!(
        "@id(\"bench\") permit (principal == Caller::\"{CALLER}\", action == Action::\"callWebApiAsSystemUser\", \
         resource in Application::\"applications/demo\") when {{ context.path like \"/api/v1/contact/*\" }};"
    )];
    policies.extend((1..POLICIES).map(|service| {
        format!(
            "permit (principal == Caller::\"system:serviceaccount:crm:service-{service}\", action in \
             Action::\"callWebApi\", resource in Tenant::\"applications/demo/tenants/Cust{}\") \
             when {{ context.method == \"GET\" }};",
            20_000 + service
        )
    }));
    policies.join("\n")
}
