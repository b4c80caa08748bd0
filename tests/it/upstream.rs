//! Tests of faults of SuperOffice: the right status within the deadline, nothing cached from an invalid response, and
//! no data loss.

use std::time::{Duration, Instant};

use superoffice_sandbox::{Endpoint, Fault, FaultScope, TenantState};
use tenant_gateway::grpc::pb;
use tonic::{Code, Request};

use crate::support::{
    Options, World, assert_status, eventually_so, faults::forged_id_tokens, get, name,
};

/// Starts a gateway with a short login time-out.
async fn impatient() -> World {
    let extra_config = "[login]\ntimeout = \"1s\"".to_owned();
    let world = World::with(Options { extra_config, ..Default::default() }).await;
    world.enroll("Cust1").await;
    world
}

fn transport_faults() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::status(500), "UPSTREAM_UNAVAILABLE"),
        (Fault::status(502), "UPSTREAM_UNAVAILABLE"),
        (Fault::status(503), "UPSTREAM_UNAVAILABLE"),
        (Fault::status(429), "UPSTREAM_UNAVAILABLE"),
        (Fault::status(400), "UPSTREAM_INVALID_RESPONSE"),
        (Fault::status(401), "UPSTREAM_INVALID_RESPONSE"),
        (Fault::status(204), "UPSTREAM_INVALID_RESPONSE"),
        (Fault::delay(Duration::from_secs(30)), "UPSTREAM_UNAVAILABLE"),
        (Fault::Reset, "UPSTREAM_UNAVAILABLE"),
        (Fault::Close, "UPSTREAM_UNAVAILABLE"),
        (Fault::Truncate, "UPSTREAM_UNAVAILABLE"),
        (Fault::Html, "UPSTREAM_INVALID_RESPONSE"),
        (Fault::Huge { mebibytes: 2 }, "UPSTREAM_INVALID_RESPONSE"),
        (
            Fault::Redirect { location: "http://127.0.0.1:9/elsewhere".to_owned() },
            "UPSTREAM_INVALID_RESPONSE",
        ),
    ]
}

fn forged_tokens() -> Vec<Fault> {
    let mut faults = forged_id_tokens("Cust2");
    faults.extend([
        Fault::WrongTicketContext { context: "Cust2".to_owned() },
        Fault::MissingTicket,
        Fault::MalformedTicket,
    ]);
    faults
}

fn forged_statuses() -> Vec<Fault> {
    let addresses = |api: &str, endpoint: &str| Fault::Addresses {
        api: Some(api.to_owned()),
        endpoint: Some(endpoint.to_owned()),
    };
    let missing = |field: &str| Fault::MissingFields { fields: vec![field.to_owned()] };
    vec![
        Fault::OtherTenant { context: "Cust2".to_owned() },
        addresses("https://evil.example/Cust1/api", "https://evil.example/Cust1"),
        addresses("http://169.254.169.254/Cust1/api", "http://169.254.169.254/Cust1"),
        addresses("http://127.0.0.1:1/Cust2/api", "http://127.0.0.1:1/Cust2"),
        addresses("http://user@127.0.0.1:1/Cust1/api", "http://127.0.0.1:1/Cust1"),
        addresses("file:///Cust1/api", "http://127.0.0.1:1/Cust1"),
        missing("State"),
        missing("ContextIdentifier"),
        missing("Api"),
    ]
}

/// Requests a first ticket with the fault, and checks the error.
async fn first_ticket(world: &mut World, endpoint: Endpoint, fault: Fault, reason: &str) {
    let what = format!("{endpoint:?} {fault:?}");
    world.sandbox.inject(endpoint, fault, FaultScope::always()).unwrap();
    let begin = Instant::now();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(5), "{what} took {:?}", begin.elapsed());
    let details = assert_status(&status, Code::Unavailable, reason);
    assert!(details.retry_info().is_some(), "{what}");
    assert!(!format!("{status:?}").contains("html"), "{what}: SuperOffice's text is repeated");
    world.sandbox.clear_faults();
    // The failure is cached for a while.
    world.advance(Duration::from_mins(2));
}

#[tokio::test]
async fn every_fault_of_the_exchange_has_its_status_and_caches_nothing() {
    let mut world = impatient().await;
    for (fault, reason) in transport_faults() {
        first_ticket(&mut world, Endpoint::Authenticate, fault, reason).await;
    }
    for fault in forged_tokens() {
        first_ticket(&mut world, Endpoint::Authenticate, fault, "UPSTREAM_INVALID_RESPONSE").await;
    }
    world.ticket("Cust1").await.unwrap();
}

