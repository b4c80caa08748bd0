//! A cached ticket, compared with a bare tonic server that returns the same message.

use std::{net::SocketAddr, time::Duration};

use tenant_gateway::grpc::pb::{self, token_service_client::TokenServiceClient};
use tokio::runtime::Runtime;
use tonic::{Request, metadata::AsciiMetadataValue, transport::Channel};

use super::{
    disk::DurableWrites,
    events::event_bytes,
    installation::{CALLER, Installation, JWT_CALLERS},
    load::{self, Caller},
    options::Options,
    reference,
    server::Server,
    statistics::{Round, Spread, interleave, median, ratio},
    table::{Budget, Row, Table, micros, per_second},
};

/// The number of policies.
const POLICIES: usize = 20;

/// The layers around a call. Each variant adds one to the previous.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Layers {
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
    pub(crate) const ALL: [Self; 4] =
        [Self::Anonymous, Self::Policy, Self::Token, Self::BeforeResponse];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous, permit all",
            Self::Policy => "+ policy",
            Self::Token => "+ token",
            Self::BeforeResponse => "+ before_response",
        }
    }

    /// Returns the sections of the configuration.
    pub(crate) fn config(self) -> String {
        let callers =
            if self.has_token() { JWT_CALLERS } else { "[callers]\ninsecure_anonymous = true\n" };
        let policy =
            if self == Self::Anonymous { "" } else { "[policy]\nfile = \"./policy.cedar\"\n" };
        let durability =
            if self == Self::BeforeResponse { "before_response" } else { "after_response" };
        format!("{callers}{policy}[audit]\ndurability = \"{durability}\"\n")
    }

    fn has_token(self) -> bool {
        matches!(self, Self::Token | Self::BeforeResponse)
    }
}

/// A running gateway with one tenant.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) world: Installation,
    layers: Layers,
}

impl Gateway {
    pub(crate) fn start(runtime: &Runtime, layers: Layers) -> Self {
        let world = runtime.block_on(async {
            let world = Installation::new(&policies(POLICIES)).await;
            world.configure(&layers.config(), "");
            world.enroll().await;
            world
        });
        let server = Server::gateway(&world.config(), "grpc");
        Self { server, world, layers }
    }

    /// Returns the token that callers present, if they need one.
    pub(crate) fn token(&self) -> Option<&str> {
        self.layers.has_token().then_some(&*self.world.token)
    }

    /// Starts the reference that returns the same answer.
    pub(crate) fn start_reference(&self, runtime: &Runtime) -> Server {
        let answer = runtime.block_on(async {
            let channel = load::channel(self.server.address).await;
            let mut caller = TicketCaller::new(channel, &self.world.tenant().id, self.token());
            caller.issue().await
        });
        Server::reference(reference::TICKET, &reference::encode(&answer))
    }

    /// Measures calls for the ticket of the tenant.
    pub(crate) fn round(&self, runtime: &Runtime, length: Duration, in_flight: usize) -> Round {
        let target = Target { server: &self.server, token: self.token() };
        target.round(runtime, length, in_flight)
    }
}

/// A server that returns tickets: the gateway or its reference.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) server: &'a Server,
    pub(crate) token: Option<&'a str>,
}

impl Target<'_> {
    pub(crate) fn round(self, runtime: &Runtime, length: Duration, in_flight: usize) -> Round {
        let callers = ticket_callers(self.server.address, in_flight, self.token);
        load::measure(runtime, self.server.pid(), length, callers)
    }
}

/// Returns callers that ask for the ticket of the first tenant.
async fn ticket_callers(
    address: SocketAddr,
    in_flight: usize,
    token: Option<&str>,
) -> Vec<TicketCaller> {
    let channels = load::channels(address, in_flight).await;
    channels.into_iter().map(|channel| TicketCaller::new(channel, "Cust10001", token)).collect()
}

/// A caller that asks for the ticket of one tenant.
pub(crate) struct TicketCaller {
    client: TokenServiceClient<Channel>,
    tenant: String,
    authorization: Option<AsciiMetadataValue>,
}

impl TicketCaller {
    pub(crate) fn new(channel: Channel, tenant: &str, token: Option<&str>) -> Self {
        Self {
            client: TokenServiceClient::new(channel),
            tenant: format!("applications/demo/tenants/{tenant}"),
            authorization: token.map(|token| format!("Bearer {token}").parse().unwrap()),
        }
    }

