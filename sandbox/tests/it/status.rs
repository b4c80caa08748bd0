//! Tenant status.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use superoffice_sandbox::{ApiHost, Options, TenantState};

use crate::fixture::{Fixture, ONE, TWO};

#[tokio::test]
async fn every_state_has_its_name_and_two_are_running() {
    let fixture = Fixture::start().await;
    for (state, name, running) in [
        (TenantState::Unknown, "Unknown", false),
        (TenantState::Provisioning, "Provisioning", false),
        (TenantState::Running, "Running", true),
        (TenantState::Deleted, "Deleted", false),
        (TenantState::Suspended, "Suspended", false),
        (TenantState::OnlineMaintenance, "OnlineMaintenance", true),
        (TenantState::OfflineMaintenance, "OfflineMaintenance", false),
        (TenantState::ProvisioningFailed, "ProvisioningFailed", false),
        (TenantState::Deleting, "Deleting", false),
        (TenantState::DeleteFailed, "DeleteFailed", false),
        (TenantState::MigrationPending, "MigrationPending", false),
    ] {
        fixture.sandbox.set_state(ONE, state).unwrap();
        let status: Value = fixture.status(ONE).await.json().await.unwrap();
        assert_eq!(status["State"], json!(name));
        assert_eq!(status["IsRunning"], json!(running), "{name}");
    }
}

#[tokio::test]
async fn the_status_names_the_host_the_tenant_lives_on() {
    let fixture = Fixture::start().await;
    for host in [ApiHost::A, ApiHost::B] {
        fixture.sandbox.move_tenant(ONE, host).unwrap();
        let status: Value = fixture.status(ONE).await.json().await.unwrap();
        let endpoint = format!("{}/{ONE}", fixture.sandbox.api_uri(host));
        assert_eq!(status["ContextIdentifier"], ONE);
        assert_eq!(status["Endpoint"], json!(endpoint));
        assert_eq!(status["Api"], json!(format!("{endpoint}/api")));
        assert!(status["Version"].as_str().unwrap().starts_with("Release_"));
    }
}

#[tokio::test]
async fn a_status_has_the_configured_validity_with_seven_fractional_digits() {
    let fixture = Fixture::start().await;
    for seconds in [60, 5] {
        if seconds != 60 {
            fixture.sandbox.set_status_validity(Duration::from_secs(seconds));
        }
        let earliest = fixture.sandbox.now();
        let status: Value = fixture.status(TWO).await.json().await.unwrap();
        let text = status["ValidUntil"].as_str().unwrap();
        let (_, fraction) = text.split_once('.').unwrap();
        assert_eq!((fraction.len(), &fraction[7..]), (8, "Z"));
        let valid = text.parse::<Timestamp>().unwrap().duration_since(earliest);
        let expected = SignedDuration::from_secs(i64::try_from(seconds).unwrap());
        let difference = (valid - expected).unsigned_abs();
        assert!(difference < Duration::from_secs(2), "{difference:?}");
    }
}

#[tokio::test]
async fn an_unknown_tenant_has_state_unknown_or_404() {
    let fixture = Fixture::start().await;
    let response = fixture.status("Cust99999").await;
    assert_eq!(response.status(), 200);
    let status: Value = response.json().await.unwrap();
    assert_eq!(status["State"], "Unknown");
    assert_eq!(status["ContextIdentifier"], "Cust99999");
    assert_eq!((&status["Endpoint"], &status["Api"]), (&Value::Null, &Value::Null));

    fixture.sandbox.set_unknown_tenant_is_404(true);
    assert_eq!(fixture.status("Cust99999").await.status(), 404);
    assert_eq!(fixture.status(ONE).await.status(), 200);

    let options = Options { unknown_tenant_is_404: true, ..Options::default() };
    assert_eq!(Fixture::with(options).await.status("Cust99999").await.status(), 404);
}
