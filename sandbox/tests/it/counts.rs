//! Call counts.

use std::time::Duration;

use superoffice_sandbox::{Endpoint, Exchanges, Fault, FaultScope};

use crate::fixture::{Fixture, ONE, TWO};

const STATUS: Endpoint = Endpoint::TenantStatus;

#[tokio::test]
async fn calls_are_counted_in_total_and_for_each_tenant() {
    let fixture = Fixture::start().await;
    for tenant in [ONE, ONE, TWO] {
        fixture.status(tenant).await;
    }
    fixture.jwt().await;
    let sandbox = &fixture.sandbox;
    assert_eq!(sandbox.calls(STATUS), 3);
    assert_eq!(sandbox.calls_for(STATUS, ONE), 2);
    assert_eq!(sandbox.calls_for(STATUS, TWO), 1);
    assert_eq!(sandbox.calls_for(Endpoint::Authenticate, ONE), 1);
    assert_eq!(sandbox.calls(Endpoint::Jwks), 0);

    sandbox.reset_counts();
    assert_eq!((sandbox.calls(STATUS), sandbox.calls_for(STATUS, ONE)), (0, 0));
    assert_eq!(sandbox.exchanges(), Exchanges::default());
}

#[tokio::test]
async fn calls_that_fail_are_counted_too() {
    let fixture = Fixture::start().await;
    fixture.sandbox.inject(STATUS, Fault::Close, FaultScope::times(1)).unwrap();
    let uri = format!("{}/api/state/{ONE}", fixture.sandbox.login_uri());
    fixture.http.get(uri).send().await.unwrap_err();
    assert_eq!(fixture.sandbox.calls_for(STATUS, ONE), 1);
}

#[tokio::test]
async fn the_greatest_number_of_concurrent_calls_is_counted() {
    let fixture = Fixture::start().await;
    let delay = Fault::delay(Duration::from_millis(500));
    fixture.sandbox.inject(STATUS, delay, FaultScope::always()).unwrap();
    tokio::join!(fixture.status(ONE), fixture.status(ONE), fixture.status(TWO));
    assert_eq!(fixture.sandbox.max_concurrent(STATUS), 3);
    fixture.sandbox.reset_counts();
    fixture.status(ONE).await;
    assert_eq!(fixture.sandbox.max_concurrent(STATUS), 1);
}
