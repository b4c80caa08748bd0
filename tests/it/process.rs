//! Tests of the process: acknowledged data survives `kill -9`, and signals stop it gracefully.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tenant_gateway::{crypto::SystemRandom, grpc::pb, ports::Random as _};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

use crate::support::{
    APPLICATION, Options,
    binary::{Served, Site},
    eventually, eventually_so, issue, issue_with, name,
};

const TENANTS: usize = 200;
const WRITERS: usize = 8;
const ROUNDS: usize = 5;
const SAMPLE: usize = 20;

/// A pseudo-random number generator with a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn tenant(index: usize) -> String {
    format!("Cust{}", 1000 + index)
}

/// A site with tenants that exist at SuperOffice but have no token at the gateway yet, and the tokens.
async fn many_tenants() -> (Site, Vec<String>) {
    let site = Site::new().await;
    let tokens: Vec<_> = (0..TENANTS).map(|index| site.make_tenant(&tenant(index))).collect();
    let served = site.serve().await;
    let mut creating = JoinSet::new();
    let client = served.tenants().await;
    for index in 0..TENANTS {
        let mut client = client.clone();
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: tenant(index),
            tenant: None,
        };
        creating.spawn(async move { client.create_tenant(create).await.map(drop) });
    }
    while let Some(created) = creating.join_next().await {
        created.unwrap().unwrap();
    }
    served.kill().await;
    (site, tokens)
}

