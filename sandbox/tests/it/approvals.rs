//! Approvals by administrators, and withdrawn authorizations.

use superoffice_sandbox::Authorization;

use crate::fixture::{CLIENT, ONE};
use crate::person::{ADMIN, ADMIN_ID, EMPLOYEE, EMPLOYEE_ID, People, text};

#[tokio::test]
async fn without_an_approval_only_an_administrator_can_sign_in() {
    for (state, error) in [
        (None, "NeedsReapproval (5)"),
        (Some(Authorization::NeedsReapproval), "NeedsReapproval (5)"),
        (Some(Authorization::Revoked), "Revoked (1)"),
        (Some(Authorization::Expired), "Expired (3)"),
    ] {
        let people = People::start().await;
        let sandbox = &people.fixture.sandbox;
        match state {
            None => sandbox.remove_authorization(CLIENT, ONE).unwrap(),
            Some(state) => sandbox.set_authorization(CLIENT, ONE, state).unwrap(),
        }
        assert_eq!(sandbox.authorization(CLIENT, ONE), state);
        let page = people.sign_in(EMPLOYEE, &[]).await;
        assert_eq!((page.status, page.location.as_deref()), (403, None));
        assert_eq!(page.text_of("error"), format!("Authorization error: {error}"));

        people.sign_in(ADMIN, &[]).await.code();
        assert_eq!(sandbox.authorization(CLIENT, ONE), Some(Authorization::Active));
        assert_eq!(sandbox.approval(CLIENT, ONE).unwrap().user_name, ADMIN);
        assert_eq!(sandbox.sign_ins().approvals, 1);
        people.sign_in(EMPLOYEE, &[]).await.code();
        people.sign_in(ADMIN, &[]).await.code();
        assert_eq!(sandbox.sign_ins().approvals, 1);
    }
}

#[tokio::test]
async fn an_administrator_cannot_approve_a_denied_application() {
    let people = People::start().await;
    people.fixture.sandbox.set_authorization(CLIENT, ONE, Authorization::Denied).unwrap();
    let page = people.sign_in(ADMIN, &[]).await;
    assert_eq!((page.status, page.text_of("error")), (403, "Authorization error: Denied (4)"));
}

#[tokio::test]
async fn a_refused_approval_does_not_count_as_approval() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    sandbox.remove_authorization(CLIENT, ONE).unwrap();
    let page = people.ask(&[("acr_values", "tenant:Cust20001")]).await;
    let page = people.send(&page, &[("user", ADMIN)]).await;
    let page = people.send(&page, &[("decision", "refuse")]).await;
    assert_eq!(page.told("error").as_deref(), Some("access_denied"));
    assert_eq!(sandbox.authorization(CLIENT, ONE), None);
}

#[tokio::test]
async fn a_revoked_authorization_ends_refreshes_but_not_access_tokens() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let granted = people.granted(EMPLOYEE).await;
    let (access, refresh) = (text(&granted, "access_token"), text(&granted, "refresh_token"));
    sandbox.set_authorization(CLIENT, ONE, Authorization::Revoked).unwrap();
    let (status, body) = people.refresh(&refresh).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    assert_eq!(people.who(&access).await, 200);
    // The revocation is permanent: a new approval restores no old grant.
    sandbox.set_authorization(CLIENT, ONE, Authorization::Active).unwrap();
    assert_eq!(people.refresh(&refresh).await.0, 400);
    assert!(sandbox.grants()[0].revoked);
    assert_eq!(people.refresh(&people.refresh_token(EMPLOYEE).await).await.0, 200);
}

#[tokio::test]
async fn an_authorization_that_needs_reapproval_only_suspends_grants() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let token = people.refresh_token(EMPLOYEE).await;
    for state in [Authorization::NeedsReapproval, Authorization::Expired] {
        sandbox.set_authorization(CLIENT, ONE, state).unwrap();
        assert_eq!(people.refresh(&token).await.1["error"], "invalid_grant", "{state:?}");
    }
    sandbox.set_authorization(CLIENT, ONE, Authorization::Active).unwrap();
    assert_eq!(people.refresh(&token).await.0, 200);
}

#[tokio::test]
async fn a_retired_associate_or_one_of_another_type_cannot_refresh() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let token = people.refresh_token(EMPLOYEE).await;
    let cases: [fn(&mut superoffice_sandbox::people::Associate); 4] = [
        |one| one.deleted = true,
        |one| one.can_login = false,
        |one| one.kind = 4.into(),
        |one| one.kind = 1.into(),
    ];
    let before = sandbox.people(ONE).unwrap().associates[&EMPLOYEE_ID].clone();
    for change in cases {
        sandbox.change_associate(ONE, EMPLOYEE_ID, change).unwrap();
        assert_eq!(people.refresh(&token).await.1["error"], "invalid_grant");
        sandbox.change_associate(ONE, EMPLOYEE_ID, |one| *one = before.clone()).unwrap();
        assert_eq!(people.refresh(&token).await.0, 200);
    }
    let tokens = &sandbox.grants()[0].refresh_tokens;
    assert_eq!((tokens[0].accepted, tokens[0].refused), (4, 4));
}

#[tokio::test]
async fn grants_can_be_revoked_for_one_person_or_for_all() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let admin = people.refresh_token(ADMIN).await;
    let employee = people.refresh_token(EMPLOYEE).await;
    assert_eq!(sandbox.revoke_grants(CLIENT, ONE, Some(ADMIN_ID)), Ok(1));
    assert_eq!(people.refresh(&admin).await.0, 400);
    assert_eq!(people.refresh(&employee).await.0, 200);
    assert_eq!(sandbox.revoke_grants(CLIENT, ONE, None), Ok(1));
    assert_eq!(people.refresh(&employee).await.0, 400);
}

#[tokio::test]
async fn a_restored_backup_ends_tickets_and_access_tokens_and_optionally_grants() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let granted = people.granted(EMPLOYEE).await;
    let ticket = people.fixture.ticket().await;
    sandbox.restore_backup(ONE, true).unwrap();
    assert_eq!(people.who(&text(&granted, "access_token")).await, 401);
    assert_eq!(people.fixture.principal(&ticket).await.status(), 401);
    assert_eq!(people.refresh(&text(&granted, "refresh_token")).await.0, 200);
    sandbox.restore_backup(ONE, false).unwrap();
    assert_eq!(people.refresh(&text(&granted, "refresh_token")).await.0, 400);
}
