//! First tickets: processor time of the gateway for each, compared with the RSA signature that each needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use superoffice_sandbox::{ApiHost, NewTenant, TenantState};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    installation::Installation,
    load::{self, Caller as _},
    options::Options,
    server::{Server, thread_cpu_micros},
    statistics::Spread,
    table::{Budget, Row, Table, micros, per_second},
    tickets::{Layers, TicketCaller, policies},
};

/// The number of tenants.
const TENANTS: u32 = 2000;
const CALLERS: usize = 32;

/// The most runs. Each run needs new tenants.
const MAX_RUNS: usize = 3;

/// The number of signatures that are measured before and after a run.
const SIGNATURES: u32 = 200;

/// The longest wait for work that the gateway does after the last answer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Adds the budget of a first ticket, with `before_response`.
pub(crate) fn measure(runtime: &Runtime, options: &Options, table: &mut Table) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (mut ours, mut signatures, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=options.runs.min(MAX_RUNS) {
        eprintln!("first tickets: run {run}");
        let world = runtime.block_on(prepare());
        let gateway = Server::gateway(&world.config(), "grpc");
        let earlier = signature_micros(&key);
        let before = gateway.cpu_micros();
        let begin = Instant::now();
        runtime.block_on(call_for_all(&gateway, Some(&world.token), TENANTS, CALLERS));
        rates.push(f64::from(TENANTS) / begin.elapsed().as_secs_f64());
        wait_until_idle(&gateway);
        ours.push((gateway.cpu_micros() - before) / f64::from(TENANTS));
        signatures.push(f64::midpoint(earlier, signature_micros(&key)));
    }
    let what = format!("first ticket of {TENANTS} tenants, {CALLERS} callers, processor time");
    let ratio = Spread::of(ours.iter().zip(&signatures).map(|(ours, one)| ours / one));
    let median = |values: &[f64]| Spread::of(values.iter().copied()).median;
    let (ticket, signature) = (micros(median(&ours)), micros(median(&signatures)));
    table.push(Row::new(what, ticket, signature, ratio).budget(Budget::AtMost(2.5)));
    eprintln!("first tickets: {}", per_second(median(&rates)));
}

/// Prepares a gateway with many tenants that have no ticket.
async fn prepare() -> Installation {
    let world = Installation::new(&policies(20)).await;
    world.configure(&Layers::BeforeResponse.config(), "");
    let enrolled = (0..TENANTS).map(|number| {
        let id = tenant(number);
        let company_name = format!("Company {number} AS");
        let (state, host) = (TenantState::Running, ApiHost::A);
        let new = NewTenant { id: id.clone(), company_name, state, host };
        world.sandbox.add_tenant(new).unwrap();
        let token = world.sandbox.authorize(&world.demo.client_id, &id).unwrap();
        (id, token)
    });
    world.enroll_all(enrolled.collect()).await;
    world
}

pub(crate) fn tenant(number: u32) -> String {
    format!("Cust{}", 1_000_000 + number)
}

/// Lets callers ask for the tickets of the first `tenants` tenants, for each once.
pub(crate) async fn call_for_all(
    gateway: &Server,
    token: Option<&str>,
    tenants: u32,
    callers: usize,
) {
    let next = Arc::new(AtomicU32::new(0));
    let mut running = JoinSet::new();
    for channel in load::channels(gateway.address, callers).await {
        let next = Arc::clone(&next);
        let mut caller = TicketCaller::new(channel, &tenant(0), token);
        running.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tenants {
                    return;
                }
                caller.set_tenant(&tenant(number));
                caller.call().await;
            }
        });
    }
    running.join_all().await;
}

/// Waits until the gateway needs no more processor time: it stores some results after the answer.
fn wait_until_idle(gateway: &Server) {
    let begin = Instant::now();
    let mut before = gateway.cpu_micros();
    while begin.elapsed() < SETTLE_TIMEOUT {
        thread::sleep(Duration::from_millis(300));
        let now = gateway.cpu_micros();
        if now <= before {
            return;
        }
        before = now;
    }
}

/// Returns the processor time of an RSA-2048 signature, on one thread.
fn signature_micros(key: &RsaKeyPair) -> f64 {
    let mut signature = vec![0; key.public_modulus_len()];
    let random = SystemRandom::new();
    let before = thread_cpu_micros();
    for number in 0..SIGNATURES {
        let message = number.to_be_bytes();
        key.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature).unwrap();
    }
    (thread_cpu_micros() - before) / f64::from(SIGNATURES)
}