/// Writes tokens with eight concurrent writers, and kills the process after some acknowledgements and a delay. Returns
/// the tenants whose token was acknowledged.
async fn killed_in_a_burst(
    served: Served,
    todo: &[usize],
    tokens: &[String],
    (after, moment): (usize, Duration),
) -> Vec<usize> {
    let queue = Arc::new(Mutex::new(todo.to_vec()));
    let (done, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (queue, done, count) = (Arc::clone(&queue), Arc::clone(&done), Arc::clone(&count));
        let (mut client, tokens) = (served.tenants().await, tokens.to_vec());
        writers.spawn(async move {
            loop {
                let Some(index) = queue.lock().unwrap().pop() else { return };
                let set = pb::SetSystemUserTokenRequest {
                    name: name(&tenant(index)),
                    system_user_token: tokens[index].clone(),
                };
                match client.set_system_user_token(set).await {
                    Ok(answer) => {
                        assert!(answer.into_inner().tenant.unwrap().has_system_user_token);
                        done.lock().unwrap().push(index);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    // The connection is closed.
                    Err(_) => return,
                }
            }
        });
    }
    eventually("the burst is under way", || count.load(Ordering::Relaxed) >= after).await;
    tokio::time::sleep(moment).await;
    served.kill().await;
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let done = done.lock().unwrap();
    done.clone()
}

/// Returns the tenants, and whether the store has a token for each.
async fn with_token(served: &Served) -> BTreeMap<String, bool> {
    let list = pb::ListTenantsRequest {
        parent: format!("applications/{APPLICATION}"),
        page_size: 1000,
        ..Default::default()
    };
    let listed = served.tenants().await.list_tenants(list).await.unwrap().into_inner();
    listed.tenants.into_iter().map(|t| (t.name, t.has_system_user_token)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_9_during_a_burst() {
    let [seed, ..] = SystemRandom.bytes().map(u64::from);
    let mut dice = Random(seed);
    let (site, tokens) = many_tenants().await;
    let mut acknowledged: Vec<usize> = Vec::new();
    for round in 0..ROUNDS {
        let todo: Vec<_> = (0..TENANTS).filter(|index| !acknowledged.contains(index)).collect();
        let after = usize::try_from(dice.below(25)).unwrap();
        let moment = Duration::from_micros(dice.below(3000));
        let place = format!("seed {seed}, round {round}: {after} answers and {moment:?}");
        let done = killed_in_a_burst(site.serve().await, &todo, &tokens, (after, moment)).await;
        assert!(done.len() >= after && done.len() < todo.len(), "{place}: {} done", done.len());

        let served = site.serve().await;
        let stored = with_token(&served).await;
        assert_eq!(stored.len(), TENANTS, "{place}");
        acknowledged.extend(&done);
        for index in &acknowledged {
            assert!(stored[&name(&tenant(*index))], "{place}: {} is lost", tenant(*index));
        }
        let mut client = served.tokens().await;
        for index in done.iter().rev().take(SAMPLE) {
            let issued = issue_with(&mut client, issue(&tenant(*index))).await;
            issued.unwrap_or_else(|status| panic!("{place}: {}: {status:?}", tenant(*index)));
        }
        served.kill().await;
    }
}

/// Starts calls that wait for SuperOffice.
async fn calls_waiting(
    site: &Site,
    served: &Served,
    count: u64,
    delay: Duration,
) -> JoinSet<Result<(), tonic::Status>> {
    let mut calls = JoinSet::new();
    let mut created = served.tenants().await;
    for index in 0..count {
        let id = format!("Cust{index}");
        let token = site.make_tenant(&id);
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: id.clone(),
            tenant: None,
        };
        created.create_tenant(create).await.unwrap();
        let set = pb::SetSystemUserTokenRequest { name: name(&id), system_user_token: token };
        created.set_system_user_token(set).await.unwrap();
    }
    site.sandbox.inject(Endpoint::Authenticate, Fault::delay(delay), FaultScope::always()).unwrap();
    for index in 0..count {
        let mut client = served.tokens().await;
        calls.spawn(async move {
            let ticket = issue_with(&mut client, issue(&format!("Cust{index}"))).await?;
            assert!(ticket.value.starts_with("7T:") && !ticket.web_api_uri.is_empty());
            Ok(())
        });
    }
    calls
}

async fn calls_in_flight(
    site: &Site,
    served: &Served,
    count: u64,
    delay: Duration,
) -> JoinSet<Result<(), tonic::Status>> {
    let calls = calls_waiting(site, served, count, delay).await;
    let calling = || site.sandbox.calls(Endpoint::Authenticate) == count;
    eventually("every call is in flight", calling).await;
    calls
}

async fn stops_in_order(signal: Signal) {
    let site = Site::new().await;
    let served = site.serve().await;
    let mut calls = calls_in_flight(&site, &served, 20, Duration::from_millis(700)).await;
    let begin = Instant::now();
    served.process.signal(signal);
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    let ended = served.process.finished().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}: {}", begin.elapsed(), ended.stderr);
    assert!(ended.stderr.contains("\"stopped\""), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!site.file("gateway.db-wal").exists(), "the store was not closed");

    // The tickets of these calls were stored.
    let served = site.serve().await;
    site.sandbox.reset_counts();
    issue_with(&mut served.tokens().await, issue("Cust7")).await.unwrap();
    assert_eq!(site.sandbox.calls(Endpoint::Authenticate), 0);
}

#[tokio::test]
async fn sigterm_completes_running_calls_and_exits_with_0() {
    stops_in_order(Signal::TERM).await;
}

#[tokio::test]
async fn sigint_completes_running_calls_and_exits_with_0() {
    stops_in_order(Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_during_a_burst_truncates_no_response() {
    let site = Site::new().await;
    // Successful calls are logged at `debug`.
    let mut command = site.command(&["serve"]);
    command.env("RUST_LOG", "info,tenant_gateway::grpc=debug");
    let served = Served::start(command).await;
    site.enroll("Cust1").await;
    issue_with(&mut served.tokens().await, issue("Cust1")).await.unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..WRITERS {
        let (mut client, answered) = (served.tokens().await, Arc::clone(&answered));
        callers.spawn(async move {
            loop {
                match issue_with(&mut client, issue("Cust1")).await {
                    Ok(ticket) => {
                        assert!(ticket.value.starts_with("7T:") && ticket.expire_time.is_some());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => return,
                }
            }
        });
    }
    eventually("calls are answered", || answered.load(Ordering::Relaxed) > 200).await;
    served.process.signal(Signal::TERM);
    let ended = served.process.finished().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The status of a call that the closing connection did not accept varies.
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    // Every call that the server started got its response.
    let served = ended.stderr.lines().filter(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        // Calls that arrive during shutdown are refused with SHUTTING_DOWN.
        line["message"] == "call ended"
            && line["rpc.method"] == "tenantgateway.v1.TokenService/IssueSystemTicket"
            && line["reason"] != "SHUTTING_DOWN"
    });
    let answered = answered.load(Ordering::Relaxed);
    assert_eq!(served.count(), answered + 1, "calls were lost");
}

#[tokio::test]
async fn a_routine_call_is_logged_only_at_debug() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    for (filter, logged) in [("info", false), ("info,tenant_gateway::grpc=debug", true)] {
        let mut command = site.command(&["serve"]);
        command.env("RUST_LOG", filter);
        let served = Served::start(command).await;
        let mut client = served.tokens().await;
        for _ in 0..10 {
            issue_with(&mut client, issue("Cust1")).await.unwrap();
        }
        issue_with(&mut client, issue("Cust2")).await.unwrap_err();
        let log = served.stop().await.stderr;
        let ended: Vec<_> = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["message"] == "call ended")
            .map(|line| (line["level"].to_string(), line["rpc.code"].to_string()))
            .collect();
        let count = |level: &str, code: &str| {
            let wanted = (format!("{level:?}"), format!("{code:?}"));
            ended.iter().filter(|line| **line == wanted).count()
        };
        // The first call, and any call on a busy machine, may take long enough to be logged at `info`.
        assert_eq!(count("DEBUG", "OK") > 0, logged, "{ended:?}");
        assert_eq!((count("INFO", "NOT_FOUND"), count("DEBUG", "NOT_FOUND")), (1, 0), "{ended:?}");
    }
}

async fn second_signal_ends_at_once(first: Signal, second: Signal) {
    let options = Options {
        lifecycle: Some("drain_delay = \"0s\"\nhard_deadline = \"60s\"".to_owned()),
        ..Default::default()
    };
    let site = Site::with(options).await;
    let mut served = site.serve().await;
    let _calls = calls_in_flight(&site, &served, 1, Duration::from_mins(1)).await;
    served.process.signal(first);
    let asked = |process: &crate::support::binary::Process| {
        process.stderr().contains("received a signal; stopping").then_some(())
    };
    served.process.until("heard the first signal", asked).await;
    let begin = Instant::now();
    served.process.signal(second);
    let ended = served.process.finished().await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(ended.code, Some(1), "something was cut off: {ended:?}");
    assert!(ended.stderr.contains("error: stopped before"), "{ended:?}");
    // The store opens with all committed data.
    site.serve().await.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    second_signal_ends_at_once(Signal::TERM, Signal::TERM).await;
    second_signal_ends_at_once(Signal::INT, Signal::TERM).await;
}

#[tokio::test]
async fn the_hard_deadline_ends_calls_that_take_too_long() {
    let options = Options {
        lifecycle: Some("drain_delay = \"0s\"\nhard_deadline = \"1s\"".to_owned()),
        // One exchange of a second at a time, so the last one is not done in time.
        extra_config: "[login]\nmax_concurrent = 1\ntimeout = \"1s\"".to_owned(),
        ..Default::default()
    };
    let site = Site::with(options).await;
    let served = site.serve().await;
    let _calls = calls_waiting(&site, &served, 6, Duration::from_mins(1)).await;
    eventually("one call is in flight", || site.sandbox.calls(Endpoint::Authenticate) == 1).await;
    let begin = Instant::now();
    served.process.signal(Signal::TERM);
    let ended = served.process.finished().await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[tokio::test]
async fn a_signal_during_the_start_stops_it_gracefully() {
    let site = Site::new().await;
    for _ in 0..10 {
        let served = site.serve().await;
        served.process.signal(Signal::TERM);
        let ended = served.process.finished().await;
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:?}");
    }
}

#[tokio::test]
async fn sighup_activates_a_changed_policy() {
    let policy = Some("permit (principal, action, resource);".to_owned());
    let site = Site::with(Options { policy, ..Default::default() }).await;
    let served = site.serve().await;
    let list = || pb::ListTenantsRequest {
        parent: format!("applications/{APPLICATION}"),
        ..Default::default()
    };
    let mut tenants = served.tenants().await;
    tenants.list_tenants(list()).await.unwrap();
    fs::write(site.file("policy.cedar"), "forbid (principal, action, resource);").unwrap();
    served.process.signal(Signal::HUP);
    eventually_so("it is in force", async || {
        let answer = tenants.clone().list_tenants(list()).await;
        answer.is_err_and(|status| status.code() == Code::PermissionDenied)
    })
    .await;
    let log = served.stop().await.stderr;
    let line = |wanted: &str| log.lines().position(|line| line.contains(wanted)).expect(wanted);
    assert!(line("received a signal; reloading") < line("policy reloaded"), "{log}");
}
