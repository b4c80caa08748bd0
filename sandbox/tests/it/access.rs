//! Access tokens at the Web API.

use serde_json::Value;
use superoffice_sandbox::{ApiHost, Authorization, SignInRules};

use crate::fixture::{CLIENT, ONE, TWO};
use crate::person::{EMPLOYEE, EMPLOYEE_ID, People, text};

async fn access(people: &People) -> String {
    text(&people.granted(EMPLOYEE).await, "access_token")
}

#[tokio::test]
async fn the_current_principal_and_associate_are_the_person() {
    let people = People::start().await;
    let token = access(&people).await;
    let response = people.call("User/currentPrincipal", &token).await;
    let principal: Value = response.json().await.unwrap();
    assert_eq!(principal["UserType"], "InternalAssociate");
    assert_eq!(principal["AssociateId"], EMPLOYEE_ID);
    assert_eq!(principal["UserName"], EMPLOYEE);
    assert_eq!(principal["DatabaseContextIdentifier"], ONE);
    assert_eq!(
        (&principal["RoleType"], &principal["IsPerson"]),
        (&"Employee".into(), &true.into())
    );
    assert_eq!(principal["SecondaryGroups"], serde_json::json!([2]));
    assert_eq!(principal.as_object().unwrap().len(), 27);
    let associate: Value = people.call("User/currentAssociate", &token).await.json().await.unwrap();
    assert_eq!(associate["AssociateId"], EMPLOYEE_ID);
}

#[tokio::test]
async fn people_read_the_lists_that_applications_read() {
    let people = People::start().await;
    let token = access(&people).await;
    for path in ["User?$top=2", "Role", "Archive/InternalUsers", "MDOList/usergroup"] {
        assert_eq!(people.call(path, &token).await.status(), 200, "{path}");
    }
    assert_eq!(people.call("User/3", &token).await.status(), 403);
}

#[tokio::test]
async fn an_access_token_works_unchanged_and_in_its_tenant_only() {
    let people = People::start().await;
    let token = access(&people).await;
    let uri = people.fixture.principal_uri(ApiHost::B, TWO);
    let request = people.fixture.http.get(uri).bearer_auth(&token);
    assert_eq!(request.send().await.unwrap().status(), 401);
    let changed = token.replacen("8A:", "8a:", 1);
    for wrong in [changed.as_str(), "8A:Cust20001.AQ==", "", &token[..token.len() - 4]] {
        assert_eq!(people.who(wrong).await, 401, "{wrong}");
    }
    let uri = people.fixture.principal_uri(ApiHost::A, ONE);
    let ticket = people.fixture.http.get(uri).header("Authorization", format!("SOTicket {token}"));
    assert_eq!(ticket.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn an_access_token_expires_with_401_or_403_and_use_does_not_extend_it() {
    for (is_403, seconds, status) in [(false, 3600, 401), (true, 1200, 403)] {
        let rules = SignInRules {
            expired_access_is_403: is_403,
            access_token_seconds: seconds,
            ..SignInRules::default()
        };
        let people = People::with(rules).await;
        let token = access(&people).await;
        let seconds = i64::try_from(seconds).unwrap();
        people.later(seconds - 60);
        assert_eq!(people.who(&token).await, 200);
        people.later(seconds);
        assert_eq!(people.who(&token).await, status);
        assert_eq!(people.who("8A:Cust20001.unknown").await, 401);
    }
}

#[tokio::test]
async fn access_tokens_outlive_a_revocation_unless_the_rules_say_otherwise() {
    for dies in [false, true] {
        let rules = SignInRules { revocation_ends_access_tokens: dies, ..SignInRules::default() };
        let people = People::with(rules).await;
        let sandbox = &people.fixture.sandbox;
        let expected = if dies { 401 } else { 200 };

        let token = access(&people).await;
        sandbox.revoke_grants(CLIENT, ONE, Some(EMPLOYEE_ID)).unwrap();
        assert_eq!(people.who(&token).await, expected, "grant");
        let token = access(&people).await;
        sandbox.set_authorization(CLIENT, ONE, Authorization::Expired).unwrap();
        assert_eq!(people.who(&token).await, expected, "authorization");
        sandbox.set_authorization(CLIENT, ONE, Authorization::Active).unwrap();
        let token = access(&people).await;
        sandbox.change_associate(ONE, EMPLOYEE_ID, |one| one.deleted = true).unwrap();
        assert_eq!(people.who(&token).await, expected, "person");
    }
}

#[tokio::test]
async fn access_tokens_can_be_expired_for_one_tenant_or_for_all() {
    let people = People::start().await;
    let sandbox = &people.fixture.sandbox;
    let token = access(&people).await;
    sandbox.expire_access_tokens(Some(TWO));
    assert_eq!(people.who(&token).await, 200);
    sandbox.expire_access_tokens(Some(ONE));
    assert_eq!(people.who(&token).await, 401);
    let token = access(&people).await;
    sandbox.expire_access_tokens(None);
    assert_eq!(people.who(&token).await, 401);
}
