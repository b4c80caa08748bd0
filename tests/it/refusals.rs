//! Tests that the gateway caches refusals of SuperOffice: one exchange and one alarm for any number
//! of calls.

use std::time::Duration;

use serde_json::{Value, json};
use superoffice_sandbox::{Authorization, Endpoint, Fault, FaultBody, FaultScope};
use tenant_gateway::grpc::pb::{
    self, impersonation_service_client::ImpersonationServiceClient,
    issue_access_token_request::Subject,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    CLIENT_ID, Options, World, assert_status, binary::Site, issue, issue_with, name,
};

const CALLS: usize = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// Returns the reason of an error, and its retry delay.
fn told(status: &Status) -> (String, Option<Duration>) {
    let details = status.get_error_details();
    let reason = details.error_info().unwrap().reason.clone();
    (reason, details.retry_info().and_then(|info| info.retry_delay))
}

fn refuse(message: &str) -> Fault {
    Fault::Refuse { message: message.to_owned() }
}

fn html(status: u16) -> Fault {
    let body = FaultBody::Html("<html>down</html>".to_owned());
    Fault::Status { status, body, retry_after: None }
}

impl World {
    fn refuse_exchanges(&self, fault: Fault) {
        self.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
    }

    fn asked(&self) -> u64 {
        self.sandbox.calls(Endpoint::Authenticate)
    }
}

#[tokio::test]
async fn every_refusal_and_every_invalid_response_is_cached() {
    const DOWN: &str = "UPSTREAM_UNAVAILABLE";
    const ODD: &str = "UPSTREAM_INVALID_RESPONSE";
    const REJECTED: &str = "SYSTEM_USER_REJECTED";
    let mut world = World::with_short_timeout().await;
    for (number, (fault, reason)) in [
        (refuse("Invalid application token"), REJECTED),
        (refuse("Authorization error: Denied (4)"), REJECTED),
        (refuse("Authorization error: InvalidTimestamp (6)"), DOWN),
        (refuse("Authorization error: InvalidSignature (7)"), "APPLICATION_CREDENTIAL_REFUSED"),
        (refuse("Something new"), REJECTED),
        (refuse(""), REJECTED),
        (html(500), DOWN),
        (html(502), DOWN),
        (html(200), ODD),
        (Fault::json(400, json!({})), ODD),
        (Fault::json(403, json!({})), ODD),
        (Fault::MissingTicket, ODD),
        (Fault::after_effect(Fault::Close), DOWN),
        (Fault::after_effect(Fault::delay(Duration::from_secs(20))), DOWN),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = format!("Cust{number}");
        world.enroll(&tenant).await;
        world.refuse_exchanges(fault.clone());
        world.sandbox.reset_counts();
        let mut client = world.tokens().await;
        for call in 0..CALLS {
            let status = issue_with(&mut client, issue(&tenant)).await.unwrap_err();
            let (found, retry) = told(&status);
            assert_eq!(found, reason, "{fault:?}");
            assert_eq!(retry.is_some(), status.code() == Code::Unavailable, "{fault:?}");
            assert_eq!(world.asked(), 1, "{fault:?}: call {call}");
        }
        // The gateway asks again after 15 minutes at the latest.
        world.advance(15 * MINUTE + Duration::from_secs(1));
        issue_with(&mut client, issue(&tenant)).await.unwrap_err();
        assert_eq!(world.asked(), 2, "{fault:?}");
        world.sandbox.clear_faults();
        world.advance(15 * MINUTE + Duration::from_secs(1));
        issue_with(&mut client, issue(&tenant)).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_of_one_tenant_does_not_affect_others() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    let scope = FaultScope { tenant: Some("Cust1".to_owned()), ..FaultScope::always() };
    world.sandbox.inject(Endpoint::Authenticate, refuse("No"), scope).unwrap();
    for _ in 0..3 {
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, Code::FailedPrecondition, "SYSTEM_USER_REJECTED");
    }
    world.ticket("Cust2").await.unwrap();
}

#[tokio::test]
async fn the_wait_doubles_from_one_minute_to_fifteen() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.refuse_exchanges(refuse("Authorization error: Denied (4)"));
    world.sandbox.reset_counts();
    world.ticket("Cust1").await.unwrap_err();
    let mut waits = Vec::new();
    while waits.len() < 6 {
        let asked = world.asked();
        let mut minutes = 0;
        while world.asked() == asked {
            world.advance(MINUTE);
            minutes += 1;
            world.ticket("Cust1").await.unwrap_err();
        }
        waits.push(minutes);
    }
    assert_eq!(waits, [1, 2, 4, 8, 15, 15]);
}

