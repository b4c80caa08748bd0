//! Tests of `ReportRejectedCredential`.

use std::time::Duration;

use superoffice_sandbox::{ApiHost, Endpoint, Fault, FaultScope, TenantState};
use tenant_gateway::grpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::support::{World, assert_status, name};

async fn report(world: &World, credential_id: &str) -> Result<(), Status> {
    let request = pb::ReportRejectedCredentialRequest {
        tenant: name("Cust1"),
        credential_id: credential_id.to_owned(),
    };
    world.tokens().await.report_rejected_credential(request).await.map(drop)
}

async fn world_with_ticket() -> (World, String) {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let id = world.ticket("Cust1").await.unwrap().credential_id.clone();
    (world, id)
}

#[tokio::test]
async fn a_valid_ticket_is_kept_and_its_lifetime_extended() {
    let (mut world, id) = world_with_ticket().await;
    world.advance(Duration::from_hours(2));
    report(&world, &id).await.unwrap();
    let ticket = world.ticket("Cust1").await.unwrap();
    assert_eq!(ticket.credential_id, id);
    let life = ticket.expire_time.unwrap().seconds - ticket.issue_time.unwrap().seconds;
    assert_eq!(life, 8 * 3600);
    world.restart().await;
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn a_ticket_never_outlives_its_maximum_age() {
    let (mut world, id) = world_with_ticket().await;
    for _ in 0..2 {
        world.advance(Duration::from_hours(4));
        report(&world, &id).await.unwrap();
    }
    let ticket = world.ticket("Cust1").await.unwrap();
    assert_eq!(ticket.credential_id, id);
    let life = ticket.expire_time.unwrap().seconds - ticket.issue_time.unwrap().seconds;
    assert_eq!(life, 12 * 3600);
}

#[tokio::test]
async fn an_invalid_ticket_is_replaced_once_for_all_callers() {
    let (world, id) = world_with_ticket().await;
    world.sandbox.expire_tickets(Some("Cust1"));
    let mut reports = JoinSet::new();
    for _ in 0..50 {
        let mut client = world.tokens().await;
        let request = pb::ReportRejectedCredentialRequest {
            tenant: name("Cust1"),
            credential_id: id.clone(),
        };
        reports.spawn(async move { client.report_rejected_credential(request).await });
    }
    while let Some(report) = reports.join_next().await {
        report.unwrap().unwrap();
    }
    let new = world.ticket("Cust1").await.unwrap();
    assert_ne!(new.credential_id, id);
    assert_eq!(world.exchanges(), 2);
    assert!(world.sandbox.calls(Endpoint::CurrentPrincipal) <= 50);
    // The old id again, and ids that never existed.
    for stale in [&*id, "t-00000000000000000000000000000000", "t-x"] {
        report(&world, stale).await.unwrap();
    }
    assert_eq!(world.ticket("Cust1").await.unwrap(), new);
}

#[tokio::test]
async fn an_invalid_ticket_is_replaced_at_most_once_a_minute() {
    let (mut world, first) = world_with_ticket().await;
    world.sandbox.expire_tickets(None);
    report(&world, &first).await.unwrap();
    let second = world.ticket("Cust1").await.unwrap().credential_id.clone();
    world.sandbox.expire_tickets(None);
    report(&world, &second).await.unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    let details = assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= Duration::from_mins(1) && wait > Duration::from_secs(50), "{wait:?}");
    assert_eq!(world.exchanges(), 2);
    world.advance(wait);
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.exchanges(), 3);
}

#[tokio::test]
async fn a_ticket_that_cannot_be_probed_is_kept() {
    let (world, id) = world_with_ticket().await;
    for fault in [Fault::status(503), Fault::Reset, Fault::Truncate, Fault::Html] {
        let always = FaultScope::always();
        world.sandbox.inject(Endpoint::CurrentPrincipal, fault.clone(), always).unwrap();
        let status = report(&world, &id).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{fault:?}: {status:?}");
        world.sandbox.clear_faults();
        assert_eq!(world.ticket("Cust1").await.unwrap().credential_id, id, "{fault:?}");
    }
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn a_ticket_of_another_tenant_is_dropped() {
    let (world, id) = world_with_ticket().await;
    let fault = Fault::WrongDatabase { context: "Cust2".to_owned() };
    world.sandbox.inject(Endpoint::CurrentPrincipal, fault, FaultScope::always()).unwrap();
    report(&world, &id).await.unwrap();
    assert_ne!(world.ticket("Cust1").await.unwrap().credential_id, id);
}

#[tokio::test]
async fn a_moved_tenant_is_found_before_its_ticket_is_probed() {
    let (world, id) = world_with_ticket().await;
    world.sandbox.move_tenant("Cust1", ApiHost::B).unwrap();
    report(&world, &id).await.unwrap();
    let ticket = world.ticket("Cust1").await.unwrap();
    assert_eq!(ticket.credential_id, id);
    let host = world.sandbox.api_uri(ApiHost::B);
    assert_eq!(ticket.web_api_uri, format!("{host}/Cust1/api"));
}

#[tokio::test]
async fn the_ticket_of_an_unusable_tenant_is_not_probed() {
    let (mut world, id) = world_with_ticket().await;
    world.sandbox.set_state("Cust1", TenantState::OfflineMaintenance).unwrap();
    world.advance(Duration::from_mins(2));
    let status = report(&world, &id).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "TENANT_NOT_RUNNING");
    assert_eq!(world.sandbox.calls(Endpoint::CurrentPrincipal), 0);
}

#[tokio::test]
async fn an_invalid_ticket_is_detected_also_after_a_restart() {
    let (mut world, id) = world_with_ticket().await;
    world.restart().await;
    world.sandbox.expire_tickets(None);
    report(&world, &id).await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::CurrentPrincipal), 1);
    assert_ne!(world.ticket("Cust1").await.unwrap().credential_id, id);
}

#[tokio::test]
async fn the_ticket_of_a_disabled_tenant_is_not_sent() {
    let (world, id) = world_with_ticket().await;
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let status = report(&world, &id).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
    assert_eq!(world.sandbox.calls(Endpoint::CurrentPrincipal), 0);
}

#[tokio::test]
async fn a_contradicted_status_is_not_used_while_it_cannot_be_read_again() {
    let (mut world, id) = world_with_ticket().await;
    world.sandbox.move_tenant("Cust1", ApiHost::B).unwrap();
    let down = Fault::status(503);
    world.sandbox.inject(Endpoint::TenantStatus, down, FaultScope::always()).unwrap();
    let status = report(&world, &id).await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    for _ in 0..3 {
        world.advance(Duration::from_mins(11));
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    world.sandbox.clear_faults();
    world.advance(Duration::from_secs(5));
    let ticket = world.ticket("Cust1").await.unwrap();
    let host = world.sandbox.api_uri(ApiHost::B);
    assert_eq!(ticket.web_api_uri, format!("{host}/Cust1/api"));
}