#[tokio::test]
async fn every_fault_of_tenant_status_has_its_status_and_caches_nothing() {
    let mut world = impatient().await;
    for (fault, reason) in transport_faults() {
        first_ticket(&mut world, Endpoint::TenantStatus, fault, reason).await;
    }
    for fault in forged_statuses() {
        first_ticket(&mut world, Endpoint::TenantStatus, fault, "UPSTREAM_INVALID_RESPONSE").await;
    }
    assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 0);
    world.ticket("Cust1").await.unwrap();
}

#[tokio::test]
async fn every_fault_of_the_key_set_has_its_status_and_caches_nothing() {
    let mut world = impatient().await;
    for (fault, reason) in transport_faults() {
        first_ticket(&mut world, Endpoint::Jwks, fault, reason).await;
    }
    world.ticket("Cust1").await.unwrap();
}

#[tokio::test]
async fn an_exchange_that_may_have_run_is_not_repeated() {
    let mut world = impatient().await;
    for fault in [Fault::status(503), Fault::Reset, Fault::Close, Fault::Truncate, Fault::Html] {
        world.sandbox.reset_counts();
        let what = format!("{fault:?}");
        world.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
        world.ticket("Cust1").await.unwrap_err();
        assert_eq!(world.sandbox.calls(Endpoint::Authenticate), 1, "{what}");
        world.sandbox.clear_faults();
        world.advance(Duration::from_mins(2));
    }
}

#[tokio::test]
async fn reads_are_repeated_after_a_quick_fault() {
    let world = impatient().await;
    world.sandbox.inject(Endpoint::TenantStatus, Fault::Reset, FaultScope::times(2)).unwrap();
    world.sandbox.inject(Endpoint::Jwks, Fault::status(502), FaultScope::times(2)).unwrap();
    world.ticket("Cust1").await.unwrap();
    assert_eq!(world.sandbox.calls(Endpoint::TenantStatus), 3);
}

#[tokio::test]
async fn a_redirect_is_never_followed_with_a_credential() {
    let world = impatient().await;
    let elsewhere = impatient().await;
    let location =
        format!("{}/Login/api/PartnerSystemUser/Authenticate", elsewhere.sandbox.login_uri());
    let fault = Fault::Redirect { location };
    world.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_INVALID_RESPONSE");
    assert_eq!(elsewhere.sandbox.calls(Endpoint::Authenticate), 0);
}

#[tokio::test]
async fn refusals_are_recognized_by_name_and_other_texts_reject_the_system_user() {
    let mut world = impatient().await;
    for (message, reason, code) in [
        ("Authorization error: Revoked (1)", "APPLICATION_REVOKED", Code::FailedPrecondition),
        ("Authorization error: Expired (3)", "APPLICATION_EXPIRED", Code::FailedPrecondition),
        ("Authorization error: Denied (4)", "SYSTEM_USER_REJECTED", Code::FailedPrecondition),
        (
            "Authorization error: NeedsReapproval (5)",
            "APPLICATION_NEEDS_REAPPROVAL",
            Code::FailedPrecondition,
        ),
        ("Authorization error: InvalidTimestamp (6)", "UPSTREAM_UNAVAILABLE", Code::Unavailable),
        (
            "Authorization error: InvalidSignature (7)",
            "APPLICATION_CREDENTIAL_REFUSED",
            Code::FailedPrecondition,
        ),
        ("Noe gikk galt", "SYSTEM_USER_REJECTED", Code::FailedPrecondition),
        ("", "SYSTEM_USER_REJECTED", Code::FailedPrecondition),
    ] {
        let fault = Fault::Refuse { message: message.to_owned() };
        world.sandbox.inject(Endpoint::Authenticate, fault, FaultScope::always()).unwrap();
        let status = world.ticket("Cust1").await.unwrap_err();
        assert_status(&status, code, reason);
        assert!(!status.message().contains("galt"), "SuperOffice's text is repeated");
        world.sandbox.clear_faults();
        world.advance(Duration::from_mins(16));
    }
    world.ticket("Cust1").await.unwrap();
}

async fn page(world: &World, path: &str) -> String {
    get(world.gateway().admin_address, path).await
}

