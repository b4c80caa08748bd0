//! Tests of the protection of a login host: the concurrency limit, the circuit breaker, and the
//! clock alarm.

use std::time::Duration;

use superoffice_sandbox::{Endpoint, Fault, FaultScope};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{Options, World, assert_status, issue, issue_with};

async fn with_login(login: &str) -> World {
    let extra_config = format!("[login]\n{login}");
    World::with(Options { extra_config, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_start_of_many_tenants_stays_within_the_concurrency_limit() {
    let world = with_login("max_concurrent = 4").await;
    let tenants: Vec<_> = (1..=60).map(|number| format!("Cust{number}")).collect();
    for tenant in &tenants {
        world.enroll(tenant).await;
    }
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        let fault = Fault::delay(Duration::from_millis(10));
        world.sandbox.inject(endpoint, fault, FaultScope::always()).unwrap();
    }
    let client = world.tokens().await;
    let mut calls = JoinSet::new();
    for tenant in tenants {
        let mut client = client.clone();
        calls.spawn(async move { issue_with(&mut client, issue(&tenant)).await });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    assert_eq!(world.exchanges(), 60);
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        let most = world.sandbox.max_concurrent(endpoint);
        assert!((1..=4).contains(&most), "{endpoint:?}: {most}");
    }
}

#[tokio::test]
async fn an_unresponsive_login_host_is_paused_and_used_again_without_a_restart() {
    let mut world = with_login("timeout = \"1s\"").await;
    for number in 1..=12 {
        world.enroll(&format!("Cust{number}")).await;
    }
    world.ticket("Cust12").await.unwrap();
    for endpoint in Endpoint::ALL {
        world.sandbox.inject(endpoint, Fault::Close, FaultScope::always()).unwrap();
    }
    for number in 1..=8 {
        let status = world.ticket(&format!("Cust{number}")).await.unwrap_err();
        assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    world.sandbox.reset_counts();
    for number in 1..=10 {
        let status = world.ticket(&format!("Cust{number}")).await.unwrap_err();
        let details = assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
        let wait = details.retry_info().unwrap().retry_delay.unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3), "{wait:?}");
    }
    for endpoint in Endpoint::ALL {
        assert_eq!(world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
    world.ticket("Cust12").await.unwrap();
    assert_eq!(world.metric("login_circuits_open").await, 1);
    world.sandbox.clear_faults();
    world.advance(Duration::from_secs(5));
    world.ticket("Cust1").await.unwrap();
    world.ticket("Cust2").await.unwrap();
}

#[tokio::test]
async fn clock_drift_to_the_login_host_is_reported_before_tickets_fail() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.sandbox.shift_clock(90);
    world.ticket("Cust1").await.unwrap();
    let skew = world.metric("login_clock_skew_seconds").await;
    assert!((85..=119).contains(&skew), "{skew}");
}

#[tokio::test]
async fn a_failing_tenant_does_not_open_the_circuit_for_others() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        let only = FaultScope::tenant("Cust1");
        world.sandbox.inject(endpoint, Fault::status(500), only).unwrap();
    }
    for _ in 0..12 {
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    world.ticket("Cust2").await.unwrap();
}
