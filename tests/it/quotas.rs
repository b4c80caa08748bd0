//! Tests of quotas: calls of callers, and refused calls.

use std::time::Duration;

use prost::Message as _;
use tenant_gateway::grpc::pb;
use tonic::{Code, Request, Status};

use crate::support::{
    Options, assert_status,
    callers::{AuthenticatedGateway, ISSUER, TestIssuer, call, with_bearer_token},
    name,
};

const PERMIT: &str = "permit (principal == Caller::\"sync\", action, resource);\n\
                      permit (principal == Caller::\"other\", action, resource);";
const GET: &str = "TenantService/GetTenant";

fn get(tenant: &str) -> Vec<u8> {
    pb::GetTenantRequest { name: name(tenant) }.encode_to_vec()
}

#[track_caller]
fn assert_over_quota(status: &Status, quota: &str) -> Duration {
    let details = assert_status(status, Code::ResourceExhausted, "CALLER_QUOTA_EXCEEDED");
    let violation = &details.quota_failure().expect("no QuotaFailure").violations[0];
    assert!(
        !violation.subject.is_empty() && violation.description.contains(quota),
        "{violation:?}"
    );
    details.retry_info().expect("no RetryInfo").retry_delay.unwrap()
}

#[tokio::test]
async fn a_caller_over_its_quota_gets_retry_info() {
    let extra_config = "[quotas]\nper_caller = { per_second = 2, burst = 3 }".to_owned();
    let guarded =
        AuthenticatedGateway::with(PERMIT, Options { extra_config, ..Default::default() }).await;
    for _ in 0..3 {
        let missing = guarded.call("sync", GET, get("Cust1")).await.unwrap_err();
        assert_status(&missing, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let over = guarded.call("sync", GET, get("Cust1")).await.unwrap_err();
    let wait = assert_over_quota(&over, "quotas.per_caller");
    assert!(wait <= Duration::from_millis(500) && !wait.is_zero());
    let other = guarded.call("other", GET, get("Cust1")).await.unwrap_err();
    assert_status(&other, Code::NotFound, "RESOURCE_NOT_FOUND");
    guarded.world.clock.advance(wait);
    let again = guarded.call("sync", GET, get("Cust1")).await.unwrap_err();
    assert_status(&again, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_caller_over_its_quota_in_one_tenant_is_served_in_another() {
    let extra_config = "[quotas]\nper_caller_and_tenant = { per_second = 1 }".to_owned();
    let guarded =
        AuthenticatedGateway::with(PERMIT, Options { extra_config, ..Default::default() }).await;
    let found = guarded.call("sync", GET, get("Cust1")).await.unwrap_err();
    assert_status(&found, Code::NotFound, "RESOURCE_NOT_FOUND");
    let over = guarded.call("sync", GET, get("Cust1")).await.unwrap_err();
    assert_over_quota(&over, "quotas.per_caller_and_tenant");
    let found = guarded.call("sync", GET, get("Cust2")).await.unwrap_err();
    assert_status(&found, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn guessed_tokens_are_limited_and_known_callers_are_served() {
    let guarded = AuthenticatedGateway::new(PERMIT).await;
    let known = guarded.token("sync");
    let ask = |token: String| call(&guarded.channel, GET, with_bearer_token(&token, get("Cust1")));
    assert_eq!(ask(known.clone()).await.unwrap_err().code(), Code::NotFound);
    for guess in 0..200 {
        let refused = ask(format!("a.b.{guess}")).await.unwrap_err();
        assert_status(&refused, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
    // From now on even a valid token is refused.
    let right = guarded.token("other");
    let over = ask(right.clone()).await.unwrap_err();
    assert_over_quota(&over, "quotas.refused_per_source");
    let none = call(&guarded.channel, GET, Request::new(get("Cust1"))).await.unwrap_err();
    assert_over_quota(&none, "quotas.refused_per_source");
    assert_eq!(ask(known).await.unwrap_err().code(), Code::NotFound);
    guarded.world.clock.advance(Duration::from_millis(20));
    assert_eq!(ask(right).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_flood_is_refused_exactly_as_often_as_configured() {
    let extra_config = "[quotas]\nrefused_per_source = { per_second = 10, burst = 20 }".to_owned();
    let guarded =
        AuthenticatedGateway::with(PERMIT, Options { extra_config, ..Default::default() }).await;
    let mut looked_at = 0;
    for tenth in 0..50 {
        for guess in 0..4 {
            let token = format!("a.b.{tenth}-{guess}");
            let refused =
                call(&guarded.channel, GET, with_bearer_token(&token, get("Cust1"))).await;
            looked_at += usize::from(refused.unwrap_err().code() == Code::Unauthenticated);
        }
        guarded.world.clock.advance(Duration::from_millis(100));
    }
    // Five seconds: the burst, and one call for each further tenth of a second.
    assert_eq!(looked_at, 20 + 49);
}

#[tokio::test]
async fn callers_of_the_last_hour_keep_a_share_during_a_flood_from_their_address() {
    let policy = "permit (principal, action, resource);";
    let guarded = AuthenticatedGateway::new(policy).await;
    let clock = &guarded.world.clock;
    let ask = |token: String| call(&guarded.channel, GET, with_bearer_token(&token, get("Cust1")));
    for caller in ["sync", "mail"] {
        assert_eq!(ask(guarded.token(caller)).await.unwrap_err().code(), Code::NotFound);
    }
    let flood = async || {
        for guess in 0.. {
            if ask(format!("a.b.{guess}")).await.unwrap_err().code() == Code::ResourceExhausted {
                return;
            }
        }
    };
    flood().await;
    // Uses tokens that the gateway has not seen yet.
    clock.advance(Duration::from_secs(2));
    flood().await;
    assert_eq!(ask(guarded.token("sync")).await.unwrap_err().code(), Code::NotFound);
    let stranger = ask(guarded.token("stranger")).await.unwrap_err();
    assert_over_quota(&stranger, "quotas.refused_per_source");
    // An impostor uses up only the share of the caller that it claims to be.
    let impostor = TestIssuer::new(ISSUER, "one");
    let mut refused = 0;
    loop {
        assert!(refused < 10, "no end");
        let now = guarded.world.clock_seconds() + refused;
        let forged = ask(impostor.token("sync", now)).await.unwrap_err();
        if forged.code() == Code::ResourceExhausted {
            break;
        }
        assert_status(&forged, Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        refused += 1;
    }
    assert_eq!(ask(guarded.token("mail")).await.unwrap_err().code(), Code::NotFound);
    // After an hour the share is gone.
    clock.advance(Duration::from_secs(3601));
    flood().await;
    assert_over_quota(&ask(guarded.token("mail")).await.unwrap_err(), "quotas.refused_per_source");
}

#[tokio::test]
async fn unknown_key_ids_are_limited_even_if_the_client_disconnects() {
    let extra_config = "[quotas]\nrefused_per_source = { per_second = 1, burst = 5 }".to_owned();
    let guarded =
        AuthenticatedGateway::with(PERMIT, Options { extra_config, ..Default::default() }).await;
    let ask = async |token: String| {
        let mut request = with_bearer_token(&token, get("Cust1"));
        request.set_timeout(Duration::from_millis(100));
        call(&guarded.channel, GET, request).await.unwrap_err()
    };
    let known = guarded.token("sync");
    assert_eq!(ask(known.clone()).await.code(), Code::NotFound);
    let now = guarded.world.clock_seconds();
    for guess in 0.. {
        assert!(guess < 20, "never slowed");
        // The clock stands still, so the gateway does not fetch the issuer's keys.
        let made_up = TestIssuer::new(ISSUER, &format!("made-up-{guess}")).token("sync", now);
        if ask(made_up).await.code() == Code::ResourceExhausted {
            break;
        }
    }
    let over = ask(guarded.token("other")).await;
    assert_over_quota(&over, "quotas.refused_per_source");
    assert_eq!(ask(known).await.code(), Code::NotFound);
}

#[tokio::test]
async fn guessed_names_are_limited_and_permitted_calls_are_served() {
    let policy = format!(
        "permit (principal, action == Action::\"readTenants\", resource == Tenant::\"{}\");",
        name("Cust1")
    );
    let guarded = AuthenticatedGateway::new(&policy).await;
    assert_eq!(guarded.call("sync", GET, get("Cust1")).await.unwrap_err().code(), Code::NotFound);
    for guess in 100..300 {
        let denied = guarded.call("sync", GET, get(&format!("Cust{guess}"))).await.unwrap_err();
        assert_status(&denied, Code::PermissionDenied, "POLICY_DENIED");
    }
    let over = guarded.call("sync", GET, get("Cust2")).await.unwrap_err();
    assert_over_quota(&over, "quotas.refused_per_source");
    assert_eq!(guarded.call("sync", GET, get("Cust1")).await.unwrap_err().code(), Code::NotFound);
    // The quota of another caller at the same address is not affected.
    let other = guarded.call("other", GET, get("Cust2")).await.unwrap_err();
    assert_status(&other, Code::PermissionDenied, "POLICY_DENIED");
}

#[tokio::test]
async fn a_wildcard_application_counts_as_one_call() {
    let policy = format!(
        "permit (principal == Caller::\"sync\", action, resource == Tenant::\"{}\");",
        name("Cust1")
    );
    let extra_application = format!(
        "[[applications]]\nid = \"other\"\nenvironment = \"sod\"\nclient_id = \"{}\"\n\
         client_secret_file = \"client_secret\"\nprivate_key_file = \"private_key.pem\"",
        "f".repeat(32)
    );
    let options = Options { extra_application, ..Default::default() };
    let guarded = AuthenticatedGateway::with(&policy, options).await;
    let ask = |caller: &'static str| {
        let explain =
            pb::ExplainAccessRequest { tenant: "applications/-/tenants/Cust1".to_owned() };
        guarded.call(caller, "AccessService/ExplainAccess", explain.encode_to_vec())
    };
    for _ in 0..200 {
        // A denial for another application with a wildcard does not count as a guess.
        assert_eq!(ask("sync").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(ask("other").await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(ask("sync").await.unwrap_err().code(), Code::NotFound);
    assert_over_quota(&ask("other").await.unwrap_err(), "quotas.refused_per_source");
}

#[tokio::test]
async fn health_and_reflection_need_no_credential() {
    let guarded = AuthenticatedGateway::new(PERMIT).await;
    for _ in 0..300 {
        let _ = call(&guarded.channel, GET, Request::new(get("Cust1"))).await.unwrap_err();
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(guarded.channel.clone());
    let check = tonic_health::pb::HealthCheckRequest::default();
    let answer = health.check(check).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}