#[tokio::test]
async fn a_new_token_or_a_consent_ends_the_refusal_of_a_tenant() {
    let world = World::new().await;
    world.enroll("Cust1").await;
    world.sandbox.set_authorization(CLIENT_ID, "Cust1", Authorization::Denied).unwrap();
    world.ticket("Cust1").await.unwrap_err();
    world.sandbox.set_authorization(CLIENT_ID, "Cust1", Authorization::Active).unwrap();
    world.ticket("Cust1").await.unwrap_err();
    let token = world.sandbox.authorize(CLIENT_ID, "Cust1").unwrap();
    world.set_token("Cust1", &token).await;
    world.ticket("Cust1").await.unwrap();
}

#[tokio::test]
async fn a_refused_timestamp_is_dropped_once_the_clocks_agree() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    world.sandbox.shift_clock(3600);
    world.sandbox.reset_counts();
    for _ in 0..CALLS {
        let status = world.ticket("Cust1").await.unwrap_err();
        let (reason, retry) = told(&status);
        assert_eq!(reason, "UPSTREAM_UNAVAILABLE");
        assert!(retry.unwrap() <= MINUTE, "{retry:?}");
    }
    assert_eq!(world.asked(), 1);
    // The gateway notices it in the next response of the login host to any tenant.
    world.sandbox.shift_clock(0);
    world.ticket("Cust2").await.unwrap();
    world.ticket("Cust1").await.unwrap();
    // Without such a response, it tries again within a minute.
    world.enroll("Cust3").await;
    world.sandbox.shift_clock(3600);
    world.ticket("Cust3").await.unwrap_err();
    world.sandbox.shift_clock(0);
    world.advance(MINUTE);
    world.ticket("Cust3").await.unwrap();
}

#[tokio::test]
async fn a_working_secret_ends_the_refusals_of_all_tenants() {
    let world = World::with(Options {
        extra_application: "next_client_secret_file = \"next_secret\"".to_owned(),
        files: vec![("next_secret", "the-next-client-secret")],
        ..Options::default()
    })
    .await;
    world.enroll("Cust1").await;
    world.enroll("Cust2").await;
    let signature = "Authorization error: InvalidSignature (7)";
    let scope = FaultScope { tenant: Some("Cust1".to_owned()), ..FaultScope::always() };
    world.sandbox.inject(Endpoint::Authenticate, refuse(signature), scope).unwrap();
    world.ticket("Cust1").await.unwrap_err();
    world.sandbox.clear_faults();
    world.ticket("Cust1").await.unwrap_err();
    world.sandbox.set_secrets(CLIENT_ID, &["the-next-client-secret"]).unwrap();
    world.ticket("Cust2").await.unwrap();
    world.ticket("Cust1").await.unwrap();
}

/// Returns the log lines with this level.
fn lines(log: &str, level: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == level).collect()
}

#[tokio::test]
async fn an_alarm_is_raised_once_for_many_tenants_and_calls() {
    let site = Site::new().await;
    for number in 0..10 {
        site.enroll(&format!("Cust{number}")).await;
    }
    let served = site.serve().await;
    let fault = refuse("Authorization error: InvalidTimestamp (6)");
    site.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
    let mut tokens = served.tokens().await;
    for number in 0..CALLS {
        let tenant = format!("Cust{}", number % 10);
        issue_with(&mut tokens, issue(&tenant)).await.unwrap_err();
    }
    let log = served.stop().await.stderr;
    let errors = lines(&log, "ERROR");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert_eq!(errors[0]["alarm"], "own_credential_or_clock", "{errors:#?}");
    let warnings = lines(&log, "WARN");
    let refused = warnings.iter().filter(|line| line["message"] == "no ticket from SuperOffice");
    assert!(refused.count() <= 10, "{warnings:#?}");
}