async fn status(world: &World, staleness: Option<&str>) -> Result<pb::TenantStatus, tonic::Status> {
    let mut request = Request::new(pb::GetTenantStatusRequest { name: name("Cust1") });
    if let Some(staleness) = staleness {
        request.metadata_mut().insert("gateway-max-staleness", staleness.parse().unwrap());
    }
    let mut client = world.tenants().await;
    Ok(client.get_tenant_status(request).await?.into_inner().status.unwrap())
}

/// Makes the login host fail.
fn login_is_down(world: &World) {
    for endpoint in
        [Endpoint::TenantStatus, Endpoint::Authenticate, Endpoint::Jwks, Endpoint::Tokens]
    {
        world.sandbox.inject(endpoint, Fault::status(503), FaultScope::always()).unwrap();
    }
}

#[tokio::test]
async fn a_stale_status_is_used_for_a_day_while_it_cannot_be_read_again() {
    let mut world = impatient().await;
    world.ticket("Cust1").await.unwrap();
    let down = Fault::status(503);
    world.sandbox.inject(Endpoint::TenantStatus, down, FaultScope::always()).unwrap();
    for hours in [1, 4, 6, 6, 6] {
        world.advance(Duration::from_hours(hours));
        world.ticket("Cust1").await.unwrap();
    }
    world.advance(Duration::from_mins(63));
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    world.sandbox.clear_faults();
    world.advance(Duration::from_secs(5));
    world.ticket("Cust1").await.unwrap();
}

#[tokio::test]
async fn the_use_of_a_stale_status_is_configurable() {
    let extra_config = "[login]\ntimeout = \"1s\"\n[tenants]\nmax_stale_status = \"0s\"".to_owned();
    let mut world = World::with(Options { extra_config, ..Default::default() }).await;
    world.enroll("Cust1").await;
    world.ticket("Cust1").await.unwrap();
    login_is_down(&world);
    world.advance(Duration::from_mins(2));
    let status = world.ticket("Cust1").await.unwrap_err();
    assert_status(&status, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
}

#[tokio::test]
async fn an_outage_of_the_login_host_is_survived_and_reported_also_after_a_restart() {
    let mut world = impatient().await;
    world.ticket("Cust1").await.unwrap();
    let read = status(&world, None).await.unwrap();
    assert!(page(&world, "/readyz").await.ends_with("\r\n\r\nok\n"));
    login_is_down(&world);
    for restarts in [false, true] {
        world.advance(Duration::from_mins(85));
        if restarts {
            world.restart().await;
        }
        world.ticket("Cust1").await.unwrap();
        // The response has the original times.
        let shown = status(&world, None).await.unwrap();
        // The store keeps microseconds.
        let micros = |time: &Option<prost_types::Timestamp>| {
            time.as_ref().map(|time| (time.seconds, time.nanos / 1000))
        };
        assert_eq!(micros(&shown.read_time), micros(&read.read_time));
        assert_eq!(micros(&shown.valid_until), micros(&read.valid_until));
        assert_eq!(world.metric("stale_tenant_statuses").await, 1);
        let ready = page(&world, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.0 200") || ready.starts_with("HTTP/1.1 200"), "{ready}");
        assert!(ready.contains("ok: stale tenant statuses are served"), "{ready}");
        // A caller that wants a newer status gets an error.
        let refused = status(&world, Some("30s")).await.unwrap_err();
        assert_status(&refused, Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    world.sandbox.clear_faults();
    world.advance(Duration::from_mins(1));
    eventually_so("the login host is asked again", async || {
        world.ticket("Cust1").await.unwrap();
        status(&world, None).await.unwrap().read_time != read.read_time
    })
    .await;
    assert_eq!(world.metric("stale_tenant_statuses").await, 0);
    assert!(page(&world, "/readyz").await.ends_with("\r\n\r\nok\n"));
}

#[tokio::test]
async fn a_tenant_unknown_to_superoffice_has_state_unknown_for_each_response() {
    let mut world = impatient().await;
    world.sandbox.set_state("Cust1", TenantState::Unknown).unwrap();
    for not_found in [false, true] {
        world.sandbox.set_unknown_tenant_is_404(not_found);
        let status = world.ticket("Cust1").await.unwrap_err();
        let details = assert_status(&status, Code::Unavailable, "TENANT_NOT_RUNNING");
        let info = details.error_info().unwrap();
        assert_eq!(info.metadata.get("state").map(String::as_str), Some("Unknown"));
        world.advance(Duration::from_mins(2));
    }
}
