//! Tests of `IssueSystemTicket`.

use std::time::Duration;

use superoffice_sandbox::{Authorization, Endpoint, Fault, FaultScope, TenantState};
use tenant_gateway::grpc::pb;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{
    CLIENT_ID, CLIENT_SECRET, Options, World, assert_status, eventually, issue, issue_with, name,
};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_ticket_comes_with_all_fields_and_superoffice_accepts_it() {
    let world = World::new().await;
    world.enroll("Cust12345").await;
    let ticket = world.ticket("Cust12345").await.unwrap();
    assert!(ticket.value.starts_with("7T:"));
    assert!(ticket.credential_id.starts_with("t-"));
    assert_eq!(ticket.tenant, name("Cust12345"));
    assert_eq!(ticket.application_token, "");
    let host = world.sandbox.api_uri(superoffice_sandbox::ApiHost::A);
    assert_eq!(ticket.web_api_uri, format!("{host}/Cust12345/api"));
    let life = ticket.expire_time.unwrap().seconds - ticket.issue_time.unwrap().seconds;
    assert_eq!(life, 6 * 3600);
}

#[tokio::test]
async fn a_ticket_is_cached_for_all_callers() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let first = world.ticket("Cust1").await.unwrap();
    for _ in 0..20 {
        assert_eq!(world.ticket("Cust1").await.unwrap(), first);
    }
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::TenantStatus)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_concurrent_first_calls_cost_one_exchange() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world
        .sandbox
        .inject(
            Endpoint::Authenticate,
            Fault::delay(Duration::from_millis(300)),
            FaultScope::always(),
        )
        .unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = world.tokens().await;
        for _ in 0..500 {
            let mut client = client.clone();
            calls.spawn(async move { issue_with(&mut client, issue("Cust1")).await });
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut answered = 0;
    while let Some(call) = calls.join_next().await {
        ids.insert(call.unwrap().unwrap().credential_id.clone());
        answered += 1;
    }
    assert_eq!((answered, ids.len()), (10_000, 1));
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::Authenticate)), (1, 1));
}

#[tokio::test]
async fn a_first_caller_that_cancels_does_not_affect_others() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world
        .sandbox
        .inject(
            Endpoint::Authenticate,
            Fault::delay(Duration::from_millis(500)),
            FaultScope::always(),
        )
        .unwrap();
    let mut first = world.tokens().await;
    let mut callers = JoinSet::new();
    callers.spawn(async move { issue_with(&mut first, issue("Cust1")).await });
    eventually("the exchange begins", || world.sandbox.calls(Endpoint::Authenticate) == 1).await;
    callers.shutdown().await;
    let mut others = JoinSet::new();
    for _ in 0..50 {
        let mut client = world.tokens().await;
        others.spawn(async move { issue_with(&mut client, issue("Cust1")).await });
    }
    while let Some(other) = others.join_next().await {
        other.unwrap().unwrap();
    }
    assert_eq!((world.exchanges(), world.sandbox.calls(Endpoint::Authenticate)), (1, 1));
}

#[tokio::test]
async fn a_restart_makes_no_call_to_superoffice() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let before = world.ticket("Cust1").await.unwrap();
    world.sandbox.reset_counts();
    world.restart().await;
    assert_eq!(world.ticket("Cust1").await.unwrap(), before);
    for endpoint in Endpoint::ALL {
        assert_eq!(world.sandbox.calls(endpoint), 0, "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_ticket_in_use_is_renewed_in_the_background_before_it_expires() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let first = world.ticket("Cust1").await.unwrap();
    world.advance(4 * HOUR);
    assert_eq!(world.ticket("Cust1").await.unwrap().credential_id, first.credential_id);
    // The renewal is due at least half an hour before the expiry.
    world.advance(Duration::from_mins(91));
    eventually("the ticket is renewed", || world.exchanges() == 2).await;
    // SuperOffice has counted the exchange, but callers get the new ticket a moment later.
    let mut second = world.ticket("Cust1").await.unwrap();
    for _ in 0..1000 {
        if second.credential_id != first.credential_id {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        second = world.ticket("Cust1").await.unwrap();
    }
    assert_ne!(second.credential_id, first.credential_id);
    assert_eq!(world.exchanges(), 2);
}

#[tokio::test]
async fn an_unused_ticket_is_not_renewed() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    world.ticket("Cust2").await.unwrap();
    world.advance(4 * HOUR);
    world.ticket("Cust2").await.unwrap();
    world.advance(Duration::from_mins(91));
    eventually("the ticket in use is renewed", || world.exchanges() == 3).await;
    assert_eq!(world.sandbox.calls_for(Endpoint::Authenticate, "Cust1"), 1);
}

#[tokio::test]
async fn a_new_ticket_is_issued_if_the_cached_one_is_below_min_ttl() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    world.advance(4 * HOUR);
    let hours = |hours: i64| Some(prost_types::Duration { seconds: 3600 * hours, nanos: 0 });
    let mut client = world.tokens().await;
    let two = pb::IssueSystemTicketRequest { min_ttl: hours(1), ..issue("Cust1") };
    issue_with(&mut client, two).await.unwrap();
    assert_eq!(world.exchanges(), 1);
    let three = pb::IssueSystemTicketRequest { min_ttl: hours(3), ..issue("Cust1") };
    let ticket = issue_with(&mut client, three).await.unwrap();
    assert_eq!(world.exchanges(), 2);
    let life = ticket.expire_time.unwrap().seconds - ticket.issue_time.unwrap().seconds;
    assert_eq!(life, 6 * 3600);
}

