//! Authentication, counts and faults of calls about people.

use reqwest::Method;
use serde_json::{Value, json};
use superoffice_sandbox::people::Associate;
use superoffice_sandbox::{ApiHost, ControlError, Endpoint, Fault, FaultBody, FaultScope};

use crate::fixture::{ONE, SECRET, TWO};
use crate::people::Api;

const PATHS: [(Endpoint, Method, &str); 7] = [
    (Endpoint::CurrentAssociate, Method::GET, "User/currentAssociate"),
    (Endpoint::UserList, Method::GET, "User"),
    (Endpoint::RoleList, Method::GET, "Role"),
    (Endpoint::Archive, Method::GET, "Archive/AllUsers"),
    (Endpoint::MdoList, Method::GET, "MDOList/usergroup"),
    (Endpoint::AssociateAgent, Method::POST, "Agents/Associate/GetAssociate?associateId=2"),
    (Endpoint::Restricted, Method::GET, "User/3"),
];

#[tokio::test]
async fn a_wrong_ticket_or_secret_is_401_everywhere() {
    let api = Api::with(10).await;
    let base = api.fixture.sandbox.api_uri(ApiHost::A);
    for (_, method, path) in PATHS {
        for (ticket, secret) in [("7T:unknown", SECRET), (&*api.ticket, "wrong"), ("", "")] {
            let answer = api
                .fixture
                .http
                .request(method.clone(), format!("{base}/{ONE}/api/v1/{path}"))
                .header("Accept", "application/json")
                .header("Authorization", format!("SOTicket {ticket}"))
                .header("SO-AppToken", secret);
            assert_eq!(answer.send().await.unwrap().status(), 401, "{path}");
        }
    }
    api.fixture.sandbox.expire_tickets(Some(ONE));
    assert_eq!(api.get("User").await.0, 401);
}

#[tokio::test]
async fn the_former_host_of_a_tenant_answers_421_and_links_name_the_new_one() {
    let api = Api::with(10).await;
    api.fixture.sandbox.move_tenant(ONE, ApiHost::B).unwrap();
    for (_, method, path) in PATHS {
        let answer = api.request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), 421, "{path}");
    }
    let uri = format!("{}/{ONE}/api/v1/User?$top=1", api.fixture.sandbox.api_uri(ApiHost::B));
    let answer = api
        .fixture
        .http
        .get(uri)
        .header("Accept", "application/json")
        .header("Authorization", format!("SOTicket {}", api.ticket))
        .header("SO-AppToken", SECRET);
    let page: Value = answer.send().await.unwrap().json().await.unwrap();
    let next = page["odata.nextLink"].as_str().unwrap();
    assert!(next.starts_with(&api.fixture.sandbox.api_uri(ApiHost::B)));
}

#[tokio::test]
async fn every_endpoint_is_counted_and_can_fail() {
    let api = Api::with(10).await;
    let sandbox = &api.fixture.sandbox;
    for (endpoint, method, path) in PATHS {
        let busy = Fault::Status { status: 429, body: FaultBody::Empty, retry_after: Some(3) };
        sandbox.inject(endpoint, busy, FaultScope::times(1)).unwrap();
        sandbox.inject(endpoint, Fault::status(503), FaultScope::times(1)).unwrap();
        sandbox.inject(endpoint, Fault::Reset, FaultScope::times(1)).unwrap();
        let answer = api.request(method.clone(), path).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["Retry-After"]),
            (429, &"3".parse().unwrap())
        );
        assert_eq!(api.request(method.clone(), path).send().await.unwrap().status(), 503);
        api.request(method.clone(), path).send().await.unwrap_err();
        assert_eq!(sandbox.calls_for(endpoint, ONE), 3, "{path}");
    }
    sandbox.inject(Endpoint::UserList, Fault::Truncate, FaultScope::times(1)).unwrap();
    let cut = api.request(Method::GET, "User").send().await.unwrap();
    assert_eq!(cut.status(), 200);
    cut.bytes().await.unwrap_err();
}

#[tokio::test]
async fn associates_are_added_changed_and_deleted() {
    let api = Api::with(10).await;
    let sandbox = &api.fixture.sandbox;
    let new = Associate { id: 900, name: "NEW".into(), ..Associate::default() };
    sandbox.add_associate(ONE, &new).unwrap();
    let taken = ControlError::Exists("associate 900".into());
    assert_eq!(sandbox.add_associate(ONE, &new), Err(taken));
    assert_eq!(api.rows("User?$filter=assocName is 'new'").await[0]["PrimaryKey"], "900");
    sandbox.change_associate(ONE, 900, |one| one.deleted = true).unwrap();
    assert_eq!(api.rows("User?$filter=associateDbId eq 900").await[0]["isActive"], false);
    sandbox.delete_associate(ONE, 900).unwrap();
    assert!(api.rows("User?$filter=associateDbId eq 900").await.is_empty());
    let gone = Err(ControlError::UnknownAssociate(900));
    assert_eq!(sandbox.delete_associate(ONE, 900), gone);
    assert_eq!(sandbox.change_associate(ONE, 900, |_| ()), gone);
    assert!(sandbox.people("Cust9").is_err());
    assert_eq!(sandbox.people(TWO).unwrap().associates.len(), 10);
}

#[tokio::test]
async fn the_control_port_changes_people_too() {
    let api = Api::with(10).await;
    let tell = async |method: Method, path: &str, body: Value| {
        let uri = format!("{}/tenants/{ONE}/{path}", api.fixture.sandbox.control_uri());
        let answer = api.fixture.http.request(method, uri).json(&body).send().await.unwrap();
        answer.status().as_u16()
    };
    assert_eq!(tell(Method::POST, "people", json!({ "count": 20, "seed": 3 })).await, 204);
    let new = json!({ "id": 900, "type": 21, "name": "NEW" });
    assert_eq!(tell(Method::POST, "associates", new.clone()).await, 204);
    assert_eq!(tell(Method::POST, "associates", new).await, 409);
    assert_eq!(tell(Method::PATCH, "associates/900", json!({ "rank": 7 })).await, 204);
    assert_eq!(tell(Method::PATCH, "associates/900", json!({ "nope": 7 })).await, 400);
    assert_eq!(tell(Method::PATCH, "associates/900", json!({ "rank": "x" })).await, 400);
    assert_eq!(api.fixture.sandbox.people(ONE).unwrap().associates[&900].rank, 7);
    assert_eq!(tell(Method::DELETE, "associates/900", json!({})).await, 204);
    assert_eq!(tell(Method::DELETE, "associates/900", json!({})).await, 404);
    assert_eq!(tell(Method::PUT, "oddities", json!({ "page_limit": 3 })).await, 204);
    assert_eq!(api.rows("User").await.len(), 3);
    assert_eq!(tell(Method::PUT, "oddities", json!({ "nope": 3 })).await, 422);
    let uri = format!("{}/tenants/{ONE}/people", api.fixture.sandbox.control_uri());
    let people: Value = api.fixture.get(&uri).await.json().await.unwrap();
    assert_eq!(people["associates"].as_object().unwrap().len(), 20);
}
