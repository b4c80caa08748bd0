//! Faults of the token endpoint before and after the call takes effect.

use std::time::Duration;

use serde_json::json;
use superoffice_sandbox::{Endpoint, Fault, FaultBody, FaultScope, SignInRules};

use crate::fixture::ONE;
use crate::person::{EMPLOYEE, People};

const TOKENS: Endpoint = Endpoint::Tokens;

fn inject(people: &People, fault: Fault) {
    people.fixture.sandbox.inject(TOKENS, fault, FaultScope::times(1)).unwrap();
}

/// All faults that lose the response, except those that hang.
fn losses() -> [Fault; 6] {
    [
        Fault::Close,
        Fault::Reset,
        Fault::status(502),
        Fault::Html,
        Fault::json(200, json!({ "error": "server_error" })),
        Fault::Status { status: 503, body: FaultBody::Empty, retry_after: Some(1) },
    ]
}

async fn rotating() -> People {
    People::with(SignInRules { rotation: true, ..SignInRules::default() }).await
}

#[tokio::test]
async fn a_fault_before_the_effect_leaves_the_refresh_token_unchanged() {
    let people = rotating().await;
    let token = people.refresh_token(EMPLOYEE).await;
    for fault in losses() {
        inject(&people, fault);
        let _ = people.tokens().form(&People::refresh_form(&token)).send().await;
    }
    let grant = &people.fixture.sandbox.grants()[0];
    assert_eq!((grant.refresh_tokens.len(), grant.refreshes()), (1, 0));
    assert_eq!(people.refresh(&token).await.0, 200);
}

#[tokio::test]
async fn a_fault_after_the_effect_loses_the_new_refresh_token() {
    for fault in losses() {
        let people = rotating().await;
        let token = people.refresh_token(EMPLOYEE).await;
        inject(&people, Fault::after_effect(fault.clone()));
        let answer = people.tokens().form(&People::refresh_form(&token)).send().await;
        if let Ok(answer) = answer {
            let text = answer.text().await.unwrap();
            assert!(!text.contains("access_token"), "{fault:?}");
        }
        assert_eq!(people.fixture.sandbox.grants()[0].refresh_tokens.len(), 2, "{fault:?}");
        assert_eq!(people.refresh(&token).await.0, 400, "{fault:?}");
    }
}

#[tokio::test]
async fn a_truncated_answer_took_effect() {
    let people = rotating().await;
    let token = people.refresh_token(EMPLOYEE).await;
    inject(&people, Fault::Truncate);
    let answer = people.tokens().form(&People::refresh_form(&token)).send().await.unwrap();
    answer.text().await.unwrap_err();
    assert_eq!(people.fixture.sandbox.grants()[0].refresh_tokens.len(), 2);
}

#[tokio::test]
async fn a_call_can_hang_before_its_effect_or_after() {
    let people = rotating().await;
    let token = people.refresh_token(EMPLOYEE).await;
    for (fault, members) in [(Fault::Hang, 1), (Fault::after_effect(Fault::Hang), 2)] {
        inject(&people, fault);
        let form = People::refresh_form(&token);
        let patience = Duration::from_millis(200);
        let request = people.tokens().form(&form).timeout(patience);
        assert!(request.send().await.unwrap_err().is_timeout());
        assert_eq!(people.fixture.sandbox.grants()[0].refresh_tokens.len(), members);
    }
}

#[tokio::test]
async fn a_response_can_be_delayed_after_the_effect() {
    let people = rotating().await;
    let token = people.refresh_token(EMPLOYEE).await;
    inject(&people, Fault::after_effect(Fault::delay(Duration::from_millis(1))));
    assert_eq!(people.refresh(&token).await.0, 200);
}

#[tokio::test]
async fn a_response_can_lack_fields() {
    let people = People::start().await;
    let fields = vec!["id_token".into(), "refresh_token".into()];
    inject(&people, Fault::MissingFields { fields });
    let granted = people.granted(EMPLOYEE).await;
    assert_eq!(granted.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_fault_can_be_for_the_tenant_of_the_code_or_refresh_token_only() {
    let people = People::start().await;
    let token = people.refresh_token(EMPLOYEE).await;
    let sandbox = &people.fixture.sandbox;
    sandbox.inject(TOKENS, Fault::status(500), FaultScope::tenant("Cust9")).unwrap();
    assert_eq!(people.refresh(&token).await.0, 200);
    sandbox.inject(TOKENS, Fault::status(500), FaultScope::tenant(ONE)).unwrap();
    assert_eq!(people.refresh(&token).await.0, 500);
}

#[tokio::test]
async fn content_faults_are_rejected_after_the_effect() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    for fault in [Fault::ForeignKey, Fault::WrongNonce, Fault::after_effect(Fault::Close)] {
        let fault = Fault::after_effect(fault);
        sandbox.inject(TOKENS, fault, FaultScope::always()).unwrap_err();
    }
    for endpoint in [Endpoint::Authenticate, Endpoint::TenantStatus] {
        sandbox.inject(endpoint, Fault::WrongNonce, FaultScope::always()).unwrap_err();
        let close = Fault::after_effect(Fault::Close);
        sandbox.inject(endpoint, close, FaultScope::always()).unwrap();
    }
}