#[tokio::test]
async fn a_valid_ticket_is_returned_during_every_fault_of_superoffice() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    let ticket = world.ticket("Cust1").await.unwrap();
    let faults = [Fault::status(503), Fault::Reset, Fault::Close, Fault::Truncate, Fault::Html];
    for fault in faults {
        for endpoint in Endpoint::ALL {
            world.sandbox.inject(endpoint, fault.clone(), FaultScope::always()).unwrap();
        }
        // The status has expired, and cannot be read.
        world.advance(Duration::from_mins(5));
        assert_eq!(world.ticket("Cust1").await.unwrap(), ticket, "{fault:?}");
        world.sandbox.clear_faults();
    }
    world.sandbox.inject(Endpoint::TenantStatus, Fault::delay(HOUR), FaultScope::always()).unwrap();
    world.advance(Duration::from_mins(5));
    let begin = std::time::Instant::now();
    assert_eq!(world.ticket("Cust1").await.unwrap(), ticket);
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "waited for SuperOffice: {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn refusals_of_superoffice_have_their_reasons_and_are_cached() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    for (state, reason) in [
        (Authorization::Revoked, "APPLICATION_REVOKED"),
        (Authorization::Expired, "APPLICATION_EXPIRED"),
        (Authorization::NeedsReapproval, "APPLICATION_NEEDS_REAPPROVAL"),
    ] {
        world.sandbox.set_authorization(CLIENT_ID, "Cust1", state).unwrap();
        world.sandbox.reset_counts();
        for _ in 0..5 {
            let status = world.ticket("Cust1").await.unwrap_err();
            assert_status(&status, Code::FailedPrecondition, reason)
                .precondition_failure()
                .unwrap();
        }
        assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1, "{reason}");
        // The delay is one minute, then two, and so on.
        world.advance(Duration::from_secs(61));
        world.ticket("Cust1").await.unwrap_err();
        assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 2, "{reason}");
        world.advance(Duration::from_secs(61));
        world.ticket("Cust1").await.unwrap_err();
        assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 2, "{reason}");
        // A new token ends the delay.
        let token = world.sandbox.authorize(CLIENT_ID, "Cust1").unwrap();
        world.set_token("Cust1", &token).await;
        world.ticket("Cust1").await.unwrap();
        world.set_token("Cust1", &token).await;
    }
}

#[tokio::test]
async fn a_wrong_token_secret_and_clock_have_different_reasons() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.set_token("Cust1", "Some App-0123456789").await;
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
    // The gateway caches a refusal for one minute, the next one for two.
    world.advance(Duration::from_secs(61));
    world.sandbox.set_secrets(CLIENT_ID, &["another"]).unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
    world.sandbox.set_secrets(CLIENT_ID, &[CLIENT_SECRET]).unwrap();
    world.advance(Duration::from_secs(121));
    world.sandbox.shift_clock(3600);
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE").retry_info().unwrap();
}

#[tokio::test]
async fn a_tenant_without_token_and_an_unknown_tenant_have_different_reasons() {
    let world = World::new().await;
    world.make_tenant("Cust1");
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND").resource_info().unwrap();
    let create = pb::CreateTenantRequest {
        parent: "applications/crm-sync".to_owned(),
        tenant_id: "Cust1".to_owned(),
        tenant: None,
    };
    world.tenants().await.create_tenant(create).await.unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_NOT_ENROLLED");
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 0);
}

#[tokio::test]
async fn every_tenant_state_allows_calls_or_returns_its_error() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    for state in TenantState::ALL {
        world.sandbox.set_state("Cust1", state).unwrap();
        world.advance(HOUR + Duration::from_mins(2));
        let answer = world.ticket("Cust1").await;
        match state {
            TenantState::Running | TenantState::OnlineMaintenance => {
                answer.unwrap();
            }
            TenantState::OfflineMaintenance
            | TenantState::Provisioning
            | TenantState::MigrationPending
            | TenantState::Unknown => {
                let details =
                    assert_status(&answer.unwrap_err(), Code::Unavailable, "TENANT_NOT_RUNNING");
                assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
                let state = format!("{state:?}");
                assert_eq!(details.error_info().unwrap().metadata.get("state"), Some(&state));
            }
            _ => {
                let details = assert_status(
                    &answer.unwrap_err(),
                    Code::FailedPrecondition,
                    "TENANT_NOT_RUNNING",
                );
                assert!(details.retry_info().is_none());
            }
        }
    }
}