    /// Asks for the ticket of another tenant from now on.
    pub(crate) fn set_tenant(&mut self, tenant: &str) {
        self.tenant = format!("applications/demo/tenants/{tenant}");
    }

    async fn issue(&mut self) -> pb::IssueSystemTicketResponse {
        let tenant = self.tenant.clone();
        let message = pb::IssueSystemTicketRequest { tenant, ..Default::default() };
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        match self.client.issue_system_ticket(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("{status}"),
        }
    }
}

impl Caller for TicketCaller {
    async fn call(&mut self) {
        self.issue().await;
    }
}

/// Adds the budgets of a cached ticket with token and policy.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let after = Gateway::start(runtime, Layers::Token);
    let before = Gateway::start(runtime, Layers::BeforeResponse);
    let bare = after.start_reference(runtime);
    let mut writes = DurableWrites::new(before.world.folder.path(), event_bytes());
    for (in_flight, lowest) in [(1, None), (32, Some(0.80)), (128, Some(0.85))] {
        eprintln!("ticket: {in_flight} in flight");
        let bare = Target { server: &bare, token: after.token() };
        let length = options.round;
        // Warm-up rounds, which fill the caches and open files.
        after.round(runtime, length / 4, in_flight);
        before.round(runtime, length / 4, in_flight);
        bare.round(runtime, length / 4, in_flight);
        let rounds = interleave(options.runs, 4, |contender| match contender {
            0 => after.round(runtime, length, in_flight),
            1 => bare.round(runtime, length, in_flight),
            2 => before.round(runtime, length, in_flight),
            _ => writes.round(length / 4),
        });
        let [after, bare, before, writes] = &rounds[..] else { panic!("four contenders") };
        after_response_rows(table, in_flight, lowest, after, bare);
        if in_flight == 1 {
            table.push(wait_row("ticket", [after, before, writes], 1.5));
        } else {
            let what =
                format!("ticket, before_response against after_response, {in_flight} in flight");
            table.push(throughput_row(what, before, after).budget(Budget::AtLeast(0.90)));
        }
    }
}

fn after_response_rows(
    table: &mut Table,
    in_flight: usize,
    lowest: Option<f64>,
    ours: &[Round],
    bare: &[Round],
) {
    let what = format!("ticket, after_response against bare tonic, {in_flight} in flight");
    let throughput = throughput_row(what.as_str(), ours, bare);
    let processor_time = cpu_row(format!("{what}, processor time"), ours, bare);
    match lowest {
        Some(lowest) => {
            table.push(throughput.budget(Budget::AtLeast(lowest)));
            table.push(processor_time.budget(Budget::AtMost(1.35)));
        }
        None => table.push(throughput),
    }
}

/// Returns a line that compares calls per second.
pub(crate) fn throughput_row(what: impl Into<String>, ours: &[Round], theirs: &[Round]) -> Row {
    let rate = |rounds: &[Round]| per_second(median(rounds, |round| round.per_second));
    Row::new(what, rate(ours), rate(theirs), ratio(ours, theirs, |round| round.per_second))
}

/// Returns a line that compares the processor time of a call.
pub(crate) fn cpu_row(what: impl Into<String>, ours: &[Round], theirs: &[Round]) -> Row {
    let cpu = |rounds: &[Round]| micros(median(rounds, |round| round.cpu_micros));
    Row::new(what, cpu(ours), cpu(theirs), ratio(ours, theirs, |round| round.cpu_micros))
}

/// Returns the line that says how many durable writes a single caller waits for with `before_response`. The rounds are
/// those of `after_response`, `before_response` and of durable writes.
pub(crate) fn wait_row(name: &str, rounds: [&[Round]; 3], most: f64) -> Row {
    let [after, before, writes] = rounds;
    let waits = before.iter().zip(after).zip(writes);
    let waits = waits.map(|((before, after), write)| (before.p50 - after.p50) / write.p50);
    let p50 = |rounds: &[Round]| micros(median(rounds, |round| round.p50));
    let reference = format!("{} + writes of {}", p50(after), p50(writes));
    let what = format!("{name}, before_response, 1 in flight, p50 above after_response, in writes");
    Row::new(what, p50(before), reference, Spread::of(waits)).budget(Budget::AtMost(most))
}

/// Returns a realistic policy set: one policy for each service, and one for the caller of this bench.
pub(crate) fn policies(count: usize) -> String {
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