/// Imports a grant of a person of the tenant.
async fn import(
    site: &Site,
    client: &mut ImpersonationServiceClient<tonic::transport::Channel>,
    taken: &mut Vec<u32>,
) -> pb::Grant {
    let begin = |id: &u32| site.sandbox.begin_grant(CLIENT_ID, "Cust1", *id).ok();
    let free = (1..300).filter(|id| !taken.contains(id));
    let found = free.into_iter().find_map(|id| Some((id, begin(&id)?)));
    let (id, refresh_token) = found.expect("no user can sign in");
    taken.push(id);
    let import =
        pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
    client.import_grant(import).await.unwrap().into_inner().grant.unwrap()
}

#[tokio::test]
async fn a_401_for_one_grant_raises_no_alarm_while_the_secret_works_for_others() {
    let site = Site::new().await;
    site.enroll("Cust1").await;
    site.sandbox.generate_people("Cust1", 20, 7).unwrap();
    let served = site.serve().await;
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    let mut taken = Vec::new();
    let broken = import(&site, &mut client, &mut taken).await;
    let issue = |grant: &pb::Grant| pb::IssueAccessTokenRequest {
        tenant: name("Cust1"),
        subject: Some(Subject::Grant(grant.name.clone())),
        ..Default::default()
    };
    let fault = Fault::json(401, json!({}));
    site.sandbox.inject(Endpoint::Tokens, fault, FaultScope::always()).unwrap();
    for _ in 0..CALLS {
        let status = client.issue_access_token(issue(&broken)).await.err().unwrap();
        let details = assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
        assert!(details.retry_info().is_some());
    }
    assert_eq!(site.sandbox.calls(Endpoint::Tokens), 2, "the import, and one refresh");
    site.sandbox.clear_faults();
    // The secret works for another grant.
    let other = import(&site, &mut client, &mut taken).await;
    client.issue_access_token(issue(&other)).await.unwrap();
    let get = pb::GetGrantRequest { name: broken.name.clone() };
    let grant = client.get_grant(get).await.unwrap().into_inner().grant.unwrap();
    assert_eq!((grant.state(), grant.failure_count), (pb::GrantState::Active, 1));
    assert!(grant.failing_since.is_some());
    let errors = lines(&served.stop().await.stderr, "ERROR");
    assert!(errors.is_empty(), "{errors:#?}");
}

#[tokio::test]
async fn a_grant_shows_the_number_and_start_of_its_failures_also_after_a_restart() {
    let mut world = World::new().await;
    world.enroll("Cust1").await;
    world.sandbox.generate_people("Cust1", 20, 7).unwrap();
    let mut client = ImpersonationServiceClient::new(world.channel().await);
    let begin = |id| world.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok();
    let refresh_token = (1..100).find_map(begin).expect("no user can sign in");
    let import =
        pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
    let grant = client.import_grant(import).await.unwrap().into_inner().grant.unwrap();
    assert_eq!((grant.failure_count, grant.failing_since), (0, None));
    let watch = pb::WatchGrantsRequest { parent: name("Cust1") };
    let mut events = client.watch_grants(watch).await.unwrap().into_inner();
    let issue = || pb::IssueAccessTokenRequest {
        tenant: name("Cust1"),
        subject: Some(Subject::Grant(grant.name.clone())),
        ..Default::default()
    };
    world.sandbox.inject(Endpoint::Tokens, Fault::status(503), FaultScope::always()).unwrap();
    let since = world.clock_seconds();
    for _ in 0..5 {
        client.issue_access_token(issue()).await.err().expect("the call did not fail");
        world.advance(2 * MINUTE);
    }
    let mut failed = Vec::new();
    while failed.len() < 3 {
        let message = events.message().await.unwrap().expect("the watch ended");
        let event = message.event.unwrap();
        if event.kind() == pb::GrantEventKind::Failed {
            let grant = event.grant.unwrap();
            assert_eq!(grant.failing_since.unwrap().seconds, since);
            failed.push(grant.failure_count);
        }
    }
    assert_eq!(failed, [1, 2, 4]);

    drop((client, events));
    world.restart().await;
    let mut client = ImpersonationServiceClient::new(world.channel().await);
    let get = || pb::GetGrantRequest { name: grant.name.clone() };
    let failing = client.get_grant(get()).await.unwrap().into_inner().grant.unwrap();
    assert_eq!((failing.failure_count, failing.failing_since.unwrap().seconds), (5, since));
    world.sandbox.clear_faults();
    client.issue_access_token(issue()).await.unwrap();
    let mended = client.get_grant(get()).await.unwrap().into_inner().grant.unwrap();
    assert_eq!((mended.failure_count, mended.failing_since), (0, None));
}
