//! Call rates and rate limits of the Web API.

use superoffice_sandbox::{ApiHost, CallRate, Endpoint, Fault, FaultScope, RateLimit, RetryAfter};

use crate::fixture::{Fixture, ONE, TWO};

async fn root(fixture: &Fixture, host: ApiHost, tenant: &str) -> reqwest::Response {
    fixture.get(&format!("{}/{tenant}/api", fixture.sandbox.api_uri(host))).await
}

#[tokio::test]
async fn counts_the_most_calls_in_any_second_for_each_tenant() {
    let fixture = Fixture::start().await;
    let sandbox = &fixture.sandbox;
    // Groups of calls are days apart, so that the real time between calls does not matter.
    for (day, calls) in [(0, 1), (1, 4), (2, 2)] {
        for _ in 0..calls {
            sandbox.shift_clock(day * 86_400);
            root(&fixture, ApiHost::A, ONE).await;
        }
    }
    root(&fixture, ApiHost::B, TWO).await;
    fixture.status(TWO).await;
    root(&fixture, ApiHost::A, "Cust9").await;
    let rate = sandbox.call_rate(ONE);
    assert!((1..=4).contains(&rate.max_per_second), "{rate:?}");
    assert_eq!(rate.max_admitted_per_second, rate.max_per_second);
    assert_eq!(sandbox.call_rate(TWO).max_per_second, 1);
    assert_eq!(sandbox.call_rate("Cust9"), CallRate::default());
    sandbox.reset_counts();
    assert_eq!(sandbox.call_rate(ONE), CallRate::default());
}

#[tokio::test]
async fn failed_and_misdirected_calls_count() {
    let fixture = Fixture::start().await;
    let sandbox = &fixture.sandbox;
    sandbox.inject(Endpoint::ApiRoot, Fault::status(500), FaultScope::times(1)).unwrap();
    for (day, host, status) in [(1, ApiHost::A, 500), (2, ApiHost::B, 421)] {
        sandbox.reset_counts();
        sandbox.shift_clock(day * 86_400);
        assert_eq!(root(&fixture, host, ONE).await.status(), status);
        assert_eq!(sandbox.call_rate(ONE).max_per_second, 1);
    }
}

#[tokio::test]
async fn there_is_no_limit_by_default_and_429_has_retry_after() {
    let fixture = Fixture::start().await;
    let sandbox = &fixture.sandbox;
    assert_eq!(root(&fixture, ApiHost::A, ONE).await.status(), 200);
    for retry_after in [RetryAfter::Absent, RetryAfter::Seconds(7), RetryAfter::Date(7)] {
        sandbox.set_rate_limit(Some(RateLimit { calls_per_second: 0, retry_after }));
        let response = root(&fixture, ApiHost::A, ONE).await;
        assert_eq!(response.status(), 429);
        let header = response.headers().get("Retry-After").map(|value| value.to_str().unwrap());
        match retry_after {
            RetryAfter::Absent => assert_eq!(header, None),
            RetryAfter::Seconds(_) => assert_eq!(header, Some("7")),
            RetryAfter::Date(_) => assert!(header.unwrap().ends_with(" GMT"), "{header:?}"),
        }
        assert_eq!(fixture.principal("7T:x").await.status(), 429);
    }
    assert_eq!(sandbox.call_rate(ONE).limited, 6);
    assert_eq!(fixture.status(ONE).await.status(), 200);
    sandbox.set_rate_limit(None);
    assert_eq!(root(&fixture, ApiHost::A, ONE).await.status(), 200);
}

#[tokio::test]
async fn a_limit_applies_to_each_tenant() {
    let fixture = Fixture::start().await;
    let limit = RateLimit { calls_per_second: 1, ..RateLimit::default() };
    fixture.sandbox.set_rate_limit(Some(limit));
    // A shift of the clock by a day starts a new second.
    for (day, host, tenant) in [(1, ApiHost::A, ONE), (1, ApiHost::B, TWO), (2, ApiHost::A, ONE)] {
        fixture.sandbox.shift_clock(day * 86_400);
        assert_eq!(root(&fixture, host, tenant).await.status(), 200, "{tenant}");
    }
    assert_eq!(fixture.sandbox.call_rate(ONE).max_admitted_per_second, 1);
}