#[tokio::test]
async fn the_status_of_a_tenant_in_use_is_read_again_when_it_expires() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    world.sandbox.set_state("Cust1", TenantState::Suspended).unwrap();
    assert!(world.ticket("Cust1").await.is_ok(), "the status is still valid");
    world.advance(Duration::from_secs(61));
    eventually("the status is read again", || world.sandbox.calls(Endpoint::TenantStatus) >= 2)
        .await;
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_NOT_RUNNING");
}

#[tokio::test]
async fn the_application_token_is_returned_only_if_configured() {
    let with_token =
        pb::IssueSystemTicketRequest { include_application_token: true, ..issue("Cust1") };
    let world = World::new().await;
    world.enroll("Cust1").await;
    let status = issue_with(&mut world.tokens().await, with_token.clone()).await.unwrap_err();
    assert_status(&status, Code::PermissionDenied, "POLICY_DENIED");

    let extra_application = "allow_reveal_application_token = true".to_owned();
    let world = World::with(Options { extra_application, ..Default::default() }).await;
    world.enroll("Cust1").await;
    assert_eq!(world.ticket("Cust1").await.unwrap().application_token, "");
    let issued = issue_with(&mut world.tokens().await, with_token).await.unwrap();
    assert_eq!(issued.application_token, CLIENT_SECRET);
}

#[tokio::test]
async fn a_wildcard_application_works_if_only_one_has_the_tenant() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    let request = pb::IssueSystemTicketRequest {
        tenant: "applications/-/tenants/Cust1".to_owned(),
        ..Default::default()
    };
    let issued = issue_with(&mut world.tokens().await, request).await.unwrap();
    assert_eq!(issued.tenant, name("Cust1"));
    let request = pb::IssueSystemTicketRequest {
        tenant: "applications/-/tenants/Cust2".to_owned(),
        ..Default::default()
    };
    let status = issue_with(&mut world.tokens().await, request).await.unwrap_err();
    assert_status(&status, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_new_signing_key_of_superoffice_is_found_without_a_restart() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    world.sandbox.roll_signing_key(false).unwrap();
    world.ticket("Cust2").await.unwrap();
}

#[tokio::test]
async fn a_moved_tenant_is_found_at_its_new_address() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    world.sandbox.move_tenant("Cust1", superoffice_sandbox::ApiHost::B).unwrap();
    world.advance(Duration::from_secs(61));
    eventually("the status is read again", || world.sandbox.calls(Endpoint::TenantStatus) >= 2)
        .await;
    let host = world.sandbox.api_uri(superoffice_sandbox::ApiHost::B);
    assert_eq!(world.ticket("Cust1").await.unwrap().web_api_uri, format!("{host}/Cust1/api"));
    assert_eq!(world.exchanges(), 1);
}

#[tokio::test]
async fn disabling_a_tenant_stops_a_call_that_waits_for_tenant_status() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    // The ticket is cached, but the status has expired.
    world.advance(Duration::from_mins(90));
    let delay = Fault::delay(Duration::from_millis(700));
    world.sandbox.inject(Endpoint::TenantStatus, delay, FaultScope::always()).unwrap();
    world.sandbox.reset_counts();
    let mut client = world.tokens().await;
    let mut calls = JoinSet::new();
    calls.spawn(async move { issue_with(&mut client, issue("Cust1")).await });
    eventually("the call waits", || world.sandbox.calls(Endpoint::TenantStatus) == 1).await;
    let disable = pb::DisableTenantRequest { name: name("Cust1"), ..Default::default() };
    world.tenants().await.disable_tenant(disable).await.unwrap();
    let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "TENANT_DISABLED");
}

#[tokio::test]
async fn without_validation_keys_no_ticket_is_requested() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.sandbox.inject(Endpoint::Jwks, Fault::status(503), FaultScope::always()).unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 0);
}

#[tokio::test]
async fn a_ticket_that_was_only_renewed_is_not_renewed_again() {
    let extra_config = "[tickets]\nrenew_if_used_within = \"6h\"".to_owned();
    let mut world = World::with(Options { extra_config, ..Default::default() }).await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.ticket("Cust1").await.unwrap();
    world.advance(Duration::from_mins(331));
    eventually("it was in use, so it is renewed", || world.exchanges() == 2).await;
    world.ticket("Cust2").await.unwrap();
    world.advance(Duration::from_mins(331));
    eventually("the other one is renewed", || world.exchanges() == 4).await;
    assert_eq!(world.sandbox.calls_for(Endpoint::Authenticate, "Cust1"), 2);
}
