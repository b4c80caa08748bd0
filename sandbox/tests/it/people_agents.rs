//! The Associate agent, the current associate, and restricted operations.

use reqwest::Method;
use serde_json::{Value, json};
use superoffice_sandbox::people::{AssociateType, Oddities};

use crate::fixture::ONE;
use crate::people::Api;

#[tokio::test]
async fn a_malformed_request_is_400_or_200_with_message_and_detail() {
    let api = Api::with(10).await;
    for (switched, expected) in [(false, 400), (true, 200)] {
        let oddities = Oddities { malformed_is_200: switched, ..Oddities::default() };
        api.fixture.sandbox.set_oddities(ONE, oddities).unwrap();
        for (path, body) in [
            ("GetAssociate", json!(null)),
            ("GetAssociate?associateId=x", json!(null)),
            ("GetAssociateList", json!({ "Ids": [3] })),
            ("GetAssociateList", json!(["x"])),
            ("GetAssociateByPersonId", json!({ "personId": 9 })),
            ("GetAssociatesByGroup", json!({ "GroupId": 1 })),
        ] {
            let (status, answer) = api.post(&format!("Agents/Associate/{path}"), body).await;
            assert_eq!(status, expected, "{path}");
            assert_eq!(answer["Message"], "The request is invalid.");
            assert!(answer["MessageDetail"].is_string());
        }
    }
}

#[tokio::test]
async fn an_unknown_id_is_answered_200_with_null() {
    let api = Api::with(10).await;
    for (path, body) in [
        ("GetAssociate?associateId=9999", json!(null)),
        ("GetAssociate?associateId=-1", json!(null)),
        ("GetAssociateByPersonId", json!({ "PersonId": 0 })),
    ] {
        let (status, answer) = api.post(&format!("Agents/Associate/{path}"), body).await;
        assert_eq!((status, answer), (200, Value::Null), "{path}");
    }
    let (_, list) = api.post("Agents/Associate/GetAssociateList", json!([9999])).await;
    assert_eq!(list, json!([]));
}

#[tokio::test]
async fn an_associate_has_the_documented_fields_in_each_type() {
    let api = Api::with(10).await;
    let people = api.fixture.sandbox.people(ONE).unwrap();
    for kind in AssociateType::ALL {
        let one = people.associates.values().find(|one| one.kind == kind).unwrap();
        let path = format!("Agents/Associate/GetAssociate?associateId={}", one.id);
        let (_, associate) = api.post(&path, Value::Null).await;
        assert_eq!(associate.as_object().unwrap().len(), 16);
        assert_eq!(associate["Type"], kind.api_name());
        assert_eq!(associate["Tooltip"], one.tooltip);
        assert_eq!(associate["GroupIdx"], one.group_id);
        assert_eq!(associate["FullName"], people.full_name(one));
    }
    let selected = "Agents/Associate/GetAssociateList?$select=Name,FullName";
    let (_, list) = api.post(selected, json!([3, 1])).await;
    assert_eq!((&list[1]["Name"], &list[1]["Type"]), (&json!("ANONYMOUS1"), &Value::Null));
    let (_, by_person) =
        api.post("Agents/Associate/GetAssociateByPersonId", json!({ "PersonId": 13 })).await;
    assert_eq!(by_person["AssociateId"], 3);
    let group = people.associates[&3].group_id;
    let body = json!({ "GroupId": group, "Type": 2 });
    let (_, members) = api.post("Agents/Associate/GetAssociatesByGroup", body).await;
    assert!(members.as_array().unwrap().iter().any(|one| one["AssociateId"] == 3));
}

#[tokio::test]
async fn a_type_that_is_not_documented_is_unknown() {
    let api = Api::with(10).await;
    let odd =
        |one: &mut superoffice_sandbox::people::Associate| one.kind = AssociateType::Other(21);
    api.fixture.sandbox.change_associate(ONE, 3, odd).unwrap();
    let (_, one) = api.post("Agents/Associate/GetAssociate?associateId=3", Value::Null).await;
    assert_eq!(one["Type"], "Unknown");
    assert_eq!(api.rows("User?$filter=assocType oneOf (21)").await.len(), 1);
}

#[tokio::test]
async fn an_agent_ignores_get_and_can_answer_null() {
    let api = Api::with(10).await;
    let path = "Agents/Associate/GetAssociate?associateId=3";
    let help = api.request(Method::GET, path).send().await.unwrap();
    assert_eq!(help.status(), 200);
    assert!(help.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(api.post("Agents/Associate/Nothing", Value::Null).await.0, 404);
    let oddities = Oddities { agents_answer_null: true, ..Oddities::default() };
    api.fixture.sandbox.set_oddities(ONE, oddities).unwrap();
    assert_eq!(api.post(path, Value::Null).await, (200, Value::Null));
}

#[tokio::test]
async fn restricted_operations_answer_403() {
    let api = Api::with(10).await;
    for (method, path) in [
        (Method::POST, "Agents/User/GetUser"),
        (Method::POST, "Agents/User/GetAllUserGroups"),
        (Method::POST, "Agents/Webhook/GetAllWebhooks"),
        (Method::GET, "Webhook"),
        (Method::GET, "User/3"),
        (Method::GET, "User/current"),
        (Method::GET, "User/Default"),
        (Method::POST, "User"),
        (Method::DELETE, "User/3"),
        (Method::GET, "Role/1"),
        (Method::GET, "Role/1/FunctionRight"),
        (Method::POST, "Role"),
    ] {
        let answer = api.request(method.clone(), path).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{method} {path}");
    }
    for path in ["User/CustomField", "User/3/ForeignKey", "Project", "Agents/Sale/GetSale"] {
        assert_eq!(api.get(path).await.0, 404, "{path}");
    }
    assert_eq!(api.request(Method::PUT, "User").send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn the_system_user_is_an_associate_with_role_rights_and_licences() {
    let api = Api::with(10).await;
    let (_, associate) = api.get("User/currentAssociate").await;
    assert_eq!(
        (&associate["AssociateId"], &associate["Type"]),
        (&json!(2), &json!("SystemAssociate"))
    );
    let (_, principal) = api.get("User/currentPrincipal").await;
    assert_eq!((&principal["RoleType"], &principal["GroupId"]), (&json!("System"), &json!(0)));
    let rights: Vec<&str> = principal["FunctionRights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|right| right.as_str().unwrap())
        .collect();
    assert!(rights.is_sorted() && !rights.is_empty());
    let license = &principal["Licenses"][0];
    assert_eq!(license.as_object().unwrap().len(), 17);
    assert_eq!(
        (&license["Name"], &license["LicenseType"]),
        (&json!("system-user-cal"), &json!("UserLicense"))
    );
    assert_eq!(license["ExpiryDate"], "0001-01-01T00:00:00");
}
