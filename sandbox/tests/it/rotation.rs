//! Refresh token rotation, which SuperOffice does not use but other providers do.

use superoffice_sandbox::{PreviousToken, RefreshTokenState, SignInRules};

use crate::fixture::{CLIENT, ONE};
use crate::person::{EMPLOYEE, EMPLOYEE_ID, People, text};

async fn rotating(previous_token: PreviousToken, reuse_revokes_grant: bool) -> People {
    let rules = SignInRules {
        rotation: true,
        previous_token,
        reuse_revokes_grant,
        ..SignInRules::default()
    };
    People::with(rules).await
}

/// Refreshes, and returns the new refresh token.
async fn next(people: &People, token: &str) -> String {
    let (status, body) = people.refresh(token).await;
    assert_eq!(status, 200, "{body}");
    text(&body, "refresh_token")
}

#[tokio::test]
async fn each_refresh_replaces_the_token_and_the_old_one_is_refused() {
    let people = rotating(PreviousToken::Refused, false).await;
    let first = people.refresh_token(EMPLOYEE).await;
    let second = next(&people, &first).await;
    assert_ne!(first, second);
    assert_eq!(people.refresh(&first).await.1["error"], "invalid_grant");
    let third = next(&people, &second).await;
    let grant = people.fixture.sandbox.grants().remove(0);
    let states: Vec<_> = grant.refresh_tokens.iter().map(|token| token.state).collect();
    assert_eq!(
        states,
        [RefreshTokenState::Replaced, RefreshTokenState::Replaced, RefreshTokenState::Current]
    );
    let replaces: Vec<_> = grant.refresh_tokens.iter().map(|token| token.replaces).collect();
    assert_eq!(replaces, [None, Some(0), Some(1)]);
    assert_eq!((grant.reuses, grant.revoked), (1, false));
    assert_eq!(people.fixture.sandbox.sign_ins().reuses, 1);
    next(&people, &third).await;
}

#[tokio::test]
async fn one_of_many_concurrent_refreshes_with_one_token_is_granted() {
    let people = rotating(PreviousToken::Refused, false).await;
    let token = people.refresh_token(EMPLOYEE).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let form = People::refresh_form(&token);
        calls.spawn(people.tokens().form(&form).send());
    }
    let answers = calls.join_all().await;
    let granted = answers.into_iter().filter(|answer| answer.as_ref().unwrap().status() == 200);
    assert_eq!(granted.count(), 1);
    let grant = people.fixture.sandbox.grants().remove(0);
    assert_eq!((grant.refreshes(), grant.reuses), (1, 49));
}

#[tokio::test]
async fn a_reuse_can_revoke_the_whole_grant() {
    let people = rotating(PreviousToken::Refused, true).await;
    let first = people.refresh_token(EMPLOYEE).await;
    let second = next(&people, &first).await;
    assert_eq!(people.refresh(&first).await.0, 400);
    assert_eq!(people.refresh(&second).await.1["error"], "invalid_grant");
    assert!(people.fixture.sandbox.grants()[0].revoked);
}

#[tokio::test]
async fn the_previous_token_can_stay_valid() {
    let people = rotating(PreviousToken::Accepted, true).await;
    let first = people.refresh_token(EMPLOYEE).await;
    for _ in 0..3 {
        next(&people, &first).await;
    }
    assert_eq!(people.fixture.sandbox.grants()[0].refresh_tokens.len(), 4);
}

#[tokio::test]
async fn the_previous_token_can_be_accepted_once_more() {
    let people = rotating(PreviousToken::AcceptedTimes { times: 1 }, false).await;
    let first = people.refresh_token(EMPLOYEE).await;
    let lost = next(&people, &first).await;
    let second = next(&people, &first).await;
    assert_eq!(people.refresh(&first).await.0, 400);
    next(&people, &lost).await;
    next(&people, &second).await;
}

#[tokio::test]
async fn the_previous_token_can_be_accepted_for_a_while() {
    let people = rotating(PreviousToken::AcceptedFor { seconds: 60 }, false).await;
    let first = people.refresh_token(EMPLOYEE).await;
    next(&people, &first).await;
    people.later(50);
    next(&people, &first).await;
    people.later(70);
    assert_eq!(people.refresh(&first).await.0, 400);
}

#[tokio::test]
async fn the_previous_token_can_be_accepted_until_the_next_one_is_used() {
    let people = rotating(PreviousToken::AcceptedUntilNextIsUsed, true).await;
    let first = people.refresh_token(EMPLOYEE).await;
    next(&people, &first).await;
    let second = next(&people, &first).await;
    next(&people, &second).await;
    assert_eq!(people.refresh(&first).await.0, 400);
    assert_eq!(people.fixture.sandbox.grants()[0].reuses, 1);
}

#[tokio::test]
async fn a_grant_can_be_created_without_a_browser_and_is_reported_by_digest_only() {
    let people = rotating(PreviousToken::Refused, false).await;
    let sandbox = &people.fixture.sandbox;
    let token = sandbox.begin_grant(CLIENT, ONE, EMPLOYEE_ID).unwrap();
    next(&people, &token).await;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hex = hash.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let grant = sandbox.grants().remove(0);
    assert_eq!(grant.refresh_tokens[0].digest, hex);
    assert_eq!((grant.number, grant.client_id.as_str()), (1, CLIENT));
    assert!(!format!("{grant:?}").contains(&token));
    assert!(sandbox.begin_grant(CLIENT, ONE, 2).is_err());
    assert!(sandbox.begin_grant("other", ONE, EMPLOYEE_ID).is_err());
}
